"""What each channel says to its provider, and what it makes of the answers."""

import hashlib
import hmac
from base64 import b64decode
from dataclasses import replace
from typing import Any

import pytest

from incidents.channels import CHANNELS, base
from incidents.channels.base import ChannelError, Outgoing, Receipt
from tests.incidents.providers import ACCOUNT, ROUTING_KEY, TOKEN, Provider, Wire, eventually, provider, wire

__all__ = ["provider", "wire"]

MESSAGE = Outgoing(
    purpose="page", address="+15551234567", key="page-7-0", dedup="https://cp.example/incidents/3",
    title="P1 · the API answers 503", severity="P1", text="L1 On-Call Engineer", url="https://cp.example/incidents/3",
    ack_url="https://cp.example/ack/abc", callback_url="https://cp.example/receipts/sms?key=page-7-0",
)  # fmt: skip
HTTP = ["pagerduty", "slack", "phone", "sms", "webhook"]


def settings_of(kind: str, wire: Wire) -> dict[str, Any]:
    twilio = {"url": wire.url, "account": ACCOUNT, "token": "file:token", "sender": "+15550000000"}
    return {
        "pagerduty": {"routing_key": "file:routing-key", "url": f"{wire.url}/v2/enqueue"},
        "slack": {"token": "file:token", "channel": "#ops", "url": f"{wire.url}/slack"},
        "phone": twilio,
        "sms": twilio,
        "webhook": {"secret": "file:token", "url": f"{wire.url}/hook"},
    }[kind]


def send(kind: str, wire: Wire, **changes: Any) -> str:
    address = "" if kind == "webhook" else MESSAGE.address
    return CHANNELS[kind].send(replace(MESSAGE, **{"address": address, **changes}), settings_of(kind, wire))


def refused(kind: str, wire: Wire, **changes: Any) -> ChannelError:
    with pytest.raises(ChannelError) as caught:
        send(kind, wire, **changes)
    return caught.value


class TestPagerDuty:
    def test_one_event_under_one_key_from_trigger_to_resolve(self, wire: Wire) -> None:
        wire.answers(202, {"status": "success", "dedup_key": MESSAGE.dedup})
        assert send("pagerduty", wire) == MESSAGE.dedup
        for purpose in ("acknowledge", "resolve"):
            send("pagerduty", wire, purpose=purpose)
        events = [request.json for request in wire.requests]
        assert [event["event_action"] for event in events] == ["trigger", "acknowledge", "resolve"]
        assert {event["dedup_key"] for event in events} == {MESSAGE.dedup}
        assert {event["routing_key"] for event in events} == {ROUTING_KEY}
        assert events[0]["payload"]["severity"] == "critical"
        assert events[0]["payload"]["summary"].startswith("P1 · the API answers 503")
        assert "payload" not in events[1]

    def test_a_long_summary_is_cut_to_what_pagerduty_takes(self, wire: Wire) -> None:
        send("pagerduty", wire, title="x" * 5000)
        assert len(wire.requests[0].json["payload"]["summary"]) == 1024


class TestSlack:
    def test_a_message_with_links_and_the_key(self, wire: Wire) -> None:
        wire.answers(200, {"ok": True, "ts": "1700000000.1"})
        assert send("slack", wire, address="U012345", title="a <b> & c") == "1700000000.1"
        (request,) = wire.requests
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        body = request.json
        assert body["channel"] == "U012345"
        assert "a &lt;b&gt; &amp; c" in body["text"]
        assert MESSAGE.ack_url in body["text"]
        assert body["metadata"]["event_payload"]["key"] == MESSAGE.key

    @pytest.mark.parametrize(("why", "permanent"), [("channel_not_found", True), ("ratelimited", False)])
    def test_slack_refuses_with_a_200(self, wire: Wire, why: str, permanent: bool) -> None:
        wire.answers(200, {"ok": False, "error": why})
        error = refused("slack", wire)
        assert (error.permanent, why in str(error)) == (permanent, True)

    def test_an_incoming_webhook_is_a_secret_address(self, wire: Wire, data_dir: Any) -> None:
        (data_dir / "secrets" / "hook").write_text(f"{wire.url}/services/T0/B0/secret-part")
        assert CHANNELS["slack"].send(MESSAGE, {"webhook": "file:hook"}) == ""
        assert wire.requests[0].path == "/services/T0/B0/secret-part"


