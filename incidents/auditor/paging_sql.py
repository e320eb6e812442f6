"""Where the promises about levels, pages and deliveries are broken. See `incidents/auditor/invariants.py`."""

from typing import LiteralString

ESCALATION_ENDED: LiteralString = """
    SELECT i.id::text, format('Incident %s is open, and nobody else will be paged: %s', i.id, i.title)
    FROM incidents_incident i
    WHERE i.state = 'open' AND jsonb_array_length(i.policy->'levels') > 0
      AND NOT EXISTS (SELECT FROM incidents_level l WHERE l.incident_id = i.id AND l.state = 'pending')
      AND NOT EXISTS (
        SELECT FROM incidents_page p WHERE p.incident_id = i.id AND p.state <> 'cancelled'
          AND (p.next_way_at IS NOT NULL
            OR greatest(p.queued_at, p.accepted_at, p.delivered_at, p.seen_at) > clock_timestamp() - interval '60 s'))
      AND NOT EXISTS (
        SELECT FROM incidents_delivery d
        WHERE d.incident_id = i.id AND d.purpose = 'page' AND d.state IN ('queued', 'sending'))
"""

# A change of severity cancels the levels there were, and writes those of the other matrix.
LEVEL_MISSING: LiteralString = """
    SELECT format('%s:L%s', i.id, step->>'number'), format('Incident %s has lost its level L%s', i.id, step->>'number')
    FROM incidents_incident i CROSS JOIN LATERAL jsonb_array_elements(i.policy->'levels') step
    WHERE i.state = 'open' AND (
        SELECT count(*) FROM incidents_level l
        WHERE l.incident_id = i.id AND l.number = (step->>'number')::int AND l.state <> 'cancelled'
      ) <= (i.policy->>'repeats')::int
"""

LEVEL_PLANNED_LATE: LiteralString = """
    SELECT format('%s:L%s', i.id, step->>'number'),
      format('L%s of incident %s is due later than its matrix says', step->>'number', i.id)
    FROM incidents_incident i CROSS JOIN LATERAL jsonb_array_elements(i.policy->'levels') step
    WHERE i.state = 'open'
      AND (SELECT min(l.due_at) FROM incidents_level l
           WHERE l.incident_id = i.id AND l.number = (step->>'number')::int)
          > i.opened_at + make_interval(secs => (step->>'after_seconds')::float + 1)
      AND NOT EXISTS (
        SELECT FROM incidents_timelineentry e
        WHERE e.incident_id = i.id AND e.kind = 'state' AND e.data ? 'impact')
"""

LEVEL_OVERDUE: LiteralString = """
    SELECT l.id::text, format('L%s of incident %s was due at %s and has not been paged', l.number, l.incident_id,
                              to_char(l.due_at AT TIME ZONE 'UTC', 'HH24:MI:SS'))
    FROM incidents_level l JOIN incidents_incident i ON i.id = l.incident_id
    WHERE l.state = 'pending' AND l.due_at < clock_timestamp() - interval '15 s' AND i.state = 'open'
    ORDER BY l.due_at
"""

LEVEL_LEFT: LiteralString = """
    SELECT l.id::text, format('L%s of incident %s is still to be paged, and the incident is %s',
                              l.number, l.incident_id, i.state)
    FROM incidents_level l JOIN incidents_incident i ON i.id = l.incident_id
    WHERE l.state = 'pending' AND i.state <> 'open'
"""

# The engine's own words begin with "pages" where there is somebody to page.
LEVEL_SILENT: LiteralString = """
    SELECT l.id::text, format('L%s of incident %s counts as paged, and nobody was', l.number, l.incident_id)
    FROM incidents_level l JOIN incidents_incident i ON i.id = l.incident_id
    WHERE i.state <> 'resolved' AND l.state = 'fired' AND (l.words = '' OR l.words LIKE 'pages %')
      AND NOT EXISTS (SELECT FROM incidents_page p WHERE p.level_id = l.id)
"""

LEVEL_PASSED: LiteralString = """
    SELECT l.id::text, format('L%s of incident %s was passed over, and no other level was paged', l.number, i.id)
    FROM incidents_level l JOIN incidents_incident i ON i.id = l.incident_id
    WHERE i.state = 'open' AND l.state = 'passed' AND NOT EXISTS (
        SELECT FROM incidents_level higher
        WHERE higher.incident_id = i.id AND higher.state = 'fired' AND higher.due_at >= l.due_at)
"""

