"""Whatever happens to a call or to the worker, each change of AWS is made once, and the deployment ends well."""

from collections.abc import Callable

import pytest

from controlplane.accounts.access import Actor
from controlplane.operations import boundaries, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import Answer, State
from environments.drivers.ecs.service import EcsService
from tests.aws.company import CLUSTER, SERVICE, Company, Killed, lines, lose_the_worker, run, run_until_the_end
from tests.aws.ecs import Fate
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, SLOW, Fault, broken, throttled

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

ONCE = {"RegisterTaskDefinition": 1, "UpdateService": 1}
CHANGES = ["RegisterTaskDefinition", "UpdateService"]
FAULTS = {
    "lost before AWS took it": LOST_BEFORE,
    "lost after AWS took it": LOST_AFTER,
    "taken, but the answer is late": SLOW,
    "throttled": throttled(),
    "a broken proxy": broken(),
}


@pytest.mark.parametrize("action", CHANGES)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_call_that_goes_wrong_is_looked_after_before_it_is_sent_again(
    company: Company, action: str, fault: Fault
) -> None:
    company.settings(answer_seconds=0.5 if fault is SLOW else 20.0)
    operation = company.ask()
    company.aws.will(action, fault)
    run(operation)
    assert operation.state == State.SUCCEEDED
    assert company.aws.changes == ONCE
    assert company.running().version == "1.5.0"
    assert any("again in" in line for line in lines(operation))


def test_the_last_try_is_looked_after_too(company: Company) -> None:
    operation = company.ask()
    company.aws.will("UpdateService", throttled(), LOST_BEFORE, LOST_BEFORE, LOST_AFTER)
    assert run(operation).state == State.SUCCEEDED
    assert company.aws.changes == ONCE


def test_trouble_without_end_is_put_back(company: Company) -> None:
    operation = company.ask()
    company.aws.will("UpdateService", *[throttled()] * 5)
    assert run(operation).state == State.FAILED
    assert "AWS slows us down (ThrottlingException) at ecs:UpdateService" in operation.outcome
    assert company.aws.changes == {"RegisterTaskDefinition": 1}


def test_reading_may_fail_anywhere(company: Company) -> None:
    operation = company.ask()
    for action in ("DescribeServices", "DescribeTaskDefinition", "ListTaskDefinitions"):
        company.aws.will(action, LOST_BEFORE, LOST_AFTER)
    assert run(operation).state == State.SUCCEEDED
    assert company.aws.changes == ONCE


def with_the_answer_in_hand(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """The first worker to get AWS's answer to this call dies before it can write it down."""
    real: Callable[..., str] = getattr(EcsService, method)

    def dying(*arguments: object, **values: object) -> str:
        monkeypatch.setattr(EcsService, method, real)
        real(*arguments, **values)
        raise Killed

    monkeypatch.setattr(EcsService, method, dying)


@pytest.mark.parametrize("method", ["register", "update"])
def test_a_worker_that_dies_with_the_answer_in_its_hand(
    company: Company, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    operation = company.ask()
    with_the_answer_in_hand(monkeypatch, method)
    assert run_until_the_end(operation).state == State.SUCCEEDED
    assert company.aws.changes == ONCE


def test_it_dies_while_putting_back(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    company.site.statuses.extend([503, 503, 503])
    operation = company.ask()

    def at_the_failure(boundary: str, operation_id: int, step: str) -> None:
        if (boundary, step) == ("state_written", "check"):
            with_the_answer_in_hand(monkeypatch, "update")

    boundaries.listeners.append(at_the_failure)
    assert run_until_the_end(operation).state == State.FAILED
    assert company.aws.changes == {"RegisterTaskDefinition": 1, "UpdateService": 2}
    assert company.serving() == company.former


def test_ecs_goes_back_while_no_worker_lives(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    company.aws.ecs.fates.append(Fate.FAILS)
    operation = company.ask()
    with_the_answer_in_hand(monkeypatch, "update")
    with pytest.raises(Killed):
        run(operation)
    lose_the_worker(operation)
    for _ in range(10):  # time passes in ECS
        company.client.describe_services(cluster=CLUSTER, services=[SERVICE])
    assert company.serving() == company.former
    assert run_until_the_end(operation).state == State.FAILED
    assert "ECS has taken pitchey-backend:2 back by itself" in operation.outcome
    assert company.aws.changes == ONCE


@pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
@pytest.mark.parametrize("step", ["register", "update", "stable", "check"])
def test_a_worker_that_dies_at_a_boundary(company: Company, boundary: str, step: str) -> None:
    operation = company.ask()
    die_at(boundary, step)
    assert run_until_the_end(operation).state == State.SUCCEEDED
    assert company.aws.changes == ONCE
    assert_events_once(operation)


@pytest.mark.parametrize("step", ["put-back/update", "put-back/stable", "put-back/check"])
def test_a_worker_that_dies_while_putting_back(company: Company, step: str) -> None:
    company.settings(stable_seconds=3)  # what hangs is waited for, and what is put back has to come in the same time
    company.aws.ecs.fates.append(Fate.HANGS)
    operation = company.ask()
    die_at("effect_done", step)
    assert run_until_the_end(operation).state == State.FAILED
    assert company.aws.changes == {"RegisterTaskDefinition": 1, "UpdateService": 2}
    assert company.serving() == company.former


def die_at(boundary: str, step: str) -> None:
    """The first worker to stand there dies."""

    def listener(reached: str, operation_id: int, key: str) -> None:
        if (reached, key) == (boundary, step):
            boundaries.listeners.clear()
            raise Killed

    boundaries.listeners.append(listener)


def assert_events_once(operation: Operation) -> None:
    told = [line for line in lines(operation) if line.startswith("(service ")]
    assert len(told) == len(set(told)) == 3


def in_doubt(company: Company, step: str) -> Operation:
    """A worker met something it did not expect right after the step's effect."""

    def listener(reached: str, operation_id: int, key: str) -> None:
        if (reached, key) == ("effect_done", step):
            boundaries.listeners.clear()
            raise ZeroDivisionError("what was that")

    boundaries.listeners.append(listener)
    operation = run(company.ask())
    assert operation.state == State.NEEDS_OPERATOR
    return operation


def test_a_revision_that_a_person_vouches_for_is_the_revision(company: Company) -> None:
    operation = in_doubt(company, "register")
    operation.steps.filter(key="register").update(checkpoint=without_revision(operation))
    transitions.resolve(operation.pk, Actor(company.alice), "register", Answer.DONE)
    assert run(operation, "w2").state == State.SUCCEEDED
    assert company.running().version == "1.5.0"
    assert company.aws.changes == ONCE


def test_an_update_that_was_left_out_is_not_taken_for_done(company: Company) -> None:
    die_at("intent_written", "update")
    operation = company.ask()
    with pytest.raises(Killed):
        run(operation)
    operation.steps.filter(key="update").update(state="unknown")
    Operation.objects.filter(pk=operation.pk).update(state=State.NEEDS_OPERATOR, lease_until=None, worker="")
    transitions.resolve(operation.pk, Actor(company.alice), "update", Answer.SKIP)
    assert run_until_the_end(operation).state == State.FAILED
    assert "is in service, not the new revision" in operation.outcome
    assert company.running().version == "1.4.0"


def without_revision(operation: Operation) -> dict[str, object]:
    """What the step had noted before the answer that nobody could read."""
    kept = operation.steps.get(key="register").checkpoint
    return {name: value for name, value in kept.items() if name != "revision"}
