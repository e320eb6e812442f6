"""Somebody changed what was deployed; a redeployment takes it back, by name, and an adoption keeps it."""

from typing import Any

import pytest

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.environments.kubernetes.answering import (
    adopt,
    asked,
    carried_out,
    deploy,
    edited,
    set_image,
    taken_back,
    the_clock_looks,
)
from tests.environments.kubernetes.fields import Object
from tests.environments.kubernetes.server import Fault
from tests.environments.kubernetes.town import IMAGE, NAME, Town, digest_of_release, do_until

pytestmark = pytest.mark.django_db(transaction=True)
IMAGE_FIELD = f'spec.template.spec.containers[name="{NAME}"].image'
SCALER = f"{NAME}-hpa"


def said_of(operation: Operation) -> str:
    return "\n".join(event.text for event in operation.events.all())


def in_pod(**spec: Any) -> Object:
    return {"template": {"spec": spec}}


def grace(seconds: int) -> Object:
    return in_pod(terminationGracePeriodSeconds=seconds)


def test_a_redeployment_takes_the_image_back_and_its_plan_says_from_whom(deployed: Town, alice: Person) -> None:
    set_image(deployed, "1.5.0")
    assert [what for what, _ in the_clock_looks()] == ["image"]
    operation = asked(deployed, alice)
    row = {"what": f"{IMAGE_FIELD} of Deployment {NAME}", "from": "managed by kubectl-set", "to": "taken back"}
    assert row in operation.plan["changes"]
    assert carried_out(operation).state == State.SUCCEEDED, said_of(operation)
    assert taken_back(operation) == [(IMAGE_FIELD, "kubectl-set")]
    assert operation.deed.differences == []
    assert deployed.pods() == [digest_of_release("1.4.0")] * 3
    assert the_clock_looks() == []
    assert deploy(deployed, alice, "1.5.0").state == State.SUCCEEDED, "the image is ours again"


def test_another_release_is_no_answer_and_is_refused_in_words(deployed: Town, alice: Person) -> None:
    set_image(deployed, "1.5.0")
    operation = deploy(deployed, alice, "1.6.0")
    assert operation.state == State.FAILED
    assert f"{IMAGE_FIELD} is managed by kubectl-set" in said_of(operation)
    assert taken_back(operation) == []
    assert deployed.running().version == "unknown"


def test_what_another_changed_since_the_plan_was_made_makes_it_stale(deployed: Town, alice: Person) -> None:
    set_image(deployed, "1.5.0")
    operation = asked(deployed, alice)
    edited(deployed, "argocd", grace(99))
    assert carried_out(operation).state == State.STALE
    assert deployed.running().digest == digest_of_release("1.5.0")


@pytest.mark.parametrize("field", ["progressDeadlineSeconds", "revisionHistoryLimit"])
def test_while_it_runs_only_what_the_plan_names_is_taken(deployed: Town, field: str) -> None:
    """Another manager of the same field, or another field: the apply is refused, in words."""
    edited(deployed, "kubectl-edit", {"progressDeadlineSeconds": 50})
    rollout, worker = deployed.rollout("1.4.0"), deployed.worker()
    worker.do(rollout.steps[0])
    edited(deployed, "argocd", {field: 7})
    with pytest.raises(Exception, match=f"spec.{field} is managed by argocd"):
        worker.do(do_until(worker, rollout, "deployment"))
    assert deployed.deployment["spec"][field] == 7


def test_a_lost_answer_is_told_once(deployed: Town, alice: Person) -> None:
    set_image(deployed, "1.5.0")
    deployed.api.faults.append(Fault("PATCH", "Deployment", 0))
    operation = deploy(deployed, alice)
    assert operation.state == State.SUCCEEDED, said_of(operation)
    assert taken_back(operation) == [(IMAGE_FIELD, "kubectl-set")]
    assert operation.deed.differences == []


