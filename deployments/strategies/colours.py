"""Which instances a blue/green deployment left on the release before, on purpose: the way back."""

from collections.abc import Sequence

from django.db.models import Q

from controlplane.operations.states import State
from deployments.models import Deployment
from deployments.strategies.blue_green import SWITCH
from deployments.strategies.settings import BLUE_GREEN
from environments.models import Placement


def idle_colours(placements: Sequence[Placement]) -> dict[int, frozenset[str]]:
    """By placement: those that the last switch left without requests; one query."""
    wanted = Q(pk__in=[])
    for one in placements:
        wanted |= Q(environment=one.environment_id, release__service=one.service_id)
    good = Deployment.objects.filter(wanted, operation__state=State.SUCCEEDED).select_related("operation", "release")
    place = "environment_id", "release__service_id"
    last = good.order_by(*place, "-operation__finished_at", "-pk").distinct(*place)
    idle = {(row.environment_id, row.release.service_id): _idle(row) for row in last if row.strategy == BLUE_GREEN}
    return {one.pk: idle.get((one.environment_id, one.service_id), frozenset()) for one in placements}


def _idle(deployment: Deployment) -> frozenset[str]:
    steps = {step["key"]: step for step in deployment.operation.plan["steps"]}
    weights = steps[SWITCH]["arguments"]["weights"] if SWITCH in steps else {}
    return frozenset(name for name, weight in weights.items() if not weight)
