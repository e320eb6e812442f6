"""The inbox of approvals and its count: mine first, then those that wait for others, then what was decided."""

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.operations import approvals, transitions
from controlplane.operations.inbox import inbox, waiting_for
from controlplane.operations.models import Operation
from tests.operations.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)


def mine(person: Person) -> list[Operation]:
    return list(inbox(Actor(person)).mine)


def count(client: Client, person: Person) -> str:
    client.force_login(person)
    return client.get("/nav-counts").content.decode()


def test_it_is_for_people_who_are_signed_in(client: Client) -> None:
    assert client.get("/approvals").status_code == client.get("/nav-counts").status_code == 302


def test_mine_are_those_i_may_decide_on(ask: Ask, alice: Person, bob: Person, charlie: Person, dana: Person) -> None:
    operation = ask(approvals=2)
    assert mine(bob) == [operation]
    for person in (alice, dana):
        assert mine(person) == []
        assert list(inbox(Actor(person)).others) == [operation]
    assert not inbox(Actor(charlie)).others
    Grant.objects.create(person=charlie, scope="staging", role=Role.APPROVER)
    assert not inbox(Actor(charlie)).others
    Grant.objects.create(person=charlie, scope="production", role=Role.APPROVER)
    assert mine(charlie) == [operation]


def test_the_rule_is_the_one_that_refuses(ask: Ask, alice: Person, bob: Person, dana: Person, ada: Person) -> None:
    operation = ask(approvals=1)
    for person in (alice, bob, dana, ada):
        actor = Actor(person)
        allowed = operation in waiting_for(actor)
        assert allowed is not bool(approvals.why_not(operation, actor)), person


def test_a_word_given_is_not_asked_for_again(client: Client, ask: Ask, bob: Person, ada: Person) -> None:
    operation = ask(approvals=2)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest, "fine")
    assert mine(bob) == []
    assert mine(ada) == [operation]
    client.force_login(bob)
    said = client.get("/approvals").content.decode()
    assert "1 of 2" in said
    assert "“fine”" in said


def test_the_most_pressing_comes_first(ask: Ask, bob: Person) -> None:
    early, late = ask(approvals=1), ask(approvals=1)
    assert mine(bob) == [early, late]
    Operation.objects.filter(pk=late.pk).update(approval_deadline=early.requested_at)
    assert mine(bob) == [late, early]


def test_the_count_is_mine_alone(client: Client, ask: Ask, alice: Person, bob: Person, charlie: Person) -> None:
    ask(approvals=1)
    ask(approvals=1)
    assert ">2<" in count(client, bob)
    assert 'class="count"' not in count(client, alice)
    assert 'class="count"' not in count(client, charlie)


def test_its_price(
    client: Client, ask: Ask, bob: Person, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(15):
        operation = ask(approvals=1)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    client.force_login(bob)
    with django_assert_max_num_queries(12):
        client.get("/approvals")
    with django_assert_max_num_queries(5):
        client.get("/nav-counts")
