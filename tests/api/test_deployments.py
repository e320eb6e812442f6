"""POST deployments: what is asked for is planned, gated and waits; nothing runs because of the request alone."""

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from deployments.models import Deployment
from environments.models import EnvironmentLock
from tests.api.conftest import Calls, assert_problem
from tests.estate import Estate, paper


def test_a_deployment_to_production_waits_for_its_approval(alice: Person, estate: Estate, calls: Calls) -> None:
    answer = calls(alice).deploy()
    operation = Operation.objects.get()
    assert answer.status_code == 201
    assert answer.json() == {
        "operation": operation.pk, "state": "awaiting_approval", "plan_digest": operation.plan_digest,
    }  # fmt: skip
    assert operation.deployment.release == estate.releases["1.5.0"]
    assert operation.reason == "checkout fix"


def test_where_no_approval_is_needed_it_is_queued(alice: Person, estate: Estate, calls: Calls) -> None:
    assert calls(alice).deploy("1.6.0", "staging").json()["state"] == "queued"


def test_it_shows_steps_and_who_asked(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    asked = caller.deploy().json()
    shown = caller.get(f"operations/{asked['operation']}").json()
    assert shown["plan_digest"] == asked["plan_digest"]
    assert (shown["id"], shown["kind"], shown["state"]) == (asked["operation"], "deployment", "awaiting_approval")
    assert (shown["requested_by"], shown["reason"], shown["scopes"]) == ("Alice", "checkout fix", ["production"])
    # The steps that would put back are not shown before one of them began.
    assert shown["steps"] == [
        {"key": f"production-{number}-swap", "title": f"swap production-{number}", "state": "pending"}
        for number in (1, 2, 3)
    ]
    assert (shown["approvals"], shown["approvals_required"], shown["last_seq"]) == ([], 1, 1)
    assert (shown["outcome"], shown["error"]) == ("", "")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("9.9.9", "There is no release 9.9.9 of api"),
        ("1.4.0", "runs on every instance"),
        ("1.6.0", "has not run in staging"),
    ],
)
def test_what_cannot_be_deployed_is_422_with_the_reason(
    alice: Person, estate: Estate, calls: Calls, version: str, words: str
) -> None:
    assert_problem(calls(alice).deploy(version), 422, words)
    assert not Deployment.objects.exists()


def test_a_service_without_a_place_there_is_422(alice: Person, estate: Estate, calls: Calls) -> None:
    body = {"service": "nothing", "environment": "production", "version": "1.5.0", "reason": "x"}
    assert_problem(calls(alice).post("deployments", body), 422, "no release 1.5.0 of nothing")


def test_a_locked_environment_is_422_and_says_by_whom(alice: Person, estate: Estate, calls: Calls) -> None:
    EnvironmentLock.objects.create(environment=estate.production, reason="audit week", author_name="Ada")
    assert_problem(calls(alice).deploy(), 422, "locked by Ada", "audit week")


def test_an_unknown_environment_is_404(alice: Person, estate: Estate, calls: Calls) -> None:
    assert_problem(calls(alice).deploy(environment="nowhere"), 404)


def test_an_environment_that_cannot_be_asked_is_503_and_nothing_is_kept(
    alice: Person, estate: Estate, calls: Calls
) -> None:
    caller = calls(alice)
    paper.unreachable = "no answer within 5 s"
    answer = caller.deploy(key="once")
    assert_problem(answer, 503, "no answer within 5 s")
    assert answer.headers["Retry-After"]
    paper.unreachable = ""
    assert caller.deploy(key="once").status_code == 201


def test_who_may_not_deploy_there(dana: Person, eve: Person, charlie: Person, estate: Estate, calls: Calls) -> None:
    assert_problem(calls(dana).deploy(), 403, "operator")
    # Not even whether there is such an environment.
    known = [calls(person).deploy() for person in (eve, charlie)]
    unknown = [calls(person).deploy(environment="nowhere") for person in (eve, charlie)]
    assert {answer.status_code for answer in known + unknown} == {404}
    assert len({answer.content for answer in known + unknown}) == 1
    assert not Operation.objects.exists()


def test_it_may_be_planned_and_has_to_start_by_a_time(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=100)
    until = at + timedelta(hours=1)
    body = {"service": "api", "environment": "staging", "version": "1.6.0", "reason": "at night",
            "scheduled_for": at.isoformat(), "start_by": until.isoformat()}  # fmt: skip
    too_early = {**body, "start_by": (at - timedelta(hours=1)).isoformat()}
    assert_problem(caller.post("deployments", too_early), 422, "Give a later one")
    without_offset = {**body, "start_by": until.replace(tzinfo=None).isoformat()}
    assert_problem(caller.post("deployments", without_offset), 422)
    assert caller.post("deployments", body).json()["state"] == "scheduled"
    kept = Operation.objects.get()
    assert (kept.scheduled_for, kept.start_by) == (at, until)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("9999-12-31T23:59:59-14:00", "after the year 9999"),  # which could be stored, and never be read again
        ("9999-12-31T00:00:00Z", "more than a year away"),
    ],
)
def test_a_time_that_nobody_can_mean_is_refused(
    alice: Person, estate: Estate, calls: Calls, moment: str, words: str
) -> None:
    body = {"service": "api", "environment": "production", "version": "1.6.0", "reason": "x"}
    for field in ("scheduled_for", "start_by"):
        assert_problem(calls(alice).post("deployments", {**body, field: moment}), 422, words)
    assert not Operation.objects.exists()
