"""A place that hangs keeps no other waiting: what differs elsewhere is written down, and of it that it is not known."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now

from controlplane.clock.registry import duties
from controlplane.embedded.processes import free_port, wait_until
from environments import drift
from environments.drift import Standing, standings_of
from environments.models import ConfigEntry, DriftWatch, Environment, Placement, Service
from tests.environments.conftest import MakeFleet
from tests.environments.fleet import Fleet, release

pytestmark = pytest.mark.django_db(transaction=True)

LONG = 3600.0
SECONDS = 60.0  # far more than anything here takes


class Hanging:
    """A host whose engine takes connections and never answers, and its placement."""

    def __init__(self, folder: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "engine"))
        self.listener.listen()
        host = {"engine": f"unix://{folder / 'engine'}", "instances": ["hanging-1"]}
        settings = {"answer_seconds": LONG, "hosts": {"server1": host}}
        environment = Environment.objects.create(slug="hanging", name="H", driver="hosts", driver_settings=settings)
        service, _ = Service.objects.get_or_create(slug="pitchey-backend", defaults={"name": "Pitchey backend"})
        instances = [{"name": "hanging-1", "address": f"http://127.0.0.1:{free_port()}"}]
        self.placement = Placement.objects.create(
            environment=environment, service=service, instances=instances, version="1.5.0",
            digest=release("1.5.0").digest,
        )  # fmt: skip

    @property
    def standing(self) -> Standing:
        return standings_of([self.placement])[self.placement.pk]

    @property
    def looks(self) -> int:
        """How often it was asked."""
        return DriftWatch.objects.get(placement=self.placement).look

    def end(self) -> None:
        """Whoever waits for an answer is told that there is none."""
        self.listener.close()


def duty() -> int:
    (found,) = (one for one in duties() if one.name == "look for drift")
    return found.function()


def is_due() -> None:
    DriftWatch.objects.update(due_at=Now() - timedelta(seconds=1))


@pytest.fixture
def hanging(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """It hangs for as long as a test takes."""
    monkeypatch.setattr("environments.drivers.hosts.compare.LOOK_SECONDS", LONG)
    monkeypatch.setattr(drift, "LOOK_SECONDS", LONG)
    monkeypatch.setattr(drift, "TURN", 0.1)
    made = Hanging(data_dir)
    yield made
    made.end()
    assert wait_until(lambda: duty() == 0 and not drift._looks.places(), SECONDS)


@pytest.fixture
def production(fleet: MakeFleet, hanging: Hanging) -> Fleet:
    """One that runs otherwise than it was deployed."""
    made = fleet(1)
    made.deploy("1.5.0")
    Placement.objects.filter(pk=made.placement.pk).update(version="1.5.0", digest=release("1.5.0").digest)
    ConfigEntry.objects.create(environment=made.placement.environment, key="LOG_LEVEL", value="debug")
    return made


def differs(fleet: Fleet) -> bool:
    duty()
    return bool(standings_of([fleet.placement])[fleet.placement.pk].differences)


def test_what_differs_is_written_down_while_another_place_hangs(production: Fleet, hanging: Hanging) -> None:
    assert wait_until(lambda: differs(production), SECONDS)
    assert drift._looks.places() == [hanging.placement.pk]
    assert (hanging.standing.known_at, hanging.standing.unknown) == (None, "")


def test_the_others_go_on_and_who_is_being_asked_is_not_asked_twice(
    production: Fleet, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "AT_ONCE", 1)  # so that one that hangs would hold up all
    assert wait_until(lambda: differs(production) and bool(hanging.looks), SECONDS)
    production.placement.environment.configuration.all().delete()
    is_due()
    assert wait_until(lambda: not differs(production), SECONDS)
    assert hanging.looks == 1


def test_it_stays_claimed_so_that_another_clock_does_not_ask_it_too(production: Fleet, hanging: Hanging) -> None:
    assert wait_until(lambda: differs(production), SECONDS)
    soon = Now() + timedelta(seconds=1)
    DriftWatch.objects.filter(placement=hanging.placement).update(due_at=soon)
    duty()
    watch = DriftWatch.objects.filter(placement=hanging.placement, due_at__gt=Now() + timedelta(seconds=5))
    assert watch.get().look == 1


def test_it_is_given_up_in_words_and_asked_again_once_its_thread_is_back(
    production: Fleet, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wait_until(lambda: differs(production), SECONDS)
    monkeypatch.setattr(drift, "LOOK_SECONDS", 0.0)
    duty()
    monkeypatch.undo()
    assert hanging.standing.unknown == "it has not answered within 0 s"
    is_due()
    assert duty() == 1, "the other one"
    assert hanging.looks == 1
    hanging.end()
    assert wait_until(lambda: duty() == 1, SECONDS)
    assert hanging.looks == 2
    assert hanging.standing.unknown.startswith("hanging-1: server1: The engine's socket")


def test_a_thread_that_never_comes_back_keeps_its_place_from_nothing_for_good(
    production: Fleet, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wait_until(lambda: differs(production), SECONDS)
    monkeypatch.setattr(drift, "LOOK_SECONDS", 0.0)
    duty()
    monkeypatch.setattr(drift, "FORGET_SECONDS", 0.0)
    is_due()
    assert duty() == 2
    assert hanging.looks == 2
