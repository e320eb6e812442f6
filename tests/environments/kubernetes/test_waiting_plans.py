"""A plan names what runs by what is in it: one behind another deployment stays true, and nothing else does."""

import json

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.errors import Unknown
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State
from deployments.models import Release
from deployments.services import request_deployment
from environments.drivers.base import Rollout
from tests.environments.hosts.park import carry_out
from tests.environments.kubernetes.cluster import CRASHES
from tests.environments.kubernetes.fields import Object
from tests.environments.kubernetes.town import DRIVER, IMAGE, NAME, Town, digest_of_release, do_until, release


def behind(town: Town, ahead: str, version: str) -> Rollout:
    """The way to a version once the one ahead is there."""
    found: Rollout = DRIVER.rollout(town.target, [town.running().after(town.target, release(ahead))], release(version))
    return found


def edited(town: Town, spec: Object) -> None:
    town.cluster.update("Deployment", NAME, {"spec": spec}, "kubectl-edit")
    town.cluster.settle()


def in_template(**spec: object) -> Object:
    return {"template": {"spec": spec}}


@pytest.mark.parametrize("before", ["", "1.4.0"])
def test_behind_another_it_is_the_plan_that_fits_when_its_turn_comes(town: Town, before: str) -> None:
    if before:
        town.deploy(before)
    town.settings(grace_seconds=45, force=True)  # and settings that only the one ahead deploys
    waits = behind(town, "1.5.0", "1.6.0")
    town.deploy("1.5.0")
    assert waits == town.rollout("1.6.0")
    assert waits.recovery[0].title == "apply the former template again (1.5.0)"


def test_also_behind_one_that_takes_over_what_others_made(town: Town) -> None:
    town.settings(force=True)
    town.deploy("1.4.0")
    town.deployment["spec"]["template"]["metadata"]["annotations"].clear()
    town.cluster.settle()
    waits = behind(town, "1.5.0", "1.6.0")
    town.deploy("1.5.0")
    assert waits == town.rollout("1.6.0")


@pytest.mark.django_db(transaction=True)
def test_two_that_were_asked_for_one_after_the_other_both_come_about(town: Town, alice: Person) -> None:
    asked = [_asked(town, version, alice) for version in ("1.4.0", "1.5.0", "1.6.0")]
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    for operation in asked:
        engine.run(operation.pk, "w1")
        operation.refresh_from_db()
    assert [one.state for one in asked] == [State.SUCCEEDED, State.SUCCEEDED, State.FAILED], asked[1].outcome
    assert town.pods() == [digest_of_release("1.5.0")] * 3
    assert [one.deed.differences for one in asked] == [[], [], []]


def _asked(town: Town, version: str, person: Person) -> Operation:
    given = {"image": f"{IMAGE}:{version}", "ci": "passed", "digest": digest_of_release(version)}
    made = Release.objects.create(service=town.placement.service, version=version, **given)
    environment = town.placement.environment
    return request_deployment(Actor(person), environment=environment, release=made, reason="because")


@pytest.mark.parametrize(
    "spec",
    [
        in_template(terminationGracePeriodSeconds=1),
        in_template(containers=[{"name": NAME, "env": [{"name": "LOG_LEVEL", "value": "debug"}]}]),
    ],
)
def test_what_somebody_changed_in_the_cluster_makes_it_another_plan(town: Town, spec: Object) -> None:
    town.deploy("1.4.0")
    before = town.rollout("1.5.0")
    edited(town, spec)
    after = town.rollout("1.5.0")
    assert before.steps != after.steps
    error = carry_out(town.worker(), before)
    assert "with other settings or variables is there" in str(error) and "the plan was made for" in str(error)
    edited(town, in_template(terminationGracePeriodSeconds=2))
    assert town.rollout("1.5.0").steps != after.steps


def test_more_pods_are_no_other_plan(town: Town) -> None:
    town.deploy("1.4.0")
    before = town.rollout("1.5.0")
    edited(town, {"replicas": 5})
    assert before == town.rollout("1.5.0")


def test_no_plan_names_a_replica_set(town: Town) -> None:
    town.deploy("1.4.0")
    rollout = town.rollout("1.5.0")
    said = json.dumps([*(one.arguments for one in (*rollout.steps, *rollout.recovery)), *rollout.changes])
    assert town.running().reference not in said


def test_what_was_changed_after_it_was_noted_stops_it(town: Town) -> None:
    """Or nothing could go back to it."""
    town.deploy("1.4.0")
    rollout, worker = town.rollout("1.5.0"), town.worker()
    step = do_until(worker, rollout, "deployment")
    edited(town, in_template(terminationGracePeriodSeconds=1))
    with pytest.raises(Exception, match="is there for pitchey-backend by now, and pitchey-backend-"):
        worker.do(step)
    assert town.running().version == "1.4.0"


def test_without_a_note_nothing_is_changed(town: Town) -> None:
    """Somebody said of the first step that it is not needed."""
    town.deploy("1.4.0")
    rollout, worker = town.rollout("1.5.0"), town.worker()
    with pytest.raises(Exception, match="Nobody noted"):
        worker.do(next(one for one in rollout.steps if one.key == "deployment"))
    for step in rollout.recovery:
        worker.do(step)
    assert town.running().version == "1.4.0"


def test_a_person_is_asked_what_was_there_when_the_note_is_lost(town: Town) -> None:
    town.deploy("1.4.0")
    rollout, worker = town.rollout("1.5.0"), town.worker()
    worker.do(do_until(worker, rollout, "deployment"))
    Step.objects.filter(operation_id=worker.operation_id, key="former").update(checkpoint={})
    with pytest.raises(Unknown, match="Nobody noted"):
        worker.do(rollout.recovery[0])


def test_the_note_is_made_once(town: Town) -> None:
    town.deploy("1.4.0")
    rollout, worker = town.rollout("1.5.0"), town.worker()
    former = town.running().reference
    worker.do(do_until(worker, rollout, "deployment"))
    worker.do(rollout.steps[0])
    assert worker.kept["former"]["former"] == former
    worker.do(rollout.recovery[0])
    assert town.running().version == "1.4.0"


def test_going_back_to_what_only_a_tag_names_is_told_with_what_its_pods_had(town: Town) -> None:
    town.settings(force=True)
    town.deploy("1.4.0")
    town.cluster.behaviours |= {f"{IMAGE}:1.3.0": digest_of_release("1.3.0"), digest_of_release("1.6.0"): CRASHES}
    edited(town, in_template(containers=[{"name": NAME, "image": f"{IMAGE}:1.3.0"}]))
    worker = town.worker()
    assert "exit code" in str(town.deploy("1.6.0", worker))
    assert town.running().version == "1.3.0"
    assert worker.effects[-1][2] == {"version": "1.3.0", "digest": digest_of_release("1.3.0")}
