"""What the clock does for operations. Every function is a claim of due rows; any number of clocks may run."""

from collections.abc import Callable, Iterable
from datetime import timedelta

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from controlplane.operations.doorbell import ring_workers
from controlplane.operations.errors import Conflict
from controlplane.operations.models import Operation
from controlplane.operations.states import EXECUTING, State
from controlplane.operations.transitions import expire, fall_due

# A ring that led to nothing is repeated after this long: Redis may have lost it, or the worker died with it.
RING_AGAIN = timedelta(seconds=2)


def hand_on() -> int:
    """Ring for what lost its worker and for what is queued; returns how many rings."""
    quiet = Q(rung_at__isnull=True) | Q(rung_at__lt=Now() - RING_AGAIN)
    lost = Operation.objects.filter(quiet, state__in=EXECUTING, lease_until__lt=Now())
    queued = Operation.objects.filter(quiet, state=State.QUEUED).order_by(F("rung_at").asc(nulls_first=True))
    ids = [*lost.values_list("pk", flat=True)[:100], *queued.values_list("pk", flat=True)[:20]]
    for operation_id in ids:
        ring_workers(operation_id)
    return len(ids)


def expire_approvals() -> int:
    """End what nobody approved in its time; returns how many."""
    return _each(Operation.objects.filter(state=State.AWAITING_APPROVAL, approval_deadline__lt=Now()), expire)


def start_scheduled() -> int:
    """Queue what has reached its planned time; returns how many."""
    return _each(Operation.objects.filter(state=State.SCHEDULED, scheduled_for__lte=Now()), fall_due)


def _each(due: QuerySet[Operation], move: Callable[[int], None]) -> int:
    moved = 0
    ids: Iterable[int] = due.order_by("pk").values_list("pk", flat=True)[:100]
    for operation_id in ids:
        try:
            move(operation_id)
            moved += 1
        except Conflict:
            continue  # another clock, or a person, was first
    return moved
