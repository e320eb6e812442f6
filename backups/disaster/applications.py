"""The applications of both sides: which software runs where, and the steps that start or stop all of it."""

from dataclasses import dataclass

from backups.models import RecoveryPlan
from controlplane.operations.errors import Invalid
from environments.drivers import DRIVERS
from environments.drivers.base import Scalable, Scaling, Software, Target
from environments.models import Environment, Placement
from environments.targets import target_of

GROUP = "Applications"


@dataclass(frozen=True)
class Application:
    """A service on both sides. software: what the source ran last, as the control plane brought it there."""

    service: str
    count: int
    source: Target
    source_driver: Scalable
    target: Target
    target_driver: Scalable
    software: Software

    def stopping(self) -> Scaling:
        """All of it at the source."""
        return self.source_driver.scale(self.source, 0, None, key=f"fence/{self.service}")

    def starting(self, count: int | None = None) -> Scaling:
        """So many at the target."""
        wanted = self.count if count is None else count
        return self.target_driver.scale(self.target, wanted, self.software, key=f"applications/{self.service}")

    def leaving(self) -> Scaling:
        """All of it at the target, which nobody was sent to: a way home failed."""
        return self.target_driver.scale(self.target, 0, None, key=f"back/{self.service}/stop")

    def returning(self) -> Scaling:
        """So many at the source again, with what ran there."""
        return self.source_driver.scale(self.source, self.count, self.software, key=f"back/{self.service}")

    def ending(self) -> Scaling:
        """All of it at the target: the end of a drill."""
        return self.target_driver.scale(self.target, 0, None, key=f"cleanup/{self.service}")


def applications(plan: RecoveryPlan, source: Environment) -> list[Application]:
    """The services that the plan counts. Raises Invalid where one has no place, or a driver cannot be scaled."""
    target = plan.standby if source == plan.primary else plan.primary
    rows = Placement.objects.filter(environment__in=[source, target], service__slug__in=plan.services)
    placed = {
        (one.environment_id, one.service.slug): one
        for one in rows.select_related("environment", "service").order_by("pk")
    }
    found = []
    for service, count in sorted(plan.services.items()):
        here, there = placed.get((source.pk, service)), placed.get((target.pk, service))
        if here is None or there is None:
            missing = source if here is None else target
            raise Invalid(f"{service} has no place in {missing.slug}; declare it there, or take it out of the plan.")
        found.append(
            Application(
                service, count, target_of(here), _scalable(source), target_of(there, configuration=""),
                _scalable(target), Software(here.version, "", here.digest),
            )
        )  # fmt: skip
    return found


def _scalable(environment: Environment) -> Scalable:
    driver: object = DRIVERS[environment.driver]
    if not isinstance(driver, Scalable):
        raise Invalid(f"The driver {environment.driver} of {environment.slug} cannot start or stop a whole service.")
    return driver
