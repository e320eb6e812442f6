"""A worker holds an operation by lease and fence; everything is checked again at the start."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine, transitions
from controlplane.operations.claims import claim
from controlplane.operations.errors import LeaseLost
from controlplane.operations.events import NewEvent, append
from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.models import Operation, OperationLock
from controlplane.operations.states import State
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of

pytestmark = pytest.mark.django_db(transaction=True)


def lose_the_worker(operation: Operation) -> None:
    """Time passes: the lease runs out."""
    Operation.objects.filter(pk=operation.pk).update(lease_until=Now() - timedelta(seconds=1))


def test_only_one_worker_gets_it(ask: Ask) -> None:
    operation = ask()
    assert claim(operation.pk, "w1")
    assert claim(operation.pk, "w2") is None


def test_a_lost_worker_is_followed_under_a_higher_fence(ask: Ask) -> None:
    operation = ask()
    first = claim(operation.pk, "w1")
    lose_the_worker(operation)
    second = claim(operation.pk, "w2")
    assert first and second and second.fence > first.fence
    text = operation.events.order_by("-seq").values_list("text", flat=True)[0]
    assert text == "worker w1 was lost; w2 goes on"


def test_the_lost_worker_can_write_nothing_any_more(ask: Ask) -> None:
    operation = ask()
    first = claim(operation.pk, "w1")
    lose_the_worker(operation)
    claim(operation.pk, "w2")
    before = operation.events.count()
    assert first
    with pytest.raises(LeaseLost):
        append(operation.pk, [NewEvent("line", "I still live")], fence=first.fence)
    assert operation.events.count() == before


def test_fences_grow_across_operations(ask: Ask) -> None:
    one, two = ask(scopes=("a",)), ask(scopes=("b",))
    first, second = claim(one.pk, "w1"), claim(two.pk, "w1")
    assert first and second and second.fence > first.fence


def test_a_plan_that_does_not_fit_any_more_is_stale(ask: Ask, world: World) -> None:
    operation = ask(plan_of("a"))
    world.plan = plan_of("b")
    assert not engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.STALE
    assert "not what the plan was made for" in operation.outcome
    assert world.effects == {}


def test_a_gate_that_failed_meanwhile_makes_it_stale(ask: Ask, world: World) -> None:
    operation = ask()
    world.gates = [Gate("lock", "No lock", Outcome.FAILED, "locked by dana: sale day")]
    assert not engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert (operation.state, "sale day" in operation.outcome) == (State.STALE, True)


def test_a_pending_gate_lets_it_wait(ask: Ask, world: World) -> None:
    operation = ask()
    world.gates = [Gate("ci", "CI passed", Outcome.PENDING, "still running")]
    assert not engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert (operation.state, operation.outcome) == (State.QUEUED, "waits: still running")
    world.gates = []
    assert engine.run(operation.pk, "w1")


def test_an_approval_of_somebody_who_left_is_void(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    Person.objects.filter(pk=bob.pk).update(is_active=False)
    assert not engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert (operation.state, "approval" in operation.outcome) == (State.STALE, True)


def test_a_second_one_waits_in_the_queue_and_says_for_whom(ask: Ask) -> None:
    first, second = ask(), ask()
    assert claim(first.pk, "w1")
    assert claim(second.pk, "w2") is None
    second.refresh_from_db()
    assert (second.state, second.outcome) == (State.QUEUED, f"waits for operation {first.pk}: Sample")


def test_the_queue_is_first_come_first_served(ask: Ask) -> None:
    first, second = ask(), ask()
    assert claim(second.pk, "w1") is None
    second.refresh_from_db()
    assert second.outcome == f"waits behind operation {first.pk}: Sample"
    assert engine.run(first.pk, "w1")
    assert engine.run(second.pk, "w1")


def test_scopes_are_locked_all_or_none(ask: Ask) -> None:
    both, one = ask(scopes=("a", "b")), ask(scopes=("b",))
    assert claim(both.pk, "w1")
    assert sorted(OperationLock.objects.values_list("name", flat=True)) == ["a", "b"]
    assert claim(one.pk, "w2") is None
    three = ask(scopes=("b", "c"))
    assert claim(three.pk, "w2") is None
    assert not OperationLock.objects.filter(operation=three).exists()


def test_what_is_finished_is_never_claimed(ask: Ask) -> None:
    operation = ask()
    engine.run(operation.pk, "w1")
    assert not engine.run(operation.pk, "w2")
