"""A rollout: what is applied, how it is watched, and that it goes back when it fails."""

import pytest

from controlplane.operations.errors import StepError
from tests.environments.hosts.park import carry_out
from tests.environments.kubernetes.cluster import CRASHES, STUCK, UNPULLABLE
from tests.environments.kubernetes.town import NAME, Town, digest_of_release


def test_the_first_deployment_makes_the_guides_objects(town: Town) -> None:
    assert town.running().version == ""
    worker = town.worker()
    assert town.deploy("1.4.0", worker) is None
    container = town.deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"registry.test/{NAME}@{digest_of_release('1.4.0')}"
    assert container["resources"]["limits"] == {"memory": "4Gi", "cpu": "2"}  # as a server writes 2000m
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8000, "scheme": "HTTP"}
    assert town.cluster.get("Service", NAME)["spec"]["type"] == "LoadBalancer"
    assert town.pods() == [digest_of_release("1.4.0")] * 3
    assert town.running().version == "1.4.0"
    assert ("started", "production-1", {"version": "1.4.0", "digest": digest_of_release("1.4.0")}) in worker.effects


def test_marks_say_operation_fence_version_and_configuration(town: Town) -> None:
    town.deploy("1.4.0", town.worker(operation_id=41, fence=7))
    marks = town.deployment["metadata"]["annotations"]
    wanted = {
        "operation": "41",
        "fence": "7",
        "version": "1.4.0",
        "configuration": town.target.settings["configuration"],
    }
    assert {key: marks[f"controlplane/{key}"] for key in wanted} == wanted


def test_the_next_release_replaces_every_pod_and_only_then_is_done(town: Town) -> None:
    town.deploy("1.4.0")
    town.cluster.slow = 4
    worker = town.worker()
    assert town.deploy("1.5.0", worker) is None
    assert town.pods() == [digest_of_release("1.5.0")] * 3
    assert any("2 renewed" in line for line in worker.said)


def test_a_release_that_runs_already_needs_no_step(town: Town) -> None:
    town.deploy("1.4.0")
    assert town.rollout("1.4.0").steps == ()
    town.placement.environment.configuration.filter(key="LOG_LEVEL").update(value="debug")
    assert town.rollout("1.4.0").steps


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (CRASHES, "times, exit code 3"),
        (UNPULLABLE, "ImagePullBackOff: manifest unknown"),
        (STUCK, "has timed out progressing"),
    ],
)
def test_a_bad_image_brings_the_former_template_back(town: Town, behaviour: str, words: str) -> None:
    town.deploy("1.4.0")
    before = town.deployment["spec"]["template"]
    town.cluster.behaviours[digest_of_release("1.6.0")] = behaviour
    worker = town.worker()
    error = town.deploy("1.6.0", worker)
    assert error is not None and words in str(error)
    assert town.deployment["spec"]["template"] == before
    assert town.pods() == [digest_of_release("1.4.0")] * 3
    assert any("cannot reach its database" in line for line in worker.said)
    assert worker.effects[-1][2]["digest"] == digest_of_release("1.4.0")


def test_warnings_are_told_once(town: Town) -> None:
    town.deploy("1.4.0")
    town.cluster.behaviours[digest_of_release("1.6.0")] = UNPULLABLE
    worker = town.worker()
    town.deploy("1.6.0", worker)
    told = [line for line in worker.said if "Failed to pull image" in line]
    assert told and len(told) <= 2  # once for each count


def test_a_quota_that_refuses_pods_is_said_and_goes_back(town: Town) -> None:
    town.deploy("1.4.0")
    town.cluster.quota = 3
    error = town.deploy("1.5.0")
    assert "exceeded quota" in str(error)
    assert town.running().version == "1.4.0"


def test_a_first_deployment_that_fails_leaves_no_deployment(town: Town) -> None:
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    assert town.deploy("1.6.0") is not None
    assert town.running().version == ""
    assert town.pods() == []


def test_going_back_brings_back_the_variables_that_ran(town: Town) -> None:
    town.deploy("1.4.0")
    before = town.deployment["spec"]["template"]
    town.placement.environment.configuration.filter(key="LOG_LEVEL").update(value="debug")
    town.placement.environment.configuration.create(key="A_NEW_ONE", value="yes")
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    assert town.deploy("1.6.0") is not None
    assert town.deployment["spec"]["template"] == before


def test_a_plan_that_waited_while_somebody_deployed_is_refused(town: Town) -> None:
    town.deploy("1.4.0")
    stale = town.rollout("1.5.0")
    town.deploy("1.4.1")
    error = carry_out(town.worker(), stale)
    assert isinstance(error, StepError) and "the plan was made for 1.4.0" in str(error)
    assert town.running().version == "1.4.1"
