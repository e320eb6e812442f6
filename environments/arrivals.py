"""What runs where since when, written down by the operation that brought it there."""

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from controlplane.operations.models import Operation
from environments.drivers import DRIVERS
from environments.drivers.base import Leaving, Software
from environments.models import Arrival, DriftWatch, Placement
from environments.targets import target_of


def note_arrival(
    placements: QuerySet[Placement],
    operation: Operation,
    *,
    version: str,
    digest: str,
    found: Software | None = None,
    left: Mapping[str, Any] | None = None,
) -> None:
    """The operation has brought this software there. Call it in the transaction in which the operation ends.

    found: what ran there when the operation was asked for; it counts as what was replaced only where nothing is known
    to have come there before. The same again is no arrival. left: how it is left beside the release; None: as the
    operation's steps noted it.
    """
    moved = placements.exclude(digest=digest)
    Arrival.objects.bulk_create(_arrival(one, operation, version, digest, found) for one in moved)
    for one in placements.select_related("environment", "service"):
        now = _left(one, operation) if left is None else left
        Placement.objects.filter(pk=one.pk).update(
            version=version,
            digest=digest,
            since=Now(),
            changed_by=operation.requested_by_name,
            changed_in=operation.pk,
            left=now,
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


def _left(placement: Placement, operation: Operation) -> Mapping[str, Any]:
    driver = DRIVERS[placement.environment.driver]
    if not isinstance(driver, Leaving):
        return {}
    noted = []
    for step in operation.steps.order_by("position"):
        step.operation = operation  # one plan in memory, not one a step
        noted.append((step.spec["arguments"], step.checkpoint))
    return driver.left(target_of(placement, configuration=""), noted)
