"""Asking the world what a plan depends on: what runs, the weights of the load balancer, and what is configured."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.db.models import F, Q, QuerySet

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from deployments.models import Policy, StrategyTable
from deployments.strategies.settings import Settings, settings_from
from deployments.strategies.situation import Balanced, Situation, can_count, can_weigh, groups_of, member_at
from environments.balancers import BALANCERS
from environments.balancers.base import Balancer, Member
from environments.drivers import DRIVERS
from environments.drivers.base import Target
from environments.models import Placement
from environments.targets import target_of

NO_BALANCER = "none"


def settings_of(placement: Placement) -> Settings:
    """How one may deploy the service there."""
    return nearest(one.settings for one in tables_for(placement.environment_id, placement.service_id))


def tables_for(environment_id: int, service_id: int) -> QuerySet[StrategyTable]:
    """What the configuration says of a service in an environment, and then of all that is there."""
    tables = StrategyTable.objects.filter(Q(service=service_id) | Q(service=None), environment=environment_id)
    return tables.order_by(F("service").asc(nulls_last=True))


def nearest(tables: Iterable[Mapping[str, Any]]) -> Settings:
    """What the first of them says that says anything, else rolling."""
    return settings_from(next(filter(None, tables), {}))


def situation_of(placement: Placement, policy: Policy) -> Situation:
    """What runs there now, by whatever balancer. policy: of the environment. Network; raises StepError, in words."""
    target = target_of(placement)
    environment = placement.environment
    return Situation(
        target=target,
        running=DRIVERS[environment.driver].running(target),
        driver=environment.driver,
        balanced=balanced_at(target),
        prometheus=bool(django_settings.PROMETHEUS_URL),
        careful=policy.approvals_required > 0,
        deployed=placement.digest,
    )


def balanced_at(target: Target) -> Balanced | None:
    """The load balancer that the driver settings name, and the weights that it has now. Raises StepError."""
    given = target.settings.get("balancer")
    if not isinstance(given, Mapping) or given.get("kind", NO_BALANCER) == NO_BALANCER:
        return None
    named = {"kind": str(given["kind"]), "settings": {key: value for key, value in given.items() if key != "kind"}}
    members = {one.name: member_at(one) for one in target.instances}
    weighs = can_weigh(named)
    balancer, settings = balancer_named(named)
    weights = {
        name: balancer.look(settings, Member(**member)).weight if weighs else None for name, member in members.items()
    }
    return Balanced(named, members, weighs, can_count(named), weights, groups_of(named))


def balancer_named(named: Arguments) -> tuple[Balancer, Mapping[str, Any]]:
    """The load balancer that a step names, and its settings. Raises StepError when there is none of the kind."""
    found = BALANCERS.get(named["kind"])
    if found is None:
        raise StepError(f"There is no load balancer of the kind {named['kind']}.", permanent=True)
    return found, named["settings"]


def members_of(rows: Sequence[Arguments]) -> list[Member]:
    """The members that a step names."""
    return [Member(**row) for row in rows]
