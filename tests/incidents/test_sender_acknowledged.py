"""Nothing leaves after the acknowledgement's commit: it waits for what is on the wire, and senders look again."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections

from controlplane.accounts.models import Person
from incidents.channels import CHANNELS, sender
from incidents.channels.base import SECONDS, ChannelError, Outgoing
from incidents.channels.outcomes import Claim, Outcome, settle
from incidents.channels.sender import FRESH_SECONDS, Turn, send_due
from incidents.escalation import clock
from incidents.lifecycle import acknowledge
from incidents.models import Delivery, Incident, Page
from incidents.outbox import QUIET_SECONDS, SENDING_LOCK
from tests.incidents.escalating import WHO, matrix, opened, reachable
from tests.incidents.providers import Provider, eventually, provider

__all__ = ["provider"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def incident(alice: Person, provider: Provider) -> Incident:
    """Alice's page is in the outbox."""
    reachable(alice)
    provider.configure("pagerduty")
    matrix([alice], ["pagerduty"])
    made = opened()
    clock.fire_due()
    return made


@pytest.fixture
def beside() -> Iterator[Callable[..., "Future[Any]"]]:
    """Do something in a thread, with a connection of its own."""

    def closing(act: Callable[..., Any], *values: Any) -> Any:
        try:
            return act(*values)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        yield lambda act, *values: pool.submit(closing, act, *values)


def pages() -> Delivery:
    """The page's row."""
    return Delivery.objects.get(purpose="page")


