"""What bin/deploy reports with a release: what trivy found, and the commits of the checkout where it runs."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deployments.models import ReleaseCommits
from tests.deployments.pipelines.deploying import Answer, Say, deploy, end_of, staging, web
from tests.deployments.pipelines.issuer import Serving

__all__ = ["deploy", "staging", "web"]  # fixtures
pytestmark = pytest.mark.django_db(transaction=True)
DIGEST = "sha256:" + "2" * 64


HOLE = {"VulnerabilityID": "CVE-2026-1", "Severity": "HIGH"}
KEY = {"RuleID": "aws-access-key-id", "Severity": "CRITICAL"}
TRIVY = {
    "what is empty is left out": ({"SchemaVersion": 2}, {"critical": 0, "high": 0}),
    "a key in the image": ({"SchemaVersion": 2, "Results": [{"Vulnerabilities": [HOLE]}, {"Secrets": [KEY]}]},
                           {"critical": 1, "high": 1}),
    "something else": ({"runs": []}, None),
}  # fmt: skip


@pytest.mark.parametrize(("report", "found"), TRIVY.values(), ids=TRIVY)
def test_what_trivy_found_is_counted(deploy: Say, tmp_path: Path, report: Any, found: dict[str, int] | None) -> None:
    bodies: list[Any] = []

    def give(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        bodies.append(json.loads(body))
        return 201, {}, json.dumps({"service": "api", "version": "2.0.0", "digest": DIGEST}).encode()

    (tmp_path / "scan.json").write_text(json.dumps(report))
    with Serving(give) as plane:
        image = ("--image", "registry/api", "--digest", DIGEST, "--trivy", str(tmp_path / "scan.json"))
        status, said = end_of(deploy(*image, url=plane.url))
    if found is None:
        assert status == 2 and "is no report of trivy" in said and not bodies
    else:
        assert status == 0, said
        assert bodies[0]["scan"]["findings"] == {**found, "medium": 0, "low": 0}


# --- the commits of the release -------------------------------------------------------------------------


class Checkout:
    """A repository of git with a branch that was merged, as a pipeline has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        who = {
            f"GIT_{role}_{what}": f"{what.lower()}@x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1", **who}
        env |= {"GIT_AUTHOR_NAME": "Zoë Grün", "GIT_COMMITTER_DATE": "2026-11-05T10:00:00+02:00"}
        done = subprocess.run(["git", *arguments], cwd=self.folder, env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, *words: str) -> str:
        """An empty one; returns its name."""
        self.git("commit", "--quiet", "--allow-empty", *(part for one in words for part in ("-m", one)))
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "checkout")
    made.commit("First")
    made.git("switch", "--quiet", "-c", "side")
    made.commit("On a branch")
    made.git("switch", "--quiet", "main")
    made.git("merge", "--quiet", "--no-ff", "-m", "Merge the branch", "side")
    made.commit("Fix\x1b[31m the \u202e\tcheckout " + "ü" * 300, "It was broken.")
    return made


REPORT = ("--image", "registry/api", "--digest", DIGEST)


def test_the_commits_go_with_the_release(deploy: Say, checkout: Checkout) -> None:
    """Along first parents, by name and not by address, and nothing in a title that cannot be seen."""
    newest = checkout.git("rev-parse", "HEAD")
    status, said = end_of(deploy(*REPORT, "--commit", newest, version="2.0.0", cwd=checkout.folder))
    assert status == 0, said
    kept = ReleaseCommits.objects.get(release__version="2.0.0").commits
    assert [one["title"] for one in kept[1:]] == ["Merge the branch", "First"]
    assert kept[0] == {
        "sha": newest, "author": "Zoë Grün", "at": "2026-11-05T08:00:00Z",
        "title": ("Fix [31m the checkout " + "ü" * 300)[:200],
    }  # fmt: skip


@pytest.mark.parametrize(("count", "wanted"), [("2", 2), ("0", 0)])
def test_fewer_commits_or_none_may_be_asked_for(deploy: Say, checkout: Checkout, count: str, wanted: int) -> None:
    newest = checkout.git("rev-parse", "HEAD")
    more = (*REPORT, "--commit", newest, "--commits", count)
    status, said = end_of(deploy(*more, version="2.0.0", cwd=checkout.folder))
    assert status == 0, said
    row = ReleaseCommits.objects.filter(release__version="2.0.0").first()
    assert len(row.commits if row else []) == wanted


@pytest.mark.parametrize(("commit", "is_said"), [("a" * 40, True), ("--output=stolen", False), ("abc1234", False)])
def test_a_release_is_reported_where_its_commits_cannot_be_had(
    deploy: Say, checkout: Checkout, commit: str, is_said: bool
) -> None:
    status, said = end_of(deploy(*REPORT, f"--commit={commit}", version="2.0.0", cwd=checkout.folder))
    assert ("no commits are reported: fatal: bad object" in said) == is_said
    assert not ReleaseCommits.objects.exists()
    assert not (checkout.folder / "stolen").exists()
    assert (status == 0) == (commit != "--output=stolen"), said


def test_outside_of_a_checkout_and_with_a_senseless_number(deploy: Say, tmp_path: Path) -> None:
    status, said = end_of(deploy(*REPORT, "--commit", "a" * 40, version="2.0.0", cwd=tmp_path))
    assert status == 0 and "no commits are reported: fatal: not a git repository" in said
    for number in ("-1", "201"):
        status, said = end_of(deploy(*REPORT, "--commits", number, version="2.0.1"))
        assert status == 2 and "--commits is 0 to 200" in said
