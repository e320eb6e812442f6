"""Receipts: only signed ones count, told twice is told once, and each moves the page as it should."""

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import Client

from controlplane.accounts.models import Person
from incidents import links
from incidents.channels import sender
from incidents.channels.sender import send_due
from incidents.escalation import clock, hand
from incidents.models import Channel, Delivery, Incident, Page
from tests.incidents.escalating import WHO, matrix, opened, paged, pass_time, reachable, said, states
from tests.incidents.providers import TOKEN, Provider, eventually, provider

__all__ = ["provider"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def incident(alice: Person, bob: Person, provider: Provider) -> Incident:
    """Alice is paged by message, then by telephone; the message was taken by its provider."""
    for person in (alice, bob):
        reachable(person, sms="+491510000001", phone="+491510000001")
    provider.configure("sms", "phone", "webhook", "pagerduty")
    matrix([alice, bob], ["sms", "phone"])
    made = opened()
    clock.fire_due()
    send_due("sms")
    return made


def sms() -> Delivery:
    return Delivery.objects.get(channel="sms")


def twilio(delivery: Delivery, client: Client | None = None, signature: str = "", **form: str) -> HttpResponse:
    """What Twilio says of a message or call."""
    url = links.callback_url(delivery.channel, delivery.key)
    signed = url + "".join(f"{name}{form[name]}" for name in sorted(form))
    right = base64.b64encode(hmac.new(TOKEN.encode(), signed.encode(), hashlib.sha1).digest()).decode()
    parts = urlsplit(url)
    return (client or Client()).post(  # type: ignore[return-value]
        f"{parts.path}?{parts.query}", urlencode(form), content_type="application/x-www-form-urlencoded",
        headers={"X-Twilio-Signature": signature or right},
    )  # fmt: skip


def pagerduty(kind: str, incident: Incident, *, signature: str = "", **agent: str) -> HttpResponse:
    """A webhook of version 3."""
    data = {"type": "incident", "incident_key": sender._outgoing(Delivery.objects.filter(incident=incident)[0]).dedup}
    body = json.dumps({"event": {"event_type": kind, "agent": agent, "data": data}}).encode()
    right = "v1=" + hmac.new(TOKEN.encode(), body, hashlib.sha256).hexdigest()
    return Client().post(  # type: ignore[return-value]
        "/receipts/pagerduty", body, content_type="application/json",
        headers={"X-PagerDuty-Signature": signature or f"v1=00,{right}"},
    )  # fmt: skip


def webhook(told: Any, signature: str = "") -> HttpResponse:
    """A word of a generic receiver."""
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    right = "sha256=" + hmac.new(TOKEN.encode(), body, hashlib.sha256).hexdigest()
    return Client().post(  # type: ignore[return-value]
        "/receipts/webhook", body, content_type="application/json", headers={"X-Signature-256": signature or right}
    )


class TestTwilio:
    def test_delivered_ends_the_tries(self, incident: Incident) -> None:
        assert twilio(sms(), MessageStatus="delivered").status_code == 200
        page = Page.objects.get()
        assert (sms().state, page.state, page.next_way_at) == ("delivered", "delivered", None)
        pass_time(incident, minutes=5)
        assert clock.follow_up() == 0
        assert "Alice: delivered by SMS" in said(incident)

    def test_twice_is_once(self, incident: Incident) -> None:
        twilio(sms(), MessageStatus="delivered")
        before = (said(incident), Page.objects.get().delivered_at)
        twilio(sms(), MessageStatus="delivered")
        twilio(sms(), MessageStatus="sent")
        assert (said(incident), Page.objects.get().delivered_at) == before

    def test_failed_means_the_next_channel_at_once(self, incident: Incident) -> None:
        twilio(sms(), MessageStatus="undelivered")
        assert sms().state == "failed"
        assert clock.follow_up() == 1
        assert paged(incident) == [("Alice", "sms"), ("Alice", "phone")]

    def test_a_late_failure_does_not_hurry_the_channel_after_it(self, incident: Incident) -> None:
        pass_time(incident, seconds=61)
        clock.follow_up()
        Page.objects.update(ways=[{"channel": kind, "address": ""} for kind in ("sms", "phone", "email")])
        Page.objects.update(next_way_at=None)
        twilio(sms(), MessageStatus="failed")
        assert Page.objects.get().next_way_at is None

    def test_a_failure_after_the_receipt_changes_nothing(self, incident: Incident) -> None:
        twilio(sms(), MessageStatus="delivered")
        twilio(sms(), MessageStatus="failed")
        assert sms().state == "delivered"

    def test_a_receipt_may_be_quicker_than_the_answer(self, incident: Incident) -> None:
        Delivery.objects.update(state="sending", accepted_at=None, provider_id="")
        Page.objects.update(state="queued", accepted_at=None)
        Incident.objects.update(notified_at=None)
        twilio(sms(), MessageStatus="delivered")
        assert Page.objects.get().accepted_at is not None
        assert Incident.objects.get().notified_at is not None, "or it would say that nobody was notified"

    def test_ringing_is_the_answer_that_did_not_come(self, incident: Incident, provider: Provider) -> None:
        """A call is not made again when its time-out was only ours."""
        pass_time(incident, seconds=61)
        clock.follow_up()
        provider.behave(drop=True)
        send_due("phone")
        call = Delivery.objects.get(channel="phone")
        assert call.state == "queued"
        twilio(call, CallStatus="initiated", CallSid="CA7")
        call.refresh_from_db()
        assert (call.state, call.provider_id, call.next_at) == ("accepted", "CA7", None)

    def test_a_word_about_a_call_that_was_taken_changes_nothing(self, incident: Incident) -> None:
        before = said(incident)
        twilio(sms(), MessageStatus="queued", MessageSid="SM2")
        assert (sms().state, said(incident)) == ("accepted", before)

    def test_a_pressed_one_acknowledges(self, incident: Incident) -> None:
        answer = twilio(sms(), Digits="1")
        assert b"acknowledged" in answer.content
        incident.refresh_from_db()
        assert (incident.state, incident.acknowledged_by_name) == ("acknowledged", "Alice")
        assert Page.objects.get().state == "seen"
        assert states(incident)[2] == "cancelled"
        assert b"already" in twilio(sms(), Digits="1").content

    @pytest.mark.parametrize("digits", ["2", "", "11"])
    def test_another_digit_does_not(self, incident: Incident, digits: str) -> None:
        twilio(sms(), Digits=digits)
        assert Incident.objects.get().state == "open"

    def test_who_answers_a_hand_over_is_left_in_peace(self, incident: Incident, bob: Person) -> None:
        twilio(sms(), Digits="1")
        hand.hand_over(incident.pk, WHO, bob, "your turn")
        assert Page.objects.get(person=bob).next_way_at is not None
        send_due("phone")
        twilio(Delivery.objects.get(page__person=bob), Digits="1")
        page = Page.objects.get(person=bob)
        assert (page.state, page.next_way_at) == ("seen", None)
        assert Incident.objects.get().acknowledged_by_name == "Alice"

    @pytest.mark.parametrize("signature", ["forged", "=", "ü", base64.b64encode(b"0" * 20).decode()])
    def test_forged(self, incident: Incident, signature: str) -> None:
        assert twilio(sms(), signature=signature, Digits="1").status_code == 403
        assert (sms().state, Incident.objects.get().state) == ("accepted", "open")

    def test_a_signature_is_for_its_address_only(self, incident: Incident) -> None:
        other = Delivery(channel="sms", key="page-0-0")
        url = links.callback_url("sms", other.key)
        stolen = base64.b64encode(hmac.new(TOKEN.encode(), f"{url}Digits1".encode(), hashlib.sha1).digest()).decode()
        assert twilio(sms(), signature=stolen, Digits="1").status_code == 403

    def test_unknown_keys_change_nothing(self, incident: Incident) -> None:
        assert twilio(Delivery(channel="sms", key="page-999999-0"), MessageStatus="delivered").status_code == 200
        assert twilio(Delivery(channel="phone", key=sms().key), MessageStatus="delivered").status_code == 200
        assert sms().state == "accepted"

    def test_only_post(self, incident: Incident) -> None:
        assert Client().get(f"/receipts/sms?key={sms().key}").status_code == 405

    def test_the_recording_provider_signs_as_twilio_does(self, incident: Incident, provider: Provider) -> None:
        """Its own callback, as it came over the wire, is taken."""
        (message,) = provider.messages
        form = {"MessageSid": "SM1", "To": message["body"]["To"], "MessageStatus": "delivered"}
        assert message["body"]["StatusCallback"] == links.callback_url("sms", sms().key)
        assert twilio(sms(), **form).status_code == 200


class TestPagerDuty:
    def test_acknowledged_over_there(self, incident: Incident) -> None:
        assert pagerduty("incident.acknowledged", incident, summary="alice").status_code == 202
        incident.refresh_from_db()
        assert (incident.state, incident.acknowledged_by_name) == ("acknowledged", "Alice")
        assert any("in PagerDuty" in words for words in said(incident))

    def test_by_e_mail_before_the_name(self, incident: Incident, bob: Person) -> None:
        Person.objects.filter(pk=bob.pk).update(email="bob@example.com")
        pagerduty("incident.acknowledged", incident, summary="alice", email="BOB@example.com")
        assert Incident.objects.get().acknowledged_by_name == "Bob"

    @pytest.mark.parametrize("name", ["", "Somebody Else", "Twin"])
    def test_who_is_not_one_of_ours_is_pagerduty(self, incident: Incident, name: str) -> None:
        for number in (1, 2):
            Person.objects.create(username=f"twin-{number}", first_name="Twin")
        pagerduty("incident.acknowledged", incident, summary=name)
        assert "PagerDuty" in Incident.objects.get().acknowledged_by_name

    def test_resolved_over_there(self, incident: Incident) -> None:
        pagerduty("incident.resolved", incident)
        incident.refresh_from_db()
        assert incident.state == "resolved"
        assert "PagerDuty" in incident.resolution

    def test_twice_is_once(self, incident: Incident) -> None:
        for _ in range(2):
            assert pagerduty("incident.acknowledged", incident, summary="alice").status_code == 202
        assert sum(words.startswith("Acknowledged by") for words in said(incident)) == 1

    @pytest.mark.parametrize("signature", ["v1=00", "", "v0=1,v1=", "v1=ü"])
    def test_forged(self, incident: Incident, signature: str) -> None:
        assert pagerduty("incident.acknowledged", incident, signature=signature or " ").status_code == 403
        assert Incident.objects.get().state == "open"

    def test_other_events_and_other_incidents(self, incident: Incident) -> None:
        assert pagerduty("incident.annotated", incident).status_code == 202
        incident.pk = 999_999
        for key in ("", "x", f"{settings.SITE_URL}/incidents/999999", f"{settings.SITE_URL}/incidents/{'9' * 40}", 7):
            body = json.dumps({"event": {"event_type": "incident.resolved", "data": {"incident_key": key}}}).encode()
            right = "v1=" + hmac.new(TOKEN.encode(), body, hashlib.sha256).hexdigest()
            answer = Client().post("/receipts/pagerduty", body, content_type="application/json",
                                   headers={"X-PagerDuty-Signature": right})  # fmt: skip
            assert answer.status_code == 202
        assert Incident.objects.get().state == "open"


class TestWebhook:
    @pytest.fixture
    def delivery(self, incident: Incident) -> Delivery:
        """As if the page had gone to a webhook."""
        Delivery.objects.update(channel="webhook")
        return Delivery.objects.get()

    def test_delivered(self, delivery: Delivery) -> None:
        assert webhook({"key": delivery.key, "state": "delivered"}).status_code == 202
        assert Page.objects.get().state == "delivered"

    def test_failed(self, delivery: Delivery) -> None:
        webhook({"key": delivery.key, "state": "failed"})
        assert Page.objects.get().next_way_at is not None
        assert clock.follow_up() == 1

    def test_acknowledged(self, delivery: Delivery) -> None:
        webhook({"key": delivery.key, "state": "acknowledged"})
        assert Incident.objects.get().acknowledged_by_name == "Alice"

    @pytest.mark.parametrize("told", [{}, {"key": 7}, {"key": "x", "state": "delivered"}, {"key": None, "state": []}])
    def test_what_is_not_known_changes_nothing(self, delivery: Delivery, told: Any) -> None:
        assert webhook(told).status_code == 202
        assert Page.objects.get().state == "accepted"

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 5000, b"\xff\xfe", b"null", b'{"key": "\\u0000"}'])
    def test_what_is_no_object(self, delivery: Delivery, body: bytes) -> None:
        assert webhook(body).status_code == 400

    def test_forged(self, delivery: Delivery) -> None:
        assert webhook({"key": delivery.key, "state": "acknowledged"}, "sha256=00").status_code == 403
        assert Incident.objects.get().state == "open"


@pytest.mark.parametrize("channel", ["slack", "email", "nothing"])
def test_channels_that_never_call_back(incident: Incident, channel: str) -> None:
    right = "sha256=" + hmac.new(TOKEN.encode(), b"{}", hashlib.sha256).hexdigest()
    answer = Client().post(f"/receipts/{channel}", b"{}", content_type="application/json",
                           headers={"X-Signature-256": right})  # fmt: skip
    assert answer.status_code == 404


def test_a_channel_that_is_not_configured_believes_nobody(incident: Incident) -> None:
    delivery = sms()
    Channel.objects.all().delete()
    assert twilio(delivery, Digits="1").status_code == 403


def test_over_the_wire(incident: Incident, provider: Provider) -> None:
    """Nothing is lost between what we hand to the provider and what it calls."""
    eventually(lambda: len(provider.messages) == 1)
    query = dict(parse_qsl(urlsplit(provider.messages[0]["body"]["StatusCallback"]).query))
    assert query == {"key": sms().key}
