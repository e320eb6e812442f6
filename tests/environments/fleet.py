"""Real instances of the sample service for the driver's tests, and a hand that carries out their steps."""

import json
import os
import signal
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from controlplane.embedded.processes import wait_until
from controlplane.operations.deeds import unexplained
from controlplane.operations.errors import LeaseLost, StepError
from controlplane.operations.models import Effect
from controlplane.operations.plans import StepSpec
from controlplane.operations.registry import Seen, step_function
from environments.drivers.base import Rollout, Running, Software
from environments.drivers.local.driver import LocalDriver, folder_of
from environments.drivers.local.instance_folder import InstanceFolder
from environments.drivers.local.steps import instance_folder
from environments.models import Placement
from environments.targets import target_of

QUICK = {"checks": 2, "failures": 2, "check_interval": 0.01, "drain_seconds": 0.01, "broken_versions": {"1.6.0": 503}}
DRIVER = LocalDriver()


def release(version: str) -> Software:
    """A release of that version."""
    return Software(version, "registry/pitchey-backend", f"sha256:{version.replace('.', '') * 16}")


@dataclass
class Worker:
    """Carries out steps as the engine does, and keeps what they say. lost: its lease is gone."""

    fence: int = 1
    operation_id: int = 1
    scopes: list[str] = field(default_factory=lambda: ["production"])
    step_key: str = ""
    attempt: int = 1
    checkpoint: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    doing: StepSpec | None = None
    said: list[str] = field(default_factory=list)
    masked: set[str] = field(default_factory=set)
    lost: bool = False
    effects: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def did(self, what: str, subject: str, **facts: Any) -> None:
        """Keep it, and see that the plan would explain it: or every deployment would differ from its plan."""
        self.effects.append((what, subject, facts))
        if self.doing is not None:
            effect = Effect(step=self.doing.key, what=what, subject=subject, facts=facts)
            spec = {"title": self.doing.title, "group": self.doing.group, "arguments": self.doing.arguments}
            why = unexplained(effect, {self.doing.key: spec}, frozenset([self.doing.key]))
            assert not why, why

    def log(self, text: str, *, level: str = "line") -> None:
        self.said.append(text)

    def mask(self, *secrets: str) -> None:
        self.masked |= set(secrets)

    def progress(self, done: int, total: int, unit: str) -> None:
        pass

    def save_checkpoint(self, **values: Any) -> None:
        self.checkpoint |= values

    def check(self) -> None:
        if self.lost:
            raise LeaseLost("the lease is gone")

    def wait(self, seconds: float) -> None:
        self.check()
        wait_until(lambda: self.lost, seconds)
        self.check()

    def remaining(self) -> float:
        return 30.0

    def do(self, step: StepSpec) -> None:
        """Observe, act, verify. Raises StepError when it fails."""
        self.doing = step
        self.step_key, self.checkpoint = step.key, self.kept.setdefault(step.key, {})
        function = step_function(step.function)
        if function.observe is None or function.observe(self, **step.arguments) is Seen.NOT_DONE:
            function.act(self, **step.arguments)
        while function.verify is not None:
            verdict = function.verify(self, **step.arguments)
            if verdict.outcome == "failed":
                raise StepError(verdict.reason, permanent=True)
            if verdict.outcome == "passed":
                return
            self.wait(0.01)

    def carry_out(self, rollout: Rollout) -> StepError | None:
        """All steps; when one fails, what puts it back. Returns the failure."""
        recovery = {step.key: step for step in rollout.recovery}
        for step in rollout.steps:
            try:
                self.do(step)
            except StepError as error:
                for key in step.on_failure:
                    self.do(recovery[key])
                return error
        return None


class Killed(BaseException):
    """The worker is gone."""


@dataclass
class Mortal(Worker):
    """One that dies before each first telling of an effect, once it is there; the next one has a later fence."""

    deaths: set[tuple[str, str, str]] = field(default_factory=set)

    def did(self, what: str, subject: str, **facts: Any) -> None:
        if (self.step_key, what, subject) not in self.deaths:
            self.deaths.add((self.step_key, what, subject))
            raise Killed
        super().did(what, subject, **facts)

    def do(self, step: StepSpec) -> None:
        """Until somebody has lived through it."""
        while True:
            try:
                super().do(step)
            except Killed:
                self.fence += 1
            else:
                return


@dataclass
class Fleet:
    """The instances of one environment."""

    placement: Placement

    @property
    def folders(self) -> list[InstanceFolder]:
        """One an instance."""
        target = target_of(self.placement)
        return [instance_folder(folder_of(target, instance)) for instance in target.instances]

    def running(self) -> list[Running]:
        """As the driver sees it."""
        return DRIVER.running(target_of(self.placement))

    def versions(self) -> list[str]:
        """What runs, instance by instance."""
        return [one.version for one in self.running()]

    def rollout(self, version: str) -> Rollout:
        """The way from what runs to that version."""
        target = target_of(self.placement)
        return DRIVER.rollout(target, DRIVER.running(target), release(version))

    def deploy(self, version: str, worker: Worker | None = None) -> StepError | None:
        """Roll it out with one worker."""
        return (worker or Worker(fence=self.next_fence())).carry_out(self.rollout(version))

    def next_fence(self) -> int:
        """Higher than any before."""
        return max(folder.fence for folder in self.folders) + 1

    def effects(self, number: int = 1) -> list[tuple[str, str]]:
        """What the instance itself wrote down: starts and stops with the version."""
        log = self.folders[number - 1].path / "effects.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(line["event"], line["version"]) for line in map(json.loads, lines)]

    def kill(self) -> None:
        """End every process, whatever it is."""
        for folder in self.folders:
            if folder.occupied and wait_until(partial(_has_pid, folder), 30):
                os.kill(folder.pid or 0, signal.SIGKILL)


def _has_pid(folder: InstanceFolder) -> bool:
    return folder.pid is not None
