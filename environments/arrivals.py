"""What runs where since when, written down by the operation that brought it there."""

from django.db.models import QuerySet
from django.db.models.functions import Now

from controlplane.operations.models import Operation
from environments.drivers.base import Software
from environments.models import Arrival, DriftWatch, Placement


def note_arrival(
    placements: QuerySet[Placement], operation: Operation, *, version: str, digest: str, found: Software | None = None
) -> None:
    """The operation has brought this software there. Call it in the transaction in which the operation ends.

    found: what ran there when the operation was asked for; it counts as what was replaced only where nothing is known
    to have come there before. The same again is no arrival.
    """
    moved = placements.exclude(digest=digest)
    Arrival.objects.bulk_create(_arrival(one, operation, version, digest, found) for one in moved)
    placements.update(
        version=version,
        digest=digest,
        since=Now(),
        changed_by=operation.requested_by_name,
        changed_in=operation.pk,
    )
    # Whatever differed before, the clock looks at it anew right away.
    DriftWatch.objects.filter(placement__in=placements).update(due_at=Now())


def _arrival(placement: Placement, operation: Operation, version: str, digest: str, found: Software | None) -> Arrival:
    over = Software(placement.version, "", placement.digest)
    if found is not None and not (over.digest or placement.arrivals.exists()):
        over = found
    return Arrival(
        placement=placement, operation=operation, version=version, digest=digest,
        over_version=over.version, over_digest=over.digest,
    )  # fmt: skip
