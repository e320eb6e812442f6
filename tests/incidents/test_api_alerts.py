"""Alerts, silences, on-call and the runbook for programs: the rules of the pages hold."""

from datetime import date, time, timedelta

import pytest
from django.utils import timezone

from controlplane.accounts.models import Person
from incidents.models import Alert, AlertSource, Layer, RunbookRun, RunbookTask, Schedule, Silence
from tests.api.conftest import Caller, assert_problem
from tests.estate import Estate
from tests.incidents.test_api import caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def alices(alice: Person) -> Caller:
    """Alice's program."""
    return caller(alice)


@pytest.fixture
def alert(estate: Estate) -> Alert:
    """HighErrorRate fires in production."""
    now = timezone.now()
    source = AlertSource.objects.create(slug="prometheus", kind="alertmanager")
    return Alert.objects.create(
        source=source, fingerprint="f", state="firing", name="HighErrorRate", severity="critical",
        environment=estate.production, started_at=now, last_at=now, labels={"alertname": "HighErrorRate"},
    )  # fmt: skip


@pytest.fixture
def run(db: None) -> RunbookRun:
    """Error logs are to be reviewed today."""
    task = RunbookTask.objects.create(slug="logs", title="Review error logs", cadence="daily", due="0 12 * * *")
    now = timezone.now()
    return RunbookRun.objects.create(task=task, opens_at=now, due_at=now + timedelta(hours=1))


def in_hours(count: int) -> str:
    return (timezone.now() + timedelta(hours=count)).isoformat()


def test_alerts_are_of_what_one_sees(alices: Caller, eve: Person, alert: Alert) -> None:
    (seen,) = alices.get("alerts?state=firing&severity=critical").json()
    assert (seen["id"], seen["name"], seen["environment"]) == (alert.pk, "HighErrorRate", "production")
    assert alices.get(f"alerts/{alert.pk}").json() == seen
    assert alices.get("alerts?state=resolved").json() == []
    assert caller(eve).get("alerts").json() == []
    assert_problem(caller(eve).get(f"alerts/{alert.pk}"), 404)


def test_a_note_is_kept(alices: Caller, dana: Person, alert: Alert) -> None:
    assert alices.post(f"alerts/{alert.pk}/note", {"note": "the pool again"}).json()["note"] == "the pool again"
    assert_problem(caller(dana).post(f"alerts/{alert.pk}/note", {"note": "x"}), 403)
    alert.refresh_from_db()
    assert (alert.note, alert.note_by_name) == ("the pool again", "Alice")


def test_a_silence_is_put_and_ended(alices: Caller, estate: Estate) -> None:
    body = {"matchers": 'alertname="HighErrorRate"', "environment": "production", "ends_at": in_hours(1), "reason": "x"}
    made = alices.post("silences", body)
    assert made.status_code == 201, made.content
    assert alices.get("silences").json() == [made.json()]
    assert alices.post(f"silences/{made.json()['id']}/end", {}).status_code == 200
    assert alices.get("silences").json() == []
    assert_problem(alices.post(f"silences/{made.json()['id']}/end", {}), 409)


def test_bad_matchers_point_at_the_character(alices: Caller, estate: Estate) -> None:
    body = {"matchers": "alertname", "environment": "production", "ends_at": in_hours(1), "reason": "x"}
    assert_problem(alices.post("silences", body), 422, "At character 1")
    assert_problem(alices.post("silences", {**body, "environment": "mars"}), 404)
    assert not Silence.objects.exists()


def test_who_is_on_call(alices: Caller, charlie: Person, bob: Person) -> None:
    schedule = Schedule.objects.create(slug="primary", name="Primary")
    Layer.objects.create(
        schedule=schedule, position=1, name="Engineers", people=["alice", "bob"], starts_on=date(2026, 1, 5),
        handover=time(9),
    )  # fmt: skip
    (seen,) = alices.get("on-call").json()
    assert {one["person"] for one in seen["shifts"]} == {"alice", "bob"}
    assert seen["shifts"][0]["ends_at"] == seen["shifts"][1]["starts_at"]
    assert_problem(caller(charlie).get("on-call"), 404)


def test_a_task_is_ticked_with_its_evidence(alices: Caller, eve: Person, charlie: Person, run: RunbookRun) -> None:
    (waits,) = alices.get("runbook").json()
    assert (waits["id"], waits["state"]) == (run.pk, "open")
    body = {"run": run.pk, "evidence": "nothing new in the logs"}
    for other in (eve, charlie):
        assert_problem(caller(other).post("runbook/logs/ticks", body), 403)
    assert alices.post("runbook/logs/ticks", body).json()["state"] == "done"
    assert_problem(alices.post("runbook/logs/ticks", body), 409, "Alice has done it already")
    assert alices.get("runbook").json() == []
