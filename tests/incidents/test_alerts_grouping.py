"""Alerts of one cause are one incident, by the first rule whose matchers all hold."""

import pytest

from environments.models import Environment
from incidents import lifecycle
from incidents.intake import grouping, telling
from incidents.intake.grouping import ALERTS
from incidents.models import Alert, AlertSource, Incident
from tests.estate import Estate
from tests.incidents.alerting import later, lines, one, rule, send, source, the_incident, tick

pytestmark = pytest.mark.django_db


@pytest.fixture
def alertmanager(estate: Estate) -> AlertSource:
    return source()


def test_a_firing_alert_opens_the_incident_of_its_rule(alertmanager: AlertSource) -> None:
    rule()
    send(alertmanager, one(environment="production"))
    incident = the_incident()
    assert (incident.title, incident.severity) == ("HighErrorRate in production", "P2")
    assert incident.environments == ["production"]
    assert incident.group_key == "critical:alertname=HighErrorRate,environment=production"
    assert (incident.alert_count, incident.firing_count) == (1, 1)
    assert lines(incident) == ["HighErrorRate fires: HighErrorRate is so."]
    assert Alert.objects.get().incident == incident


def test_alerts_with_the_same_values_join_and_others_do_not(alertmanager: AlertSource) -> None:
    rule()
    send(alertmanager, *(one(environment="production", pod=str(n)) for n in range(3)), one(environment="staging"))
    assert Incident.objects.count() == 2
    incident = Incident.objects.get(environments=["production"])
    assert incident.alert_count == 3
    assert lines(incident) == ["HighErrorRate fires on 3; 3 in all."]


def test_the_first_rule_by_position_decides(alertmanager: AlertSource) -> None:
    rule("late", position=2, severity="P1")
    rule("early", position=1, severity="P4")
    send(alertmanager, one())
    assert the_incident().severity == "P4"


def test_a_rule_without_a_severity_opens_none(alertmanager: AlertSource) -> None:
    rule("quiet", position=0, severity="")
    rule("loud", position=1)
    send(alertmanager, one())
    assert not Incident.objects.exists()
    alert = Alert.objects.get()
    assert (alert.state, alert.due_at, alert.incident) == ("firing", None, None)


def test_an_incident_without_an_environment_is_of_the_installation(alertmanager: AlertSource) -> None:
    rule()
    send(alertmanager, one())
    assert the_incident().environments == []
    assert the_incident().title == "HighErrorRate in no environment"


def test_a_source_has_a_home_for_alerts_that_name_none(estate: Estate) -> None:
    rule()
    send(source(environment=estate.staging), one(environment="of-no-kind"), one())
    assert {incident.environments[0] for incident in Incident.objects.all()} == {"staging"}


def test_a_long_key_is_hashed(alertmanager: AlertSource) -> None:
    rule(group_by=["pod"])
    send(alertmanager, one(pod="p" * 400), one(pod="p" * 401))
    assert Incident.objects.count() == 2
    assert all(len(incident.group_key) <= 300 for incident in Incident.objects.all())


def test_values_cannot_pretend_to_be_other_labels(alertmanager: AlertSource) -> None:
    rule(group_by=["a", "b"])
    send(alertmanager, one(a="1,b=2", b=""), one(a="1", b="2,b="), one(a="1", b="2"))
    assert Incident.objects.count() == 3


def test_an_incident_of_one_environment_hears_of_another(alertmanager: AlertSource, estate: Estate) -> None:
    rule(group_by=["alertname"])
    send(alertmanager, one(environment="staging"))
    later(seconds=30)
    send(alertmanager, one(environment="production"))
    incident = the_incident()
    assert incident.environments == ["production", "staging"]
    assert lines(incident, "state")[-1] == "It is about production too: alerts of there joined it"


def test_a_storm_is_a_few_entries(alertmanager: AlertSource) -> None:
    rule()
    for batch in range(20):
        send(alertmanager, *(one(pod=f"{batch}-{n}") for n in range(50)))
    incident = the_incident()
    assert incident.alert_count == 1000
    assert lines(incident) == ["HighErrorRate fires on 50; 50 in all."]
    later(seconds=11)
    send(alertmanager, one(pod="last"))
    assert lines(incident)[1:] == ["HighErrorRate fires on 951 more; 1,001 in all."]


def test_what_fires_while_its_incident_is_resolved_by_hand_is_left_alone(alertmanager: AlertSource) -> None:
    """Its next firing is news; that it still is as it was is none."""
    rule()
    alert = one()
    send(alertmanager, alert)
    lifecycle.resolve(the_incident().pk, ALERTS, "It is no trouble.")
    send(alertmanager, alert)
    assert Incident.objects.count() == 1
    send(alertmanager, {**alert, "status": "resolved"})
    later(minutes=1)
    send(alertmanager, one())
    assert Incident.objects.count() == 2


def test_an_incident_that_cannot_be_told_stops_no_other(
    alertmanager: AlertSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule()
    told = telling.tell

    def broken(incident: Incident, *arguments: object, **named: object) -> None:
        if "Bad" in incident.title:
            raise ValueError("nobody knows why")
        told(incident, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(grouping, "tell", broken)
    send(alertmanager, one("Bad"), one("Good"))
    assert [incident.title for incident in Incident.objects.all()] == ["Good in no environment"]
    monkeypatch.undo()
    later(seconds=31)
    tick()
    assert Incident.objects.count() == 2


def test_environments_are_not_made_up(alertmanager: AlertSource) -> None:
    rule()
    before = Environment.objects.count()
    send(alertmanager, one(environment="nowhere"))
    assert Environment.objects.count() == before
    assert the_incident().environments == []
