"""Promotion, numbers and the calendar: who sees what, what they say, and at which price."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from icalendar import Calendar

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.accounts.tokens import create_token
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State
from deployments.insight.calendar import CalendarPage, freezes_between
from deployments.insight.configuration import differences
from deployments.insight.numbers import NumbersPage
from deployments.insight.promotion import PromotionPage
from deployments.models import Deployment, FreezeWindow, Release
from deployments.services import request_deployment
from environments.models import ConfigEntry, Environment, Placement
from incidents.models import Incident
from tests.estate import Estate

pytestmark = pytest.mark.django_db
PAGES = ["/promotion/api", "/deployments/numbers?place=api/production", "/deployments/calendar"]
QUERIES, BYTES = 20, 100_000


def ran(
    environment: Environment, release: Release, *, state: str = State.SUCCEEDED, ago: float = 1.0, kind: str = "deploy"
) -> Operation:
    """A deployment that ended so many days ago."""
    ended = timezone.now() - timedelta(days=ago)
    plan = {"summary": "", "steps": [], "recovery": [], "changes": []}
    operation = Operation.objects.create(
        kind="deployment", title=f"Deploy api {release.version} to {environment.slug}", scopes=[environment.slug],
        lock_names=[environment.slug], state=state, reason="why", plan=plan, plan_digest="0" * 64,
        requested_by_name="Alice", started_at=ended - timedelta(minutes=3), finished_at=ended,
    )  # fmt: skip
    Deployment.objects.create(operation=operation, environment=environment, release=release, kind=kind)
    if state == State.SUCCEEDED:
        place = Placement.objects.get(environment=environment, service=release.service)
        place.arrivals.create(operation=operation, version=release.version, digest=release.digest)
    Step.objects.create(
        operation=operation, position=0, key="production-1/start", state="succeeded",
        started_at=ended - timedelta(seconds=30), finished_at=ended,
    )  # fmt: skip
    return operation


@pytest.fixture
def history(estate: Estate) -> Estate:
    """Production got 1.4.0, failed to get 1.6.0, and is asked to take 1.5.0."""
    Release.objects.update(created_at=timezone.now() - timedelta(days=20))
    ran(estate.production, estate.releases["1.4.0"], ago=10)
    ran(estate.production, estate.releases["1.6.0"], ago=5, state=State.FAILED)
    ran(estate.staging, estate.releases["1.5.0"], ago=2)
    return estate


def page(client: Client, person: Person, address: str) -> str:
    client.force_login(person)
    answer = client.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


@pytest.mark.parametrize("address", PAGES)
def test_who_sees_what(client: Client, history: Estate, charlie: Person, dana: Person, address: str) -> None:
    assert client.get(address).status_code == 302
    client.force_login(charlie)
    seen = client.get(address)
    assert seen.status_code == 404 or "production" not in seen.content.decode().replace(address, "")
    assert "production" in page(client, dana, address)


def test_a_guest_of_staging_sees_nothing_of_production(client: Client, history: Estate, charlie: Person) -> None:
    Grant.objects.create(person=charlie, scope="staging", role=Role.VIEWER)
    seen = page(client, charlie, "/promotion/api")
    assert "Staging" in seen
    assert "Production" not in seen
    assert client.get("/deployments/numbers?place=api/production").status_code == 404
    assert "production" not in page(client, charlie, "/deployments/calendar")


@pytest.mark.parametrize("address", ["/promotion", "/deployments/numbers", "/deployments/calendar"])
def test_where_there_is_nothing_it_says_so(client: Client, dana: Person, address: str) -> None:
    assert 'class="nothing"' in page(client, dana, address)


@pytest.mark.parametrize("address", PAGES)
def test_the_price_is_the_same_however_long_the_history_is(
    client: Client, history: Estate, alice: Person, address: str
) -> None:
    page(client, alice, address)
    with CaptureQueriesContext(connection) as few:
        client.get(address)
    for number in range(60):
        ran(history.production, history.releases["1.5.0"], ago=number / 10)
    with CaptureQueriesContext(connection) as many:
        answer = client.get(address)
    assert len(many) <= len(few)
    assert len(many) <= QUERIES, "\n".join(one["sql"][:150] for one in many.captured_queries)
    assert len(answer.content) < BYTES


# --- promotion ----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_what_is_where_what_is_newer_and_who_waits(client: Client, history: Estate, alice: Person) -> None:
    asked = request_deployment(
        Actor(alice), environment=history.production, release=history.releases["1.5.0"], reason="checkout fix"
    )
    found = PromotionPage(Actor(alice), history.service)
    assert [(one.environment.slug, one.placement.version, one.newer) for one in found.stations] == [
        ("staging", "1.5.0", 1),
        ("production", "1.4.0", 2),
    ]
    assert found.pair and found.pair.key == "staging..production"
    assert [one.version for one in found.between] == ["1.5.0"]
    assert [one.pk for one in found.waiting] == [asked.pk]
    words = {(release.version, number): cell.word for release, cells in found.rows
             for number, cell in enumerate(cells) if cell}  # fmt: skip
    assert words["1.5.0", 0] == words["1.4.0", 1] == "runs"
    assert words["1.6.0", 1] == "failed"
    assert words["1.5.0", 1] == "waits for approval"
    seen = page(client, alice, "/promotion/api")
    assert f"/environments/production/deploy?release={history.releases['1.5.0'].pk}" in seen
    assert "/environments/production/rollback/api" in seen


def test_what_is_in_use_is_looked_at_before_what_never_was(history: Estate, alice: Person) -> None:
    dr = Environment.objects.create(slug="dr", name="DR", driver="paper", position=9, promoted_from="staging")
    Placement.objects.create(environment=dr, service=history.service, instances=[])
    found = PromotionPage(Actor(alice), history.service)
    assert [one.key for one in found.pairs] == ["staging..production", "staging..dr"]
    assert found.pair and found.pair.key == "staging..production"


def test_of_two_versions_of_one_build_the_one_that_was_deployed_runs_and_is_promoted(
    client: Client, history: Estate, alice: Person
) -> None:
    same = history.releases["1.5.0"]
    Release.objects.create(
        service=history.service, version="1.7.0", image=same.image, digest=same.digest, created_by_name="x"
    )
    found = PromotionPage(Actor(alice), history.service)
    assert found.stations[0].release == same
    seen = page(client, alice, "/promotion/api")
    assert "Promote 1.5.0 to Production" in seen and "Promote 1.7.0" not in seen


def test_a_viewer_has_no_way_to_promote(client: Client, history: Estate, dana: Person) -> None:
    seen = page(client, dana, "/promotion/api")
    assert "/deploy?release" not in seen
    assert "/rollback/" not in seen


def test_a_gate_that_stands_in_the_way_is_said(client: Client, history: Estate, alice: Person) -> None:
    Release.objects.filter(version="1.5.0").update(ci="failed")
    assert "CI passed" in page(client, alice, "/promotion/api")


def test_secrets_differ_by_fingerprint_and_plain_values_are_shown(
    client: Client, history: Estate, dana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_KEY", "sentinel-staging-4711")
    monkeypatch.setenv("PRODUCTION_KEY", "sentinel-production-4711")
    monkeypatch.setenv("COPY_KEY", "sentinel-staging-4711")
    for environment, key, value, secret in (
        (history.staging, "LOG_LEVEL", "debug", ""), (history.production, "LOG_LEVEL", "info", ""),
        (history.staging, "SAME", "1", ""), (history.production, "SAME", "1", ""),
        (history.staging, "API_KEY", "", "env:STAGING_KEY"), (history.production, "API_KEY", "", "env:PRODUCTION_KEY"),
        (history.staging, "COPIED", "", "env:STAGING_KEY"), (history.production, "COPIED", "", "env:COPY_KEY"),
        (history.staging, "ONLY_HERE", "x", ""),
    ):  # fmt: skip
        ConfigEntry.objects.create(environment=environment, key=key, value=value, secret=secret)
    found = differences(history.staging, history.production)
    assert [one.key for one in found] == ["API_KEY", "LOG_LEVEL", "ONLY_HERE"]
    assert found[2].after.there is False
    seen = page(client, dana, "/promotion/api?between=staging..production")
    assert "debug" in seen
    assert "sentinel" not in seen


# --- numbers ------------------------------------------------------------------------------------------


def test_the_numbers_of_a_history(client: Client, history: Estate, dana: Person) -> None:
    found = NumbersPage(history.service, history.production)
    assert (found.whole.frequency, found.whole.ran, found.whole.wrong) == (1, 2, 1)
    assert found.whole.lead == pytest.approx(10 * 86400, abs=60)
    assert [step.name for step in found.steps] == ["start"]
    seen = page(client, dana, "/deployments/numbers?place=api/production")
    assert "Change failure rate" in seen
    assert '<div id="_numbers" hx-get="/deployments/numbers?place=api/production"' in seen, "it refreshes itself"
    assert "50 %" in seen


def test_a_serious_incident_right_after_a_deployment_blames_it(history: Estate) -> None:
    good = Deployment.objects.get(environment=history.production, operation__state=State.SUCCEEDED).operation
    assert good.finished_at
    opened = good.finished_at + timedelta(minutes=10)
    Incident.objects.create(
        title="Checkout is down", severity="P1", environments=["production"], opened_at=opened, state="resolved",
        resolved_at=opened + timedelta(minutes=40), opened_by_name="Alice",
    )  # fmt: skip
    assert NumbersPage(history.service, history.production).whole.wrong == 2
    Deployment.objects.filter(operation__state=State.FAILED).delete()
    found = NumbersPage(history.service, history.production).whole
    assert (found.ran, found.wrong, found.restore) == (1, 1, 2400)


@pytest.mark.parametrize("query", ["place=nonsense", "place=api/nowhere", "place=/"])
def test_a_place_that_is_none_is_not_found(client: Client, history: Estate, dana: Person, query: str) -> None:
    client.force_login(dana)
    assert client.get(f"/deployments/numbers?{query}").status_code == 404


# --- the calendar -------------------------------------------------------------------------------------


def frozen(environment: Environment, day: str, **values: object) -> FreezeWindow:
    given = {"reason": "year end", "starts": f"{day}T18:00", "minutes": 60 * 30, "author_name": "Ada", "zone": "UTC"}
    return FreezeWindow.objects.create(environment=environment, **{**given, **values})


def test_days_have_what_ended_what_is_planned_and_what_is_closed(
    client: Client, history: Estate, alice: Person
) -> None:
    today = timezone.now().date()
    frozen(history.production, f"{today}")
    planned = ran(history.production, history.releases["1.5.0"], state=State.CANCELLED)
    Operation.objects.filter(pk=planned.pk).update(
        state=State.SCHEDULED, finished_at=None, started_at=None, scheduled_for=timezone.now()
    )
    ran(history.production, history.releases["1.4.0"], ago=0)
    found = CalendarPage(Actor(alice), "week")
    entries = [entry for week in found.weeks for day in week for entry in day.entries]
    assert {"succeeded", "scheduled"} <= {entry.word for entry in entries}
    closed = [day.date for week in found.weeks for day in week if day.freezes]
    assert closed == [day for day in (today, today + timedelta(days=1)) if found.first <= day < found.last]
    assert "year end" in page(client, alice, "/deployments/calendar?view=week")


def closed(environment: Environment, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    return [(one.began, one.ended) for one in freezes_between([environment], since, until)]


def test_a_freeze_that_was_taken_away_has_closed_until_then_and_one_of_today_has_not_closed_before(
    history: Estate,
) -> None:
    first = datetime(2026, 12, 20, 18, tzinfo=UTC)
    since, until = first - timedelta(days=19), first + timedelta(days=12)
    week, day = timedelta(days=7), timedelta(days=1)
    taken = frozen(history.production, "2026-12-20", minutes=60 * 24 * 10, ended_at=first + week, made_at=since)
    assert closed(history.production, since, until) == [(first, first + week)]
    assert closed(history.production, first + week + day, until) == []
    taken.delete()
    frozen(history.production, "2026-11-01", rule="FREQ=WEEKLY", minutes=60, made_at=first - day)
    hour = timedelta(hours=1)
    assert closed(history.production, since, until) == [
        (first, first + hour), (first + week, first + week + hour),
    ]  # fmt: skip
    frozen(history.staging, "2026-01-01", rule="FREQ=DAILY", minutes=60, made_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert len(closed(history.staging, first - 35 * day, first + 182 * day)) == 217


def test_a_filter_leaves_out_other_environments(client: Client, history: Estate, alice: Person) -> None:
    assert {one.environment for one in CalendarPage(Actor(alice), "week", environment="staging").entries} <= {"staging"}


@pytest.mark.parametrize(("day", "first", "last"), [
    ("2026-02-14", "2026-01-26", "2026-03-02"), ("2027-02-10", "2027-02-01", "2027-03-01"),
    ("2024-12-31", "2024-11-25", "2025-01-06"),
])  # fmt: skip
def test_a_month_begins_on_a_monday_and_ends_on_a_sunday(alice: Person, day: str, first: str, last: str) -> None:
    found = CalendarPage(Actor(alice), "month", day)
    assert (f"{found.first}", f"{found.last}") == (first, last)
    assert all(len(week) == 7 for week in found.weeks)


@pytest.mark.parametrize("day", ["", "yesterday", "9999-12-31", "0001-01-01", "2026-02-30", "\x00"])
def test_a_day_that_is_none_is_today(alice: Person, day: str) -> None:
    assert CalendarPage(Actor(alice), "month", day).day == timezone.now().date()


def test_the_file_for_calendar_programs(client: Client, history: Estate, dana: Person, charlie: Person) -> None:
    frozen(history.production, f"{timezone.now().date()}")
    address = page(client, dana, "/deployments/calendar").split("<code>")[-1].split("</code>")[0]
    client.logout()
    answer = client.get(address.replace("&amp;", "&"))
    assert answer["Content-Type"].startswith("text/calendar")
    events = Calendar.from_ical(answer.content).walk("VEVENT")
    titles = [str(event["summary"]) for event in events]
    assert "Deploy api 1.4.0 to production: succeeded" in titles
    assert "Production is closed: year end" in titles
    assert all(isinstance(event.decoded("dtstart"), datetime) for event in events)
    assert {str(event["transp"]) for event in events} == {"TRANSPARENT"}, "nobody is busy for a deployment"
    only = Calendar.from_ical(client.get(address + "&environment=staging").content).walk("VEVENT")
    assert all("staging" in str(event["summary"]) for event in only)


def test_what_expired_and_never_ran_took_no_time_and_is_off(client: Client, history: Estate, dana: Person) -> None:
    expired = ran(history.staging, history.releases["1.6.0"], state=State.EXPIRED)
    Operation.objects.filter(pk=expired.pk).update(started_at=None, requested_at=timezone.now() - timedelta(days=4))
    address = page(client, dana, "/deployments/calendar").split("<code>")[-1].split("</code>")[0]
    events = Calendar.from_ical(client.get(address.replace("&amp;", "&")).content).walk("VEVENT")
    event = next(one for one in events if "expired" in str(one["summary"]))
    assert event["status"] == "CANCELLED"
    assert event.decoded("dtstart") == event.decoded("dtend")
    assert {str(one["status"]) for one in events if one is not event} == {"CONFIRMED"}


def test_an_address_ends_with_the_password_and_opens_what_its_person_sees(
    client: Client, history: Estate, dana: Person, charlie: Person
) -> None:
    address = page(client, dana, "/deployments/calendar").split("<code>")[-1].split("</code>")[0]
    other = page(client, charlie, "/deployments/calendar").split("<code>")[-1].split("</code>")[0]
    client.logout()
    assert b"BEGIN:VEVENT" not in client.get(other).content
    assert client.get("/deployments/calendar.ics").status_code == 401
    assert client.get(address + "0").status_code == 401
    dana.set_password("another-password-2")
    dana.save()
    assert client.get(address).status_code == 401


# --- the API ------------------------------------------------------------------------------------------


def test_the_api_says_the_same(client: Client, history: Estate, dana: Person, charlie: Person) -> None:
    headers = {"Authorization": f"Bearer {create_token(dana, 'x', Role.VIEWER, 1, Actor(dana).who)[1]}"}
    answer = client.get("/api/v1/numbers/api/production", headers=headers).json()
    assert answer["whole"]["failure_percent"] == 50
    assert len(answer["weeks"]) == 12
    where = client.get("/api/v1/promotion/api", headers=headers).json()
    assert [one["version"] for one in where["environments"]] == ["1.5.0", "1.4.0"]
    headers = {"Authorization": f"Bearer {create_token(charlie, 'x', Role.VIEWER, 1, Actor(charlie).who)[1]}"}
    assert client.get("/api/v1/numbers/api/production", headers=headers).status_code == 404
    assert client.get("/api/v1/promotion/api", headers=headers).status_code == 404


@pytest.mark.parametrize(("weeks", "wanted"), [("4", 4), ("26", 26), ("5", 0), ("0", 0), ("27", 0), ("x", 0)])
def test_the_api_counts_the_weeks_that_are_asked_for_or_none(
    client: Client, history: Estate, dana: Person, weeks: str, wanted: int
) -> None:
    headers = {"Authorization": f"Bearer {create_token(dana, 'x', Role.VIEWER, 1, Actor(dana).who)[1]}"}
    answer = client.get(f"/api/v1/numbers/api/production?weeks={weeks}", headers=headers)
    assert answer.status_code == (200 if wanted else 422)
    assert len(answer.json().get("weeks", [])) == wanted


def test_the_board_and_the_navigation_lead_there(client: Client, history: Estate, dana: Person) -> None:
    board = page(client, dana, "/")
    assert 'href="/promotion/api"' in board
    assert 'href="/promotion"' in board
    assert Placement.objects.count() == 2
