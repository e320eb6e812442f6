"""The latest backups of many policies at once: one query however many there are, and flat at a million rows."""

from collections import defaultdict
from collections.abc import Iterable

from backups.models import Backup, Policy

# What a list shows; a manifest may be long.
SHOWN = (
    "id, environment_id, policy_id, policy_slug, kind, level, parent_id, state, storage_id, key, operation_id, as_of,"
    " started_at, finished_at, seconds, size, source_bytes, verdict, verdict_words, tested_at, tested_in,"
    " restore_seconds, hold_reason, wal_end"
)
LATEST = """
SELECT b.* FROM unnest(%s::bigint[]) AS wanted (policy_id)
CROSS JOIN LATERAL (
    SELECT {shown} FROM backups_backup
    WHERE policy_id = wanted.policy_id AND {condition}
    ORDER BY as_of DESC LIMIT %s
) AS b
"""


def latest_good(policies: Iterable[Policy], count: int) -> dict[int, list[Backup]]:
    """By policy, its latest that are there and did not fail a restore test, the newest first."""
    return _latest(policies, count, "state = 'available' AND verdict <> 'failed'")


def latest_proven(policies: Iterable[Policy]) -> dict[int, Backup]:
    """By policy, the newest that a restore test has proven."""
    found = _latest(policies, 1, "verdict = 'proven' AND state = 'available'")
    return {policy: rows[0] for policy, rows in found.items()}


def _latest(policies: Iterable[Policy], count: int, condition: str) -> dict[int, list[Backup]]:
    sql = LATEST.format(shown=SHOWN, condition=condition)
    found: dict[int, list[Backup]] = defaultdict(list)
    for backup in Backup.objects.raw(sql, [[policy.pk for policy in policies], count]):
        found[backup.policy_id or 0].append(backup)
    return {policy: sorted(rows, key=lambda one: (one.as_of, one.pk), reverse=True) for policy, rows in found.items()}
