"""Four eyes: the requester never approves; N different people, once each, on the digest they read."""

import threading

import pytest
from django.db import connection

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person
from controlplane.operations import transitions
from controlplane.operations.errors import Conflict, Invalid, OperationError, Refused
from controlplane.operations.models import Approval
from controlplane.operations.states import State
from tests.operations.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)


def test_nothing_runs_before_the_approval(ask: Ask) -> None:
    assert ask(approvals=1).state == State.AWAITING_APPROVAL


def test_the_last_signature_lets_it_go(ask: Ask, bob: Person, ada: Person) -> None:
    operation = ask(approvals=2)
    assert transitions.approve(operation.pk, Actor(bob), operation.plan_digest).state == State.AWAITING_APPROVAL
    assert transitions.approve(operation.pk, Actor(ada), operation.plan_digest).state == State.QUEUED


def test_the_requester_is_refused_even_as_an_approver(ask: Ask, alice: Person) -> None:
    Grant.objects.filter(person=alice).update(role="admin")
    operation = ask(approvals=1)
    with pytest.raises(Refused, match="somebody else has to approve"):
        transitions.approve(operation.pk, Actor(alice), operation.plan_digest)


def test_without_the_role_it_is_refused(ask: Ask, dana: Person) -> None:
    operation = ask(approvals=1)
    with pytest.raises(Refused, match="role approver"):
        transitions.approve(operation.pk, Actor(dana), operation.plan_digest)


def test_each_person_counts_once(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=2)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    with pytest.raises(Conflict, match="already"):
        transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    assert Approval.objects.count() == 1


def test_another_digest_is_a_conflict_and_changes_nothing(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1)
    with pytest.raises(Conflict, match="not the plan"):
        transitions.approve(operation.pk, Actor(bob), "0" * 64)
    operation.refresh_from_db()
    assert (operation.state, Approval.objects.count()) == (State.AWAITING_APPROVAL, 0)


def test_one_no_is_enough_and_needs_a_reason(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=2)
    with pytest.raises(Invalid):
        transitions.reject(operation.pk, Actor(bob), operation.plan_digest, " ")
    rejected = transitions.reject(operation.pk, Actor(bob), operation.plan_digest, "not on Friday")
    assert (rejected.state, rejected.outcome) == (State.REJECTED, "rejected by Bob: not on Friday")


def test_too_late_is_a_conflict(ask: Ask, bob: Person, alice: Person) -> None:
    operation = ask(approvals=1)
    transitions.cancel(operation.pk, Actor(alice), "changed my mind")
    with pytest.raises(Conflict, match="cancelled"):
        transitions.approve(operation.pk, Actor(bob), operation.plan_digest)


def test_two_people_at_once_are_both_counted(ask: Ask, bob: Person, ada: Person) -> None:
    operation = ask(approvals=2)
    results = at_once(lambda person: transitions.approve(operation.pk, Actor(person), operation.plan_digest), bob, ada)
    operation.refresh_from_db()
    assert (results, operation.state) == ([None, None], State.QUEUED)


def test_one_person_clicking_twice_counts_once(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1)
    results = at_once(lambda person: transitions.approve(operation.pk, Actor(person), operation.plan_digest), bob, bob)
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "NoneType"]
    assert Approval.objects.count() == 1


def test_deleting_a_person_erases_no_name(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    bob.delete()
    assert operation.approvals.get().person_name == "Bob"


def at_once(act, *people: Person) -> list[OperationError | None]:  # type: ignore[no-untyped-def]
    """Let all of them do it at the same moment, in threads of their own; what each was told."""
    results: list[OperationError | None] = [None] * len(people)
    barrier = threading.Barrier(len(people))

    def one(number: int, person: Person) -> None:
        try:
            barrier.wait()
            act(person)
        except OperationError as error:
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
