"""What people may do is looked at again at the start: an approval, or a wish, of somebody who may not is void."""

import pytest

from controlplane.accounts.access import Actor, Machine
from controlplane.accounts.models import Grant, Person, Role
from controlplane.audit.record import SYSTEM
from controlplane.operations import engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.operations import recipes
from tests.operations.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def approved(ask: Ask, bob: Person) -> Operation:
    operation = ask(approvals=1)
    return transitions.approve(operation.pk, Actor(bob), operation.plan_digest)


def started(operation: Operation) -> Operation:
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def test_as_long_as_all_may_it_starts(approved: Operation) -> None:
    assert started(approved).state == State.SUCCEEDED


def test_an_approver_who_lost_the_role(approved: Operation, bob: Person) -> None:
    Grant.objects.filter(person=bob).update(role=Role.OPERATOR)
    assert started(approved).state == State.STALE
    assert "may not give it any more" in approved.outcome


def test_a_requester_who_lost_the_role(approved: Operation, alice: Person) -> None:
    Grant.objects.filter(person=alice).update(scope="staging")
    assert started(approved).state == State.STALE
    assert "Alice, who asked for it, may not change production any more" in approved.outcome


@pytest.mark.parametrize("whose", ["alice", "bob"])
def test_somebody_who_was_deactivated(approved: Operation, whose: str) -> None:
    Person.objects.filter(username=whose).update(is_active=False)
    assert started(approved).state == State.STALE


def test_a_requester_who_was_deleted(approved: Operation, alice: Person) -> None:
    alice.delete()
    assert started(approved).state == State.STALE
    assert "Alice, who asked for it, may not change production any more" in approved.outcome


def test_an_approver_who_was_deleted(approved: Operation, bob: Person) -> None:
    bob.delete()
    assert started(approved).state == State.STALE
    assert "may not give it any more" in approved.outcome


def test_a_machine_needs_no_role(world: recipes.World) -> None:
    world.plan = recipes.plan_of("one")
    asked = transitions.request(
        Machine(SYSTEM("clock")), kind="sample", title="Sample", scopes=["production"], plan=world.plan,
        gates=world.gates, reason="it is due", approvals_required=0,
    )  # fmt: skip
    assert started(asked).state == State.SUCCEEDED
