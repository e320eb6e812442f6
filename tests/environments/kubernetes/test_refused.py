"""What the cluster refuses has changed nothing: the deployment ends in words, and nobody has to put anything right."""

from typing import Any

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Release
from deployments.services import request_deployment
from environments.drivers.base import Rollout
from environments.drivers.kubernetes import manifests
from tests.environments.kubernetes.server import Fault
from tests.environments.kubernetes.town import IMAGE, NAME, Hand, Town, digest_of_release, do_until

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def made_by_helm(town: Town) -> Town:
    """1.4.0, in a Deployment that we have never applied; nobody answers at its URL."""
    found = manifests.deployment(town.target, f"{IMAGE}@{digest_of_release('1.4.0')}", "")
    found["spec"]["template"]["metadata"].pop("annotations")
    found["spec"]["replicas"] = 3
    town.cluster.create("Deployment", found, "helm")
    town.cluster.settle()
    town.placement.environment.url = NOBODY
    town.placement.environment.save()
    return town


def deploy(town: Town, person: Person) -> Operation:
    """1.5.0, asked for and carried out."""
    given = {"image": f"{IMAGE}:1.5.0", "ci": "passed", "digest": digest_of_release("1.5.0")}
    made = Release.objects.create(service=town.placement.service, version="1.5.0", **given)
    environment = town.placement.environment
    operation = request_deployment(Actor(person), environment=environment, release=made, reason="because")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def said_of(operation: Operation) -> str:
    return "\n".join(event.text for event in operation.events.all())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"strategy": {"rollingUpdate": {"maxSurge": "50%"}}}, "spec.strategy.rollingUpdate.maxSurge"),
        ({"progressDeadlineSeconds": 100}, "spec.progressDeadlineSeconds"),
        ({"revisionHistoryLimit": 2}, "spec.revisionHistoryLimit"),
    ],
)
def test_a_field_of_another_manager_stops_the_first_deployment(
    made_by_helm: Town, alice: Person, spec: dict[str, Any], field: str
) -> None:
    made_by_helm.cluster.update("Deployment", NAME, {"spec": spec}, "helm")
    made_by_helm.cluster.settle()
    before = made_by_helm.cluster.shown(made_by_helm.deployment)
    operation = deploy(made_by_helm, alice)
    assert operation.state == State.FAILED, operation.outcome
    assert f"{field} is managed by helm" in said_of(operation)
    assert "was not changed by this operation" in said_of(operation)
    assert made_by_helm.deployment["spec"] == before["spec"]
    assert made_by_helm.deployment["metadata"] == before["metadata"]


@pytest.mark.django_db(transaction=True)
def test_an_account_that_may_not_change_it_has_changed_nothing(made_by_helm: Town, alice: Person) -> None:
    made_by_helm.api.faults.append(Fault("PATCH", "Deployment", 403, message="deployments is forbidden", times=99))
    operation = deploy(made_by_helm, alice)
    assert operation.state == State.FAILED, operation.outcome
    assert "does not allow it for Deployment" in said_of(operation)
    assert [one for one in made_by_helm.api.changes() if one[1] == "Deployment"] == [("PATCH", "Deployment", NAME)]


def no_answer_and_then_a_refusal(town: Town) -> tuple[Hand, Rollout]:
    """The first request may still come about; the second is refused."""
    rollout, worker = town.rollout("1.5.0"), town.worker()
    step = do_until(worker, rollout, "deployment")
    for status, permanent in ((504, False), (422, True)):
        town.api.faults.append(Fault("PATCH", "Deployment", status))
        with pytest.raises(StepError) as found:
            worker.do(step)
        assert found.value.permanent is permanent
    return worker, rollout


def test_what_got_no_answer_is_refused_from_then_on_and_nothing_else_is_changed(town: Town) -> None:
    town.settings(replicas=2)
    town.deploy("1.4.0")
    strategy = {"spec": {"strategy": {"rollingUpdate": {"maxSurge": "50%"}}}}
    town.cluster.update("Deployment", NAME, strategy, "helm")
    town.cluster.settle()
    before = town.cluster.shown(town.deployment)
    worker, rollout = no_answer_and_then_a_refusal(town)
    for step in rollout.recovery:
        worker.do(step)
    after = town.deployment
    assert after["spec"] == before["spec"]
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert after["metadata"]["annotations"]["controlplane/operation"] == str(worker.operation_id)
    worker.do(rollout.recovery[0])
    assert ("started", "production-1") not in [one[:2] for one in worker.effects]


def test_the_next_deployment_takes_the_marks_back(town: Town) -> None:
    town.deploy("1.4.0")
    worker, rollout = no_answer_and_then_a_refusal(town)
    worker.do(rollout.recovery[0])
    assert town.deploy("1.5.0") is None
    assert "controlplane-mark" not in {one["manager"] for one in town.deployment["metadata"]["managedFields"]}
    assert town.pods() == [digest_of_release("1.5.0")] * 3


def test_a_person_is_asked_when_not_even_that_can_be_refused(town: Town) -> None:
    town.deploy("1.4.0")
    worker, rollout = no_answer_and_then_a_refusal(town)
    town.api.faults.append(Fault("PATCH", "Deployment", 403, times=99))
    with pytest.raises(StepError, match="does not allow it"):
        worker.do(rollout.recovery[0])


def test_a_step_that_was_left_out_is_no_success(town: Town) -> None:
    """On the way there, what was not changed has not become what was asked for."""
    town.deploy("1.4.0")
    rollout, worker = town.rollout("1.5.0"), town.worker()
    worker.do(rollout.steps[0])
    with pytest.raises(StepError, match="changed by somebody else"):
        worker.do(next(one for one in rollout.steps if one.key == "rolled"))
