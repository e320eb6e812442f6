"""The checklist is ticked for each deployment anew; until then it waits."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import claims, transitions
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import ChecklistTick
from deployments.policies import tick
from deployments.services import request_deployment
from tests.deployments.gates.policies import asked, outcome, rule
from tests.estate import Estate

pytestmark = pytest.mark.django_db
ITEMS = ["the on-call knows", "the dashboard is open"]


@pytest.fixture
def operation(estate: Estate, alice: Person, bob: Person) -> Operation:
    """Approved; it waits for nothing else."""
    rule(estate, checklist=ITEMS)
    made = request_deployment(
        Actor(alice), environment=estate.production, release=estate.releases["1.5.0"], reason="new"
    )
    transitions.approve(made.pk, Actor(bob), made.plan_digest)
    return made


def test_it_starts_once_all_is_ticked(estate: Estate, operation: Operation, alice: Person) -> None:
    assert claims.claim(operation.pk, "worker") is None
    operation.refresh_from_db()
    assert operation.state == State.QUEUED
    assert "2 of 2 to tick: the on-call knows; the dashboard is open" in operation.outcome
    for item in ITEMS:
        tick(Actor(alice), operation.pk, item)
    assert outcome(asked(estate, operation_id=operation.pk)["checklist"]) == "passed"
    assert claims.claim(operation.pk, "worker") is not None
    with pytest.raises(Conflict, match="nothing is to be ticked any more"):
        tick(Actor(alice), operation.pk, ITEMS[0])


def test_each_once_and_only_what_is_on_it(operation: Operation, alice: Person, bob: Person) -> None:
    tick(Actor(alice), operation.pk, ITEMS[0])
    with pytest.raises(Conflict, match="ticked already"):
        tick(Actor(bob), operation.pk, ITEMS[0])
    with pytest.raises(Invalid, match="no such item"):
        tick(Actor(bob), operation.pk, "something else")
    assert list(ChecklistTick.objects.values_list("item", "by_name")) == [(ITEMS[0], Actor(alice).who.name)]


def test_the_next_deployment_begins_with_an_empty_one(estate: Estate, operation: Operation, alice: Person) -> None:
    tick(Actor(alice), operation.pk, ITEMS[0])
    gate = asked(estate)["checklist"]
    assert gate.reason.startswith("2 of 2 to tick")
    assert outcome(gate) == "pending"
