"""Lists of deployments and releases: found by words and filters, paged by key, cheap however long."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Deployment, Release
from environments.models import Environment
from tests.estate import Estate

QUERIES = 20
BYTES = 100_000


def done(
    environment: Environment, release: Release, *, by: str = "Alice", state: str = State.SUCCEEDED, reason: str = "why"
) -> Operation:
    """A deployment that is over."""
    now = timezone.now()
    plan = {"summary": "", "steps": [], "recovery": [], "changes": []}
    operation = Operation.objects.create(
        kind="deployment", title=f"Deploy {release.service.slug} {release.version} to {environment.slug}",
        scopes=[environment.slug], lock_names=[environment.slug], state=state, reason=reason, plan=plan,
        plan_digest="0" * 64, requested_by_name=by, started_at=now - timedelta(seconds=90), finished_at=now,
    )  # fmt: skip
    Deployment.objects.create(operation=operation, environment=environment, release=release, from_version="1.3.0")
    return operation


@pytest.fixture
def history(estate: Estate) -> Estate:
    """A hundred and twenty deployments to staging, one to production."""
    for number in range(120):
        done(estate.staging, estate.releases["1.4.0"], reason=f"change {number}")
    done(estate.production, estate.releases["1.5.0"], by="Carol Jones", state=State.FAILED, reason="OPS-214 checkout")
    return estate


def found(client: Client, **query: str) -> int:
    return client.get("/deployments", query).content.decode().count('<tr><th scope="row">')


@pytest.mark.parametrize("path", ["/deployments", "/releases", "/releases/api/1.5.0"])
def test_who_sees_what(client: Client, history: Estate, charlie: Person, dana: Person, path: str) -> None:
    assert client.get(path).status_code == 302
    client.force_login(charlie)
    seen = client.get(path)
    assert seen.status_code == 404 or "1.5.0" not in seen.content.decode()
    client.force_login(dana)
    assert "1.5.0" in client.get(path).content.decode()


def test_an_outsider_finds_no_release_by_its_name(client: Client, estate: Estate, charlie: Person, eve: Person) -> None:
    for person in (charlie, eve):
        client.force_login(person)
        assert client.get("/releases/api/1.5.0").status_code == 404


def test_filters_and_words(client: Client, history: Estate, dana: Person) -> None:
    client.force_login(dana)
    assert found(client) == 50
    assert found(client, environment="production") == 1
    assert found(client, state="failed") == 1
    assert found(client, person="carol jones") == 1
    assert found(client, q="chec") == 1
    assert found(client, q="carol 1.5") == 1
    assert found(client, q="carol 1.4") == 0
    assert found(client, q="change 77") == 1
    assert found(client, service="nothing") == 0
    assert found(client, until="2001-01-01") == 0
    assert found(client, since=f"{timezone.now():%Y-%m-%d}", environment="production") == 1


@pytest.mark.parametrize("nonsense", ["'", "a'b", "!&|():*", "\\", "' | '", "<->", "  "])
def test_any_words_may_be_typed(client: Client, history: Estate, dana: Person, nonsense: str) -> None:
    client.force_login(dana)
    assert client.get("/deployments", {"q": nonsense, "since": nonsense, "state": nonsense}).status_code == 200


def test_a_filter_that_cannot_be_read_says_so(client: Client, history: Estate, dana: Person) -> None:
    client.force_login(dana)
    assert "This filter was left out." in client.get("/deployments", {"since": "soon"}).content.decode()


def test_pages_follow_each_other_and_lead_back(client: Client, history: Estate, dana: Person) -> None:
    client.force_login(dana)
    pages = []
    address = "/deployments?environment=staging"
    while address:
        answer = client.get(address)
        page = answer.context["page"]
        pages.append([row.pk for row in page.rows])
        address = f"/deployments?environment=staging&before={page.older}" if page.older else ""
    assert [len(page) for page in pages] == [50, 50, 20]
    everything = [key for page in pages for key in page]
    assert everything == sorted(set(everything), reverse=True)
    first = client.get("/deployments?environment=staging").content.decode()
    assert f"environment=staging&amp;before={pages[0][-1]}" in first
    back = client.get(f"/deployments?environment=staging&after={pages[2][0]}").context["page"]
    assert [row.pk for row in back.rows] == pages[1]
    assert client.get("/deployments?before=" + "9" * 40).status_code == 200


@pytest.mark.parametrize("path", ["/deployments", "/deployments?q=change", "/releases", "/releases/api/1.4.0"])
def test_a_long_history_costs_no_more(
    client: Client, history: Estate, dana: Person, path: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(60):
        Release.objects.create(service=history.service, version=f"2.0.{number}", digest=f"sha256:{number:064}")
    client.force_login(dana)
    with django_assert_max_num_queries(QUERIES):
        answer = client.get(path)
    assert len(answer.content) < BYTES