LEVEL_UNTOLD: LiteralString = """
    SELECT l.id::text, format('L%s of incident %s was paged, and the timeline does not say so', l.number, i.id)
    FROM incidents_level l JOIN incidents_incident i ON i.id = l.incident_id
    WHERE i.state <> 'resolved' AND l.state = 'fired' AND NOT EXISTS (
        SELECT FROM incidents_timelineentry e
        WHERE e.incident_id = i.id AND e.kind = 'page' AND e.at >= l.settled_at
          AND e.data->'level' = to_jsonb(l.number) AND e.data->'round' = to_jsonb(l.round))
"""

PAGE_UNDELIVERED: LiteralString = """
    SELECT p.id::text, format('The page of incident %s to %s is in nobody''s outbox', p.incident_id, p.person_name)
    FROM incidents_page p JOIN incidents_incident i ON i.id = p.incident_id
    WHERE i.state <> 'resolved' AND p.state <> 'cancelled'
      AND (SELECT count(*) FROM incidents_delivery d WHERE d.page_id = p.id AND d.incident_id = i.id) <= p.way
"""

PAGE_DOUBLED: LiteralString = """
    SELECT p.id::text, format('The page of incident %s to %s went out twice by a channel', p.incident_id, p.person_name)
    FROM incidents_page p JOIN incidents_incident i ON i.id = p.incident_id
    WHERE i.state <> 'resolved' AND (
        SELECT count(*) FROM incidents_delivery d
        WHERE d.page_id = p.id AND d.incident_id = i.id AND d.purpose = 'page') > p.way + 1
"""

# When the matrix of another severity takes over, pages of the one before go no further.
PAGE_LEFT_ALONE: LiteralString = """
    SELECT p.id::text, format('The page of incident %s to %s has no receipt, and the next channel was not tried',
                              p.incident_id, p.person_name)
    FROM incidents_page p JOIN incidents_incident i ON i.id = p.incident_id
    WHERE p.next_way_at < clock_timestamp() - interval '15 s' AND i.state <> 'resolved'
    UNION
    SELECT p.id::text, format('The page of incident %s to %s has no receipt, and no next channel will be tried',
                              p.incident_id, p.person_name)
    FROM incidents_page p JOIN incidents_incident i ON i.id = p.incident_id
    WHERE i.state = 'open' AND p.state IN ('queued', 'accepted') AND p.delivered_at IS NULL AND p.seen_at IS NULL
      AND p.next_way_at IS NULL AND p.way + 1 < jsonb_array_length(p.ways)
      AND NOT EXISTS (
        SELECT FROM incidents_timelineentry e
        WHERE e.incident_id = i.id AND e.kind = 'state' AND e.at > p.queued_at
          AND e.data->>'before' <> e.data->>'after')
"""

# The next channel has its turn 60 s after the one before, at the latest.
RECEIPT_LATE: LiteralString = """
    SELECT p.id::text, format('The page of incident %s to %s was accepted %s s ago, and no receipt came',
      p.incident_id, p.person_name, round(extract(epoch FROM clock_timestamp() - d.accepted_at)))
    FROM incidents_page p JOIN incidents_incident i ON i.id = p.incident_id
    JOIN LATERAL (
        SELECT last.* FROM incidents_delivery last
        WHERE last.page_id = p.id AND last.incident_id = i.id ORDER BY last.id DESC LIMIT 1) d ON true
    WHERE i.state = 'open' AND p.state = 'accepted' AND p.way + 1 < jsonb_array_length(p.ways)
      AND d.accepted_at < clock_timestamp() - interval '75 s' AND d.delivered_at IS NULL AND d.seen_at IS NULL
      AND NOT EXISTS (
        SELECT FROM incidents_timelineentry e
        WHERE e.incident_id = i.id AND e.kind = 'state' AND e.at > p.queued_at
          AND e.data->>'before' <> e.data->>'after')
"""

DELIVERY_WAITING: LiteralString = """
    SELECT d.id::text, format('A %s by %s for incident %s waits in the outbox, and nobody sends it',
                              d.purpose, d.channel, d.incident_id)
    FROM incidents_delivery d LEFT JOIN incidents_channel c ON c.kind = d.channel
    WHERE d.state = 'queued' AND coalesce(d.next_at, '-infinity') < clock_timestamp() - interval '15 s'
      AND NOT coalesce(c.paused, false)
"""

DELIVERY_STUCK: LiteralString = """
    SELECT d.id::text, format('A %s by %s for incident %s is being sent for too long', d.purpose, d.channel,
                              d.incident_id)
    FROM incidents_delivery d
    WHERE d.state = 'sending' AND coalesce(d.lease_until, d.queued_at) < clock_timestamp() - interval '15 s'
       OR d.state IN ('queued', 'sending') AND d.give_up_at < clock_timestamp() - interval '20 s'
"""

