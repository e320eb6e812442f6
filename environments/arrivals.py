"""What runs where since when, written down by the operation that brought it there."""

from django.db.models import QuerySet
from django.db.models.functions import Now

from controlplane.operations.models import Operation
from environments.models import DriftWatch, Placement


def note_arrival(placements: QuerySet[Placement], operation: Operation, *, version: str, digest: str) -> None:
    """The operation has brought this software there. Call it in the transaction in which the operation ends."""
    placements.update(
        version=version,
        digest=digest,
        since=Now(),
        changed_by=operation.requested_by_name,
        changed_in=operation.pk,
    )
    # Whatever differed before, the clock looks at it anew right away.
    DriftWatch.objects.filter(placement__in=placements).update(due_at=Now())
