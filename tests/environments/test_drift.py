"""What runs otherwise than it was deployed is found by the clock, told apart, kept, and ends by itself."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest
from django.db import connections
from django.db.models.functions import Now
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.clock.registry import duties
from controlplane.embedded.processes import wait_until
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation, OperationLock
from controlplane.operations.states import State
from environments import drift, drift_looks
from environments.drift import standings_of
from environments.drift_looks import Answer, Question
from environments.drivers import DRIVERS
from environments.drivers.base import Comparable, Difference, Software, Target
from environments.models import ConfigEntry, Drift, DriftWatch, Placement
from environments.targets import target_of
from tests.environments.conftest import MakeFleet
from tests.environments.fleet import Fleet, Worker, release

pytestmark = pytest.mark.django_db
USUAL_TURN = drift.TURN  # before the tests make it longer


@pytest.fixture
def production(fleet: MakeFleet) -> Fleet:
    """Two instances on 1.5.0, as it was deployed."""
    made = fleet(2)
    made.deploy("1.5.0")
    wrote_down(made, "1.5.0")
    return made


def wrote_down(fleet: Fleet, version: str) -> None:
    Placement.objects.filter(pk=fleet.placement.pk).update(version=version, digest=release(version).digest)
    fleet.placement.refresh_from_db()


def look() -> int:
    DriftWatch.objects.update(due_at=Now() - timedelta(seconds=1))
    return drift.look_due()


def differs(fleet: Fleet) -> list[tuple[str, str, str]]:
    found = standings_of([fleet.placement])[fleet.placement.pk].differences
    return [(one.what, one.subject, one.found) for one in found]


def kill(fleet: Fleet, number: int) -> None:
    folder = fleet.folders[number]
    assert folder.pid
    os.kill(folder.pid, signal.SIGKILL)
    assert wait_until(lambda: not folder.occupied, 40)


def test_what_runs_as_it_was_deployed_differs_in_nothing(production: Fleet) -> None:
    assert look() == 1
    standing = standings_of([production.placement])[production.placement.pk]
    assert (standing.differences, standing.unknown) == ([], "")
    assert standing.known_at


def test_one_that_was_killed_is_missing_and_is_not_any_more_once_it_runs(production: Fleet) -> None:
    kill(production, 0)
    look()
    assert differs(production) == [("count", "production-1", "1.5.0 has ended")]
    look()
    assert Drift.objects.count() == 1  # the same difference is no second one
    production.deploy("1.5.0")
    look()
    assert differs(production) == []
    kept = Drift.objects.get()
    assert kept.ended_at and kept.ended_at > kept.began_at


@pytest.mark.django_db(transaction=True)
def test_it_is_on_the_board_from_the_clocks_next_look_until_it_runs_again(
    client: Client, production: Fleet, alice: Person, charlie: Person
) -> None:
    def board(person: Person) -> str:
        client.force_login(person)
        return client.get("/").content.decode()

    (duty,) = (one for one in duties() if one.name == "look for drift")
    assert drift.EVERY < 60, "the next look comes within a minute"
    kill(production, 0)
    assert "differs" not in board(alice)
    assert duty.function() == 1
    assert "production-1: 1.5.0 has ended" in board(alice)
    assert "differs" not in board(charlie)
    production.deploy("1.5.0")
    assert look() == 1
    assert "differs" not in board(alice)


def test_one_that_was_replaced_behind_our_back_runs_another_image(production: Fleet) -> None:
    target = target_of(production.placement)
    only = replace(target, instances=target.instances[1:])
    driver = DRIVERS["local"]
    Worker(fence=production.next_fence()).carry_out(driver.rollout(only, driver.running(only), release("1.4.0")))
    look()
    assert differs(production) == [("image", "production-2", f"1.4.0 {release('1.4.0').digest}")]


def test_a_changed_variable_is_the_environment_of_each_instance_until_it_is_deployed(production: Fleet) -> None:
    ConfigEntry.objects.create(environment=production.placement.environment, key="LOG_LEVEL", value="debug")
    look()
    assert [(what, where) for what, where, _ in differs(production)] == [
        ("environment", "production-1"),
        ("environment", "production-2"),
    ]
    rollout = production.rollout("1.5.0")  # to deploy the same release again has steps for what differs
    assert [step.title for step in rollout.steps].count("start 1.5.0") == 2
    production.deploy("1.5.0")
    look()
    assert differs(production) == []


def test_one_out_of_rotation_is_not_registered(production: Fleet) -> None:
    production.folders[0].take_out()
    look()
    assert differs(production) == [("registration", "production-1", "out of rotation")]


def test_a_place_that_an_operation_changes_is_left_alone(production: Fleet) -> None:
    kill(production, 0)
    operation = Operation.objects.create(
        kind="test", title="Something", scopes=["production"], lock_names=["production"], state=State.RUNNING,
        reason="because", plan={"steps": [], "recovery": []},
    )  # fmt: skip
    lock = OperationLock.objects.create(name="production", operation=operation)
    assert look() == 0
    lock.delete()
    assert look() == 1


def test_what_an_operation_came_between_is_not_written_down(production: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked before, answered after the place was changed on purpose: that answer is about something else."""
    look()
    claimed = drift_looks.ask

    def slow(question: Question) -> Answer:
        return replace(claimed(question), differences=[Difference("image", "production-1", "1.5.0", "1.6.0")])

    monkeypatch.setattr(drift_looks, "ask", slow)
    write = drift._write_down

    def late(answer: Answer) -> None:
        wrote_down(production, "1.6.0")
        write(answer)

    monkeypatch.setattr(drift, "_write_down", late)
    look()
    assert not Drift.objects.exists()


