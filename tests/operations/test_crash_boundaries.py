"""A worker that dies at any boundary loses nothing, and what follows it repeats nothing."""

import pytest

from controlplane.operations import boundaries, engine
from controlplane.operations.models import Event, Operation
from controlplane.operations.states import State
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of
from tests.operations.test_claims import lose_the_worker

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """The process is gone: nothing after it runs, not even clean-up that writes."""


def die_at(boundary: str, step: str) -> None:
    """The first worker to stand at the boundary dies there."""

    def listener(reached: str, operation_id: int, key: str) -> None:
        if (reached, key) == (boundary, step):
            boundaries.listeners.clear()
            raise Killed

    boundaries.listeners.append(listener)


@pytest.mark.parametrize("step", ["a", "b", "undo-b"])
@pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_twice_nothing_lost(ask: Ask, world: World, boundary: str, step: str, fails: bool) -> None:
    world.bad = {"b": "bad"} if fails else {}
    operation = ask(plan_of("a", "b", "c", recovery=True))
    die_at(boundary, step)
    run_until_the_end(operation)
    assert operation.state == (State.FAILED if fails else State.SUCCEEDED)
    assert world.effects == ({"a": 1, "b": 1, "undo-b": 1} if fails else {"a": 1, "b": 1, "c": 1})
    seqs = Event.objects.filter(operation=operation).order_by("seq").values_list("seq", flat=True)
    assert list(seqs) == list(range(1, operation.last_seq + 1))


@pytest.mark.parametrize("boundary", ["claimed", "finished"])
def test_at_both_ends_too(ask: Ask, world: World, boundary: str) -> None:
    operation = ask(plan_of("a"))
    die_at(boundary, "")
    run_until_the_end(operation)
    assert (operation.state, world.effects, world.finished) == (State.SUCCEEDED, {"a": 1}, [State.SUCCEEDED])


def run_until_the_end(operation: Operation) -> None:
    """Workers come and die until it has ended; each death costs a lease."""
    for worker in range(5):
        try:
            engine.run(operation.pk, f"w{worker}")
        except Killed:
            lose_the_worker(operation)
        operation.refresh_from_db()
        if operation.is_finished:
            return
    raise AssertionError(f"still {operation.state}")
