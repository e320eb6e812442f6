"""The latest backups of many policies at once: one query however many there are, and flat at a million rows."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from backups.models import Backup, Policy

# What a list shows; a manifest may be long.
SHOWN = (
    "id, environment_id, policy_id, policy_slug, kind, level, parent_id, state, storage_id, key, operation_id, as_of,"
    " started_at, finished_at, seconds, size, source_bytes, verdict, verdict_words, tested_at, tested_in,"
    " restore_seconds, hold_reason, wal_end"
)
LATEST = f"""
SELECT b.* FROM unnest(%(policies)s::bigint[]) AS wanted (policy_id)
CROSS JOIN LATERAL (
    (SELECT {SHOWN}, true AS is_good FROM backups_backup
     WHERE policy_id = wanted.policy_id AND state = 'available' AND verdict <> 'failed'
     ORDER BY as_of DESC LIMIT %(count)s)
    UNION ALL
    (SELECT {SHOWN}, false FROM backups_backup
     WHERE policy_id = wanted.policy_id AND state = 'available' AND verdict = 'proven'
     ORDER BY as_of DESC LIMIT 1)
) AS b
"""  # noqa: S608 - put together from the text above alone


@dataclass
class Latest:
    """good: those that are there and did not fail a restore test, the newest first. proven: the newest proven one."""

    good: list[Backup] = field(default_factory=list)
    proven: Backup | None = None


def latest_of(policies: Iterable[Policy], count: int) -> dict[int, Latest]:
    """By policy, at most so many."""
    found: dict[int, Latest] = defaultdict(Latest)
    for backup in Backup.objects.raw(LATEST, {"policies": [policy.pk for policy in policies], "count": count}):
        of = found[backup.policy_id or 0]
        if vars(backup)["is_good"]:
            of.good.append(backup)
        else:
            of.proven = backup
    for of in found.values():
        of.good.sort(key=lambda one: (one.as_of, one.pk), reverse=True)
    return found
