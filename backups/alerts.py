"""What is wrong with backups, as rows that a person sees on the board and that `incidents` may take up.

An alert is raised once, its words are kept up to date while it is open, and it is resolved when its cause is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from backups.freshness import latest_of
from backups.models import BackupAlert, BackupRun, Kind, Policy
from backups.wal import wal_problems
from controlplane.audit.record import SYSTEM, record
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.states import ACTIVE, BEFORE_START, FINISHED, State

Wrong = Mapping[str, tuple[str, int | None]]
CLOCK = SYSTEM("clock")
# One look at an index for each policy, however many runs there were.
LAST_RUN = """
SELECT last.* FROM unnest(%s::bigint[]) AS wanted (policy_id) CROSS JOIN LATERAL (
    SELECT r.policy_id, r.operation_id, o.state, o.outcome
    FROM backups_backuprun r JOIN operations_operation o ON o.id = r.operation_id
    WHERE r.policy_id = wanted.policy_id AND r.cause <> 'safety' AND o.state = ANY(%s) ORDER BY r.id DESC LIMIT 1
) AS last
"""
LAST_TEST = """
SELECT last.* FROM unnest(%s::bigint[]) AS wanted (policy_id) CROSS JOIN LATERAL (
    SELECT b.policy_id, t.operation_id, o.state, o.outcome
    FROM backups_backup b JOIN backups_restore t ON t.backup_id = b.id
    JOIN operations_operation o ON o.id = t.operation_id
    WHERE b.policy_id = wanted.policy_id AND t.target = 'test' AND o.state = ANY(%s) ORDER BY t.id DESC LIMIT 1
) AS last
"""
# Raised by those who see it happen, and kept until a later success: they cannot be seen again.
EVENTS = frozenset({BackupAlert.Kind.MISSED, BackupAlert.Kind.OVERRUN})


def raise_alert(policy: Policy, kind: str, words: str, *, operation_id: int | None = None) -> bool:
    """Raise it, or bring the words of the open one up to date; whether it is new. Call it in a transaction."""
    alert, is_new = BackupAlert.objects.get_or_create(
        policy=policy, kind=kind, resolved_at=None, defaults={"words": words, "operation_id": operation_id}
    )
    if not is_new and (alert.words, alert.operation_id) == (words, operation_id):
        return False
    transaction.on_commit(lambda: ring("news", "backups environments"))
    if not is_new:
        BackupAlert.objects.filter(pk=alert.pk).update(words=words, operation_id=operation_id)
        return False
    record(CLOCK, "backup.alert", f"policy {policy}", scopes=[policy.environment.slug], reason=words,
           data={"kind": kind, "operation": operation_id})  # fmt: skip
    return True


def resolve(policy: Policy, kinds: list[str]) -> int:
    """End those that are open; returns how many. Call it in a transaction."""
    rows = BackupAlert.objects.filter(policy=policy, kind__in=kinds, resolved_at=None)
    names = list(rows.values_list("kind", flat=True))
    if not names or not rows.update(resolved_at=Now()):
        return 0  # another clock was first
    transaction.on_commit(lambda: ring("news", "backups environments"))
    record(CLOCK, "backup.alert_resolved", f"policy {policy}", scopes=[policy.environment.slug],
           data={"kinds": names})  # fmt: skip
    return len(names)


def watch() -> int:
    """Compare every policy with its promises (the clock calls it often); returns how many alerts changed."""
    now = database_time()
    policies = list(Policy.objects.select_related("environment", "clock"))
    seen = _Seen(policies)
    open_kinds: dict[int, set[str]] = {}
    for policy_id, kind in BackupAlert.objects.filter(resolved_at=None).values_list("policy", "kind"):
        open_kinds.setdefault(policy_id, set()).add(kind)
    changed = 0
    for policy in policies:
        wrong = {} if policy.paused else seen.wrong_with(policy, now)
        over = [kind for kind in open_kinds.get(policy.pk, set()) - wrong.keys()
                if kind not in EVENTS or seen.is_over(policy, kind)]  # fmt: skip
        if not wrong and not over:
            continue
        with transaction.atomic():
            for kind, (words, operation_id) in wrong.items():
                changed += raise_alert(policy, kind, words, operation_id=operation_id)
            changed += resolve(policy, over)
    return changed


@dataclass(frozen=True)
class _Ended:
    """The last operation of its sort that has ended, of one policy."""

    operation_id: int
    state: str
    outcome: str


def _ended(query: str, policies: list[int]) -> dict[int, _Ended]:
    with connection.cursor() as cursor:
        cursor.execute(query, [policies, sorted(FINISHED)])
        return {policy: _Ended(*rest) for policy, *rest in cursor.fetchall()}


class _Seen:
    """What the database says of all policies, in a fixed number of queries."""

    def __init__(self, policies: list[Policy]) -> None:
        self.newest = {policy: of.good[0].as_of for policy, of in latest_of(policies, 1).items() if of.good}
        # The last run of each that has ended, and the last test.
        numbers = [policy.pk for policy in policies]
        self.last_run = _ended(LAST_RUN, numbers)
        self.last_test = _ended(LAST_TEST, numbers)
        runs = BackupRun.objects.filter(operation__state__in=ACTIVE)
        unapproved = Q(cause=BackupRun.Cause.SAFETY, operation__state__in=BEFORE_START)
        self.active = set(runs.exclude(unapproved).values_list("policy", flat=True))
        self.wal = wal_problems([policy for policy in policies if policy.kind == Kind.PITR])
        self.raised = dict(
            BackupAlert.objects.filter(resolved_at=None, kind=BackupAlert.Kind.MISSED)
            .values_list("policy", "raised_at")
        )  # fmt: skip

    def wrong_with(self, policy: Policy, now: datetime) -> Wrong:
        """By kind of alert: the words, and the operation they are about."""
        wrong: dict[str, tuple[str, int | None]] = {}
        run = self.last_run.get(policy.pk)
        if run is not None and run.state == State.FAILED:
            wrong[BackupAlert.Kind.FAILED] = (run.outcome, run.operation_id)
        test = self.last_test.get(policy.pk)
        if test is not None and test.state == State.FAILED:
            wrong[BackupAlert.Kind.UNPROVEN] = (test.outcome, test.operation_id)
        if words := self._stale(policy, now):
            wrong[BackupAlert.Kind.STALE] = (words, None)
        for kind, words in self.wal.get(policy.pk, {}).items():
            wrong[kind] = (words, None)
        return wrong

    def _stale(self, policy: Policy, now: datetime) -> str:
        window = timedelta(seconds=policy.rpo_seconds)
        newest = self.newest.get(policy.pk)
        if policy.kind == Kind.PITR and newest is not None:
            return ""  # between two bases the WAL keeps the promise, and has alerts of its own
        if newest is None and now - policy.clock.since > window:
            return "there is no backup yet, and its window is over"
        if newest is not None and now - newest > window:
            return f"the last good backup is of {newest:%Y-%m-%d %H:%M} UTC, longer ago than its window allows"
        return ""

    def is_over(self, policy: Policy, kind: str) -> bool:
        """A missed run is made up for by a later success; an overrun ends with the operation."""
        if kind == BackupAlert.Kind.OVERRUN:
            return policy.pk not in self.active
        newest = self.newest.get(policy.pk)
        return newest is not None and newest > self.raised.get(policy.pk, newest)