def test_what_fails_goes_back_to_what_was_there(deployed: Town, alice: Person) -> None:
    set_image(deployed, "1.5.0")
    deployed.cluster.behaviours[digest_of_release("1.4.0")] = "crashes"
    operation = deploy(deployed, alice)
    assert operation.state == State.FAILED
    assert deployed.pods() == [digest_of_release("1.5.0")] * 3
    assert operation.deed.differences == []


def test_an_undone_rollout_is_taken_back_with_its_marks(deployed: Town, alice: Person) -> None:
    """`kubectl rollout undo` writes the whole former template, our annotations in it."""
    former = deployed.cluster.shown(deployed.deployment["spec"]["template"])
    assert deploy(deployed, alice, "1.5.0").state == State.SUCCEEDED
    edited(deployed, "kubectl-rollout", {"template": former})
    assert [what for what, _ in the_clock_looks()] == ["image"]
    operation = deploy(deployed, alice, "1.5.0")
    assert operation.state == State.SUCCEEDED, said_of(operation)
    assert "spec.template.metadata.annotations.controlplane/version" in dict(taken_back(operation))
    assert the_clock_looks() == []


def test_an_adopted_image_is_replaced_by_the_next_deployment(deployed: Town, alice: Person) -> None:
    set_image(deployed, "1.5.0")
    changes = len(deployed.api.changes())
    assert adopt(deployed, alice).state == State.SUCCEEDED
    assert len(deployed.api.changes()) == changes
    assert the_clock_looks() == []
    operation = deploy(deployed, alice, "1.6.0")
    assert operation.state == State.SUCCEEDED, said_of(operation)
    assert taken_back(operation) == [(IMAGE_FIELD, "kubectl-set")]


def test_but_nothing_else_of_what_was_adopted(deployed: Town, alice: Person) -> None:
    edited(deployed, "kubectl-edit", grace(99))
    set_image(deployed, "1.5.0")
    assert adopt(deployed, alice).state == State.SUCCEEDED
    operation = deploy(deployed, alice, "1.6.0")
    assert operation.state == State.FAILED
    assert "terminationGracePeriodSeconds is managed by kubectl-edit" in said_of(operation)


