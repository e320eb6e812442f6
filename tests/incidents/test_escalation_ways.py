"""One person has several ways: the next one is tried when there is no receipt, until none is left."""

import pytest

from controlplane.accounts.models import Person
from incidents.escalation import clock
from incidents.lifecycle import acknowledge
from incidents.models import Delivery, Incident, Page
from incidents.outbox import RECEIPT_SECONDS
from tests.incidents.escalating import WHO, matrix, opened, paged, pass_time, reachable, said

pytestmark = pytest.mark.django_db


@pytest.fixture
def incident(alice: Person, bob: Person) -> Incident:
    """Alice is paged by telephone, and may be by message."""
    reachable(alice, phone="+491510000001", sms="+491510000001")
    matrix([alice, bob], ["phone", "sms", "email"])
    made = opened()
    clock.fire_due()
    return made


def test_only_channels_that_the_person_has(incident: Incident) -> None:
    assert [way["channel"] for way in Page.objects.get().ways] == ["phone", "sms"]


def test_no_receipt_means_the_next_channel(incident: Incident) -> None:
    pass_time(incident, seconds=RECEIPT_SECONDS - 5)
    assert clock.follow_up() == 0
    pass_time(incident, seconds=6)
    assert (clock.follow_up(), clock.follow_up()) == (1, 0)
    assert paged(incident) == [("Alice", "phone"), ("Alice", "sms")]
    assert any("No receipt for Alice by phone: trying sms" in words for words in said(incident))
    assert len(set(Delivery.objects.values_list("key", flat=True))) == 2


def test_a_receipt_ends_it(incident: Incident) -> None:
    Page.objects.update(state=Page.State.DELIVERED, next_way_at=None)
    pass_time(incident, minutes=5)
    assert clock.follow_up() == 0


def test_the_last_way_failing_is_said(incident: Incident) -> None:
    pass_time(incident, seconds=RECEIPT_SECONDS + 1)
    clock.follow_up()
    page = Page.objects.get()
    assert page.next_way_at is None, "there is nothing after the last one to wait for"
    pass_time(incident, minutes=5)
    # A sender that has failed for good asks at once.
    Page.objects.update(next_way_at=incident.opened_at)
    clock.follow_up()
    assert Page.objects.get().state == Page.State.FAILED
    assert any("reached by no channel" in words for words in said(incident))


def test_nothing_more_is_tried_after_the_acknowledgement(incident: Incident) -> None:
    acknowledge(incident.pk, WHO)
    pass_time(incident, minutes=5)
    assert clock.follow_up() == 0
    assert paged(incident) == [("Alice", "phone")]