def test_what_a_later_look_saw_is_not_overwritten(production: Fleet) -> None:
    look()
    question = Question(
        production.placement.pk,
        1,
        cast("Comparable", DRIVERS["local"]),
        target_of(production.placement),
        release("1.5.0"),
    )
    look()
    drift._write_down(Answer(question, [Difference("image", "production-1", "1.5.0", "1.6.0")]))
    assert differs(production) == []


def test_a_place_that_cannot_be_asked_is_not_known_and_never_as_it_was_deployed(
    production: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(production, 0)
    look()

    def unreachable(target: Target, deployed: Software) -> list[Difference]:
        raise StepError("the host does not answer")

    monkeypatch.setattr(DRIVERS["local"], "differences", unreachable)
    look()
    standing = standings_of([production.placement])[production.placement.pk]
    assert standing.unknown == "the host does not answer"
    assert standing.unknown_since and standing.known_at and standing.known_at <= standing.unknown_since
    assert [one.what for one in standing.differences] == ["count"]  # nobody can say that it has ended
    monkeypatch.undo()
    look()
    standing = standings_of([production.placement])[production.placement.pk]
    assert (standing.unknown, standing.unknown_since) == ("", None)


def test_a_driver_that_breaks_keeps_no_other_place_waiting(
    fleet: MakeFleet, production: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = fleet(1, slug="staging")
    staging.deploy("1.5.0")
    wrote_down(staging, "1.5.0")
    honest = DRIVERS["local"].differences  # type: ignore[attr-defined]

    def sometimes(target: Target, deployed: Software) -> list[Difference]:
        if target.environment == "staging":
            raise KeyError("digest")
        found: list[Difference] = honest(target, deployed)
        return found

    monkeypatch.setattr(DRIVERS["local"], "differences", sometimes)
    kill(production, 1)
    drift.look_due()
    assert standings_of([staging.placement])[staging.placement.pk].unknown == "the driver could not look: KeyError"
    assert differs(production)


def test_a_place_is_looked_at_three_times_a_minute_and_nothing_that_was_never_deployed(fleet: MakeFleet) -> None:
    made = fleet(1)
    assert drift.look_due() == 0
    made.deploy("1.5.0")
    wrote_down(made, "1.5.0")
    assert drift.look_due() == 1
    assert drift.look_due() == 0
    watch = DriftWatch.objects.filter(due_at__lte=Now() + timedelta(seconds=20)).get()
    assert watch.look == 1
    (duty,) = (one for one in duties() if one.name == "look for drift")
    assert drift.EVERY + 2 * duty.every + USUAL_TURN + drift.LOOK_SECONDS < 60


@pytest.mark.django_db(transaction=True)
def test_two_clocks_never_look_twice(production: Fleet) -> None:
    drift.look_due()
    DriftWatch.objects.update(due_at=Now() - timedelta(seconds=1), look=0)

    def clock(_: int) -> int:
        try:
            return drift.look_due()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(clock, range(4))) == 1
    assert DriftWatch.objects.get().look == 1