ACCEPTANCE_LOST: LiteralString = """
    SELECT d.id::text, format('%s took a page of incident %s, and %s does not know it', d.channel, i.id,
                              CASE WHEN i.notified_at IS NULL THEN 'the incident' ELSE 'the page' END)
    FROM incidents_delivery d JOIN incidents_incident i ON i.id = d.incident_id
    JOIN incidents_page p ON p.id = d.page_id
    WHERE i.state <> 'resolved' AND d.purpose = 'page' AND d.state IN ('accepted', 'delivered', 'seen')
      AND d.accepted_at < clock_timestamp() - interval '10 s'
      AND (i.notified_at IS NULL OR p.state = 'queued' OR p.state = 'accepted' AND p.accepted_at IS NULL)
"""

NOBODY_NOTIFIED: LiteralString = """
    SELECT i.id::text, format('Nobody has been notified of incident %s: %s', i.id, i.title)
    FROM incidents_incident i
    WHERE i.state = 'open' AND i.notified_at IS NULL AND jsonb_array_length(i.policy->'levels') > 0
      AND i.opened_at + make_interval(secs => (
        SELECT min((step->>'after_seconds')::float) FROM jsonb_array_elements(i.policy->'levels') step
      )) < clock_timestamp() - interval '20 s'
"""

SILENCE_UNTOLD: LiteralString = """
    SELECT i.id::text, format('The timeline of incident %s does not say that nobody has been notified', i.id)
    FROM incidents_incident i
    WHERE i.state = 'open' AND i.notified_at IS NULL AND i.opened_at < clock_timestamp() - interval '20 s'
      AND EXISTS (
        SELECT FROM incidents_level l
        WHERE l.incident_id = i.id AND l.due_at < clock_timestamp() - interval '20 s')
      AND NOT EXISTS (
        SELECT FROM incidents_timelineentry e
        WHERE e.incident_id = i.id AND e.kind = 'page' AND e.data ? 'nobody')
"""

# Somebody to whom an acknowledged incident is handed over is paged afterwards, which is as it should be.
PAGE_AFTER: LiteralString = """
    SELECT d.id::text, format('A page by %s left %s s after incident %s was acknowledged', d.channel,
      round(extract(epoch FROM d.accepted_at - coalesce(i.acknowledged_at, i.resolved_at))::numeric, 1), i.id)
    FROM incidents_delivery d JOIN incidents_incident i ON i.id = d.incident_id
    WHERE d.purpose = 'page' AND i.state <> 'open' AND d.accepted_at > clock_timestamp() - interval '1 hour'
      AND d.queued_at < coalesce(i.acknowledged_at, i.resolved_at)
      AND d.accepted_at > coalesce(i.acknowledged_at, i.resolved_at)
"""

OUTBOX_LEFT: LiteralString = """
    SELECT d.id::text, format('A page by %s is still in the outbox, and incident %s is %s', d.channel, i.id, i.state)
    FROM incidents_delivery d JOIN incidents_incident i ON i.id = d.incident_id
    WHERE d.purpose = 'page' AND d.state IN ('queued', 'sending')
      AND (i.state = 'resolved' OR d.queued_at < i.acknowledged_at AND i.state = 'acknowledged')
    UNION
    SELECT format('page %s', p.id), format('A page of incident %s would go on to the next channel, and it is %s',
                                           i.id, i.state)
    FROM incidents_page p JOIN incidents_incident i ON i.id = p.incident_id
    WHERE p.next_way_at IS NOT NULL AND (i.state = 'resolved' OR p.queued_at < i.acknowledged_at)
      AND i.state <> 'open'
"""

PAGERDUTY_UNTOLD: LiteralString = """
    SELECT i.id::text, format('PagerDuty was not told that incident %s is %s', i.id, i.state)
    FROM incidents_incident i
    WHERE (i.state = 'acknowledged' OR i.resolved_at > clock_timestamp() - interval '1 day')
      AND EXISTS (
        SELECT FROM incidents_delivery d
        WHERE d.incident_id = i.id AND d.channel = 'pagerduty' AND d.purpose = 'page'
          AND d.accepted_at < coalesce(i.resolved_at, i.acknowledged_at))
      AND NOT EXISTS (
        SELECT FROM incidents_delivery d
        WHERE d.incident_id = i.id AND d.channel = 'pagerduty'
          AND d.purpose = CASE i.state WHEN 'resolved' THEN 'resolve' ELSE 'acknowledge' END)
"""
