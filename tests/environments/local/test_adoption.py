"""Drift of real processes and its two answers, through the request functions and the engine."""

import os
import signal
from pathlib import Path

import pytest
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.embedded.processes import wait_until
from controlplane.operations import engine
from controlplane.operations.models import Deed, Operation
from controlplane.operations.states import State
from deployments.adoption import request_adoption
from deployments.models import Release
from deployments.services import request_deployment
from environments.drift import standings_of
from tests.environments.conftest import MakeFleet
from tests.environments.fleet import Fleet, release
from tests.environments.the_clock import look

pytestmark = pytest.mark.django_db(transaction=True)

ADOPT = "/environments/production/adopt/pitchey-backend"


@pytest.fixture
def production(fleet: MakeFleet, alice: Person, data_dir: Path) -> Fleet:
    """Two instances, to which 1.4.0 was deployed; it needs no approval here."""
    made = fleet(2)
    for version in ("1.4.0", "1.5.0"):
        software = release(version)
        Release.objects.create(
            service=made.placement.service, version=version, image=software.image, digest=software.digest, ci="passed"
        )
    assert redeployed(made, alice).state == State.SUCCEEDED
    return made


def run(operation: Operation) -> Operation:
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def redeployed(fleet: Fleet, asks: Person) -> Operation:
    """1.4.0 is asked for, and a worker carries it out."""
    wanted = Release.objects.get(version="1.4.0")
    place = fleet.placement.environment
    return run(request_deployment(Actor(asks), environment=place, release=wanted, reason="as it should be"))


def differs(fleet: Fleet) -> list[tuple[str, str]]:
    look()
    found = standings_of([fleet.placement])[fleet.placement.pk].differences
    return [(one.what, one.subject) for one in found]


def test_a_release_that_was_started_by_hand_is_adopted_and_no_process_is_touched(
    client: Client, production: Fleet, alice: Person
) -> None:
    assert production.deploy("1.5.0") is None
    assert differs(production) == [("image", "production-1"), ("image", "production-2")]
    client.force_login(alice)
    assert ADOPT in client.get("/environments/production").content.decode()
    pids, effects = [one.pid for one in production.folders], production.effects()
    production.placement.refresh_from_db()
    operation = run(request_adoption(Actor(alice), production.placement, reason="the hotfix was right"))
    assert (operation.state, operation.outcome) == (State.SUCCEEDED, "")
    production.placement.refresh_from_db()
    assert (production.placement.version, production.placement.digest) == ("1.5.0", release("1.5.0").digest)
    assert ([one.pid for one in production.folders], production.effects()) == (pids, effects)
    assert differs(production) == []


def test_what_was_replaced_by_hand_again_is_not_adopted(production: Fleet, alice: Person) -> None:
    production.deploy("1.5.0")
    production.placement.refresh_from_db()
    operation = request_adoption(Actor(alice), production.placement, reason="because")
    production.deploy("1.4.0")
    assert run(operation).state == State.STALE
    production.placement.refresh_from_db()
    assert production.placement.version == "1.4.0"


def test_redeploying_starts_what_has_ended_and_leaves_the_other_alone(
    client: Client, production: Fleet, alice: Person
) -> None:
    gone, stays = production.folders
    assert gone.pid
    os.kill(gone.pid, signal.SIGKILL)
    assert wait_until(lambda: not gone.occupied, 40)
    assert differs(production) == [("count", "production-1")]
    client.force_login(alice)
    page = client.get("/environments/production").content.decode()
    assert "Nothing here can be adopted" in page and ADOPT not in page
    before = stays.pid
    operation = redeployed(production, alice)
    assert (operation.state, operation.outcome) == (State.SUCCEEDED, "")
    assert not Deed.objects.get(operation=operation).differences
    assert production.versions() == ["1.4.0", "1.4.0"]
    assert stays.pid == before
    assert production.effects(2) == [("start", "1.4.0")]
    assert differs(production) == []
