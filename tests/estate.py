"""A small estate for the tests of pages: two environments on a driver of paper, and releases to bring there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from django.db import connection

from controlplane.operations.errors import StepError
from controlplane.operations.gates import Outcome
from controlplane.operations.plans import StepSpec
from controlplane.operations.registry import StepContext, StepFunction, register_step
from deployments.models import Release
from environments.drivers import DRIVERS
from environments.drivers.base import Kept, Rollout, Running, Software, Target
from environments.models import Environment, Placement, Service


@dataclass
class Paper:
    """A driver that writes down what runs where. unreachable: why it cannot be asked, if it cannot.

    looked: for which digests it was asked whether they could be started again, and whether in a transaction; gone:
    those that could not; dumb: why it cannot say.
    """

    name: str = "paper"
    steps: Mapping[str, StepFunction] = field(default_factory=dict)
    runs: dict[str, Running] = field(default_factory=dict)
    unreachable: str = ""
    looked: list[tuple[str, bool]] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    dumb: StepError | None = None

    def running(self, target: Target) -> list[Running]:
        if self.unreachable:
            raise StepError(self.unreachable)
        return [self.runs.get(one.name, Running(one.name, "", "")) for one in target.instances]

    def kept(self, target: Target, software: Software) -> Kept:
        self.looked.append((software.digest, connection.in_atomic_block))
        if self.dumb:
            raise self.dumb
        if software.digest in self.gone:
            return Kept(Outcome.FAILED, f"the image of {software.version} is gone. Push it again.")
        return Kept(Outcome.PASSED, f"{software.version} is in the drawer")

    def rollout(self, target: Target, running: list[Running], to: Software) -> Rollout:
        moved = [one for one in running if one.digest != to.digest]
        values = {"version": to.version, "digest": to.digest}
        steps = [
            StepSpec(f"{one.instance}-swap", f"swap {one.instance}", "paper.swap",
                     {"instance": one.instance, **values}, group=one.instance, safe_point=True,
                     on_failure=(f"{one.instance}-back",))
            for one in moved
        ]  # fmt: skip
        back = [
            StepSpec(f"{one.instance}-back", f"swap {one.instance} back", "paper.swap",
                     {"instance": one.instance, "version": one.version, "digest": one.digest}, group=one.instance)
            for one in moved
        ]  # fmt: skip
        changes = tuple({"what": one.instance, "from": one.version, "to": to.version} for one in moved)
        return Rollout(tuple(steps), tuple(back), changes)


paper = Paper()


def _swap(context: StepContext, *, instance: str, version: str, digest: str) -> None:
    if version == "1.6.0":
        raise StepError("/health answered 503", permanent=True)
    paper.runs[instance] = Running(instance, version, digest)


SWAP = StepFunction(act=_swap)


@dataclass(frozen=True)
class Estate:
    """What exists, by name."""

    staging: Environment
    production: Environment
    service: Service
    releases: dict[str, Release]


@pytest.fixture
def estate(db: None, monkeypatch: pytest.MonkeyPatch) -> Estate:
    """Staging and production on a driver of paper; 1.5.0 may go to production."""
    monkeypatch.setitem(DRIVERS, "paper", paper)
    return build()


def build() -> Estate:
    """Write it into the database; 1.4.0 runs everywhere, 1.5.0 has run in staging."""
    register_step("paper.swap", SWAP)
    paper.__init__()  # type: ignore[misc]  # as new
    service = Service.objects.create(slug="api", name="The API")
    releases = {version: release(service, version) for version in ("1.4.0", "1.5.0", "1.6.0")}
    staging = Environment.objects.create(slug="staging", name="Staging", driver="paper", position=1)
    production = Environment.objects.create(
        slug="production", name="Production", driver="paper", position=2, approvals_required=1, promoted_from="staging"
    )
    place(staging, service, releases["1.5.0"], 1)
    place(production, service, releases["1.4.0"], 3)
    return Estate(staging, production, service, releases)


def release(service: Service, version: str) -> Release:
    """A release whose checks passed."""
    digest = "sha256:" + version.replace(".", "") * 21 + "a"
    return Release.objects.create(
        service=service, version=version, image="registry/api", digest=digest, ci="passed", created_by_name="pipeline"
    )


def place(environment: Environment, service: Service, runs: Release, count: int) -> Placement:
    """The service in the environment, with the release on each of its instances."""
    names = [f"{environment.slug}-{number}" for number in range(1, count + 1)]
    paper.runs.update({name: Running(name, runs.version, runs.digest) for name in names})
    return Placement.objects.create(
        environment=environment, service=service, instances=[{"name": name} for name in names],
        version=runs.version, digest=runs.digest,
    )  # fmt: skip
