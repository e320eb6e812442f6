"""A rollout that goes wrong ends with the former revision in service, by itself, and says why; or asks a person."""

import pytest

from controlplane.operations.states import State
from tests.aws.company import CLUSTER, SERVICE, Company, digest, lines, run, states
from tests.aws.ecs import PULL_ERROR, Fate
from tests.aws.layer import denied, throttled

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def some_patience(company: Company) -> None:
    """Short, for what hangs; long enough for what comes on a busy machine."""
    company.settings(stable_seconds=3)


@pytest.mark.parametrize("shown", [0, 1])
def test_the_circuit_breaker_goes_back(company: Company, shown: int) -> None:
    company.aws.ecs.fates.append(Fate.FAILS)
    company.aws.ecs.shows_failure = shown
    operation = company.deploy()
    assert operation.state == State.FAILED
    assert operation.outcome.startswith("put back: wait until stable: ")
    assert operation.outcome.endswith("ECS deployment circuit breaker: tasks failed to start.")
    assert company.serving() == company.former
    assert company.running().digest == digest("1.4.0")
    assert any(PULL_ERROR in line for line in lines(operation))
    assert states(operation)["put-back/check"] == "succeeded"
    if shown == 0:
        assert company.aws.changes["UpdateService"] == 1  # ECS did it, we had nothing to add


def test_no_event_is_told_twice_when_steps_hand_over(company: Company) -> None:
    company.aws.ecs.fates.append(Fate.FAILS)
    told = [line for line in lines(company.deploy()) if line.startswith("(service ")]
    known = [event["message"] for event in company.aws.ecs.services[CLUSTER, SERVICE].events[::-1]]
    assert told == known[1:]  # all but the one from before


def test_a_rollout_that_hangs_is_put_back_at_its_deadline(company: Company) -> None:
    company.aws.ecs.fates.append(Fate.HANGS)
    operation = company.deploy()
    assert operation.state == State.FAILED
    assert "not within its time: 3 desired, 3 running (0 on pitchey-backend:2), 3 pending" in operation.outcome
    assert company.serving() == company.former
    assert company.aws.changes == {"RegisterTaskDefinition": 1, "UpdateService": 2}
    assert any(PULL_ERROR in line for line in lines(operation))


def test_an_unhealthy_release_is_put_back(company: Company) -> None:
    company.site.statuses.extend([200, 503, 503, 503])
    operation = company.deploy()
    assert operation.state == State.FAILED
    assert "/health is not healthy: 503" in operation.outcome
    assert company.serving() == company.former
    assert company.running().version == "1.4.0"


def test_what_cannot_be_put_back_asks_a_person(company: Company) -> None:
    company.aws.ecs.fates.extend([Fate.HANGS, Fate.HANGS])
    operation = company.deploy()
    assert operation.state == State.NEEDS_OPERATOR
    assert states(operation)["put-back/stable"] == "unknown"


def test_a_person_is_asked_when_the_former_revision_is_not_healthy_either(company: Company) -> None:
    company.site.usual = 503
    operation = company.deploy()
    assert operation.state == State.NEEDS_OPERATOR
    assert company.serving() == company.former


def test_somebody_elses_deployment_is_not_overwritten(company: Company) -> None:
    company.aws.ecs.fates.append(Fate.HANGS)
    operation = company.ask()

    def also_deploys(action: str) -> None:
        if action == "UpdateService":
            company.aws.on_taken = lambda action: None
            company.aws.ecs.services[CLUSTER, SERVICE].primary.definition += "0"  # :20, not :2

    company.aws.on_taken = also_deploys
    run(operation)
    assert operation.state == State.NEEDS_OPERATOR
    assert "was given pitchey-backend:20 by somebody else" in operation.outcome
    assert company.aws.changes["UpdateService"] == 1


def test_trouble_while_waiting_is_no_verdict(company: Company) -> None:
    company.settings(stable_seconds=20.0)
    operation = company.ask()
    company.aws.on_taken = lambda action: company.aws.will("DescribeServices", *[throttled()] * 3)
    run(operation)
    assert operation.state == State.SUCCEEDED
    assert any(line.startswith("AWS slows us down (ThrottlingException)") for line in lines(operation))


def test_a_denial_while_waiting_is_one(company: Company) -> None:
    operation = company.ask()

    def once(action: str) -> None:
        if action == "UpdateService":
            company.aws.on_taken = lambda action: None
            company.aws.will("DescribeServices", denied("ecs:DescribeServices"))

    company.aws.on_taken = once
    run(operation)
    assert operation.state == State.FAILED
    assert "AWS does not allow ecs:DescribeServices" in operation.outcome
    assert company.serving() == company.former


def test_before_anything_changed_there_is_nothing_to_put_back(company: Company) -> None:
    operation = company.ask()
    company.aws.will("RegisterTaskDefinition", denied("iam:PassRole", "arn:aws:iam::123456789012:role/execution"))
    run(operation)
    assert operation.state == State.FAILED
    assert operation.outcome.startswith("register task definition revision: AWS does not allow iam:PassRole on arn:")
    assert company.aws.changes == {}
    assert states(operation)["put-back/update"] == "pending"


def test_an_update_that_is_denied_leaves_the_former_revision(company: Company) -> None:
    operation = company.ask()
    company.aws.will("UpdateService", denied("ecs:UpdateService"))
    run(operation)
    assert operation.state == State.FAILED
    assert company.aws.changes == {"RegisterTaskDefinition": 1}
    assert company.serving() == company.former
