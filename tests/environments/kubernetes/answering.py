"""What people, the clock and others in the cluster do about a service that was deployed: by the real functions."""

from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.clock.registry import duties
from controlplane.operations import engine
from controlplane.operations.models import Operation
from deployments.adoption import request_adoption
from deployments.models import Release
from deployments.services import request_deployment
from environments.drift import EVERY
from environments.models import Drift, DriftWatch
from tests.environments.kubernetes.town import IMAGE, NAME, Town, digest_of_release


def asked(town: Town, person: Person, version: str = "1.4.0") -> Operation:
    """A deployment, asked for."""
    release = Release.objects.get(version=version)
    environment = town.placement.environment
    environment.refresh_from_db()
    return request_deployment(Actor(person), environment=environment, release=release, reason="because")


def carried_out(operation: Operation) -> Operation:
    """By a worker."""
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def deploy(town: Town, person: Person, version: str = "1.4.0") -> Operation:
    """Asked for and carried out."""
    return carried_out(asked(town, person, version))


def adopt(town: Town, person: Person) -> Operation:
    """What runs, asked for and carried out."""
    town.placement.refresh_from_db()
    return carried_out(request_adoption(Actor(person), town.placement, reason="the hotfix was right"))


def the_clock_looks() -> list[tuple[str, str]]:
    """The time until the next look has gone by. What differs, and what was found."""
    (duty,) = (one for one in duties() if one.name == "look for drift")
    if DriftWatch.objects.exists():
        assert DriftWatch.objects.filter(due_at__lte=Now() + timedelta(seconds=EVERY)).exists()
        DriftWatch.objects.update(due_at=Now() - timedelta(seconds=1))
    assert duty.function() == 1
    return sorted(Drift.objects.filter(ended_at=None).values_list("what", "found"))


def edited(town: Town, manager: str, spec: dict[str, Any], kind: str = "Deployment", name: str = NAME) -> None:
    """As `kubectl edit` and others do."""
    town.cluster.update(kind, name, {"spec": spec}, manager)
    town.cluster.settle()


def set_image(town: Town, version: str) -> None:
    """As `kubectl set image` does."""
    container = {"name": NAME, "image": f"{IMAGE}@{digest_of_release(version)}"}
    edited(town, "kubectl-set", {"template": {"spec": {"containers": [container]}}})


def taken_back(operation: Operation) -> list[tuple[str, str]]:
    """The fields that it took back, with their managers."""
    found = operation.effects.filter(what="took back")
    return [(one.facts["field"], one.facts["manager"]) for one in found]
