"""Somebody starts another container under an instance's name: a deployment removes just the one that its plan names."""

from collections.abc import Iterator

import pytest

from controlplane.accounts.models import Person
from controlplane.operations import boundaries, engine
from controlplane.operations.models import Deed, Effect, Operation
from controlplane.operations.states import State
from environments.drivers.hosts.pull import PULLED
from tests.environments.hosts.conftest import BOTH_ENGINES, MakePark
from tests.environments.hosts.paper_balancer import PaperBalancer
from tests.environments.hosts.park import Park
from tests.environments.hosts.test_crashes import PAPER, ask
from tests.operations.dying import die_once_at_each_boundary, run_until_the_end

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    boundaries.listeners.clear()


@pytest.fixture
def production(park: MakePark, balancer: PaperBalancer) -> Park:
    """Two hosts behind a balancer, with 1.4.0."""
    production = park(2, balancer=PAPER, start_seconds=2.0)
    assert production.deploy("1.4.0") is None
    balancer.done.clear()
    return production


def carried_out(operation: Operation) -> Operation:
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def effects(operation: Operation, subject: str = "production-1") -> list[str]:
    told = Effect.objects.filter(operation=operation, subject=subject).exclude(what=PULLED)
    return list(told.values_list("what", flat=True))


def titles(operation: Operation) -> list[str]:
    return [step["title"] for step in operation.plan["steps"]]


@BOTH_ENGINES
def test_the_release_comes_back_in_its_place_and_every_effect_is_explained(
    production: Park, alice: Person, balancer: PaperBalancer
) -> None:
    stranger = production.somebody_starts("1.5.0")
    operation = ask(production, alice, "1.4.0")
    said = f"remove the container {stranger[:12]} of {production.images.name}"
    assert any(one.startswith(said) for one in titles(operation))
    assert "which somebody else started" in operation.plan["changes"][0]["from"]
    assert operation.plan["summary"].endswith("from 1.4.0 and what somebody else started")
    assert operation.plan["changes"][1]["to"] == "already on it"
    balancer.drains = 2
    assert carried_out(operation).state == State.SUCCEEDED, operation.outcome
    assert production.versions() == ["1.4.0", "1.4.0"]
    assert effects(operation) == ["deregistered", "removed", "started", "registered"]
    assert Effect.objects.get(operation=operation, what="removed").facts == {"stranger": stranger}
    assert Deed.objects.get(operation=operation).differences == []
    assert effects(operation, "production-2") == []


@BOTH_ENGINES
def test_a_death_at_every_boundary_changes_nothing(production: Park, alice: Person, balancer: PaperBalancer) -> None:
    production.somebody_starts("1.5.0")
    operation = ask(production, alice, "1.4.0")
    reached = die_once_at_each_boundary()
    assert run_until_the_end(operation) == len(reached) > 20
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert effects(operation) == ["deregistered", "removed", "started", "registered"]
    assert Deed.objects.get(operation=operation).differences == []
    assert production.versions() == ["1.4.0", "1.4.0"]


def test_another_one_than_the_plan_names_is_not_removed_and_the_plan_is_stale(production: Park, alice: Person) -> None:
    production.somebody_starts("1.5.0")
    operation = ask(production, alice, "1.4.0")
    another = production.somebody_starts("1.5.0")
    assert carried_out(operation).state == State.STALE
    found = production.container()
    assert found is not None and found.id == another and found.is_running


@pytest.mark.parametrize("first", [True, False])
def test_another_one_that_comes_meanwhile_stops_the_step_in_words(production: Park, alice: Person, first: bool) -> None:
    """first: there was one to remove, and it was replaced; else there was none when the plan was made."""
    if first:
        production.somebody_starts("1.5.0")
    operation = ask(production, alice, "1.4.0" if first else "1.5.0")
    come: list[str] = []

    def listener(boundary: str, operation_id: int, step_key: str) -> None:
        if step_key == "production-1/stop" and not come:
            come.append(production.somebody_starts("1.5.0"))

    boundaries.listeners.append(listener)
    assert carried_out(operation).state != State.SUCCEEDED
    found = production.container()
    assert found is not None and found.id == come[0] and found.is_running
    assert f"is container {come[0][:12]} of" in operation.outcome
    assert "which somebody else started and the plan does not name. Ask for it again" in operation.outcome
    assert "removed" not in effects(operation)


def test_what_was_not_removed_yet_serves_again_when_the_way_there_fails(
    production: Park, alice: Person, balancer: PaperBalancer
) -> None:
    stranger = production.somebody_starts("1.5.0")
    production.settings(drain_seconds=0.2)
    balancer.drains = 1_000_000
    operation = ask(production, alice, "1.4.0")
    assert carried_out(operation).state == State.FAILED
    found = production.container()
    assert found is not None and found.id == stranger and found.is_running
    assert effects(operation) == ["deregistered", "registered"]
    assert sorted(balancer.members) == ["production-1", "production-2"]


def test_where_it_was_removed_a_failure_leaves_nothing_but_a_name_that_is_taken(
    production: Park, alice: Person, balancer: PaperBalancer
) -> None:
    production.somebody_starts("1.5.0")
    operation = ask(production, alice, "1.6.0")
    assert carried_out(operation).state == State.FAILED
    found = production.container()
    assert found is not None and found.is_held
    assert production.versions() == ["", "1.4.0"]
    assert sorted(balancer.members) == ["production-2"]
    assert Deed.objects.get(operation=operation).differences == []


def test_one_that_has_ended_is_removed_by_name_too(production: Park, alice: Person) -> None:
    stranger = production.somebody_starts("1.5.0", command=["/usr/bin/sleep", "60"])
    with production.engine() as there:
        there.stop(stranger, 0)
    operation = ask(production, alice, "1.4.0")
    assert carried_out(operation).state == State.SUCCEEDED, operation.outcome
    assert production.versions() == ["1.4.0", "1.4.0"]
    assert effects(operation) == ["deregistered", "removed", "started", "registered"]