class TestTwilio:
    def test_a_text_message(self, wire: Wire) -> None:
        wire.answers(201, {"sid": "SM1"})
        assert send("sms", wire) == "SM1"
        (request,) = wire.requests
        assert request.path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
        assert b64decode(request.headers["Authorization"].split()[1]).decode() == f"{ACCOUNT}:{TOKEN}"
        form = request.form
        assert (form["To"], form["From"]) == ([MESSAGE.address], ["+15550000000"])
        assert form["StatusCallback"] == [MESSAGE.callback_url]
        assert form["Body"][0].endswith(f"{MESSAGE.ack_url} [{MESSAGE.key}]")

    def test_long_words_never_cut_the_link(self, wire: Wire) -> None:
        wire.answers(201, {"sid": "SM1"})
        send("sms", wire, text="x" * 3000)
        body = wire.requests[0].form["Body"][0]
        assert len(body) <= 480
        assert body.endswith(f"{MESSAGE.ack_url} [{MESSAGE.key}]")

    def test_a_call_reads_the_words_and_takes_a_digit(self, wire: Wire) -> None:
        wire.answers(201, {"sid": "CA1"})
        assert send("phone", wire, title='a <b> & "c"') == "CA1"
        form = wire.requests[0].form
        twiml = form["Twiml"][0]
        assert '<Gather numDigits="1" action="https://cp.example/receipts/sms?key=page-7-0">' in twiml
        assert "a &lt;b&gt; &amp; " in twiml
        assert form["StatusCallbackEvent"] == ["initiated", "answered", "completed"]

    def test_before_a_repeat_it_looks_whether_the_first_has_arrived(self, wire: Wire) -> None:
        listed = {"messages": [{"sid": "SM8", "body": "other [page-7-00]"}, {"sid": "SM9", "body": "x [page-7-0]"}]}
        wire.answers(200, listed)
        assert send("sms", wire, again=True) == "SM9"
        assert [request.method for request in wire.requests] == ["GET"]

    def test_what_has_not_arrived_is_sent_again(self, wire: Wire) -> None:
        wire.script = [(200, {"messages": [{"sid": "SM8", "body": "[page-7-1]"}]}, {}), (201, {"sid": "SM10"}, {})]
        assert send("sms", wire, again=True) == "SM10"
        assert [request.method for request in wire.requests] == ["GET", "POST"]

    def test_an_answer_without_a_name_is_no_acceptance(self, wire: Wire) -> None:
        assert "names no call" in str(refused("sms", wire))


class TestWebhook:
    def test_it_is_signed_with_its_time(self, wire: Wire) -> None:
        send("webhook", wire)
        (request,) = wire.requests
        signed = request.headers["X-Timestamp"].encode() + b"." + request.body
        wanted = hmac.new(TOKEN.encode(), signed, hashlib.sha256).hexdigest()
        assert request.headers["X-Signature-256"] == f"sha256={wanted}"
        assert request.headers["Idempotency-Key"] == request.json["key"] == MESSAGE.key
        assert request.json["acknowledge_url"] == MESSAGE.ack_url

    def test_a_persons_own_address_goes_first(self, wire: Wire) -> None:
        send("webhook", wire, address=f"{wire.url}/mine")
        assert wire.requests[0].path == "/mine"


