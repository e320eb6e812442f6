"""What the clock does for operations. Every function is a claim of due rows; any number of clocks may run."""

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

from django.db import InterfaceError, OperationalError
from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Greatest, Least, Now

from controlplane.operations.deadlines import expire, expire_unstarted, fall_due
from controlplane.operations.doorbell import ring_workers
from controlplane.operations.errors import Conflict
from controlplane.operations.models import IdempotencyKey, Operation
from controlplane.operations.states import BEFORE_START, EXECUTING, State
from controlplane.operations.transitions import recount

logger = logging.getLogger(__name__)

# A ring that led to nothing is repeated after this long: Redis may have lost it, or the worker died with it.
RING_AGAIN = timedelta(seconds=2)
# What has waited for long is rung for less often, or rings would pile up before workers that are all busy.
RING_SELDOM = timedelta(seconds=30)
# How long the answer to a request with an idempotency key is kept, as the API promises.
KEYS_KEPT = timedelta(hours=24)


def hand_on() -> int:
    """Ring for what lost its worker and for what is queued; returns how many rings."""
    quiet = Q(rung_at__isnull=True) | Q(rung_at__lt=Now() - RING_AGAIN)
    lost = Operation.objects.filter(quiet, state__in=EXECUTING, lease_until__lt=Now())
    waited = Least(Greatest((Now() - F("queued_at")) / 10, RING_AGAIN), RING_SELDOM)
    patient = Q(rung_at__isnull=True) | Q(rung_at__lt=Now() - waited)
    queued = Operation.objects.filter(patient, state=State.QUEUED).order_by(F("rung_at").asc(nulls_first=True))
    ids = [*lost.values_list("pk", flat=True)[:100], *queued.values_list("pk", flat=True)[:20]]
    for operation_id in ids:
        ring_workers(operation_id)
    return len(ids)


def expire_approvals() -> int:
    """End what nobody approved in its time; returns how many."""
    late = Q(approval_deadline__lt=Now()) | Q(scheduled_for__lt=Now())
    return _each(Operation.objects.filter(late, state=State.AWAITING_APPROVAL), expire)


def recount_approvals() -> int:
    """Let go what has all its approvals, and waits only because they did not all count when the last came."""
    waiting = Operation.objects.filter(state=State.AWAITING_APPROVAL).annotate(given=Count("approvals"))
    return _each(waiting.filter(approvals_required__gt=0, given__gte=F("approvals_required")), recount)


def start_scheduled() -> int:
    """Queue what has reached its planned time; returns how many."""
    return _each(Operation.objects.filter(state=State.SCHEDULED, scheduled_for__lte=Now()), fall_due)


def expire_starts() -> int:
    """End what has not started by when it had to; returns how many."""
    return _each(Operation.objects.filter(state__in=BEFORE_START, start_by__lte=Now()), expire_unstarted)


def forget_keys() -> int:
    """Drop the idempotency keys that are older than a day; returns how many."""
    return IdempotencyKey.objects.filter(at__lt=Now() - KEYS_KEPT).delete()[0]


def _each(due: QuerySet[Operation], move: Callable[[int], None]) -> int:
    moved = 0
    ids: Iterable[int] = due.order_by("pk").values_list("pk", flat=True)[:100]
    for operation_id in ids:
        try:
            move(operation_id)
            moved += 1
        except Conflict:
            continue  # another clock, or a person, was first
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            # The others are due all the same; this one is tried again.
            logger.exception("operation %s: %s", operation_id, move.__name__)
    return moved
