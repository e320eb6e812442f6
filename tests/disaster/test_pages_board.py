"""What the board says of recovery plans: one line for the primary side, and a card for what a person should see to."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from backups.disaster.board import recovery
from backups.models import RecoveryClock, RecoveryKit, RecoveryPlan, Storage
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.web.tones import Tone
from environments.cards import Contribution
from tests.disaster.paper import plan
from tests.disaster.runs import asked, drilled, looked
from tests.disaster.test_pages_overview import get

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)
NOT_READY = [{"key": "ttl", "title": "TTL", "outcome": "not ready", "words": "it is 3600 s"}]


def said(person: Person) -> Contribution:
    return recovery(Actor(person), [])


def test_nothing_without_a_plan(alice: Person) -> None:
    assert (dict(said(alice).cells), list(said(alice).cards)) == ({}, [])


def test_a_line_for_the_primary_side_with_both_promises(plan: RecoveryPlan, alice: Person) -> None:
    looked(plan, minutes=5, predicted=600)
    drilled(plan, seconds=60)
    cells = said(alice).cells
    assert set(cells) == {"production"}
    cell = cells["production"]
    assert (cell.tone, cell.word) == (Tone.OK, "ready")
    assert "RPO 5" in cell.text and "RTO 10" in cell.text
    assert cell.until is not None and cell.since is not None
    assert list(said(alice).cards) == []


def test_not_ready_is_red_and_a_card_says_why(plan: RecoveryPlan, alice: Person) -> None:
    looked(plan, ready=False, checks=NOT_READY)
    contribution = said(alice)
    assert contribution.cells["production"].word == "not ready: TTL"
    (card,) = contribution.cards
    assert (card.tone, card.text) == (Tone.BAD, "TTL: it is 3600 s")


def test_a_drill_that_is_owed_and_a_kit_that_is_missing(plan: RecoveryPlan, alice: Person) -> None:
    looked(plan)
    RecoveryPlan.objects.update(kit_storage=Storage.objects.create(slug="elsewhere", kind="folder"))
    RecoveryClock.objects.create(plan=plan, drill_due_at=timezone.now() - timedelta(days=1))
    assert [card.title for card in said(alice).cards] == [
        "Production to DR: the drill is overdue", "Production to DR: no kit yet",
    ]  # fmt: skip
    RecoveryClock.objects.update(drill_due_at=timezone.now() + timedelta(days=1))
    RecoveryKit.objects.create(plan=plan, key="k", digest="d", content_digest="c")
    assert list(said(alice).cards) == []


def test_people_who_are_away_from_home_are_not_forgotten(plan: RecoveryPlan, alice: Person) -> None:
    looked(plan)
    RecoveryPlan.objects.update(active="standby")
    contribution = said(alice)
    assert contribution.cells["production"].word == "ready; Dr serves people"
    assert [card.title for card in contribution.cards] == ["Dr serves people"]


def test_many_troubles_are_one_card(plan: RecoveryPlan, alice: Person) -> None:
    for number in range(6):
        there = plan.primary
        there.pk, there.slug = None, f"p{number}"
        there.save()
        other = RecoveryPlan.objects.create(slug=f"o{number}", name=f"O {number}", primary=there, standby=plan.standby)
        looked(other, ready=False, checks=NOT_READY)
    (card,) = said(alice).cards
    assert card.title == "6 things are wrong with recovery plans"


def test_who_sees_one_side_alone_sees_nothing_of_it(plan: RecoveryPlan, charlie: Person) -> None:
    looked(plan)
    assert said(charlie).cells == {}


def test_it_stands_on_the_board_within_its_price(
    client: Client, plan: RecoveryPlan, alice: Person, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    looked(plan, ready=False, checks=NOT_READY)
    drilled(plan, seconds=60)
    asked(alice, plan)
    shown = get(client, alice, "/")
    assert "whether the other side could take over" in shown and "failover asked for" in shown
    with django_assert_max_num_queries(20):
        client.get("/")
