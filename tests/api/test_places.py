"""Files and drift of a place by API: as its pages say them, with the same answers, for the same people."""

from collections.abc import Mapping
from typing import Any

import pytest
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from environments.drivers.base import Document, Running, Software, Target
from environments.models import Drift, DriftWatch, Placement
from tests.api.conftest import Calls, assert_problem
from tests.deployments.insight.test_pages import ran
from tests.estate import Estate, paper

pytestmark = pytest.mark.django_db
FILES, DRIFT = "environments/production/manifests/api", "environments/production/drift"
ADOPT, REDEPLOY = f"{DRIFT}/api/adoption", f"{DRIFT}/api/redeployment"


@pytest.fixture
def exporting(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> Estate:
    """Its driver has two files for each release."""

    def documents(target: Target, software: Software, variables: Mapping[str, str]) -> list[Document]:
        return [Document("a.yaml", f"version: {software.version}\n"), Document("b.yaml", "<b> & 'c'\n")]

    monkeypatch.setattr(paper, "documents", documents, raising=False)
    return estate


@pytest.fixture
def drifted(estate: Estate) -> Placement:
    """1.5.0 runs in production behind our back, and that was seen."""
    wanted = estate.releases["1.5.0"]
    for number in (1, 2, 3):
        paper.runs[f"production-{number}"] = Running(f"production-{number}", wanted.version, wanted.digest)
    placement = Placement.objects.get(environment=estate.production)
    DriftWatch.objects.create(placement=placement, unknown="")
    Drift.objects.create(placement=placement, what="image", subject="production-1", wanted="1.4.0", found="1.5.0")
    return placement


@pytest.mark.parametrize("version", ["", "1.5.0"])
def test_the_files_are_those_of_the_page(
    client: Client, exporting: Estate, dana: Person, calls: Calls, version: str
) -> None:
    told = calls(dana).get(f"{FILES}?version={version}").json()
    assert [one["name"] for one in told] == ["a.yaml", "b.yaml"]
    assert told[0]["text"] == f"version: {version or '1.4.0'}\n"
    client.force_login(dana)
    for one in told:
        page = client.get(f"/environments/production/manifests/api?file={one['name']}&version={version}")
        assert page.content.decode() == one["text"]


def test_nothing_to_show_is_a_409_that_says_why(exporting: Estate, dana: Person, calls: Calls) -> None:
    assert_problem(calls(dana).get(f"{FILES}?version=9.9.9"), 409, "There is no release 9.9.9")
    Placement.objects.update(digest="sha256:unheard-of")
    assert_problem(calls(dana).get(FILES), 409, "Name a version")


def test_a_driver_that_applies_no_files_says_so(estate: Estate, dana: Person, calls: Calls) -> None:
    assert_problem(calls(dana).get(FILES), 409, "paper applies no files")


def test_drift_is_told_as_it_was_seen(drifted: Placement, dana: Person, calls: Calls) -> None:
    (told,) = calls(dana).get(DRIFT).json()
    assert (told["service"], told["version"], told["may_be_adopted"], told["unknown"]) == ("api", "1.4.0", True, "")
    (difference,) = told["differences"]
    assert {key: difference[key] for key in ("what", "subject", "wanted", "found")} == {
        "what": "image", "subject": "production-1", "wanted": "1.4.0", "found": "1.5.0",
    }  # fmt: skip
    DriftWatch.objects.update(unknown="nobody answers")
    assert calls(dana).get(DRIFT).json()[0]["unknown"] == "nobody answers"


def test_what_runs_is_adopted_once(drifted: Placement, alice: Person, calls: Calls) -> None:
    body = {"reason": "the hotfix was right"}
    first = calls(alice).post(ADOPT, body, "a-key")
    assert first.status_code == 201, first.content
    assert first.json()["state"] == State.AWAITING_APPROVAL
    assert calls(alice).post(ADOPT, body, "a-key").json() == first.json()
    operation = Operation.objects.get()
    assert (operation.kind, operation.title) == ("adoption", "Adopt api 1.5.0 in production")
    assert_problem(calls(alice).post(ADOPT, {**body, "plan_digest": "0" * 64}), 409, "has changed since you read")


def test_nothing_to_adopt_is_said(estate: Estate, alice: Person, calls: Calls) -> None:
    assert_problem(calls(alice).post(ADOPT, {"reason": "why"}), 422, "no other image is there to be adopted")
    assert_problem(calls(alice).post(ADOPT, {"reason": "why"}, "a-key"), 422, "no other image is there")
    paper.unreachable = "nobody answers"
    assert_problem(calls(alice).post(ADOPT, {"reason": "why"}), 503, "nobody answers")


def test_what_should_run_is_deployed_again(drifted: Placement, estate: Estate, alice: Person, calls: Calls) -> None:
    ran(estate.staging, estate.releases["1.4.0"])
    before = set(Operation.objects.values_list("pk", flat=True))
    paper.runs["production-2"] = Running("production-2", "1.4.0", estate.releases["1.4.0"].digest)
    answer = calls(alice).post(REDEPLOY, {"reason": "put it right"}, "a-key")
    assert answer.status_code == 201, answer.content
    (operation,) = Operation.objects.exclude(pk__in=before)
    assert operation.title == "Deploy api 1.4.0 to production"
    assert [step["group"] for step in operation.plan["steps"]] == ["production-1", "production-3"]


def test_what_nobody_knows_cannot_be_deployed_again(drifted: Placement, alice: Person, calls: Calls) -> None:
    Placement.objects.update(digest="sha256:unheard-of")
    for key in (None, "a-key"):
        assert_problem(calls(alice).post(REDEPLOY, {"reason": "put it right"}, key), 422, "Nothing that is known")


@pytest.mark.parametrize("path", [ADOPT, REDEPLOY])
@pytest.mark.parametrize(("name", "status"), [("dana", 403), ("eve", 404), ("charlie", 404)])
def test_the_wrong_person_asks_for_nothing(  # noqa: PLR0917 (fixtures)
    drifted: Placement, calls: Calls, request: pytest.FixtureRequest, path: str, name: str, status: int
) -> None:
    who = request.getfixturevalue(name)
    assert_problem(calls(who).post(path, {"reason": "because"}), status)
    assert not Operation.objects.exists()


@pytest.mark.parametrize("path", [FILES, DRIFT])
@pytest.mark.parametrize("name", ["eve", "charlie"])
def test_the_wrong_person_sees_nothing(
    exporting: Estate, calls: Calls, request: pytest.FixtureRequest, path: str, name: str
) -> None:
    who: Any = request.getfixturevalue(name)
    assert_problem(calls(who).get(path), 404)
