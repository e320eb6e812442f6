"""From a row of the database to what a driver is told."""

from environments.drivers.base import Instance, Target
from environments.models import Placement
from environments.secrets import fingerprint


def target_of(placement: Placement, *, configuration: str | None = None) -> Target:
    """The placement as a driver sees it.

    settings: the environment's, then the placement's, and "configuration", which changes when a variable of
    the environment does: a plan that was approved for other variables is stale. configuration: instead of that;
    "" for a change that takes the variables as it finds them.
    """
    environment = placement.environment
    return Target(
        environment=environment.slug,
        service=placement.service.slug,
        instances=tuple(Instance(one["name"], one.get("address", "")) for one in placement.instances),
        url=environment.url,
        health_path=placement.health_path,
        settings={
            **environment.driver_settings,
            **placement.driver_settings,
            "configuration": fingerprint(environment) if configuration is None else configuration,
        },
        deployed=placement.digest,
        left=placement.left,
    )
