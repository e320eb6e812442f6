"""Stop the world: nothing starts, what runs stands still at its next safe point, and everything goes on afterwards."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import boundaries, claims, engine, registry, ticks, transitions
from controlplane.operations import world as the_world
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.events import write_step
from controlplane.operations.models import Halt, Operation, Step
from controlplane.operations.plans import Plan
from controlplane.operations.registry import Kind
from controlplane.operations.states import Answer, State, StepState
from tests.operations import recipes
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of, step

pytestmark = pytest.mark.django_db(transaction=True)


def stop_during(name: str, ada: Person, boundary: str = "effect_done") -> None:
    """Somebody stops the world while this step runs."""

    def listener(reached: str, operation_id: int, key: str) -> None:
        if (reached, key) == (boundary, name) and the_world.standing() is None:
            the_world.stop(Actor(ada), "bad feeling")

    boundaries.listeners.append(listener)


def state(operation: Operation) -> str:
    operation.refresh_from_db()
    return operation.state


def stop(ada: Person) -> Halt:
    return the_world.stop(Actor(ada), "bad feeling")


def release(ada: Person) -> None:
    the_world.release(Actor(ada), "looked at it")
    boundaries.listeners.clear()


def test_nothing_new_starts_and_its_page_says_why(ask: Ask, world: World, ada: Person) -> None:
    from_here = ask()
    stop(ada)
    assert not engine.run(from_here.pk, "w1")
    assert (state(from_here), world.effects) == (State.QUEUED, {})
    assert from_here.outcome == "waits: Ada has stopped everything: bad feeling"
    release(ada)
    assert engine.run(from_here.pk, "w1")
    assert (state(from_here), from_here.outcome) == (State.SUCCEEDED, "")


def test_what_runs_stands_still_at_the_next_safe_point(ask: Ask, ada: Person) -> None:
    operation = ask(plan_of("a", "b", "c"))
    stop_during("a", ada)
    assert engine.run(operation.pk, "w1")
    assert state(operation) == State.RUNNING
    assert not operation.lease_until
    assert not operation.worker
    assert operation.outcome == "stands still before b: Ada has stopped everything: bad feeling"
    assert operation.paused_at
    assert ticks.hand_on() == 0, "nobody rings for what stands still"
    assert not engine.run(operation.pk, "w2"), "a lost or doubled ring changes nothing"
    release(ada)
    assert engine.run(operation.pk, "w2")
    assert state(operation) == State.SUCCEEDED
    assert Operation.objects.filter(pk=operation.pk, paused_at=None, outcome="").exists()


def test_effects_come_once_however_often_it_is_stopped(ask: Ask, world: World, ada: Person) -> None:
    operation = ask(plan_of("a", "b", "c"))
    for name in ("a", "b"):
        stop_during(name, ada)
        engine.run(operation.pk, name)
        release(ada)
    engine.run(operation.pk, "last")
    assert (state(operation), world.effects) == (State.SUCCEEDED, {"a": 1, "b": 1, "c": 1})


def just_before_it_begins(monkeypatch: pytest.MonkeyPatch, name: str, happens: Callable[[], object]) -> None:
    """It happens once the worker has asked whether the step may begin, and before that is written."""
    happened: list[object] = []

    def late(one: Step, *values: Any, **options: Any) -> bool:
        if one.key == name and one.state == StepState.PENDING and not happened:
            happened.append(happens())
        return write_step(one, *values, **options)

    monkeypatch.setattr(engine, "write_step", late)


def test_no_step_begins_after_it_though_its_worker_has_asked_before(
    ask: Ask, world: World, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = ask(plan_of("a", "b"))
    just_before_it_begins(monkeypatch, "b", lambda: stop(ada))
    assert engine.run(operation.pk, "w1")
    assert (state(operation), world.effects) == (State.RUNNING, {"a": 1})
    assert operation.paused_at
    assert Step.objects.filter(operation=operation, key="b", attempt=0, started_at=None).exists()
    release(ada)
    engine.run(operation.pk, "w2")
    assert (state(operation), world.effects) == (State.SUCCEEDED, {"a": 1, "b": 1})


def test_no_step_begins_after_somebody_stopped_its_operation(
    ask: Ask, world: World, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = ask(plan_of("a", "b"))
    just_before_it_begins(monkeypatch, "b", lambda: transitions.cancel(operation.pk, Actor(alice), "not any more"))
    assert engine.run(operation.pk, "w1")
    assert (state(operation), world.effects) == (State.CANCELLED, {"a": 1})


def test_nothing_starts_after_it_though_its_worker_has_asked_before(
    ask: Ask, world: World, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = ask()

    def elsewhere() -> None:
        stop(ada)
        connection.close()

    def late(*values: Any, **options: Any) -> Any:
        stopper = threading.Thread(target=elsewhere)
        stopper.start()
        stopper.join(20)
        return transitions.move(*values, **options)

    monkeypatch.setattr(claims, "move", late)
    assert not engine.run(operation.pk, "w1")
    assert (state(operation), operation.started_at, world.effects) == (State.QUEUED, None, {})
    assert operation.outcome == "waits: Ada has stopped everything: bad feeling"
    monkeypatch.undo()
    release(ada)
    assert engine.run(operation.pk, "w1")
    assert state(operation) == State.SUCCEEDED


def test_what_has_no_safe_point_left_goes_on_to_its_end(ask: Ask, ada: Person) -> None:
    operation = ask(Plan("sample", (step("a"), step("b", safe_point=False))))
    stop_during("a", ada)
    engine.run(operation.pk, "w1")
    assert state(operation) == State.SUCCEEDED


def test_the_way_back_is_not_held(ask: Ask, world: World, ada: Person) -> None:
    operation = ask(plan_of("a", "b", recovery=True))
    world.bad["a"] = "ill"
    stop_during("a", ada)
    engine.run(operation.pk, "w1")
    assert (state(operation), world.effects) == (State.FAILED, {"a": 1, "undo-a": 1})


def test_a_worker_that_dies_in_a_step_is_replaced_and_then_it_stands_still(ask: Ask, world: World, ada: Person) -> None:
    operation = ask(plan_of("a", "b"))
    stop_during("a", ada)

    def die(boundary: str, operation_id: int, key: str) -> None:
        if (boundary, key) == ("effect_done", "a"):
            raise KeyboardInterrupt

    boundaries.listeners.append(die)
    with pytest.raises(KeyboardInterrupt):
        engine.run(operation.pk, "w1")
    boundaries.listeners.clear()
    _lose_the_lease(operation)
    assert engine.run(operation.pk, "w2")
    assert (state(operation), world.effects) == (State.RUNNING, {"a": 1})
    assert operation.paused_at
    release(ada)
    engine.run(operation.pk, "w3")
    assert (state(operation), world.effects) == (State.SUCCEEDED, {"a": 1, "b": 1})


def _lose_the_lease(operation: Operation) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE operations_operation SET lease_until = now() - interval '1 s' WHERE id = %s", [operation.pk]
        )


def test_what_stands_still_can_be_stopped_for_good(ask: Ask, world: World, alice: Person, ada: Person) -> None:
    operation = ask(plan_of("a", "b"))
    stop_during("a", ada)
    engine.run(operation.pk, "w1")
    transitions.cancel(operation.pk, Actor(alice), "not any more")
    assert engine.run(operation.pk, "w2")
    assert (state(operation), world.effects) == (State.CANCELLED, {"a": 1})


def test_who_asked_to_stop_it_is_heard_before_it_stands_still(ask: Ask, alice: Person, ada: Person) -> None:
    operation = ask(plan_of("a", "b"))
    stop_during("a", ada)

    def cancel(boundary: str, operation_id: int, key: str) -> None:
        if (boundary, key) == ("state_written", "a"):
            transitions.cancel(operation_id, Actor(alice), "not any more")

    boundaries.listeners.append(cancel)
    engine.run(operation.pk, "w1")
    assert state(operation) == State.CANCELLED


def test_an_answer_is_taken_while_the_world_is_stopped(ask: Ask, alice: Person, ada: Person, world: World) -> None:
    operation = ask(plan_of("a", "b"))
    world.errors["a"] = [RuntimeError("who knows")]
    engine.run(operation.pk, "w1")
    stop(ada)
    transitions.resolve(operation.pk, Actor(alice), "a", Answer.RETRY)
    assert engine.run(operation.pk, "w2")
    assert (state(operation), world.effects) == (State.RUNNING, {"a": 1})
    assert operation.paused_at


def test_a_release_sees_what_pauses_at_the_same_moment(ask: Ask, ada: Person) -> None:
    """Whoever pauses and whoever releases lock the same row: nothing stands still for ever."""
    operation = ask(plan_of("a", "b"))
    stop_during("a", ada)

    def run() -> None:
        engine.run(operation.pk, "w1")
        connection.close()

    runner = threading.Thread(target=run)

    def release_first(boundary: str, operation_id: int, key: str) -> None:
        if (boundary, key) == ("state_written", "a"):
            the_world.release(Actor(ada))

    boundaries.listeners.append(release_first)
    runner.start()
    runner.join(20)
    assert not runner.is_alive()
    assert state(operation) == State.SUCCEEDED


def test_pausing_without_a_halt_does_nothing(ask: Ask) -> None:
    operation = ask()
    assert not the_world.pause(operation.pk, 1, "b")
    assert state(operation) == State.QUEUED


def test_one_switch(ada: Person) -> None:
    with pytest.raises(Invalid, match="Say why"):
        the_world.stop(Actor(ada), "  ")
    with pytest.raises(Conflict, match="Nothing is stopped"):
        the_world.release(Actor(ada))
    stop(ada)
    with pytest.raises(Conflict, match="stopped already"):
        stop(ada)
    release(ada)
    stop(ada)
    assert list(Entry.objects.order_by("pk").values_list("action", "actor", "reason")) == [
        ("world.stopped", "Ada", "bad feeling"),
        ("world.released", "Ada", "looked at it"),
        ("world.stopped", "Ada", "bad feeling"),
    ]


@pytest.fixture
def taking_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind beside the sample that only takes away."""
    kind = Kind(**{**recipes.SAMPLE.__dict__, "key": "fence", "label": "late fence of the tests", "takes_away": True})
    monkeypatch.setitem(registry._kinds, "sample-fence", kind)


@pytest.mark.usefixtures("taking_away")
def test_what_only_takes_away_starts_and_goes_on_and_is_behind_nobody(ask: Ask, world: World, ada: Person) -> None:
    held, fence = ask(), ask()
    Operation.objects.filter(pk=fence.pk).update(kind="sample-fence")
    stop(ada)
    assert not engine.run(held.pk, "w1")
    assert engine.run(fence.pk, "w1")
    assert (state(fence), state(held)) == (State.SUCCEEDED, State.QUEUED)


@pytest.mark.usefixtures("taking_away")
def test_what_only_takes_away_does_not_stand_still(ask: Ask, ada: Person) -> None:
    fence = ask(plan_of("a", "b", "c"))
    Operation.objects.filter(pk=fence.pk).update(kind="sample-fence")
    stop_during("a", ada)
    assert engine.run(fence.pk, "w1")
    assert state(fence) == State.SUCCEEDED


@pytest.mark.usefixtures("taking_away")
def test_the_page_of_the_switch_names_it(client: Client, ada: Person) -> None:
    client.force_login(ada)
    assert "late fence of the tests" in client.get("/world").content.decode()


def test_only_the_late_fence_is_not_held() -> None:
    assert registry.labels_that_take_away() == ["late fence"]