def waits_for_the_lock() -> bool:
    """Somebody waits for an advisory lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(cursor.fetchone()[0])


def nobody_holds_a_lock(seconds: float = 10) -> bool:
    """No sender has left one. seconds: how long the server may take to notice that a connection was closed."""
    give_up = time.monotonic() + seconds
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            if not cursor.fetchone()[0]:
                return True
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)


def test_it_waits_for_a_slow_provider(
    incident: Incident, provider: Provider, beside: Callable[..., "Future[Any]"]
) -> None:
    provider.behave(delay=2)
    sending = beside(send_due, "pagerduty")
    provider.wait_for(1)
    acknowledge(incident.pk, WHO)
    known = time.time()
    assert sending.result(10) == 1
    delivery, page = pages(), Page.objects.get()
    incident.refresh_from_db()
    assert (delivery.state, page.state) == ("delivered", "delivered"), "it was taken, and that is written down"
    assert delivery.accepted_at is not None
    assert incident.acknowledged_at is not None
    assert delivery.accepted_at <= incident.acknowledged_at
    provider.behave()
    send_due("pagerduty")
    late = [message for message in provider.messages if message["at"] > known]
    assert [message["body"]["event_action"] for message in late] == ["acknowledge"]


def test_acknowledged_before_the_lock_sends_nothing(incident: Incident, provider: Provider) -> None:
    turn = Turn("pagerduty", provider.settings("pagerduty"))
    with pytest.MonkeyPatch.context() as patch:
        # Between claiming the row and taking the lock.
        patch.setattr(sender, "LOCK", f"/* now */ {sender.LOCK}")
        acts = [lambda: acknowledge(incident.pk, WHO)]

        def first_acknowledge(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            if "/* now */" in sql and acts:
                in_thread(acts.pop())
            return execute(sql, params, many, context)

        with connection.execute_wrapper(first_acknowledge):
            assert turn.go_on() is False
    assert provider.messages == []
    assert pages().state == "cancelled"
    assert nobody_holds_a_lock()


def in_thread(act: Callable[[], Any]) -> None:
    """With a connection of its own, to its end."""

    def closing() -> None:
        try:
            act()
        finally:
            connections.close_all()

    thread = threading.Thread(target=closing)
    thread.start()
    thread.join()


def test_while_somebody_acknowledges_the_row_is_put_back(
    incident: Incident, provider: Provider, beside: Callable[..., "Future[Any]"]
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [SENDING_LOCK + incident.pk])
        assert beside(send_due, "pagerduty").result(10) == 0
        assert (pages().state, pages().attempts) == ("queued", 0)
        assert provider.messages == []
        cursor.execute("SELECT pg_advisory_unlock(%s)", [SENDING_LOCK + incident.pk])
    eventually(lambda: send_due("pagerduty") == 1)
    assert pages().state == "delivered"


def test_other_incidents_do_not_wait(incident: Incident, provider: Provider) -> None:
    other = opened()
    clock.fire_due()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [SENDING_LOCK + incident.pk])
        in_thread(lambda: send_due("pagerduty"))
        cursor.execute("SELECT pg_advisory_unlock(%s)", [SENDING_LOCK + incident.pk])
    states = dict(Delivery.objects.values_list("incident_id", "state"))
    assert states == {incident.pk: "queued", other.pk: "delivered"}


def test_a_sender_that_was_frozen_after_the_lock_sends_nothing(incident: Incident, provider: Provider) -> None:
    turn = Turn("pagerduty", provider.settings("pagerduty"))
    (claim,) = turn._claims(1)
    message = sender._outgoing(claim.delivery)
    since = time.monotonic()
    late = sender._sent(claim, message, turn.configured, since, lambda: since + FRESH_SECONDS + 0.1)
    assert late.withdrawn
    in_time = sender._sent(claim, message, turn.configured, since, lambda: since + FRESH_SECONDS - 0.1)
    assert not in_time.withdrawn
    turn.give_up()


@pytest.mark.parametrize("channel", ["pagerduty", "slack", "email", "phone", "sms", "webhook"])
def test_a_sender_that_was_frozen_after_its_look_at_the_clock_sends_nothing(
    incident: Incident, provider: Provider, channel: str
) -> None:
    turn = Turn("pagerduty", provider.settings("pagerduty"))
    (claim,) = turn._claims(1)
    claim.delivery.channel = channel
    message = sender._outgoing(claim.delivery)
    looked_at = time.monotonic() - QUIET_SECONDS - 0.1
    late = sender._sent(claim, message, provider.settings(channel), looked_at, lambda: looked_at)
    turn.give_up()
    assert late.error is not None
    assert not late.error.permanent
    assert provider.messages == []


def test_a_frozen_sender_holds_up_the_acknowledgement_only_for_so_long(
    incident: Incident, provider: Provider, monkeypatch: pytest.MonkeyPatch, beside: Callable[..., "Future[Any]"]
) -> None:
    monkeypatch.setattr("incidents.outbox.QUIET_SECONDS", 0.2)
    turn = Turn("pagerduty", provider.settings("pagerduty"))
    (claim,) = turn._claims(1)  # and then it is frozen
    beside(acknowledge, incident.pk, WHO).result(10)
    assert Incident.objects.get().state == "acknowledged"
    # It thaws, finds its row gone, and puts nothing back.
    settle([Outcome(claim, withdrawn=True)])
    turn.give_up()
    assert pages().state == "cancelled"
    send_due("pagerduty")
    assert [message for message in provider.messages if message["key"].startswith("page")] == []


def test_the_bounds_fit_together() -> None:
    """Whoever starts in time and is given up in time is done before an acknowledgement goes on without it."""
    assert FRESH_SECONDS + SECONDS <= QUIET_SECONDS


def test_what_was_taken_before_a_freeze_is_told_afterwards(incident: Incident, provider: Provider) -> None:
    """The row is cancelled, and the provider has it: it says so, rather than hide it."""
    turn = Turn("pagerduty", provider.settings("pagerduty"))
    (claim,) = turn._claims(1)
    turn.give_up()
    acknowledge(incident.pk, WHO)
    settle([Outcome(claim, "PD-1")])
    assert (pages().state, pages().provider_id) == ("delivered", "PD-1")
    assert Page.objects.get().state == "delivered"


def test_another_senders_row_is_left_alone(incident: Incident, provider: Provider) -> None:
    turn = Turn("pagerduty", provider.settings("pagerduty"))
    (claim,) = turn._claims(1)
    stale = Claim(claim.delivery, "somebody whose lease ran out")
    for outcome in (Outcome(stale, "X"), Outcome(stale, error=ChannelError("no")), Outcome(stale, withdrawn=True)):
        settle([outcome])
        assert (pages().state, pages().provider_id, pages().error) == ("sending", "", "")
    turn.give_up()


def test_no_lock_and_no_transaction_is_left(incident: Incident, monkeypatch: pytest.MonkeyPatch) -> None:
    open_while_sending: list[bool] = []

    def look(message: Outgoing, settings: object) -> str:
        with connection.cursor() as cursor:  # of this thread
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%' "
                           "AND datname = current_database()")  # fmt: skip
            open_while_sending.append(bool(cursor.fetchone()[0]))
        connections.close_all()
        return ""

    monkeypatch.setattr(CHANNELS["pagerduty"], "send", look)
    assert send_due("pagerduty") == 1
    assert open_while_sending == [False], "no network call inside of a transaction"
    assert nobody_holds_a_lock()


def test_an_acknowledgement_waits_in_line(
    incident: Incident, provider: Provider, beside: Callable[..., "Future[Any]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is seen waiting while the request is on the wire, and goes on at once when it is over."""
    on_the_wire, answer = threading.Event(), threading.Event()

    def slow(message: Outgoing, settings: object) -> str:
        on_the_wire.set()
        assert answer.wait(40)
        return ""

    monkeypatch.setattr(CHANNELS["pagerduty"], "send", slow)
    sending = beside(send_due, "pagerduty")
    assert on_the_wire.wait(40)
    acknowledging = beside(acknowledge, incident.pk, WHO)
    eventually(waits_for_the_lock)
    assert not acknowledging.done()
    answer.set()
    acknowledging.result(10)
    sending.result(10)
    assert Incident.objects.get().state == "acknowledged"
