"""One change of a scope at a time, first come first served; what waits for a gate lets others pass."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, claims, engine, transitions
from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.models import Operation, OperationLock
from controlplane.operations.queue import queue_before
from controlplane.operations.states import State
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of

pytestmark = pytest.mark.django_db(transaction=True)


def state(operation: Operation) -> str:
    operation.refresh_from_db()
    return operation.state


def test_the_second_waits_for_the_first_by_name(ask: Ask) -> None:
    first, second = ask(), ask()
    assert not engine.run(second.pk, "w1")
    second.refresh_from_db()
    assert second.outcome == f"waits behind operation {first.pk}: Sample"


def test_what_holds_the_scope_is_named_and_nothing_else_is_asked(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ask(), ask()
    seen = []

    def meanwhile(boundary: str, operation_id: int, step: str) -> None:
        if boundary == "effect_done" and operation_id == first.pk:
            engine.run(second.pk, "w2")
            second.refresh_from_db()
            seen.append(second.outcome)

    boundaries.listeners.append(meanwhile)
    engine.run(first.pk, "w1")
    assert seen == [f"waits for operation {first.pk}: Sample"]
    assert engine.run(second.pk, "w2")


def test_what_waits_for_a_gate_lets_others_pass(ask: Ask, world: World) -> None:
    world.gates = [Gate("ci", "CI passed", Outcome.PENDING, "the checks are still running")]
    slow, urgent = ask(), ask()
    assert not engine.run(slow.pk, "w1")
    world.gates = []
    assert engine.run(urgent.pk, "w1")
    assert (state(slow), state(urgent)) == (State.QUEUED, State.SUCCEEDED)
    assert engine.run(slow.pk, "w1")
    assert state(slow) == State.SUCCEEDED


def test_a_gate_that_opened_gives_it_its_turn_back(ask: Ask, world: World) -> None:
    world.gates = [Gate("ci", "CI passed", Outcome.PENDING, "the checks are still running")]
    slow = ask()
    assert slow.gate_pending_since is not None  # known from the beginning, so that others are planned past it
    world.gates = [Gate("busy", "Nobody else", Outcome.PENDING, "somebody is at it", turn=True)]
    other = ask()
    assert other.gate_pending_since is None
    world.gates = []
    assert engine.run(slow.pk, "w1")
    slow.refresh_from_db()
    assert slow.gate_pending_since is None


def test_what_an_operation_waits_for_is_behind_nobody_until_its_end(ask: Ask, world: World) -> None:
    """Of those in the queue somebody may wait for the very operation that asked for it."""
    asker = ask()
    assert claims.claim(asker.pk, "w1") is not None
    both, narrow = ask(locks=("production", "production/db")), ask(locks=("production/db",))
    part = ask(locks=("production/db",), part_of=asker.pk)
    assert list(queue_before(narrow)) == [both]
    assert list(queue_before(part)) == []
    assert engine.run(part.pk, "w2")
    late = ask(locks=("production/db",), part_of=asker.pk)
    Operation.objects.filter(pk=asker.pk).update(state=State.FAILED, finished_at=asker.requested_at)
    assert list(queue_before(late)) == [both, narrow], "nobody waits for it any more"


def test_the_same_scope_named_twice_is_one(ask: Ask) -> None:
    operation = ask(scopes=("production", "production"))
    assert operation.scopes == ["production"]
    assert engine.run(operation.pk, "w1")


def test_it_does_not_stop_before_a_step_that_was_tried(ask: Ask, world: World, alice: Person) -> None:
    """The effect came about, the answer was lost, and the worker died while it waited to try again."""
    operation = ask(plan_of("a", "b"))

    def lost_answer(boundary: str, operation_id: int, step: str) -> None:
        if (boundary, step) == ("effect_done", "a"):
            boundaries.listeners.clear()
            operation.steps.filter(key="a").update(state="pending")
            Operation.objects.filter(pk=operation.pk).update(lease_until=operation.requested_at)
            raise KeyboardInterrupt

    boundaries.listeners.append(lost_answer)
    with pytest.raises(KeyboardInterrupt):
        engine.run(operation.pk, "w1")
    Operation.objects.filter(pk=operation.pk).update(lease_until=operation.requested_at)
    transitions.cancel(operation.pk, Actor(alice), "enough")
    engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert (operation.state, dict(world.effects)) == (State.CANCELLED, {"a": 1})
    assert operation.outcome == "stopped by Alice before b: enough. Never touched: b."
    assert not OperationLock.objects.exists()
