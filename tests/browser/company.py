"""The company the browser tests look at: real processes of the sample service, on small clocks."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.embedded.processes import free_port, wait_until
from controlplane.operations import transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import FINISHED, State, StepState
from deployments.models import Release
from deployments.services import request_deployment
from environments.drivers.instance_folder import InstanceFolder
from environments.models import Environment, Placement, Service

# (slug, name, instances, approvals, must have run in, driver settings)
QUICK = {"checks": 1, "check_interval": 0.05, "drain_seconds": 0}
SEEN = {"checks": 2, "check_interval": 0.2, "drain_seconds": 0.6, "broken_versions": {"1.6.0": 503}}
PLACES = (
    ("development", "Development", 1, 0, "", QUICK),
    ("staging", "Staging", 1, 0, "", QUICK),
    ("production", "Production", 3, 1, "staging", SEEN),
    ("dr", "DR", 1, 1, "", QUICK),
)


@dataclass(frozen=True)
class Company:
    """Who and what there is."""

    alice: Person
    bob: Person
    releases: dict[str, Release]

    def environment(self, slug: str) -> Environment:
        return Environment.objects.get(slug=slug)

    def ask(self, slug: str, version: str, reason: str = "seed", *, approve: bool = True) -> Operation:
        """Alice asks and Bob, where it takes that, approves; the worker does the rest."""
        operation = request_deployment(
            Actor(self.alice), environment=self.environment(slug), release=self.releases[version], reason=reason
        )
        if approve and operation.approvals_required:
            transitions.approve(operation.pk, Actor(self.bob), operation.plan_digest)
        return operation

    def bring(self, slug: str, version: str) -> Operation:
        """The same, until it is done."""
        operation = self.ask(slug, version)
        return finished(operation)


def found(alice: Person, bob: Person) -> Company:
    """1.4.0 runs in production; 1.5.0 and 1.6.0 have run in staging."""
    service = Service.objects.create(slug="pitchey-backend", name="API of the marketplace")
    releases = {
        version: Release.objects.create(
            service=service, version=version, image="registry.pitchey.com/pitchey-backend", ci="passed",
            digest=f"sha256:{number:x}{'0123456789abcdef' * 4}"[:71], commit="5f0c91d2", created_by_name="pipeline",
        )
        for number, version in enumerate(("1.4.0", "1.5.0", "1.6.0"), start=1)
    }  # fmt: skip
    for position, (slug, name, count, approvals, before, driver) in enumerate(PLACES):
        environment = Environment.objects.create(
            slug=slug, name=name, position=position, driver="local", driver_settings=driver,
            approvals_required=approvals, promoted_from=before,
        )  # fmt: skip
        instances = [
            {"name": f"{slug}-{number}", "address": f"http://127.0.0.1:{free_port()}"} for number in range(1, count + 1)
        ]
        Placement.objects.create(environment=environment, service=service, instances=instances)
    company = Company(alice, bob, releases)
    company.bring("staging", "1.4.0")
    Environment.objects.filter(slug="production").update(driver_settings=QUICK)
    company.bring("production", "1.4.0")
    Environment.objects.filter(slug="production").update(driver_settings=SEEN)
    for version in ("1.6.0", "1.5.0"):
        company.bring("staging", version)
    return company


def finished(operation: Operation, seconds: float = 60) -> Operation:
    """Wait until the worker is through with it."""
    assert wait_until(lambda: Operation.objects.filter(pk=operation.pk, state__in=FINISHED).exists(), seconds)
    operation.refresh_from_db()
    return operation


def in_doubt(operation: Operation) -> Operation:
    """As if nobody knew how its last step ended."""
    Operation.objects.filter(pk=operation.pk).update(state=State.NEEDS_OPERATOR, finished_at=None)
    last = operation.steps.filter(phase="main").order_by("-position")[:1]
    operation.steps.filter(pk__in=last.values("pk")).update(state=StepState.UNKNOWN, error="Look at host 1.")
    return operation


def folders() -> list[InstanceFolder]:
    """Every instance that ever ran."""
    return [InstanceFolder(path.parent) for path in Path(settings.DATA_DIR).glob("instances/*/*/process.lock")]


def stop_everything() -> None:
    """End the instances that still run."""
    for folder in folders():
        if folder.occupied and folder.pid:
            with suppress(ProcessLookupError):
                os.kill(folder.pid, signal.SIGKILL)
        for name in ("wanted.json", "fence"):
            (folder.path / name).unlink(missing_ok=True)
