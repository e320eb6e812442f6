"""Where promises about alerts, timelines, locks and lessons are broken. See `incidents/auditor/invariants.py`."""

from typing import LiteralString

# By source: a storm that nobody handles is one alarm.
ALERT_WAITING: LiteralString = """
    SELECT s.slug, format('%s alerts of %s wait to be handled, the first since %s', count(*), s.slug,
                          to_char(min(r.received_at) AT TIME ZONE 'UTC', 'HH24:MI:SS'))
    FROM incidents_rawalert r JOIN incidents_alertsource s ON s.id = r.source_id
    WHERE r.state = 'stored' AND r.received_at < clock_timestamp() - interval '15 s'
    GROUP BY s.slug
"""

# What is silenced or flaps, or what no rule wants, counts as heard; what was put off again and again does not.
ALERT_UNTOLD: LiteralString = """
    SELECT s.slug, format('%s alerts of %s have not come to an incident, the first since %s', count(*), s.slug,
                          to_char(min(coalesce(a.due_at, a.last_at)) AT TIME ZONE 'UTC', 'HH24:MI:SS'))
    FROM incidents_alert a JOIN incidents_alertsource s ON s.id = a.source_id
    WHERE a.due_at < clock_timestamp() - interval '15 s'
       OR a.state = 'firing' AND a.heard <> 'firing' AND a.silence_id IS NULL
          AND coalesce(a.flapping_until, '-infinity') < clock_timestamp()
          AND a.last_at < clock_timestamp() - interval '20 s'
    GROUP BY s.slug
"""

# After one attempt it is the sender's fault; after several it is ours.
ALERT_FAILED: LiteralString = """
    SELECT s.slug, format('%s alerts of %s cannot be handled: %s', count(*), s.slug, left(max(r.error), 200))
    FROM incidents_rawalert r JOIN incidents_alertsource s ON s.id = r.source_id
    WHERE r.state = 'failed' AND r.attempts > 1 AND r.handled_at > clock_timestamp() - interval '1 hour'
    GROUP BY s.slug
"""

RULES_SILENT: LiteralString = """
    SELECT r.slug, format('The rule %s is not evaluated any more', r.name)
    FROM incidents_rulestate t JOIN incidents_alertrule r ON r.id = t.rule_id
    WHERE NOT r.paused
      AND (t.due_at < clock_timestamp() - interval '20 s'
        OR greatest(t.evaluated_at, t.since) < clock_timestamp() - interval '60 s')
    GROUP BY r.slug, r.name
"""

GROUP_TWICE: LiteralString = """
    SELECT group_key, format('%s unresolved incidents have one cause: %s', count(*), group_key)
    FROM incidents_incident WHERE group_key <> '' AND state <> 'resolved'
    GROUP BY group_key HAVING count(*) > 1
"""

TIMELINE_HEAD: LiteralString = """
    SELECT i.id::text, format('The timeline of incident %s ends with entry %s, and the incident says %s',
                              i.id, coalesce(last.seq, 0), i.last_seq)
    FROM incidents_incident i
    LEFT JOIN LATERAL (
        SELECT e.seq, e.hash FROM incidents_timelineentry e
        WHERE e.incident_id = i.id ORDER BY e.seq DESC LIMIT 1) last ON true
    WHERE (i.state <> 'resolved' OR i.resolved_at > clock_timestamp() - interval '1 day')
      AND (i.last_seq, i.head_hash) IS DISTINCT FROM (coalesce(last.seq, 0), coalesce(last.hash, ''))
"""

STATE_UNTOLD: LiteralString = """
    SELECT i.id::text, format('The timeline of incident %s does not say that it is %s', i.id, i.state)
    FROM incidents_incident i
    WHERE (i.state <> 'resolved' OR i.resolved_at > clock_timestamp() - interval '1 day') AND NOT EXISTS (
        SELECT FROM incidents_timelineentry e
        WHERE e.incident_id = i.id AND e.kind = 'state'
          AND e.at >= CASE i.state WHEN 'open' THEN '-infinity'
                                   WHEN 'acknowledged' THEN i.acknowledged_at ELSE i.resolved_at END)
"""

CHECKLIST_MISSING: LiteralString = """
    SELECT i.id::text, format('Incident %s has no checklist', i.id)
    FROM incidents_incident i
    WHERE i.state <> 'resolved' AND NOT EXISTS (SELECT FROM incidents_checklistitem c WHERE c.incident_id = i.id)
"""

LOCK_MISSING: LiteralString = """
    SELECT format('%s:%s', i.id, e.slug), format('%s can be deployed to in spite of incident %s', e.slug, i.id)
    FROM incidents_incident i JOIN environments_environment e ON e.slug = ANY(i.environments)
    WHERE i.severity = 'P1' AND i.state <> 'resolved'
      AND NOT EXISTS (
        SELECT FROM incidents_incidentlock k
        WHERE k.incident_id = i.id AND k.environment_id = e.id AND k.lock_id IS NOT NULL)
      AND NOT EXISTS (
        SELECT FROM incidents_breakglass g
        WHERE g.incident_id = i.id AND g.environment_id = e.id AND g.confirmed_at IS NOT NULL AND g.ended_at IS NULL)
"""

LOCK_LEFT: LiteralString = """
    SELECT k.id::text, format('%s is still locked for incident %s, which is %s', e.slug, i.id,
                              CASE i.state WHEN 'resolved' THEN i.state ELSE i.severity END)
    FROM incidents_incidentlock k JOIN incidents_incident i ON i.id = k.incident_id
    JOIN environments_environment e ON e.id = k.environment_id
    JOIN environments_environmentlock l ON l.id = k.lock_id AND l.released_at IS NULL
    WHERE i.state = 'resolved' OR i.severity <> 'P1'
"""

GLASS_OPEN: LiteralString = """
    SELECT g.id::text, format('The glass that was broken for incident %s should be closed again', g.incident_id)
    FROM incidents_breakglass g JOIN incidents_incident i ON i.id = g.incident_id
    WHERE g.ended_at IS NULL
      AND (g.expires_at < clock_timestamp() - interval '15 s'
        OR g.confirmed_at IS NULL AND g.asked_at < clock_timestamp() - interval '31 min'
        OR i.state = 'resolved')
"""

CLOCK_SILENT: LiteralString = """
    SELECT 'all', coalesce('No clock has beaten since ' || to_char(max(beat_at) AT TIME ZONE 'UTC', 'HH24:MI:SS'),
                           'No clock has ever beaten')
    FROM clock_beat
    HAVING coalesce(max(beat_at), '-infinity') < clock_timestamp() - interval '15 s'
"""

POSTMORTEM_MISSING: LiteralString = """
    SELECT i.id::text, format('Incident %s is resolved, and nothing was drafted to learn from it', i.id)
    FROM incidents_incident i
    WHERE i.state = 'resolved' AND i.resolved_at < clock_timestamp() - interval '20 s'
      AND i.resolved_at > clock_timestamp() - interval '1 day'
      AND NOT EXISTS (SELECT FROM incidents_postmortem p WHERE p.incident_id = i.id)
"""
