"""The estate of the tests of backups: production with policies that need nothing but a folder."""

from collections.abc import Callable
from typing import Any

import pytest

from backups.models import Backup, BackupRun, Kind, Policy, PolicyClock, Storage
from backups.services import request_backup
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.models import Operation
from environments.models import ConfigEntry, Environment

Make = Callable[..., Policy]


@pytest.fixture
def production(db: None, data_dir: object) -> Environment:
    """With two variables, one of them a secret."""
    place = Environment.objects.create(slug="production", name="Production", driver="local", approvals_required=1)
    ConfigEntry.objects.create(environment=place, key="LOG_LEVEL", value="info")
    ConfigEntry.objects.create(environment=place, key="JWT_SECRET", secret="file:production/jwt-secret")
    return place


@pytest.fixture
def archive(db: None) -> Storage:
    """A folder below the data folder of the test."""
    return Storage.objects.create(slug="archive", kind="folder", settings={"path": "backups"})


@pytest.fixture
def make_policy(production: Environment, archive: Storage) -> Make:
    """A policy of production, of the configuration unless it says otherwise."""

    def make(slug: str = "configuration", **values: Any) -> Policy:
        given: dict[str, Any] = {"kind": Kind.CONFIGURATION, "schedule": "0 2 * * *", "proof": Policy.Proof.NEVER,
                                 "storage": archive}  # fmt: skip
        policy = Policy.objects.create(environment=production, slug=slug, **{**given, **values})
        PolicyClock.objects.create(policy=policy)
        return policy

    return make


@pytest.fixture
def policy(make_policy: Make) -> Policy:
    """One of the configuration."""
    return make_policy()


def back_up(person: Person, policy: Policy) -> Operation:
    """Ask for it and carry it out."""
    operation = request_backup(Actor(person), policy, reason="because", cause=BackupRun.Cause.PERSON)
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def only_backup() -> Backup:
    """The one that is there."""
    return Backup.objects.get()