PORT_81 = {"ports": [{"port": 81, "targetPort": 8000, "protocol": "TCP"}]}
CHANGED: list[tuple[str, Object]] = [
    ("Deployment", {"replicas": 5}),
    ("Deployment", grace(1)),
    ("Deployment", in_pod(containers=[{"name": NAME, "env": [{"name": "ADDED", "value": "hidden-one"}]}])),
    ("Deployment", in_pod(containers=[{"name": NAME, "env": [{"name": "LOG_LEVEL", "value": "hidden-one"}]}])),
    ("Deployment", in_pod(containers=[{"name": NAME, "image": f"{IMAGE}:latest"}])),
    ("Deployment", in_pod(containers=[{"name": NAME, "resources": {"limits": {"cpu": "9"}}}])),
    ("Service", {"selector": {"app": "another"}}),
    ("Service", {"selector": {"app": NAME, "track": "canary"}}),
    ("Service", {"type": "ClusterIP"}),
    ("Service", PORT_81),
    ("Service", {"ports": [{"port": 80, "targetPort": 9000}]}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec"), CHANGED)
def test_whatever_was_changed_is_put_right(deployed: Town, alice: Person, kind: str, spec: Object) -> None:
    before = deployed.cluster.shown(deployed.cluster.get(kind, NAME)["spec"])
    edited(deployed, "kubectl-edit", spec, kind)
    assert the_clock_looks() != []
    operation = deploy(deployed, alice)
    assert operation.state == State.SUCCEEDED, said_of(operation)
    assert taken_back(operation) and {manager for _, manager in taken_back(operation)} == {"kubectl-edit"}
    assert operation.deed.differences == []
    assert the_clock_looks() == []
    assert deployed.cluster.get(kind, NAME)["spec"] == before
    assert "hidden-one" not in f"{said_of(operation)} {operation.plan}"


@pytest.fixture
def scaling(deployed: Town, alice: Person) -> Town:
    """With an autoscaler between 3 and 10."""
    deployed.settings(autoscale={})
    assert deploy(deployed, alice).state == State.SUCCEEDED
    assert the_clock_looks() == []
    return deployed


@pytest.mark.parametrize("spec", [{"maxReplicas": 99}, {"minReplicas": 1}, {"metrics": []}])
def test_an_autoscaler_that_was_changed_is_put_right(scaling: Town, alice: Person, spec: Object) -> None:
    edited(scaling, "kubectl-edit", spec, "HorizontalPodAutoscaler", SCALER)
    (field,) = spec
    assert the_clock_looks() == [("count", f"other spec.{field}")]
    operation = deploy(scaling, alice)
    assert operation.state == State.SUCCEEDED, said_of(operation)
    assert taken_back(operation) == [(f"spec.{field}", "kubectl-edit")]
    assert the_clock_looks() == []


@pytest.mark.parametrize(("kind", "name"), [("HorizontalPodAutoscaler", SCALER), ("Service", NAME)])
def test_what_was_deleted_is_made_again(scaling: Town, alice: Person, kind: str, name: str) -> None:
    scaling.cluster.delete(kind, name, {})
    assert f"no {kind}" in dict(map(reversed, the_clock_looks()))  # type: ignore[arg-type]
    operation = deploy(scaling, alice)
    assert operation.state == State.SUCCEEDED, said_of(operation)
    assert scaling.cluster.get(kind, name)
    assert the_clock_looks() == []


# --- scaled to 0 --------------------------------------------------------------------------------------


def test_the_count_that_was_deployed_comes_back(deployed: Town, alice: Person) -> None:
    edited(deployed, "kubectl-scale", {"replicas": 0})
    assert the_clock_looks() == [("count", "0 pods")]
    operation = asked(deployed, alice)
    row = {"what": f"pods of Deployment {NAME}", "from": "0, as somebody scaled it", "to": "3"}
    assert row in operation.plan["changes"]
    assert carried_out(operation).state == State.SUCCEEDED, said_of(operation)
    assert taken_back(operation) == [("spec.replicas", "kubectl-scale")]
    assert operation.deed.differences == []
    assert deployed.pods() == [digest_of_release("1.4.0")] * 3
    assert the_clock_looks() == []


def test_with_an_autoscaler_its_least(scaling: Town, alice: Person) -> None:
    edited(scaling, "kubectl-scale", {"replicas": 0})
    operation = deploy(scaling, alice)
    assert operation.state == State.SUCCEEDED, said_of(operation)
    assert len(scaling.pods()) == 3
    assert the_clock_looks() == []


def test_above_its_least_the_autoscaler_decides(scaling: Town, alice: Person) -> None:
    edited(scaling, "kube-controller-manager", {"replicas": 7})
    assert the_clock_looks() == []
    edited(scaling, "kubectl-edit", grace(1))
    assert deploy(scaling, alice).state == State.SUCCEEDED
    assert len(scaling.pods()) == 7


def test_nor_is_it_set_back_when_it_decided_meanwhile(scaling: Town) -> None:
    edited(scaling, "kubectl-scale", {"replicas": 0})
    rollout, worker = scaling.rollout("1.4.0"), scaling.worker()
    count = do_until(worker, rollout, "count")
    edited(scaling, "kube-controller-manager", {"replicas": 6})
    worker.do(count)
    assert scaling.deployment["spec"]["replicas"] == 6


def test_another_release_leaves_it_stopped(deployed: Town, alice: Person) -> None:
    edited(deployed, "kubectl-scale", {"replicas": 0})
    assert deploy(deployed, alice, "1.5.0").state == State.SUCCEEDED
    assert deployed.pods() == []


def test_what_a_recovery_stopped_is_no_difference_and_is_not_started(deployed: Town) -> None:
    """Its other site runs meanwhile: two of them would both write."""
    worker = deployed.worker()
    for step in deployed.scaled_to(0):
        worker.do(step)
    assert the_clock_looks() == []
    assert deployed.rollout("1.4.0").steps == ()
