"""Cancelling stops at once before the start, and at the next safe point after it, saying which."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, engine, transitions
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.plans import Plan
from controlplane.operations.states import State
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of, step

pytestmark = pytest.mark.django_db(transaction=True)


def test_before_the_start_it_ends_at_once(ask: Ask, alice: Person) -> None:
    operation = transitions.cancel(ask(approvals=1).pk, Actor(alice), "wrong window")
    assert (operation.state, operation.cancel_reason) == (State.CANCELLED, "wrong window")
    assert not engine.run(operation.pk, "w1")


def test_a_reason_is_asked_for(ask: Ask, alice: Person) -> None:
    with pytest.raises(Invalid, match="Say why"):
        transitions.cancel(ask().pk, Actor(alice), "  ")


def test_while_running_it_stops_at_the_next_safe_point(ask: Ask, world: World, alice: Person) -> None:
    operation = ask(plan_of("a", "b", "c"))

    def stop_during_a(boundary: str, operation_id: int, step: str) -> None:
        if (boundary, step) == ("effect_done", "a"):
            transitions.cancel(operation_id, Actor(alice), "bad feeling")

    boundaries.listeners.append(stop_during_a)
    assert engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.CANCELLED
    assert operation.outcome == "stopped by Alice before b: bad feeling. Never touched: b, c."
    assert world.effects == {"a": 1}


def test_what_has_ended_cannot_be_stopped(ask: Ask, alice: Person) -> None:
    operation = ask()
    engine.run(operation.pk, "w1")
    with pytest.raises(Conflict, match="succeeded"):
        transitions.cancel(operation.pk, Actor(alice), "too late")


def test_in_the_middle_of_a_step_that_allows_it(ask: Ask, world: World, alice: Person) -> None:
    """It stops there, what puts it back runs, and it counts as cancelled, not as failed."""
    undo = step("undo-a", safe_point=False)
    first = step("a", interruptible=True, on_failure=("undo-a",))
    operation = ask(Plan("sample", (first, step("b")), (undo,)))
    world.long.add("a")

    def stop_during_a(boundary: str, operation_id: int, key: str) -> None:
        if (boundary, key) == ("intent_written", "a"):
            transitions.cancel(operation_id, Actor(alice), "bad feeling")

    boundaries.listeners.append(stop_during_a)
    assert engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert (operation.state, world.effects) == (State.CANCELLED, {"undo-a": 1})
    assert operation.outcome == "put back: bring a: stopped by Alice: bad feeling. Never touched: b."


def test_a_step_that_does_not_allow_it_is_finished_first(ask: Ask, world: World, alice: Person) -> None:
    operation = ask(Plan("sample", (step("a"), step("b"))))
    world.slow["a"] = 200

    def stop_during_a(boundary: str, operation_id: int, key: str) -> None:
        if (boundary, key) == ("effect_done", "a"):
            transitions.cancel(operation_id, Actor(alice), "bad feeling")

    boundaries.listeners.append(stop_during_a)
    assert engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert (operation.state, world.effects) == (State.CANCELLED, {"a": 1})
