"""Whose turn it is: first come, first served.

1. Operations that need the same lock start one after the other, in the order they were queued.
2. What an operation asked for on its way, and waits for (the backup before a deployment), is behind nobody in the
   queue: whoever came before it may wait for a lock of that operation, and neither would ever move.
3. Of those in the background that nothing but a place keeps from starting, the one that was queued first is next.
   What lets others pass keeps its place in the queue: it may start before them as soon as it can.
"""

from typing import Any

from django.conf import settings
from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from controlplane.operations.models import Operation, OperationLock
from controlplane.operations.registry import background_kinds
from controlplane.operations.states import EXECUTING, State

# Another operation waits for its end.
PART_OF_ANOTHER = Q(part_of__isnull=False, part_of__finished_at=None)


def queue_before(operation: Operation) -> QuerySet[Operation]:
    """Those whose turn comes before its own. What waits for a gate lets others pass until the gate opens."""
    if Operation.objects.filter(PART_OF_ANOTHER, pk=operation.pk).exists():
        return Operation.objects.none()
    return _before(operation.lock_names, operation.queued_at, operation.pk)


def _before(lock_names: Any, queued_at: Any, pk: Any) -> QuerySet[Operation]:
    ahead = Operation.objects.filter(state=State.QUEUED, lock_names__overlap=lock_names, gate_pending_since=None)
    earlier = Q(queued_at__lt=queued_at) | Q(queued_at=queued_at, pk__lt=pk)
    return ahead.filter(earlier).order_by("queued_at", "pk")


def turn_in_the_background() -> list[Operation]:
    """Who may start in the background now, in the order they were queued; nobody while all places are taken.

    The last one's turn it is: later ones wait for it. Those before it let others pass: they wait for a gate, or their
    turn is over without a start, since it could not be checked. What waits for a lock is not among them.
    """
    background = Operation.objects.filter(kind__in=background_kinds())
    if background.filter(state__in=EXECUTING).count() >= settings.BACKGROUND_OPERATIONS:
        return []
    held = OperationLock.objects.filter(operation__lock_names__overlap=OuterRef("lock_names"))
    behind = _before(OuterRef("lock_names"), OuterRef("queued_at"), OuterRef("pk"))
    waited_for = Q(gate_pending_since=None) & (Q(turn_until=None) | Q(turn_until__gt=Now()))
    queue = (
        background.filter(~Exists(held), PART_OF_ANOTHER | ~Exists(behind), state=State.QUEUED)
        .annotate(waited_for=ExpressionWrapper(waited_for, BooleanField()))
        .only("title")
        .order_by("queued_at", "pk")
    )
    turn: list[Operation] = []
    for operation in queue:
        turn.append(operation)
        if operation.waited_for:
            break
    return turn
