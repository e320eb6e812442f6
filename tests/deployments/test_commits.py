"""What lies between two releases, by the commits that were reported: a right list, or none and the reason."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.models import Person
from deployments.commits import SHOWN, Between, Relation, commits_between
from deployments.models import Pipeline, Release, ReleaseReport
from tests.deployments.history import built, sha
from tests.estate import Estate

pytestmark = pytest.mark.django_db


@pytest.fixture
def two(estate: Estate) -> tuple[Release, Release]:
    """What runs in production, and what may come."""
    return estate.releases["1.4.0"], estate.releases["1.5.0"]


def titles(found: Between) -> list[str]:
    return [one.title for one in found.commits]


def test_an_ancestor_s_newer_commits_are_brought_the_newest_first(two: tuple[Release, Release]) -> None:
    here, there = built(two[0], 10), built(two[1], 13, 8)
    found = commits_between(here, there)
    assert (found.relation, found.words) == (Relation.BRINGS, "brings 3 commits")
    assert titles(found) == ["Change 13", "Change 12", "Change 11"]
    assert (found.why, found.compare) == ("", "")


def test_the_other_way_they_are_taken_away(two: tuple[Release, Release]) -> None:
    here, there = built(two[1], 13, 8), built(two[0], 12)
    found = commits_between(here, there)
    assert (found.relation, found.words) == (Relation.TAKES_AWAY, "takes away 1 commit")
    assert titles(found) == ["Change 13"]


def test_the_oldest_reported_commit_still_counts_and_the_one_before_it_does_not(two: tuple[Release, Release]) -> None:
    there = built(two[1], 13, 8)
    assert len(commits_between(built(two[0], 6), there).commits) == 7
    found = commits_between(built(two[0], 5), there)
    assert (found.relation, list(found.commits)) == (Relation.APART, [])


def test_what_is_no_ancestor_gets_words_and_no_list(two: tuple[Release, Release]) -> None:
    here, there = built(two[0], 12, 5, line="b"), built(two[1], 13, 8)
    found = commits_between(here, there)
    assert (found.relation, list(found.commits), found.words) == (Relation.APART, [], "")
    assert f"{sha(12, 'b')[:10]}, is not an ancestor of 1.5.0 as far as its newest 8 reported commits tell" in found.why


def test_nothing_reported_is_said(two: tuple[Release, Release]) -> None:
    found = commits_between(built(two[0], 12, 3), built(two[1], 13))
    assert (found.relation, found.why) == (Relation.UNKNOWN, "Nobody reported the commits of 1.5.0.")


@pytest.mark.parametrize("which", [0, 1])
def test_an_unknown_commit_is_said(two: tuple[Release, Release], which: int) -> None:
    built(two[1 - which], 12, 3)
    found = commits_between(*two)
    assert (found.relation, found.why) == (Relation.UNKNOWN, f"The commit of {two[which].version} is not known.")


def test_the_same_commit_and_the_same_release(two: tuple[Release, Release]) -> None:
    here, there = built(two[0], 12, 3), built(two[1], 12, 3)
    assert commits_between(here, there).relation == Relation.SAME
    assert "built from the same commit" in commits_between(here, there).why
    assert commits_between(here, here).why == "It is 1.4.0 both times."


@pytest.mark.parametrize(("count", "more"), [(SHOWN, 0), (SHOWN + 5, 5)])
def test_a_page_shows_so_many_and_says_how_many_more(two: tuple[Release, Release], count: int, more: int) -> None:
    found = commits_between(built(two[0], 100), built(two[1], 100 + count, count + 1))
    assert (len(found.commits), len(found.shown), found.more) == (count, SHOWN, more)


def reported(release: Release, person: Person, repository: str, issuer: str) -> None:
    pipeline, _ = Pipeline.objects.get_or_create(
        slug="backend", defaults={"person": person, "issuer": issuer, "repository": repository}
    )
    ReleaseReport.objects.create(
        release=release, pipeline=pipeline, repository=repository, sha=release.commit, run_id="1"
    )


GITHUB = "https://token.actions.githubusercontent.com"


REPOSITORY = "https://github.com/o/r"
LINKS = (f"{REPOSITORY}/commit/{sha(13)}", f"{REPOSITORY}/compare/{sha(12)}...{sha(13)}")


@pytest.mark.parametrize(
    ("issuer", "earlier", "links"),
    [(GITHUB, "o/r", LINKS), (GITHUB, "o/old", (LINKS[0], "")), ("https://ci.example", "o/r", ("", ""))],
)
def test_links_lead_to_the_repository_that_the_run_was_of(
    two: tuple[Release, Release], alice: Person, issuer: str, earlier: str, links: tuple[str, str]
) -> None:
    here, there = built(two[0], 12, 1), built(two[1], 13, 2)
    reported(here, alice, earlier, issuer)
    reported(there, alice, "o/r", issuer)
    found = commits_between(here, there)
    assert ([one.url for one in found.commits], found.compare) == ([links[0]], links[1])


def test_the_run_s_signed_word_comes_before_a_person_s(two: tuple[Release, Release], alice: Person) -> None:
    here, there = built(two[0], 12), built(two[1], 13, 5)
    reported(here, alice, "o/r", GITHUB)
    Release.objects.filter(pk=here.pk).update(commit=sha(11))
    here = Release.objects.select_related("report__pipeline").get(pk=here.pk)
    assert titles(commits_between(here, there)) == ["Change 13"]


def test_both_histories_come_in_one_query(two: tuple[Release, Release]) -> None:
    built(two[0], 300, 200)
    built(two[1], 499, 200)
    here, there = Release.objects.select_related("report__pipeline").filter(pk__in=[one.pk for one in two])
    with CaptureQueriesContext(connection) as asked:
        assert len(commits_between(here, there).commits) == 199
    assert len(asked) == 1
