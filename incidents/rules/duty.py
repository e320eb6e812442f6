"""What the clock does for alert rules: needs PostgreSQL, and a Prometheus server only where one is named.

1. Rows of rule × environment are made and removed to fit the rules (`fit`).
2. Due rows are claimed in one short statement that sets their next time, so that clocks share the work; the time is
   the fence: whoever comes back from a slow question after another clock has claimed the row anew writes nothing.
3. Metrics are read outside of any transaction, each once for all rules and environments that name it.
4. Each row turns by database time in a transaction of its own, together with the alerts that follow.
"""

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction

from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from incidents.intake.own import say
from incidents.models import AlertRule, RuleState
from incidents.rules import alerts, sources
from incidents.rules.conditions import ConditionError, parse
from incidents.rules.evaluation import Finding, Reading, find
from incidents.rules.tree import metrics_of
from incidents.rules.turns import Standing, turn

logger = logging.getLogger(__name__)

EVERY_SECONDS = 10
AT_ONCE = 500
REMEMBERED = 60  # values, for the sparkline: ten minutes
LONGEST_WORDS = 300

# Rules watch the environments that they name, or else all those where something was ever deployed.
WATCHED = """
    SELECT r.id AS rule_id, e.id AS environment_id FROM incidents_alertrule r JOIN environments_environment e
        ON CASE WHEN r.environments = '{}'
            THEN EXISTS (SELECT FROM environments_placement p WHERE p.environment_id = e.id AND p.version <> '')
            ELSE e.slug = ANY(r.environments) END
    WHERE NOT r.paused
"""
MAKE = f"""
    INSERT INTO incidents_rulestate (rule_id, environment_id, state, words, recent)
    SELECT watched.rule_id, watched.environment_id, 'missing', 'not evaluated yet', '{{}}' FROM ({WATCHED}) AS watched
    ON CONFLICT (rule_id, environment_id) DO NOTHING
"""  # noqa: S608 (our own words, twice)
UNWATCHED = f"""
    SELECT s.id FROM incidents_rulestate s WHERE NOT EXISTS (
        SELECT FROM ({WATCHED}) AS watched
        WHERE watched.rule_id = s.rule_id AND watched.environment_id = s.environment_id
    )
"""  # noqa: S608
CLAIM = """
    UPDATE incidents_rulestate SET due_at = clock_timestamp() + make_interval(secs => %s) WHERE id IN (
        SELECT id FROM incidents_rulestate WHERE due_at <= clock_timestamp()
        ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
    ) RETURNING id, due_at
"""


def fit() -> int:
    """Make and remove rows to fit the rules; alerts of what is no longer watched are taken back."""
    with connection.cursor() as cursor:
        cursor.execute(MAKE)
        made = int(cursor.rowcount)
        cursor.execute(UNWATCHED)
        gone = [row[0] for row in cursor.fetchall()]
    if made:
        ring("news", "alerts")
    return made + sum(retire(pk) for pk in gone)


def retire(pk: int) -> bool:
    """Remove one row, and say that its alerts are over, unless another clock is at it."""
    with transaction.atomic():
        rows = RuleState.objects.select_for_update(skip_locked=True, of=("self",))
        row = rows.select_related("rule", "environment").filter(pk=pk).first()
        if row is None:
            return False
        say(alerts.over(row))
        row.delete()
        transaction.on_commit(lambda: ring("news", "alerts"))
    return True


def evaluate_due() -> int:
    """Look at the rules whose time has come; returns how many rows were looked at."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [EVERY_SECONDS, AT_ONCE])
        claimed: dict[int, datetime] = dict(cursor.fetchall())
    if not claimed:
        return 0
    rows = list(RuleState.objects.filter(pk__in=claimed).select_related("rule", "environment").order_by("pk"))
    findings = _findings(rows)
    for row in rows:
        _settle(row.pk, claimed[row.pk], findings[row.pk])
    return len(rows)


def _findings(rows: Sequence[RuleState]) -> dict[int, Finding]:
    wanted = {name for row in rows for name in _metrics(row.rule)}
    readings = sources.read(wanted, sorted({row.environment.slug for row in rows}))
    return {row.pk: _finding(row.rule, readings.get(row.environment.slug, {})) for row in rows}


def _metrics(rule: AlertRule) -> list[str]:
    try:
        return metrics_of(parse(rule.condition))
    except ConditionError:
        return []  # said by the finding


def _finding(rule: AlertRule, readings: dict[str, Reading]) -> Finding:
    try:
        return find(parse(rule.condition), readings)
    except ConditionError as error:
        # A metric that an update took away, say: nobody knows, and that is told.
        return Finding(None, None, f"The condition cannot be understood: {error}")


def _settle(pk: int, claimed: datetime, finding: Finding) -> None:
    """Turn one row, if it is still ours."""
    with transaction.atomic():
        rows = RuleState.objects.select_for_update(of=("self",)).select_related("rule", "environment")
        row = rows.filter(pk=pk, due_at=claimed, rule__paused=False).first()
        if row is None:
            return
        before = standing_of(row)
        now = database_time()
        after = turn(before, finding.holds, now, row.rule.for_seconds)
        row.state, row.since, row.held_since = after.state, after.since, after.held_since
        row.told_since, row.nodata_since = after.told_since, after.nodata_since
        row.value, row.words, row.evaluated_at = finding.value, finding.words[:LONGEST_WORDS], now
        row.recent = [*row.recent, finding.value][-REMEMBERED:]
        row.save(update_fields=["state", "since", "held_since", "told_since", "nodata_since", "value", "words",
                                "evaluated_at", "recent"])  # fmt: skip
        if said := alerts.changes(before, after, row):
            say(said)
        if before.state != after.state:
            transaction.on_commit(lambda: ring("news", "alerts"))


def standing_of(row: RuleState) -> Standing:
    """How it stands, as the machine of `turns` knows it."""
    return Standing(row.state, row.since, row.held_since, row.told_since, row.nodata_since)
