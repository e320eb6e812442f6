"""Resolved alerts resolve: an incident that nobody has ends by itself, one that somebody has is theirs."""

import json

import pytest

from controlplane.accounts.models import Person
from controlplane.audit.record import Who
from incidents import lifecycle
from incidents.intake import telling
from incidents.models import Alert, AlertSource, Incident
from tests.estate import Estate
from tests.incidents.alerting import later, lines, one, rule, send, source, stored, the_incident, tick

pytestmark = pytest.mark.django_db


@pytest.fixture
def alertmanager(estate: Estate) -> AlertSource:
    rule()
    return source()


def over(alert: dict[str, object]) -> dict[str, object]:
    return {**alert, "status": "resolved"}


def who(person: Person) -> Who:
    return Who(person.title_name, person.pk, "test")


def test_nobody_has_it_and_all_is_over_for_two_minutes(alertmanager: AlertSource) -> None:
    alerts = [one(pod="1"), one(pod="2")]
    send(alertmanager, *alerts)
    later(seconds=20)
    send(alertmanager, over(alerts[0]))
    assert "1 of 2 still fires" in lines(the_incident())[-1]
    later(minutes=5)
    assert telling.resolve_what_is_over() == 0
    send(alertmanager, over(alerts[1]))
    assert "it is resolved in 2 minutes" in lines(the_incident())[-1]
    assert telling.resolve_what_is_over() == 0
    later(seconds=121)
    assert telling.resolve_what_is_over() == 1
    incident = the_incident()
    assert (incident.state, incident.resolved_by_name) == ("resolved", "system: alerts")
    assert incident.resolution == "All its 2 alerts are over for 2 minutes, and nobody had acknowledged it."


def test_somebody_has_it_and_says_when_it_is_resolved(alertmanager: AlertSource, alice: Person) -> None:
    alert = one()
    send(alertmanager, alert)
    lifecycle.acknowledge(the_incident().pk, who(alice))
    later(seconds=20)
    send(alertmanager, over(alert))
    assert lines(the_incident())[-1].endswith("All its alerts are over; Alice has it and says when it is resolved.")
    later(hours=1)
    assert telling.resolve_what_is_over() == 0
    assert the_incident().state == "acknowledged"


def test_one_that_fires_again_in_time_keeps_it_open(alertmanager: AlertSource) -> None:
    alert = one()
    send(alertmanager, alert)
    send(alertmanager, over(alert))
    later(minutes=1)
    send(alertmanager, one())
    later(minutes=3)
    assert telling.resolve_what_is_over() == 0
    incident = the_incident()
    assert (incident.state, incident.firing_count, incident.over_at) == ("open", 1, None)
    telling.say_unsaid()
    assert any("fires again" in line for line in lines(incident))


def test_what_fires_and_was_not_told_yet_keeps_it_open(alertmanager: AlertSource) -> None:
    alert = one()
    send(alertmanager, alert)
    send(alertmanager, over(alert))
    later(minutes=3)
    Alert.objects.update(state="firing")
    assert telling.resolve_what_is_over() == 0


def test_what_waits_is_said_once(alertmanager: AlertSource) -> None:
    send(alertmanager, one(pod="1"))
    send(alertmanager, one(pod="2"))
    assert telling.say_unsaid() == 0
    later(seconds=11)
    assert telling.say_unsaid() == 1
    assert telling.say_unsaid() == 0
    assert lines(the_incident())[-1] == "HighErrorRate fires: HighErrorRate is so. 2 in all."


# --- PagerDuty's events -------------------------------------------------------------------------------


def event(events: AlertSource, action: str, key: str = "disk", **payload: str) -> None:
    given = {"summary": "Disk full", "source": "db-1", "severity": "critical", **payload}
    content = {"routing_key": "x", "event_action": action, "dedup_key": key}
    if action == "trigger":
        content["payload"] = given  # type: ignore[assignment]
    stored(events, json.dumps(content).encode())
    tick()


def test_an_event_triggers_is_acknowledged_and_resolves(estate: Estate) -> None:
    rule()
    events = source("pagerduty")
    event(events, "trigger")
    event(events, "trigger")
    alert = Alert.objects.get()
    assert (alert.name, alert.fingerprint, alert.severity, alert.count) == ("Disk full", "disk", "critical", 2)
    event(events, "acknowledge")
    incident = the_incident()
    assert (incident.state, incident.acknowledged_by_name) == ("acknowledged", "system: the-pagerduty")
    event(events, "resolve")
    assert Alert.objects.get().state == "resolved"
    assert Alert.objects.get().name == "Disk full"


def test_an_acknowledgement_that_comes_with_its_trigger_is_not_lost(estate: Estate) -> None:
    rule()
    events = source("pagerduty")
    for action in ("trigger", "acknowledge"):
        content = {"routing_key": "x", "event_action": action, "dedup_key": "k",
                   "payload": {"summary": "s", "source": "s", "severity": "critical"}}  # fmt: skip
        stored(events, json.dumps(content).encode())
    tick()
    assert the_incident().state == "acknowledged"


def test_events_about_nothing_known_do_nothing(estate: Estate) -> None:
    rule()
    events = source("pagerduty")
    event(events, "resolve")
    event(events, "acknowledge")
    assert not Alert.objects.exists() and not Incident.objects.exists()


def test_somebody_elses_acknowledgement_stands(estate: Estate, alice: Person) -> None:
    rule()
    events = source("pagerduty")
    event(events, "trigger")
    lifecycle.acknowledge(the_incident().pk, who(alice))
    event(events, "acknowledge")
    assert the_incident().acknowledged_by_name == "Alice"
    assert Alert.objects.get().acknowledge_at is None


def test_an_end_that_comes_with_its_trigger_is_not_lost(estate: Estate) -> None:
    """Both are read in one batch, before the alert was known."""
    events = source("pagerduty")
    payload = {"summary": "s", "source": "s", "severity": "critical"}
    for action in ("resolve", "trigger", "resolve"):
        content = {"routing_key": "x", "event_action": action, "dedup_key": "k", "payload": payload}
        stored(events, json.dumps(content).encode())
    tick()
    alert = Alert.objects.get()
    assert (alert.name, alert.state, alert.count) == ("s", "resolved", 2)
