"""Messages in any order lead to the same end, and an alert that turns too often is said to flap, once."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.clock.database import database_time
from incidents.intake.said import Said
from incidents.intake.turns import CALM, LATE, TURNS_AT_MOST, WINDOW, Standing, first
from incidents.models import Alert, AlertSource
from tests.estate import Estate
from tests.incidents.alerting import later, lines, one, rule, send, source, the_incident, tick

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def said(firing: bool, at: float, started: float | None = 0, ended: float | None = None) -> Said:
    """A message that came `at` so many minutes past noon."""
    moment = [None if one is None else NOON + one * MINUTE for one in (started, ended)]
    return Said("f", firing, "X", NOON + at * MINUTE, started_at=moment[0], ended_at=moment[1])


def after(*messages: Said) -> Standing:
    standing = first(messages[0])
    for message in messages[1:]:
        standing.hear(message)
    return standing


def test_firing_and_resolved() -> None:
    standing = after(said(True, 1), said(False, 5, ended=4))
    assert (standing.state, standing.ended_at, standing.count) == ("resolved", NOON + 4 * MINUTE, 2)
    assert standing.due_at == NOON + 5 * MINUTE


def test_every_order_of_the_same_messages_ends_the_same() -> None:
    """They are received in one order and read in another: two firings, each with its end."""
    messages = [said(True, 1), said(False, 3, ended=2), said(True, 5, started=4), said(False, 7, started=4, ended=6)]
    for order in itertools.permutations(messages):
        standing = after(*order)
        assert (standing.state, standing.started_at) == ("resolved", NOON + 4 * MINUTE), order
        assert standing.ended_at == NOON + 6 * MINUTE
        assert standing.count == 4


def test_an_older_message_does_not_go_back() -> None:
    assert after(said(True, 5, started=4), said(False, 6, started=0, ended=3)).state == "firing"
    assert after(said(False, 5, started=4, ended=5), said(True, 6, started=0)).state == "resolved"


def test_a_late_message_of_a_firing_that_is_over_is_old() -> None:
    over = [said(True, 1), said(False, 5, ended=4)]
    assert after(*over, said(True, 5.5)).state == "resolved"


def test_long_after_the_end_the_old_beginning_is_a_new_firing_and_ends_again() -> None:
    again = 4 + LATE / MINUTE + 1
    messages = [said(True, 1), said(False, 5, ended=4), said(True, again)]
    assert after(*messages).state == "firing"
    assert after(*messages, said(False, again + 1, ended=again + 1)).state == "resolved"


def test_without_times_of_its_own_the_order_of_receipt_counts() -> None:
    assert after(said(True, 1, None), said(False, 2, None), said(True, 1.5, None)).state == "resolved"
    assert after(said(True, 1, None), said(False, 2, None), said(True, 3, None)).state == "firing"
    standing = after(said(True, 1, None), said(True, 9, None))
    assert standing.started_at == NOON + MINUTE


def test_turns_within_the_window_are_flapping_and_said_once() -> None:
    standing = first(said(True, 0, None))
    for number in range(1, TURNS_AT_MOST + 1):
        standing.hear(said(number % 2 == 0, number / 10, None))
    assert standing.flapping_until is None
    at = (TURNS_AT_MOST + 1) / 10
    standing.hear(said((TURNS_AT_MOST + 1) % 2 == 0, at, None))
    assert standing.flapping_until == NOON + at * MINUTE + CALM
    assert standing.due_at == NOON + at * MINUTE, "that it flaps is told now"
    standing.due_at = standing.flapping_until  # it was told
    standing.hear(said(at < 0, at + 1, None))
    standing.hear(said(True, at + 2, None))
    flaps_until, due = (getattr(standing, name) for name in ("flapping_until", "due_at"))
    assert flaps_until == due > NOON + at * MINUTE + CALM


def test_turns_that_are_far_apart_are_none() -> None:
    standing = first(said(True, 0, None))
    for number in range(1, 30):
        standing.hear(said(number % 2 == 0, number * (WINDOW / MINUTE) / TURNS_AT_MOST * 1.01, None))
    assert standing.flapping_until is None


# --- with the database --------------------------------------------------------------------------------


@pytest.fixture
def alertmanager(estate: Estate) -> AlertSource:
    rule()
    return source()


def test_a_beginning_in_the_future_does_not_outlive_the_end(alertmanager: AlertSource) -> None:
    alert = one(started=database_time() + timedelta(days=4000))
    send(alertmanager, alert)
    send(alertmanager, {**alert, "status": "resolved", "startsAt": database_time().isoformat()})
    assert Alert.objects.get().state == "resolved"


def flap(alertmanager: AlertSource, turns: int) -> None:
    for number in range(turns):
        send(alertmanager, one(status=("firing", "resolved")[number % 2], started=database_time()))


def test_a_flapping_alert_is_said_once_and_counts_as_firing(alertmanager: AlertSource) -> None:
    flap(alertmanager, 20)
    later(seconds=11)
    tick()
    incident = the_incident()
    assert incident.firing_count == 1 and incident.over_at is None
    later(seconds=11)
    flap(alertmanager, 2)
    from_timeline = " ".join(lines(incident))
    assert from_timeline.count("fires") <= 3


def test_when_it_is_calm_its_incident_hears_how_it_is(alertmanager: AlertSource) -> None:
    flap(alertmanager, 20)
    later(minutes=11)
    tick()
    incident = the_incident()
    incident.refresh_from_db()
    assert incident.firing_count == 0 and incident.over_at is not None
    assert "All its alerts are over" in lines(incident)[-1]
