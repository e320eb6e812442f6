"""Silenced alerts are kept and open nothing; when the silence ends and they still fire, they are taken up."""

from datetime import timedelta

import pytest
from django.db.models import F

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.clock.database import database_time
from controlplane.operations.errors import Conflict, Invalid
from incidents import silences
from incidents.intake.matchers import parse
from incidents.models import Alert, AlertSource, Incident, Silence
from tests.estate import Estate
from tests.incidents.alerting import later, lines, one, rule, send, source, the_incident, tick
from tests.incidents.test_alerts_pages import as_person

pytestmark = pytest.mark.django_db


@pytest.fixture
def alertmanager(estate: Estate) -> AlertSource:
    rule()
    return source()


def silence(person: Person, text: str = 'alertname="HighErrorRate"', hours: float = 2, **fields: object) -> Silence:
    given = {"matchers": parse(text), "environment": None, "reason": "We work on it.",
             "ends_at": database_time() + timedelta(hours=hours)}  # fmt: skip
    return silences.add(Actor(person), **given | fields)  # type: ignore[arg-type]


def pass_by(silence: Silence) -> None:
    """The time of the silence is over."""
    Silence.objects.filter(pk=silence.pk).update(
        starts_at=F("starts_at") - timedelta(days=30), ends_at=database_time() - timedelta(seconds=1)
    )
    later(days=30)


def test_a_silenced_alert_is_kept_and_opens_nothing(alertmanager: AlertSource, alice: Person) -> None:
    made = silence(alice)
    send(alertmanager, one(), one("Other"))
    assert [incident.title for incident in Incident.objects.all()] == ["Other in no environment"]
    assert Alert.objects.get(name="HighErrorRate").silence == made
    assert Alert.objects.get(name="HighErrorRate").state == "firing"


def test_what_still_fires_when_it_ends_is_taken_up(alertmanager: AlertSource, alice: Person) -> None:
    made = silence(alice)
    send(alertmanager, one())
    pass_by(made)
    tick()
    assert the_incident().title == "HighErrorRate in no environment"
    assert Alert.objects.get().silence is None


def test_what_is_over_when_it_ends_opens_nothing(alertmanager: AlertSource, alice: Person) -> None:
    made = silence(alice)
    alert = one()
    send(alertmanager, alert)
    send(alertmanager, {**alert, "status": "resolved"})
    pass_by(made)
    tick()
    assert not Incident.objects.exists()


def test_ended_early_it_takes_up_what_fires_at_once(alertmanager: AlertSource, alice: Person) -> None:
    made = silence(alice)
    send(alertmanager, one())
    silences.end(Actor(alice), made)
    tick()
    assert Incident.objects.count() == 1
    made.refresh_from_db()
    assert made.ended_by_name == "Alice"
    with pytest.raises(Conflict):
        silences.end(Actor(alice), made)


def test_one_to_come_does_nothing_yet_and_ends_before_it_begins(alertmanager: AlertSource, alice: Person) -> None:
    made = silence(alice, starts_at=database_time() + timedelta(hours=1))
    send(alertmanager, one())
    assert Incident.objects.count() == 1
    silences.end(Actor(alice), made)
    made.refresh_from_db()
    assert made.starts_at <= made.ends_at <= database_time()


def test_a_new_silence_leaves_a_running_incident_as_it_is(alertmanager: AlertSource, alice: Person) -> None:
    alert = one()
    send(alertmanager, alert)
    made = silence(alice)
    tick()
    assert Alert.objects.get().silence == made
    assert the_incident().state == "open"
    later(minutes=1)
    send(alertmanager, {**alert, "status": "resolved"})
    assert "HighErrorRate is over." in lines(the_incident())[-1]


def test_a_maintenance_window_is_for_all_alerts_of_an_environment(
    alertmanager: AlertSource, alice: Person, estate: Estate
) -> None:
    silence(alice, "", kind=Silence.Kind.MAINTENANCE, environment=estate.staging)
    send(alertmanager, one(environment="staging"), one("B", environment="staging"), one(environment="production"))
    assert the_incident().environments == ["production"]


def test_a_silence_of_one_environment_is_not_for_another(
    alertmanager: AlertSource, alice: Person, estate: Estate
) -> None:
    silence(alice, environment=estate.staging)
    send(alertmanager, one(environment="production"))
    assert Incident.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": ""}, "Say which alerts"),
        ({"kind": Silence.Kind.MAINTENANCE}, "of one environment"),
        ({"hours": -1}, "end before it begins"),
        ({"hours": 24 * 40}, "At most 31 days"),
        ({"reason": "  "}, "Say why"),
    ],
)
def test_what_makes_no_sense_is_refused(alice: Person, fields: dict[str, object], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        silence(alice, **fields)  # type: ignore[arg-type]
    assert not Silence.objects.exists()


def test_the_page_adds_ends_and_audits(alertmanager: AlertSource, alice: Person) -> None:
    client = as_person(alice)
    values = {"matchers": 'alertname="HighErrorRate"', "lasts": "1 hour", "reason": "A known thing"}
    assert client.post("/silences/add", values).status_code == 302
    made = Silence.objects.get()
    assert timedelta(minutes=59) < made.ends_at - database_time() < timedelta(minutes=61)
    page = client.get("/silences").content.decode()
    assert "alertname=&quot;HighErrorRate&quot;" in page and "A known thing" in page
    assert client.post(f"/silences/{made.pk}/end").status_code == 302
    assert client.post(f"/silences/{made.pk}/end").status_code == 409
    actions = Entry.objects.filter(action__startswith="silence.").values_list("action", flat=True)
    assert sorted(actions) == ["silence.added", "silence.ended"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"matchers": "alertname=x"}, "At character 1"),
        ({"matchers": 'a=~"(x+)+"'}, "may take too long"),
        ({"matchers": 'a="1",'}, "nothing follows the comma"),
        ({"ends_at": "tomorrow"}, "Enter a valid date/time"),
        ({"reason": ""}, "This field is required"),
        ({"environment": "no-such"}, "valid choice"),
    ],
)
def test_what_cannot_be_read_is_said_and_nothing_is_lost(
    alice: Person, estate: Estate, values: dict[str, str], words: str
) -> None:
    given = {"matchers": 'alertname="X"', "reason": "typed already"} | values
    answer = as_person(alice).post("/silences/add", given)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert given["reason"] in answer.content.decode()
    assert not Silence.objects.exists()


def test_one_may_silence_only_where_one_operates(
    estate: Estate, dana: Person, charlie: Person, eve: Person, alice: Person
) -> None:
    values = {"matchers": 'alertname="X"', "reason": "why", "environment": "production"}
    assert as_person(dana).post("/silences/add", values).status_code in (403, 422)
    assert as_person(charlie).post("/silences/add", values).status_code in (403, 422)
    # Eve operates in development only: neither there nor everywhere.
    assert as_person(eve).post("/silences/add", values).status_code in (403, 422)
    assert as_person(eve).post("/silences/add", {**values, "environment": ""}).status_code in (403, 422)
    assert not Silence.objects.exists()
    made = silence(alice, environment=estate.production)
    assert as_person(dana).post(f"/silences/{made.pk}/end").status_code == 403
    assert as_person(eve).post(f"/silences/{made.pk}/end").status_code == 404
    assert as_person(charlie).post(f"/silences/{made.pk}/end").status_code == 404
    assert "We work on it" not in as_person(eve).get("/silences").content.decode()
