"""One environment on the driver `kubernetes`, in a cluster that is a stand-in, and a hand that deploys there."""

from dataclasses import asdict, dataclass
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation, Step
from controlplane.operations.plans import StepSpec
from controlplane.operations.states import State
from environments.drivers import DRIVERS
from environments.drivers.base import Rollout, Running, Scaling, Software, Target
from environments.models import Placement
from environments.targets import target_of
from tests.environments.fleet import Worker
from tests.environments.hosts.park import carry_out
from tests.environments.kubernetes.cluster import Cluster
from tests.environments.kubernetes.fields import Object
from tests.environments.kubernetes.server import ApiServer

DRIVER: Any = DRIVERS["kubernetes"]
NAME = "pitchey-backend"
IMAGE = f"registry.test/{NAME}"
QUICK = {"poll_seconds": 0.02, "check_interval": 0.01, "retry_seconds": 0.01, "answer_seconds": 5.0, "restarts": 2}


def release(version: str) -> Software:
    """A release of that version."""
    return Software(version, f"{IMAGE}:{version}", digest_of_release(version))


def digest_of_release(version: str) -> str:
    """Its image's digest."""
    return f"sha256:{version.replace('.', '').ljust(4, '0') * 16}"


class Hand(Worker):
    """A worker whose steps are rows too: a later one reads what an earlier one noted."""

    def do(self, step: StepSpec) -> None:
        """See `Worker.do`."""
        row = self._row(step)
        self.kept.setdefault(step.key, row.checkpoint)
        super().do(step)

    def save_checkpoint(self, **values: Any) -> None:
        """In the row as well."""
        super().save_checkpoint(**values)
        Step.objects.filter(operation_id=self.operation_id, key=self.step_key).update(checkpoint=self.checkpoint)

    def _row(self, step: StepSpec) -> Step:
        given = {"kind": "deployment", "title": "by hand", "scopes": self.scopes, "lock_names": [], "reason": "a test",
                 "state": State.RUNNING, "plan": {"steps": [], "recovery": []}}  # fmt: skip
        operation, _ = Operation.objects.get_or_create(pk=self.operation_id, defaults=given)
        if (found := operation.steps.filter(key=step.key).first()) is not None:
            return found
        operation.plan["steps"].append(asdict(step))
        operation.save(update_fields=["plan"])
        return operation.steps.create(key=step.key, position=len(operation.plan["steps"]) - 1)


def do_until(hand: Hand, rollout: Rollout, key: str) -> StepSpec:
    """The steps before the one with that key, which is returned."""
    for step in rollout.steps:
        if step.key == key:
            return step
        hand.do(step)
    raise KeyError(key)


@dataclass
class Town:
    """The environment, its cluster, and the server in between."""

    placement: Placement
    api: ApiServer
    fence: int = 0

    @property
    def cluster(self) -> Cluster:
        """What is behind the server."""
        return self.api.cluster

    @property
    def target(self) -> Target:
        """As the driver sees it."""
        return target_of(self.placement)

    @property
    def deployment(self) -> Object:
        """As the cluster has it."""
        return self.cluster.get("Deployment", NAME)

    def settings(self, **values: Any) -> None:
        """Change the driver's settings."""
        environment = self.placement.environment
        environment.driver_settings = {**environment.driver_settings, **values}
        environment.save()

    def running(self) -> Running:
        """What runs, as the driver tells it."""
        found: list[Running] = DRIVER.running(self.target)
        return found[0]

    def rollout(self, version: str) -> Rollout:
        """The way from what runs to that version."""
        rollout: Rollout = DRIVER.rollout(self.target, [self.running()], release(version))
        return rollout

    def worker(self, **values: Any) -> Hand:
        """The next one: a later fence, and an operation of its own."""
        self.fence += 1
        return Hand(**{"fence": self.fence, "operation_id": self.fence, **values})

    def deploy(self, version: str, worker: Worker | None = None) -> StepError | None:
        """Roll it out with one worker."""
        return carry_out(worker or self.worker(), self.rollout(version))

    def pods(self) -> list[str]:
        """The digests of the pods there are."""
        return [one["status"]["containerStatuses"][0]["imageID"].partition("@")[2] for one in self.cluster.of("Pod")]

    def scaled_to(self, count: int) -> list[StepSpec]:
        """The steps of a recovery that asks for so many pods."""
        scaling: Scaling = DRIVER.scale(self.target, count, None, key="there")
        return [*scaling.begin, *scaling.wait]
