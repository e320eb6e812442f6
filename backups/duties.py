"""What the clock does for backups: start what is due, test what is to be proven, and say what is wrong.

Each function claims its due rows with SKIP LOCKED and works on one policy in one transaction, so that any number of
clocks may run and one policy's trouble delays no other's.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from backups.alerts import raise_alert
from backups.cleaning import note_reasons, propose
from backups.models import Backup, BackupAlert, BackupRun, Cleanup, Policy, PolicyClock, Restore
from backups.schedules import missed, next_run
from backups.services import CLOCK, request_backup, request_cleanup, request_proof, running, there
from controlplane.clock.database import database_time
from controlplane.operations.gates import Outcome
from controlplane.operations.states import ACTIVE

logger = logging.getLogger(__name__)

# Later than this, nobody was there to start it: it was missed, and is made up for.
GRACE = timedelta(seconds=60)
CLEANUP_EVERY = timedelta(hours=24)
AT_ONCE = 20


def start_due() -> int:
    """Start the backups that are due; returns how many policies were looked after."""
    due = Q(due_at__lte=Now()) | Q(due_at=None)
    return _each(Q(policy__paused=False) & due, _start)


def prove_due() -> int:
    """Start the restore tests that are due; returns how many policies were looked after."""
    due = Q(proof_due_at__lte=Now()) | Q(proof_due_at=None, policy__proof=Policy.Proof.SCHEDULE)
    return _each(Q(policy__paused=False) & due, _prove)


def clean_due() -> int:
    """Say of each backup why it is kept, and start the clean-up of what is not; returns how many policies."""
    return _each(Q(cleanup_due_at__lte=Now()), _clean)


def _each(due: Q, do: Callable[[PolicyClock, datetime], None]) -> int:
    done = 0
    # In no order: a few that are broken for good must not always be the first.
    for pk in list(PolicyClock.objects.filter(due).order_by("?").values_list("pk", flat=True)[:AT_ONCE]):
        try:
            with transaction.atomic():
                rows = PolicyClock.objects.select_for_update(skip_locked=True, of=("self",))
                clock = rows.select_related("policy__environment", "policy__storage").filter(due, pk=pk).first()
                if clock is not None:
                    do(clock, database_time())
                    done += 1
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            # The others are due all the same; this one is tried again.
            logger.exception("policy clock %s: %s", pk, do.__name__)
    return done


def _start(clock: PolicyClock, now: datetime) -> None:
    policy, due = clock.policy, clock.due_at
    clock.due_at = next_run(policy.schedule, policy.time_zone, now)
    clock.save(update_fields=["due_at"])
    if due is None:
        return  # its first time lies ahead
    if BackupRun.objects.filter(policy=policy, due_at=due).exists():
        return  # it was started already, before the clock of the database was set back
    if (busy := running(policy)) is not None:
        words = f"the run of {due:%Y-%m-%d %H:%M} UTC was left out: operation {busy.pk} was still at it"
        raise_alert(policy, BackupAlert.Kind.OVERRUN, words, operation_id=busy.pk)
        return
    reason = f"due at {due:%Y-%m-%d %H:%M} UTC ({policy.schedule}, {policy.time_zone})"
    if now - due > GRACE:
        others = missed(policy.schedule, policy.time_zone, due, now)
        count = f" and {others} after it" if others else ""
        words = f"the run of {due:%Y-%m-%d %H:%M} UTC{count} was missed: nobody was there to start it before now"
        raise_alert(policy, BackupAlert.Kind.MISSED, words)
        reason = f"made up for: {words}"
    request_backup(CLOCK, policy, reason=reason, cause=BackupRun.Cause.SCHEDULE, due_at=due)


def _prove(clock: PolicyClock, now: datetime) -> None:
    policy, due = clock.policy, clock.proof_due_at
    by_schedule = policy.proof == Policy.Proof.SCHEDULE
    clock.proof_due_at = next_run(policy.proof_schedule, policy.time_zone, now) if by_schedule else None
    if due is not None and (busy := _test_under_way(policy)):
        # It comes after the present one, in a while, not behind it in a queue that only grows.
        clock.proof_due_at = now + GRACE
        logger.info("%s: operation %s still tests", policy, busy)
        due = None
    clock.save(update_fields=["proof_due_at"])
    backup = _to_be_proven(policy) if due is not None else None
    if backup is not None:
        request_proof(CLOCK, backup, reason=f"{policy.get_proof_display()}, due at {due:%Y-%m-%d %H:%M} UTC")


def _test_under_way(policy: Policy) -> int | None:
    tests = Restore.objects.filter(backup__policy=policy, target=Restore.Target.TEST, operation__state__in=ACTIVE)
    return tests.values_list("operation_id", flat=True).first()


def _to_be_proven(policy: Policy) -> Backup | None:
    """The newest one, unless it was tested already."""
    rows = Backup.objects.filter(policy=policy, state=Backup.State.AVAILABLE).select_related("environment", "storage")
    newest = rows.order_by("-as_of", "-pk").first()
    if newest is None or newest.tested_at is not None or there(newest).outcome is Outcome.FAILED:
        return None
    return newest


def _clean(clock: PolicyClock, now: datetime) -> None:
    policy = clock.policy
    clock.cleanup_due_at = now + CLEANUP_EVERY
    clock.save(update_fields=["cleanup_due_at"])
    proposal = propose(policy, now)
    note_reasons(policy, proposal)
    cleaning = Cleanup.objects.filter(policy=policy, operation__state__in=ACTIVE)
    if proposal.go and running(policy) is None and not cleaning.exists():
        words = f"retention: {policy.keep_days} days and the rules of the policy"
        request_cleanup(CLOCK, policy, proposal, reason=words)
