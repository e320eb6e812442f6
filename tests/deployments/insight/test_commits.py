"""Commits between two environments: on the promotion page, in its API, on the plan, and at which price."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.accounts.tokens import create_token
from deployments.models import Pipeline, Release, ReleaseCommits, ReleaseReport
from environments.models import Arrival, Placement
from tests.deployments.history import built, history, sha
from tests.deployments.insight.test_pages import page, ran
from tests.deployments.insight.test_promotion_price import BYTES, QUERIES, company
from tests.estate import Estate

__all__ = ["company"]  # a fixture
pytestmark = pytest.mark.django_db
PAGE = "/promotion/api?between=staging..production"
PLAN = "/environments/production/deploy?service=api&version="


@pytest.fixture
def of_github(estate: Estate, alice: Person) -> None:
    """Both releases were reported by runs of one repository on GitHub."""
    rule = Pipeline.objects.create(
        slug="backend", person=alice, issuer="https://token.actions.githubusercontent.com", repository="o/r"
    )
    for version, number in (("1.4.0", 10), ("1.5.0", 13)):
        ReleaseReport.objects.create(
            release=estate.releases[version], pipeline=rule, repository="o/r", sha=sha(number), run_id="1"
        )


def brings(estate: Estate, count: int = 3, **words: Any) -> None:
    """Staging's 1.5.0 has so many commits more than production's 1.4.0."""
    built(estate.releases["1.4.0"], 10)
    built(estate.releases["1.5.0"], 10 + count)
    told = [{**one, **words} for one in history(10 + count, count + 1)]
    ReleaseCommits.objects.create(release=estate.releases["1.5.0"], commits=told)


@pytest.mark.usefixtures("of_github")
def test_the_page_lists_what_would_come(client: Client, estate: Estate, alice: Person) -> None:
    brings(estate)
    seen = page(client, alice, PAGE)
    assert "1.5.0 brings 3 commits" in seen
    assert seen.index("Change 13") < seen.index("Change 12") < seen.index("Change 11")
    assert "Change 10" not in seen
    assert "Olga" in seen
    assert f'href="https://github.com/o/r/commit/{sha(12)}"' in seen
    assert f'href="https://github.com/o/r/compare/{sha(10)}...{sha(13)}"' in seen


def test_many_are_counted_and_the_newest_shown(client: Client, estate: Estate, alice: Person) -> None:
    brings(estate, 37)
    seen = page(client, alice, PAGE)
    assert "1.5.0 brings 37 commits" in seen and "and 7 more" in seen
    assert "Change 18" in seen and "Change 17" not in seen
    assert "/commit/" not in seen, "no repository is known"


def test_what_the_first_would_take_away_is_said_too(client: Client, estate: Estate, alice: Person) -> None:
    built(estate.releases["1.4.0"], 12, 5)
    built(estate.releases["1.5.0"], 11)
    assert "1.5.0 takes away 1 commit" in page(client, alice, PAGE)


@pytest.mark.usefixtures("of_github")
def test_no_ancestor_is_said_with_the_way_to_compare(client: Client, estate: Estate, alice: Person) -> None:
    built(estate.releases["1.4.0"], 10)
    built(estate.releases["1.5.0"], 13, 2)
    seen = page(client, alice, PAGE)
    assert "is not an ancestor of 1.5.0" in seen and "Compare them in the repository" in seen
    assert "Change" not in seen


def test_nothing_reported_and_nothing_known(client: Client, estate: Estate, alice: Person) -> None:
    assert "The commit of 1.4.0 is not known." in page(client, alice, PAGE)
    Placement.objects.filter(environment=estate.production).update(digest="", version="")
    assert "It is not known which releases run in both." in page(client, alice, PAGE)


def test_a_title_is_only_text(client: Client, estate: Estate, alice: Person) -> None:
    brings(estate, 1, title="<script>alert(1)</script>", author="<b>O</b>")
    seen = page(client, alice, PAGE)
    assert "&lt;script&gt;" in seen and "<script>alert" not in seen and "<b>O</b>" not in seen


@pytest.mark.parametrize("address", [PAGE, f"{PLAN}1.5.0"])
def test_the_price_with_the_most_and_longest_words(
    client: Client, company: Estate, alice: Person, address: str
) -> None:
    def cost() -> tuple[int, bytes]:
        page(client, alice, address)
        with CaptureQueriesContext(connection) as asked:
            answer = client.get(address)
        return len(asked), answer.content

    brings(company, 2)
    few, _ = cost()
    ReleaseCommits.objects.all().delete()
    built(company.releases["1.4.0"], 10, 200)
    brings(company, 199, title="<" * 200, author="ß" * 100)
    many, content = cost()
    assert "brings 199 commits" in content.decode().lower()
    assert few == many <= QUERIES
    assert len(content) < BYTES


# --- the plan of a deployment -------------------------------------------------------------------------


def test_the_plan_says_what_it_brings(client: Client, estate: Estate, alice: Person) -> None:
    brings(estate)
    seen = page(client, alice, f"{PLAN}1.5.0")
    assert "Brings 3 commits" in seen and "Change 11" in seen
    assert '<a href="#commits-title">brings 3 commits</a>' in seen, "beside the form, as the plan may be long"


def test_a_rollback_says_what_it_takes_away(client: Client, estate: Estate, alice: Person) -> None:
    brings(estate)
    earlier, now = estate.releases["1.4.0"], estate.releases["1.5.0"]
    Arrival.objects.create(
        placement=Placement.objects.get(environment=estate.staging), operation=ran(estate.staging, now),
        version=now.version, digest=now.digest, over_version=earlier.version, over_digest=earlier.digest,
    )  # fmt: skip
    seen = page(client, alice, "/environments/staging/rollback/api")
    assert "Roll back api to 1.4.0" in seen and "Takes away 3 commits" in seen and "Change 13" in seen


def test_a_plan_to_what_runs_already_or_from_nothing_known_says_nothing(
    client: Client, estate: Estate, alice: Person
) -> None:
    brings(estate)
    assert "commits" not in page(client, alice, f"{PLAN}1.4.0").lower()
    Release.objects.filter(version="1.4.0").delete()
    assert "commits" not in page(client, alice, f"{PLAN}1.5.0").lower()


# --- the API ------------------------------------------------------------------------------------------


@pytest.fixture
def ask(client: Client, dana: Person) -> Any:
    """Asks for the promotion of the service, as who only looks."""
    plain = create_token(dana, "a program", Role.VIEWER, 1, Actor(dana).who)[1]

    def get(query: str = "") -> Any:
        return client.get(f"/api/v1/promotion/api{query}", headers={"Authorization": f"Bearer {plain}"})

    return get


@pytest.mark.usefixtures("of_github")
def test_programs_get_all_of_them(estate: Estate, ask: Any) -> None:
    brings(estate, 37)
    told = ask("?between=staging..production").json()["between"]
    assert (told["before"], told["after"], told["relation"]) == ("staging", "production", "brings")
    assert len(told["commits"]) == 37
    assert told["commits"][0] == {
        "sha": sha(47), "author": "Olga", "at": "2026-11-20T10:00:00Z", "title": "Change 47",
        "url": f"https://github.com/o/r/commit/{sha(47)}",
    }  # fmt: skip
    assert ask().json()["between"] == told, "the way that releases go"


def test_programs_are_told_why_there_are_none(estate: Estate, ask: Any) -> None:
    built(estate.releases["1.4.0"], 10)
    built(estate.releases["1.5.0"], 13, 2)
    told = ask().json()["between"]
    assert (told["relation"], told["commits"]) == ("apart", [])
    assert "is not an ancestor" in told["why"]
    Placement.objects.filter(environment=estate.production).update(digest="", version="")
    assert ask().json()["between"] is None


@pytest.mark.parametrize(
    ("between", "status"), [("staging..nowhere", 404), ("staging", 422), ("production..staging", 404)]
)
def test_two_environments_that_are_none(estate: Estate, ask: Any, between: str, status: int) -> None:
    assert ask(f"?between={between}").status_code == status
