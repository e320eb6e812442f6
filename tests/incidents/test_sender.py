"""The outbox is emptied: queued, accepted, delivered; retries that back off; the next channel; one bad row alone."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from incidents.channels import CHANNELS, outcomes, sender
from incidents.channels.base import ChannelError, Outgoing
from incidents.channels.recording import redirected
from incidents.channels.sender import send_due
from incidents.escalation import clock
from incidents.lifecycle import acknowledge, resolve
from incidents.models import Channel, Delivery, Incident, Page
from incidents.outbox import notice
from tests.incidents.escalating import WHO, matrix, opened, paged, pass_time, reachable, said
from tests.incidents.providers import Provider, provider

__all__ = ["provider"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def incident(alice: Person, bob: Person, provider: Provider) -> Incident:
    """Alice is paged by PagerDuty, or else by message, or else by mail; the first is in the outbox."""
    reachable(alice, sms="+491510000001", email="alice@example.com")
    provider.configure("pagerduty", "sms", "email", "slack")
    matrix([alice, bob], ["pagerduty", "sms", "email"])
    made = opened()
    clock.fire_due()
    return made


def due_again(**fields: Any) -> Delivery:
    """The row as if its wait were over."""
    Delivery.objects.filter(state="queued").update(next_at=F("queued_at"), **fields)
    return Delivery.objects.get()


class TestAcceptance:
    def test_the_best_receipt_there_is_ends_the_tries(self, incident: Incident, provider: Provider) -> None:
        assert send_due("pagerduty") == 1
        delivery, page = Delivery.objects.get(), Page.objects.get()
        assert (delivery.state, delivery.attempts, delivery.error) == ("delivered", 1, "")
        assert (page.state, page.next_way_at) == ("delivered", None)
        assert None not in (delivery.accepted_at, page.accepted_at, page.delivered_at)
        incident.refresh_from_db()
        assert incident.notified_at is not None
        assert provider.keys == [delivery.key]
        assert any("Alice: accepted by PagerDuty after" in words for words in said(incident))

    def test_a_channel_that_calls_back_waits_for_its_receipt(self, incident: Incident, provider: Provider) -> None:
        Page.objects.update(ways=[{"channel": "sms", "address": "+491510000001"}] * 2)
        Delivery.objects.update(channel="sms", address="+491510000001")
        send_due("sms")
        delivery, page = Delivery.objects.get(), Page.objects.get()
        assert (delivery.state, page.state) == ("accepted", "accepted")
        assert delivery.provider_id
        assert page.next_way_at is not None, "no receipt yet, so the next channel has its turn"

    def test_sent_once(self, incident: Incident, provider: Provider) -> None:
        assert [send_due("pagerduty"), send_due("pagerduty"), send_due("sms")] == [1, 0, 0]
        assert len(provider.messages) == 1

    def test_notified_is_said_once(self, incident: Incident) -> None:
        send_due("pagerduty")
        before = Incident.objects.get().notified_at
        pass_time(incident, minutes=16)
        clock.fire_due()
        send_due("pagerduty")
        assert Incident.objects.get().notified_at == before

    def test_a_line_for_many_is_told_too(self, incident: Incident, provider: Provider) -> None:
        notice(incident, "slack", "opened", "Opened as P1")
        send_due("slack")
        assert provider.messages[-1]["path"] == "/slack"
        assert Delivery.objects.get(channel="slack").state == "delivered"

    def test_pagerduty_hears_of_acknowledgement_and_end(self, incident: Incident, provider: Provider) -> None:
        send_due("pagerduty")
        acknowledge(incident.pk, WHO)
        send_due("pagerduty")
        resolve(incident.pk, WHO, "restarted")
        send_due("pagerduty")
        bodies = [message["body"] for message in provider.messages]
        assert [body["event_action"] for body in bodies] == ["trigger", "acknowledge", "resolve"]
        assert len({body["dedup_key"] for body in bodies}) == 1

    def test_many_at_once(self, incident: Incident, provider: Provider) -> None:
        Delivery.objects.all().delete()
        for number in range(40):
            notice(incident, "slack", f"n{number}", "word")
        assert send_due("slack") == 40
        assert len(set(provider.keys)) == len(provider.keys) == 40


class TestTrouble:
    def test_passing_trouble_is_tried_again_later_and_said_once(self, incident: Incident, provider: Provider) -> None:
        provider.behave(status=503)
        for attempt in (1, 2, 3):
            send_due("pagerduty")
            assert send_due("pagerduty") == 0, "not at once"
            delivery = Delivery.objects.get()
            wait = (delivery.next_at - database_time()).total_seconds()  # type: ignore[operator]
            assert 2**attempt - 1 < wait <= 2**attempt * 1.3
            assert (delivery.state, delivery.attempts, delivery.permanent) == ("queued", attempt, False)
            assert "503" in delivery.error
            due_again()
        assert sum("503" in words for words in said(incident)) == 1
        provider.behave()
        send_due("pagerduty")
        assert (Delivery.objects.get().state, Delivery.objects.get().error) == ("delivered", "")

    def test_the_wait_that_the_provider_asks_for(self, incident: Incident, monkeypatch: pytest.MonkeyPatch) -> None:
        def busy(*_: object) -> str:
            raise ChannelError("busy", retry_after=120)

        monkeypatch.setattr(CHANNELS["pagerduty"], "send", busy)
        send_due("pagerduty")
        assert Delivery.objects.get().next_at > database_time() + timedelta(seconds=115)  # type: ignore[operator]

    def test_a_refusal_goes_on_to_the_next_channel_at_once(self, incident: Incident, provider: Provider) -> None:
        provider.behave(status=400)
        send_due("pagerduty")
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.permanent, delivery.next_at) == ("failed", True, None)
        assert clock.follow_up() == 1
        assert paged(incident) == [("Alice", "pagerduty"), ("Alice", "sms")]
        assert any("PagerDuty failed" in words and "giving up" in words for words in said(incident))

    def test_when_the_last_channel_refuses_it_is_said(self, incident: Incident, provider: Provider) -> None:
        provider.behave(status=404)
        for kind in ("pagerduty", "sms", "email"):
            send_due(kind)
            clock.follow_up()
        provider.behave(status=550)
        Delivery.objects.filter(channel="email").update(state="queued", next_at=F("queued_at"))
        send_due("email")
        clock.follow_up()
        assert Page.objects.get().state == "failed"
        assert Incident.objects.get().notified_at is None

    def test_given_up_in_the_end(self, incident: Incident, provider: Provider) -> None:
        provider.behave(status=503)
        Delivery.objects.update(queued_at=F("queued_at") - outcomes.GIVE_UP_AFTER)
        send_due("pagerduty")
        assert (Delivery.objects.get().state, Delivery.objects.get().next_at) == ("failed", None)
        assert clock.follow_up() == 1

    def test_its_own_time_to_give_up(self, incident: Incident, provider: Provider) -> None:
        provider.behave(status=503)
        Delivery.objects.update(give_up_at=F("queued_at"))
        send_due("pagerduty")
        assert Delivery.objects.get().state == "failed"

    def test_a_late_refusal_does_not_hurry_the_way_after_it(self, incident: Incident, provider: Provider) -> None:
        pass_time(incident, seconds=61)
        clock.follow_up()
        waiting = Page.objects.get().next_way_at
        provider.behave(status=400)
        send_due("pagerduty")
        assert Page.objects.get().next_way_at == waiting

    def test_a_fault_of_a_channel_is_passing_trouble(self, incident: Incident, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> str:
            raise ZeroDivisionError

        monkeypatch.setattr(CHANNELS["pagerduty"], "send", broken)
        send_due("pagerduty")
        assert (Delivery.objects.get().state, Delivery.objects.get().error) == (
            "queued", "it could not be sent: ZeroDivisionError"
        )  # fmt: skip

    def test_one_that_cannot_be_written_down_holds_up_no_other(
        self, incident: Incident, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notice(incident, "slack", "good", "word")
        notice(incident, "slack", "bad", "word")
        bad = Delivery.objects.get(key__contains="bad").pk
        write = outcomes._settle

        def fussy(some: list[outcomes.Outcome]) -> None:
            if any(one.claim.delivery.pk == bad for one in some):
                raise ValueError("no")
            write(some)

        monkeypatch.setattr(outcomes, "_settle", fussy)
        send_due("slack")
        states = dict(Delivery.objects.filter(channel="slack").values_list("pk", "state"))
        assert states.pop(bad) == "sending", "its lease brings it back"
        assert set(states.values()) == {"delivered"}


class TestConfigured:
    def test_a_paused_channel_sends_nothing(self, incident: Incident, provider: Provider) -> None:
        Channel.objects.update(paused=True)
        assert send_due("pagerduty") == 0
        assert Delivery.objects.get().attempts == 0

    def test_a_slow_channel_delays_no_other(self, incident: Incident, provider: Provider) -> None:
        """Each has its duty, and within one a slow request holds up no other."""
        first = threading.Event()
        slow_done = threading.Event()

        class Slow:
            kind, receipt = "slack", CHANNELS["slack"].receipt

            def send(self, message: Outgoing, settings: object) -> str:
                if message.key.endswith("slow-slack"):
                    first.wait(10)
                    slow_done.set()
                elif message.key.endswith("last-slack"):
                    assert not slow_done.is_set()
                    first.set()
                return ""

        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(CHANNELS, "slack", Slow())
            patch.setattr(sender, "AT_ONCE", 4)
            for name in ("slow", *map(str, range(20)), "last"):
                notice(incident, "slack", name, "word")
            assert send_due("slack") == 22
        assert set(Delivery.objects.filter(channel="slack").values_list("state", flat=True)) == {"delivered"}

    def test_where_a_recorder_stands_for_the_providers_nothing_goes_elsewhere(self, settings: Any) -> None:
        settings.RECORDING_PROVIDER = "http://127.0.0.1:9"
        real = {
            "pagerduty": {"routing_key": "file:k"}, "slack": {"webhook": "file:hook"}, "sms": {"account": "AC"},
            "phone": {"account": "AC"}, "email": {"host": "smtp.example.com", "user": "x", "tls": "always"},
            "webhook": {"url": "https://example.com/hook"},
        }  # fmt: skip
        for kind, configured in real.items():
            where, address = redirected(kind, configured, "https://example.com/mine")
            there = str(where.get("url") or where.get("host"))
            assert there.startswith(("http://127.0.0.1:9", "127.0.0.1")), kind
            assert kind != "webhook" or address == ""
