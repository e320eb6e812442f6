"""A sender that dies at any statement loses nobody's page, and sends none under two keys; so do two at once."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from controlplane.accounts.models import Person
from incidents.channels import CHANNELS, sender
from incidents.channels.base import Outgoing
from incidents.channels.sender import LEASE_SECONDS, send_due
from incidents.escalation import clock
from incidents.models import Delivery, Incident, Page
from incidents.outbox import notice
from incidents.timeline import fields_of, verify
from tests.incidents.escalating import matrix, opened, reachable, said
from tests.incidents.providers import Provider, provider
from tests.incidents.test_escalation_crashes import Killed, dies_everywhere, dying_at
from tests.incidents.test_sender_acknowledged import beside, nobody_holds_a_lock

__all__ = ["beside", "provider"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def incidents(alice: Person, bob: Person, provider: Provider) -> list[Incident]:
    """Two, whose pages are in the outbox."""
    reachable(alice)
    reachable(bob)
    provider.configure("pagerduty")
    matrix([alice, bob], ["pagerduty"])
    made = [opened(), opened()]
    clock.fire_due()
    return made


def lease_over() -> None:
    """As if the dead one's time were over."""
    Delivery.objects.filter(state="sending").update(lease_until=Now() - timedelta(seconds=1))


def test_dying_anywhere(incidents: list[Incident], provider: Provider) -> None:
    def afresh() -> None:
        Delivery.objects.update(state="queued", next_at=F("queued_at"), lease_until=None, sender="", attempts=0)
        Page.objects.update(state="queued", accepted_at=None)

    def check_after() -> None:
        lease_over()
        send_due("pagerduty")
        assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}
        assert set(Page.objects.values_list("state", flat=True)) == {"delivered"}
        assert nobody_holds_a_lock()

    first = True

    def again() -> None:
        nonlocal first
        if not first:
            check_after()
        first = False
        afresh()

    statements = dies_everywhere(lambda: send_due("pagerduty"), again)
    assert statements >= 10
    assert set(provider.keys) == set(Delivery.objects.values_list("key", flat=True)), "each effect has one key"
    for incident in incidents:
        lines = incident.timeline.order_by("seq")
        assert verify([{**fields_of(line), "hash": line.hash} for line in lines]) == len(lines)


def test_a_row_waits_for_the_lease_of_a_dead_sender(incidents: list[Incident], provider: Provider) -> None:
    with pytest.raises(Killed), dying_at(6):
        send_due("pagerduty")
    connection.close()
    assert send_due("pagerduty") == 0
    assert LEASE_SECONDS < 30
    lease_over()
    assert send_due("pagerduty") == 2
    assert all("accepted by PagerDuty" in said(incident)[-1] for incident in incidents)


def test_two_senders_share_the_work(
    incidents: list[Incident], provider: Provider, beside: Callable[..., "Future[Any]"]
) -> None:
    for number in range(30):
        notice(incidents[0], "pagerduty", f"n{number}", "word")
    provider.behave(delay=0.02)
    tried = [sending.result(20) for sending in [beside(send_due, "pagerduty") for _ in range(3)]]
    assert sum(tried) == len(provider.keys) == len(set(provider.keys)) == 32


def test_the_wire_is_quiet_before_the_locks_go(
    incidents: list[Incident], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the database is lost in the middle of it."""
    failing, over = threading.Event(), threading.Event()

    def send(message: Outgoing, settings: object) -> str:
        if not started:
            started.append(message.key)
            return ""
        failing.wait(10)
        time.sleep(0.2)  # it is still on the wire for a moment
        over.set()
        return ""

    def lost(*_: object) -> None:
        failing.set()
        raise Killed

    started: list[str] = []
    monkeypatch.setattr(CHANNELS["pagerduty"], "send", send)
    monkeypatch.setattr(sender, "settle", lost)
    with pytest.raises(Killed):
        send_due("pagerduty")
    assert over.is_set()
    assert nobody_holds_a_lock()
