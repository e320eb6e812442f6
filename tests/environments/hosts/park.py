"""Three hosts that are one real engine, with the sample service in containers, and what tests need to watch them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from controlplane.operations.errors import StepError
from environments.drivers import DRIVERS
from environments.drivers.base import Rollout, Running, Software, Target
from environments.drivers.hosts.engine import Container, Engine
from environments.drivers.hosts.settings import recipe_of
from environments.models import Placement
from environments.targets import target_of
from tests.environments.fleet import Worker

IMAGE = "registry.test/pitchey-backend"
DRIVER: Any = DRIVERS["hosts"]
QUICK = {
    "checks": 2, "failures": 2, "check_interval": 0.02, "poll_seconds": 0.02, "soak_seconds": 0.05, "stop_seconds": 5,
    "start_seconds": 5.0, "answer_seconds": 20.0,
}  # fmt: skip


class Containers(Protocol):
    """An engine of the tests' own."""

    @property
    def url(self) -> str:
        """As the settings of the driver name it."""

    def import_sample(self, image: str, version: str, **kind: Any) -> str:
        """Have an image of the sample service at hand; returns its digest."""

    def remove_all(self) -> None:
        """Remove every container, and every image that was pulled."""


@dataclass
class Images:
    """The images of the tests, by version: 1.4.0 and 1.5.0 are well, 1.6.0 answers 503, 1.7.0 ends at once.

    1.8.0 is well by its own word, and answers every fifth request with 500. where: the engine that runs them.
    """

    where: Containers
    name: str = IMAGE
    digests: dict[str, str] = field(default_factory=dict)

    def release(self, version: str) -> Software:
        """A release of that version, made when it is first asked for."""
        if version not in self.digests:
            kind: dict[str, dict[str, Any]] = {
                "1.6.0": {"health_status": 503, "say": "cannot reach its database"},
                "1.7.0": {"ends": 3, "say": "no such table"},
                "1.8.0": {"fail_percent": 20},
            }
            self.digests[version] = self.where.import_sample(self.name, version, **kind.get(version, {}))
        return Software(version, f"{self.name}:{version}", self.digests[version])


@dataclass
class Park:
    """One environment on the driver `hosts`."""

    placement: Placement
    images: Images
    state: Path
    fence: int = 0

    @property
    def target(self) -> Target:
        """As the driver sees it."""
        return target_of(self.placement)

    def settings(self, **values: Any) -> None:
        """Change the driver's settings."""
        environment = self.placement.environment
        environment.driver_settings = {**environment.driver_settings, **values}
        environment.save()

    def running(self) -> list[Running]:
        """As the driver tells it."""
        found: list[Running] = DRIVER.running(self.target)
        return found

    def versions(self) -> list[str]:
        """What runs, instance by instance."""
        return [one.version for one in self.running()]

    def rollout(self, version: str) -> Rollout:
        """The way from what runs to that version."""
        rollout: Rollout = DRIVER.rollout(self.target, self.running(), self.images.release(version))
        return rollout

    def worker(self, **values: Any) -> Worker:
        """The next one: a later fence, and an operation of its own."""
        self.fence += 1
        return Worker(**{"fence": self.fence, "operation_id": 90_000 + self.fence, **values})

    def deploy(self, version: str, worker: Worker | None = None) -> StepError | None:
        """Roll it out with one worker."""
        return carry_out(worker or self.worker(), self.rollout(version))

    def effects(self, number: int = 1) -> list[tuple[str, str]]:
        """What the instance itself wrote down, on the host: starts and stops with the version."""
        log = self.state / f"{self.placement.instances[number - 1]['name']}" / "effects.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(line["event"], line["version"]) for line in map(json.loads, lines)]

    def container(self, number: int = 1, more: str = "") -> Container | None:
        """An instance's container."""
        name = f"{self.placement.service.slug}.{self.placement.instances[number - 1]['name']}{more}"
        with self.engine() as engine:
            found: Container | None = engine.find(name)
            return found

    def somebody_starts(self, version: str, number: int = 1, **recipe: Any) -> str:
        """In the place of an instance's container, by hand: `docker rm -f X; docker run --name X …`. Returns its id."""
        instance, software = self.target.instances[number - 1], self.images.release(version)
        image = f"{self.images.name}@{software.digest}"
        made_of = recipe_of(self.target, instance, image=image, version=version, digest=software.digest)
        there = self.container(number)
        with self.engine() as engine:
            if not engine.image_id(image):
                engine.pull(self.images.name, software.digest, {}, 60.0, lambda _: None)
            if there is not None:
                engine.remove(there.id)
            found: str = engine.create(f"{self.placement.service.slug}.{instance.name}", {**made_of, **recipe}, {}, {})
            engine.start(found)
        return found

    def engine(self) -> Any:
        """The engine itself."""
        return Engine.at({"engine": self.images.where.url, "answer_seconds": 20.0})


def carry_out(worker: Worker, rollout: Rollout) -> StepError | None:
    """All steps, each with a checkpoint of its own; when one fails, what puts it back. Returns the failure."""
    recovery = {step.key: step for step in rollout.recovery}
    for step in rollout.steps:
        try:
            worker.checkpoint = {}
            worker.do(step)
        except StepError as error:
            for key in step.on_failure:
                worker.checkpoint = {}
                worker.do(recovery[key])
            return error
    return None
