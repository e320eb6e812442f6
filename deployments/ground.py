"""What the database says of the place that a release is to go to, before the place itself is asked: in one query."""

from dataclasses import dataclass

from controlplane.operations.attached import made_of, rows
from deployments.models import Policy, Release, StrategyTable
from deployments.strategies.asking import nearest, tables_for
from deployments.strategies.settings import Settings
from environments.models import Environment, Placement


@dataclass(frozen=True)
class Ground:
    """placement: None where the service has no place there. settings: how one may deploy to it."""

    policy: Policy
    placement: Placement | None
    settings: Settings


def ground_of(environment: Environment, release: Release) -> Ground:
    """What is declared of the environment, and of the release's service in it."""
    here, service = environment.pk, release.service_id
    row = (
        Environment.objects.filter(pk=here)
        .annotate(
            rules=rows(Policy.objects.filter(environment=here)),
            own=rows(Placement.objects.filter(environment=here, service=service).order_by("pk")),
            tables=rows(tables_for(here, service)),
        )
        .values("rules", "own", "tables")
        .get()
    )
    policy = next(iter(made_of(Policy, row["rules"])), Policy())
    policy.environment = environment
    placement = next(iter(made_of(Placement, row["own"])), None)
    if placement is not None:
        placement.environment, placement.service = environment, release.service
    return Ground(policy, placement, nearest(one.settings for one in made_of(StrategyTable, row["tables"])))
