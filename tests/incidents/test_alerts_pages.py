"""The pages of alerts: what people see, who may not, and what they may do."""

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from incidents.models import Alert, AlertSource, RawAlert
from tests.estate import Estate
from tests.incidents.alerting import lines, one, rule, send, source, stored, the_incident, tick

pytestmark = pytest.mark.django_db


@pytest.fixture
def alertmanager(estate: Estate) -> AlertSource:
    return source()


def as_person(person: Person) -> Client:
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def firing(alertmanager: AlertSource) -> Alert:
    rule()
    send(alertmanager, one(environment="production", pod="<b>1</b>"))
    return Alert.objects.get()


def test_the_list_has_what_fires_first_and_what_is_over_below(alertmanager: AlertSource, dana: Person) -> None:
    send(alertmanager, one("Fires"), one("IsOver", status="resolved"))
    page = as_person(dana).get("/alerts").content.decode()
    assert page.index("Fires") < page.index("Over</h2>") < page.index("IsOver")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("state=resolved", {"IsOver"}), ("state=all", {"InProduction", "Warns", "IsOver"}), ("q=warn", {"Warns"}),
        ("severity=warning", {"Warns"}), ("environment=production", {"InProduction"}),
        ("severity=awful", {"InProduction", "Warns"}),
        ("state=silenced", set()), ("state=flapping", set()),
    ],
)  # fmt: skip
def test_the_list_is_filtered_by_its_address(
    alertmanager: AlertSource, dana: Person, query: str, names: set[str]
) -> None:
    warning = one("Warns")
    warning["labels"]["severity"] = "warning"
    send(alertmanager, one("InProduction", environment="production"), warning, one("IsOver", status="resolved"))
    page = as_person(dana).get(f"/alerts?{query}").content.decode().split("filters")[1]
    assert {name for name in ("InProduction", "Warns", "IsOver") if f">{name}</a>" in page} == names


def test_an_outsider_sees_none_and_one_of_an_environment_only_its_own(
    firing: Alert, charlie: Person, eve: Person, alertmanager: AlertSource
) -> None:
    assert firing.name not in as_person(charlie).get("/alerts").content.decode()
    assert firing.name not in as_person(eve).get("/alerts").content.decode()
    assert as_person(charlie).get(f"/alerts/{firing.pk}").status_code == 404
    assert as_person(eve).get(f"/alerts/{firing.pk}").status_code == 404
    assert as_person(charlie).post(f"/alerts/{firing.pk}/note", {"note": "mine"}).status_code == 404


def test_the_page_of_an_alert_says_everything_and_escapes_it(firing: Alert, dana: Person) -> None:
    page = as_person(dana).get(f"/alerts/{firing.pk}").content.decode()
    assert "HighErrorRate is so" in page and "&lt;b&gt;1&lt;/b&gt;" in page and "<b>1</b>" not in page
    assert f"/incidents/{firing.incident_id}" in page
    assert "Keep it" not in page


def test_a_note_is_kept_audited_and_on_the_timeline(firing: Alert, alice: Person, alertmanager: AlertSource) -> None:
    assert as_person(alice).post(f"/alerts/{firing.pk}/note", {"note": "The cache is cold."}).status_code == 302
    firing.refresh_from_db()
    assert (firing.note, firing.note_by_name) == ("The cache is cold.", "Alice")
    assert Entry.objects.filter(action="alert.noted", scopes=["production"]).count() == 1
    assert lines(the_incident(), "note") == ["On HighErrorRate: The cache is cold."]
    send(alertmanager, one(environment="production", pod="<b>1</b>", started=None))
    firing.refresh_from_db()
    assert firing.note == "The cache is cold."


def test_a_viewer_writes_no_note(firing: Alert, dana: Person) -> None:
    assert as_person(dana).post(f"/alerts/{firing.pk}/note", {"note": "mine"}).status_code == 403
    assert as_person(dana).get(f"/alerts/{firing.pk}/note").status_code == 405


def test_too_long_a_note_is_refused_with_what_was_typed(firing: Alert, alice: Person) -> None:
    answer = as_person(alice).post(f"/alerts/{firing.pk}/note", {"note": "x" * 100_000})
    assert answer.status_code == 422
    firing.refresh_from_db()
    assert firing.note == ""


def test_what_was_not_understood_is_shown_to_operators_and_handled_again(
    alertmanager: AlertSource, alice: Person, dana: Person, eve: Person, charlie: Person
) -> None:
    raw = stored(alertmanager, b"<html>\xff\x00 not json")
    tick()
    page = as_person(alice).get("/alerts/bodies").content.decode()
    assert "This is no Alertmanager webhook" in page and "&lt;html&gt;" in page
    assert "nobody understood" in as_person(alice).get("/alerts").content.decode()
    assert as_person(dana).get("/alerts/bodies").status_code == 403
    assert as_person(eve).post(f"/alerts/bodies/{raw.pk}/retry").status_code in (403, 404)
    assert as_person(charlie).post(f"/alerts/bodies/{raw.pk}/retry").status_code in (403, 404)
    assert as_person(alice).post(f"/alerts/bodies/{raw.pk}/retry").status_code == 302
    assert RawAlert.objects.get().state == RawAlert.State.STORED
    assert Entry.objects.filter(action="alert.body_again").count() == 1
    assert as_person(alice).post(f"/alerts/bodies/{raw.pk}/retry").status_code == 409


def test_pages_cost_few_queries_however_many_alerts(
    alertmanager: AlertSource, ada: Person, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    rule()
    send(alertmanager, *(one(pod=str(n)) for n in range(120)))
    client = as_person(ada)
    with django_assert_max_num_queries(20):
        answer = client.get("/alerts")
    assert len(answer.content) < 100_000
    older = answer.context["page"].older
    assert older and len(client.get(f"/alerts?before={older}").context["page"].rows) == 50


def test_strangers_are_sent_to_the_sign_in(client: Client) -> None:
    for path in ("/alerts", "/alerts/1", "/alerts/bodies", "/silences"):
        assert client.get(path).status_code == 302
