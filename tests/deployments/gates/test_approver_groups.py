"""Of some groups some have to approve; one person stands for one of them only."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.operations import engine, transitions
from controlplane.operations.approvals import missing_groups
from controlplane.operations.models import Approval
from controlplane.operations.registry import Demand
from controlplane.operations.states import State
from deployments.models import ApproverGroup
from deployments.policies import guarded_slugs, policy_of
from deployments.services import request_deployment
from deployments.strategies.asking import situation_of
from environments.models import Environment, Placement
from tests.deployments.gates.policies import asked, outcome, rule
from tests.estate import Estate


def left(groups: list[tuple[str, list[str], int]], given: list[str]) -> list[str]:
    """What is missing, for people who have approved."""
    demand = Demand(0, [{"name": name, "people": people, "count": count} for name, people, count in groups])
    approvals: Any = [SimpleNamespace(person=SimpleNamespace(username=name)) for name in given]
    return missing_groups(demand, cast("list[Approval]", approvals))


def test_one_stands_for_one_group_only() -> None:
    groups = [("SRE", ["bob", "carol"], 1), ("Security", ["bob"], 1)]
    assert left(groups, []) == ["1 of SRE", "1 of Security"]
    assert left(groups, ["bob"]) == ["1 of Security"]
    assert left(groups, ["bob", "carol"]) == [], "bob is needed for Security, so carol stands for SRE"
    assert left(groups, ["carol", "bob"]) == []
    assert left(groups, ["dana"]) == ["1 of SRE", "1 of Security"]


def test_nobody_is_in_a_group_that_is_gone() -> None:
    assert left([("gone", [], 1)], ["bob"]) == ["1 of gone"]


PEOPLE = st.sampled_from("abcdef")


@given(st.lists(st.tuples(st.lists(PEOPLE, unique=True), st.integers(1, 2)), max_size=3), st.lists(PEOPLE, unique=True))
def test_as_many_stand_as_possibly_can(groups: list[tuple[list[str], int]], given_by: list[str]) -> None:
    """Against a search through all ways to seat them."""
    places = [people for people, count in groups for _ in range(count)]

    def best(place: int, free: frozenset[str]) -> int:
        if place == len(places):
            return 0
        seated = [1 + best(place + 1, free - {name}) for name in free if name in places[place]]
        return max([best(place + 1, free), *seated])

    named = [(str(number), people, count) for number, (people, count) in enumerate(groups)]
    missing = sum(int(words.split()[0]) for words in left(named, given_by))
    assert missing == len(places) - best(0, frozenset(given_by))


@pytest.mark.django_db
def test_it_goes_on_once_somebody_of_each_group_has_approved(estate: Estate, alice: Person, bob: Person) -> None:
    carol = Person.objects.create(username="carol")
    Grant.objects.create(person=carol, scope="*", role=Role.APPROVER)
    ApproverGroup.objects.create(slug="sre", name="SRE", people=["carol", "alice"])
    rule(estate, approvers={"sre": 1})
    operation = request_deployment(
        Actor(alice), environment=estate.production, release=estate.releases["1.5.0"], reason="new"
    )
    assert operation.approvals_required == 1
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    operation.refresh_from_db()
    assert operation.state == State.AWAITING_APPROVAL, "bob is not of SRE"
    transitions.approve(operation.pk, Actor(carol), operation.plan_digest)
    operation.refresh_from_db()
    assert operation.state == State.QUEUED


@pytest.mark.django_db(transaction=True)
def test_what_is_tightened_while_it_waits_holds_at_its_start(estate: Estate, alice: Person, bob: Person) -> None:
    operation = request_deployment(
        Actor(alice), environment=estate.production, release=estate.releases["1.5.0"], reason="new"
    )
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    ApproverGroup.objects.create(slug="sre", name="SRE", people=["carol"])
    rule(estate, approvers={"sre": 1})
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.STALE
    assert "who has to approve it was changed while it waited" in operation.outcome


@pytest.mark.django_db(transaction=True)
def test_what_is_loosened_while_it_waits_asks_for_no_less(estate: Estate, alice: Person, bob: Person) -> None:
    operation = request_deployment(
        Actor(alice), environment=estate.production, release=estate.releases["1.5.0"], reason="new"
    )
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    Environment.objects.filter(pk=estate.production.pk).update(approvals_required=0)
    Grant.objects.filter(person=bob).delete()
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.STALE
    assert "an approval it stood on is void" in operation.outcome


@pytest.mark.django_db
def test_groups_together_want_as_many_as_they_have(estate: Estate, alice: Person) -> None:
    for slug in ("sre", "security"):
        ApproverGroup.objects.create(slug=slug, name=slug, people=["bob", "carol"])
    rule(estate, approvers={"sre": 1, "security": 1})
    operation = request_deployment(
        Actor(alice), environment=estate.production, release=estate.releases["1.5.0"], reason="new"
    )
    assert operation.approvals_required == 2


@pytest.fixture
def only_groups(estate: Estate, bob: Person) -> Estate:
    """Production asks for no approvals by itself, and its rules for one of SRE."""
    Environment.objects.filter(pk=estate.production.pk).update(approvals_required=0)
    estate.production.refresh_from_db()
    ApproverGroup.objects.create(slug="sre", name="SRE", people=["bob"])
    rule(estate, approvers={"sre": 1})
    return estate


@pytest.mark.django_db
def test_where_only_a_group_approves_the_checks_have_to_be_known_too(only_groups: Estate) -> None:
    only_groups.releases["1.5.0"].ci = ""
    assert outcome(asked(only_groups)["ci"]) == "failed"
    rule(only_groups, approvers={})
    assert outcome(asked(only_groups)["ci"]) == "passed"


@pytest.mark.django_db
def test_where_only_a_group_approves_a_canary_without_a_verdict_goes_back(only_groups: Estate) -> None:
    placement = Placement.objects.select_related("environment", "service").get(environment=only_groups.production)
    assert situation_of(placement, policy_of(only_groups.production)).careful
    rule(only_groups, approvers={})
    assert not situation_of(placement, policy_of(only_groups.production)).careful


@pytest.mark.django_db
@pytest.mark.parametrize(
    "page", ["/promotion/api?between=staging..production", "/environments/production/deploy?service=api&version=1.5.0"]
)
def test_where_only_a_group_approves_pages_say_who(
    only_groups: Estate, client: Client, alice: Person, page: str
) -> None:
    client.force_login(alice)
    seen = client.get(page).content.decode()
    assert "Bob can give it" in seen
    assert "none needed" not in seen


@pytest.mark.django_db
def test_where_only_a_group_approves_the_environments_own_pages_say_so(
    only_groups: Estate, client: Client, alice: Person
) -> None:
    client.force_login(alice)
    assert "<dt>approvals</dt><dd>1</dd>" in client.get("/environments/production").content.decode()
    assert "1, among them 1 of SRE (bob)" in client.get("/environments/production/rules").content.decode()


@pytest.mark.django_db
def test_where_only_a_group_approves_a_change_is_guarded(only_groups: Estate) -> None:
    assert guarded_slugs() == {"production"}
    rule(only_groups, approvers={})
    assert guarded_slugs() == set()
