"""POST releases with commits: the newest of the release's history, kept once; a run speaks of its own commit only."""

from typing import Any

import pytest

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from deployments.commits import AT_MOST
from deployments.models import Release, ReleaseCommits
from tests.api.conftest import Calls, assert_problem
from tests.api.conftest import calls as calls  # noqa: PLC0414 (a fixture)
from tests.deployments.history import commit, history, sha
from tests.deployments.pipelines.conftest import Run
from tests.deployments.pipelines.issuer import SHA
from tests.estate import Estate

OWN = commit(9, sha=SHA)
HISTORY = [OWN, *history(8, 3)]


def kept() -> list[str]:
    row = ReleaseCommits.objects.filter(release__version="2.0.0").first()
    return [one["sha"] for one in row.commits] if row else []


def entries() -> int:
    return Entry.objects.filter(action="release.commits").count()


def test_a_run_reports_the_history_of_its_commit(run: Run) -> None:
    answer = run.report(commits=HISTORY)
    assert answer.status_code == 201, answer.content
    assert ReleaseCommits.objects.get().commits == HISTORY
    entry = Entry.objects.get(action="release.commits")
    assert (entry.actor, entry.data) == ("pitchey/api run 1001 (octocat)", {"commit": SHA, "known": 4})


def test_the_same_again_is_no_change_and_older_ones_are_added(run: Run) -> None:
    run.report(commits=HISTORY[:2])
    for again in (HISTORY[:2], HISTORY[:1], []):
        assert run.report(commits=again).status_code == 201
    assert (kept(), entries()) == ([one["sha"] for one in HISTORY[:2]], 1)
    run.report(commits=[{**OWN, "title": "said otherwise"}, *HISTORY[1:]])
    assert (kept(), entries()) == ([one["sha"] for one in HISTORY], 2)
    assert ReleaseCommits.objects.get().commits[0]["title"] == "Change 9", "what is kept stays as it was said"


def test_another_history_of_the_same_commit_is_refused(run: Run) -> None:
    run.report(commits=HISTORY)
    assert_problem(run.report(commits=[OWN, *history(7, 3)]), 409, "cannot be changed")
    assert kept() == [one["sha"] for one in HISTORY]


def test_a_run_cannot_report_the_history_of_another_commit(run: Run) -> None:
    assert_problem(run.report(commits=history(9, 3)), 422, f"has to be the release's own, {SHA}")
    assert_problem(run.report(commits=[HISTORY[1], OWN]), 422, "has to be the release's own")
    assert_problem(run.report(commit=sha(9), commits=history(9, 3)), 422, "cannot report a release of")
    assert not Release.objects.filter(version="2.0.0").exists()


def test_of_a_build_that_is_known_the_first_report_counts(run: Run) -> None:
    """A later commit that builds the very same image is no other release, and no error of its pipeline."""
    run.report(commits=HISTORY)
    later = run.report(commits=[commit(10), *HISTORY], claims={"sha": sha(10), "run_id": "1002"})
    assert later.status_code == 201
    assert kept() == [one["sha"] for one in HISTORY]


def test_a_person_s_token_does_as_well_and_names_the_commit(alice: Person, estate: Estate, calls: Calls) -> None:
    body: dict[str, Any] = {
        "service": "api", "version": "2.0.0", "image": "i", "digest": "sha256:" + "2" * 64, "commits": HISTORY,
    }  # fmt: skip
    assert_problem(calls(alice).post("releases", body), 422, "commit has to name it")
    assert_problem(calls(alice).post("releases", {**body, "commit": SHA[:10]}), 422, SHA[:10])
    assert calls(alice).post("releases", {**body, "commit": SHA}).status_code == 201
    assert kept() == [one["sha"] for one in HISTORY]


def test_as_many_as_are_kept_and_with_the_longest_words(run: Run) -> None:
    long = {"author": "ß" * 100, "title": "€" * 200}
    told = [{**OWN, **long}, *(commit(number, **long) for number in range(AT_MOST - 1))]
    assert run.report(commits=told).status_code == 201
    assert len(kept()) == AT_MOST


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([OWN, *history(400, AT_MOST)], "at most 200"),
        ([OWN, OWN], "stands in it twice"),
        ([{**OWN, "sha": SHA[:10]}], "pattern"),
        ([{**OWN, "sha": SHA.upper()}], "pattern"),
        ([{**OWN, "author": "x" * 101}], "at most 100"),
        ([{**OWN, "title": "x" * 201}], "at most 200"),
        ([{**OWN, "title": "one\ntwo"}], "pattern"),
        ([{**OWN, "title": "\u202egnihton"}], "pattern"),
        ([{**OWN, "author": "\x1b[2J"}], "pattern"),
        ([{**OWN, "at": "2026-11-01T10:00:00"}], "timezone"),
        ([{**OWN, "at": "yesterday"}], "datetime"),
        ([{**OWN, "email": "olga@example.com"}], "Extra inputs"),
        ([{"sha": SHA}], "required"),
        ([SHA], "dictionary"),
        ("HEAD", "list"),
    ],
)
def test_what_is_none_is_refused_in_words_and_changes_nothing(run: Run, told: Any, words: str) -> None:
    answer = run.report(commits=told)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Release.objects.filter(version="2.0.0").exists()