class TestMail:
    def test_the_key_is_the_name_of_the_mail(self, provider: Provider) -> None:
        message = replace(MESSAGE, address="alice@example.com", title="two\nlines")
        name = CHANNELS["email"].send(message, provider.settings("email"))
        assert name == "<page-7-0@example.com>"
        (mail,) = provider.messages
        assert (mail["key"], mail["body"]["To"]) == (MESSAGE.key, "alice@example.com")
        assert MESSAGE.ack_url in mail["body"]["text"]

    @pytest.mark.parametrize(("status", "permanent"), [(550, True), (451, False)])
    def test_its_server_says_no(self, provider: Provider, status: int, permanent: bool) -> None:
        provider.behave(status=status)
        with pytest.raises(ChannelError) as caught:
            CHANNELS["email"].send(replace(MESSAGE, address="alice@example.com"), provider.settings("email"))
        assert caught.value.permanent is permanent

    def test_nobody_listens(self, provider: Provider) -> None:
        provider.stop()
        with pytest.raises(ChannelError) as caught:
            CHANNELS["email"].send(replace(MESSAGE, address="alice@example.com"), provider.settings("email"))
        assert not caught.value.permanent

    def test_a_slow_server_is_given_up_altogether(self, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("incidents.channels.mail.SECONDS", 0.3)
        provider.behave(delay=5)
        with pytest.raises(ChannelError) as caught:
            CHANNELS["email"].send(replace(MESSAGE, address="alice@example.com"), provider.settings("email"))
        assert (caught.value.permanent, caught.value.arrived) == (False, True)


@pytest.mark.parametrize("kind", HTTP)
class TestEveryProvider:
    @pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
    def test_passing_trouble(self, wire: Wire, kind: str, status: int) -> None:
        wire.answers(status)
        error = refused(kind, wire)
        assert not error.permanent
        assert str(status) in str(error)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
    def test_a_refusal_for_good(self, wire: Wire, kind: str, status: int) -> None:
        wire.answers(status, {"message": "no such thing"})
        error = refused(kind, wire)
        assert error.permanent
        assert "no such thing" in str(error)

    @pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("86400", base.LONGEST_WAIT), ("soon", 0.0)])
    def test_how_long_to_wait(self, wire: Wire, kind: str, said: str, seconds: float) -> None:
        wire.answers(429, Retry_After=said)
        assert refused(kind, wire).retry_after == seconds

    def test_a_redirect_is_not_followed(self, wire: Wire, kind: str) -> None:
        wire.answers(307, Location=f"{wire.url}/elsewhere")
        assert refused(kind, wire).permanent
        assert len(wire.requests) == 1

    def test_no_answer_in_time_may_have_arrived(self, wire: Wire, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(base, "SECONDS", 0.5)
        wire.hold.clear()
        error = refused(kind, wire)
        assert (error.permanent, error.arrived) == (False, True)
        eventually(lambda: len(wire.requests) == 1)

    def test_nobody_listens(self, wire: Wire, kind: str) -> None:
        wire.shutdown()
        wire.server_close()
        error = refused(kind, wire)
        assert (error.permanent, error.arrived) == (False, False)

    def test_no_metadata_service_is_asked(self, wire: Wire, kind: str) -> None:
        there = {name: str(value).replace(wire.url, "http://169.254.169.254") for name, value in
                 settings_of(kind, wire).items()}  # fmt: skip
        with pytest.raises(ChannelError, match="metadata"):
            CHANNELS[kind].send(replace(MESSAGE, address=MESSAGE.address if kind != "webhook" else ""), there)

    def test_no_secret_comes_back_in_the_words(self, wire: Wire, kind: str) -> None:
        wire.answers(400, {"message": f"bad key {TOKEN} or {ROUTING_KEY}"})
        send_first = refused(kind, wire)
        used = ROUTING_KEY if kind == "pagerduty" else TOKEN
        assert used not in str(send_first)

    def test_a_secret_that_is_missing_is_said_by_its_name(self, wire: Wire, kind: str, data_dir: Any) -> None:
        for path in (data_dir / "secrets").iterdir():
            path.unlink()
        error = refused(kind, wire)
        assert error.permanent
        assert "file:" in str(error)
        assert not wire.requests


@pytest.mark.parametrize("kind", CHANNELS)
def test_settings_are_read_strictly(kind: str, wire: Wire, provider: Provider) -> None:
    channel = CHANNELS[kind]
    right = provider.settings(kind)
    assert channel.check_settings(right) == {}
    assert "colour" in channel.check_settings({**right, "colour": "red"})
    assert channel.check_settings({})
    for name, value in right.items():
        if str(value).startswith("file:"):
            assert name in channel.check_settings({**right, name: "the secret itself"})


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("slack", "U012345", "alice"), ("email", "alice@example.com", "alice"), ("phone", "+4915112345678", "0151 12"),
        ("sms", "+4915112345678", "+0"), ("webhook", "https://example.com/hook", "http://169.254.169.254/"),
    ],
)  # fmt: skip
def test_addresses(kind: str, good: str, bad: str) -> None:
    assert CHANNELS[kind].check_address(good) == ""
    assert CHANNELS[kind].check_address(bad)


def test_who_calls_back_and_whose_acceptance_is_all() -> None:
    calls_back = {kind for kind, channel in CHANNELS.items() if channel.receipt is Receipt.CALLBACK}
    assert calls_back == {"phone", "sms"}
