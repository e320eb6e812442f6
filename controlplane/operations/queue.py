"""Whose turn it is: operations that need the same lock start one after the other, in the order they were queued."""

from django.db.models import Q, QuerySet

from controlplane.operations.models import Operation
from controlplane.operations.states import State


def queue_before(operation: Operation) -> QuerySet[Operation]:
    """Those whose turn comes before its own. What waits for a gate lets others pass until the gate opens."""
    ahead = Operation.objects.filter(
        state=State.QUEUED, lock_names__overlap=operation.lock_names, gate_pending_since=None
    )
    earlier = Q(queued_at__lt=operation.queued_at) | Q(queued_at=operation.queued_at, pk__lt=operation.pk)
    return ahead.filter(earlier).exclude(pk=operation.pk).order_by("queued_at", "pk")
