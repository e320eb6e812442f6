"""The audit page and its files: who sees what, filters in the address, page by page, at a fixed price."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.models import Grant, Person, Role
from controlplane.audit.record import SYSTEM, Who, record
from tests.audit.tampering import as_superuser

pytestmark = pytest.mark.django_db


@pytest.fixture
def trail(alice: Person) -> None:
    """Four entries: development, production, both, and the whole installation."""
    who = Who("Alice", alice.pk, "web")
    record(who, "thing.started", "thing 1", scopes=["development"], reason="=1+1")
    record(who, "thing.started", "thing 2", scopes=["production"])
    record(SYSTEM("clock"), "thing.ended", "thing 3", scopes=["development", "production"])
    record(SYSTEM("clock"), "thing.ended", "thing 4")


def seen(client: Client, person: Person, query: str = "") -> list[int]:
    """The numbers of the things on the page."""
    client.force_login(person)
    response = client.get(f"/audit{query}")
    assert response.status_code == 200
    return [int(entry.target[6:]) for entry in response.context["page"].rows if entry.target.startswith("thing ")]


def test_a_stranger_signs_in_first(client: Client, trail: None) -> None:
    for path in ("/audit", "/audit.csv", "/audit.json"):
        response = client.get(path)
        assert (response.status_code, response["Location"]) == (302, f"/login?next={path}")


@pytest.mark.parametrize(
    ("name", "things"), [("ada", [4, 3, 2, 1]), ("dana", [3, 2, 1]), ("eve", [1]), ("charlie", [])]
)
def test_who_sees_what(
    client: Client, trail: None, request: pytest.FixtureRequest, name: str, things: list[int]
) -> None:
    assert seen(client, request.getfixturevalue(name)) == things


def test_an_admin_of_one_environment_sees_that_one(client: Client, trail: None, charlie: Person) -> None:
    Grant.objects.create(person=charlie, scope="production", role=Role.ADMIN)
    assert seen(client, charlie) == [2]


def test_a_filter_opens_no_door(client: Client, trail: None, eve: Person) -> None:
    for query in ("?scope=production", "?target=thing+2", "?action=thing.ended", "?person=system:+clock"):
        assert seen(client, eve, query) == []


@pytest.mark.parametrize(
    ("query", "things"),
    [
        ("?person=alice", [2, 1]), ("?person=ALICE", [2, 1]), ("?person=system:+clock", [4, 3]), ("?person=nobody", []),
        ("?action=thing.started", [2, 1]), ("?target=THING+2", [2]), ("?scope=production", [3, 2]),
        ("?scope=production&action=thing.ended", [3]), ("?before=3", [2, 1]), ("?after=3", [4]),
        ("?since=2000-01-01", [4, 3, 2, 1]), ("?until=2000-01-01", []), ("?since=2999-01-01", []),
        ("?since=yesterday", [4, 3, 2, 1]), ("?before=x&after=9e9", [4, 3, 2, 1]),
        ("?before=" + "9" * 30, [4, 3, 2, 1]),
        ("?until=9999-12-31", [4, 3, 2, 1]),
    ],
)  # fmt: skip
def test_filters_are_in_the_address(client: Client, trail: None, ada: Person, query: str, things: list[int]) -> None:
    assert seen(client, ada, query) == things


def test_a_filter_that_makes_no_sense_is_said(client: Client, trail: None, ada: Person) -> None:
    client.force_login(ada)
    assert b"This filter was left out." in client.get("/audit?since=yesterday").content


def test_days_are_whole_and_in_utc(client: Client, trail: None, ada: Person) -> None:
    late, early = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    as_superuser("UPDATE audit_entry SET at = CASE WHEN id <= 2 THEN %s::timestamptz ELSE %s END", late, early)
    client.force_login(ada)
    as_superuser("UPDATE audit_entry SET at = %s WHERE id > 4", early + timedelta(days=9))
    assert seen(client, ada, "?since=2026-03-01&until=2026-03-01") == [2, 1]
    assert seen(client, ada, "?since=2026-03-02&until=2026-03-02") == [4, 3]


def test_pages_by_key(client: Client, ada: Person) -> None:
    for number in range(1, 121):
        record(SYSTEM("test"), "thing.done", f"thing {number}")
    client.force_login(ada)
    first = client.get("/audit?action=thing.done").context["page"]
    assert [len(first.rows), first.rows[0].target, first.newer] == [50, "thing 120", 0]
    second = client.get(f"/audit?action=thing.done&before={first.older}").context["page"]
    third = client.get(f"/audit?action=thing.done&before={second.older}").context["page"]
    assert [len(third.rows), third.rows[-1].target, third.older] == [20, "thing 1", 0]
    back = client.get(f"/audit?action=thing.done&after={third.newer}").context["page"]
    assert [entry.pk for entry in back.rows] == [entry.pk for entry in second.rows]


def test_the_price_is_fixed(client: Client, ada: Person, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    for number in range(120):
        record(SYSTEM("test"), f"thing.{number % 7}", f"thing {number}", data={"n": number, "items": "1"})
    client.force_login(ada)
    with django_assert_max_num_queries(15) as queries:
        assert client.get("/audit?person=ada&since=2020-01-01&until=2999-01-01").status_code == 200
    assert not [
        query for query in queries.captured_queries if "COUNT(" in query["sql"] and "audit_entry" in query["sql"]
    ]


def test_refusals_and_facts_are_on_the_page(client: Client, ada: Person, charlie: Person) -> None:
    client.force_login(charlie)
    assert client.get("/people").status_code == 403
    client.force_login(ada)
    page = client.get("/audit?person=charlie&action=access.denied").content.decode()
    assert "state bad" in page
    assert "This needs the role admin." in page
