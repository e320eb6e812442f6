"""What the API server fills in and writes otherwise is no difference, and does not stand in the way back."""

from typing import Any

import pytest

from environments.drivers.base import Difference
from environments.drivers.kubernetes.manifests import DIGEST, VERSION
from tests.environments.kubernetes.cluster import CRASHES
from tests.environments.kubernetes.fields import Object
from tests.environments.kubernetes.town import DRIVER, NAME, Town, digest_of_release, do_until, release


def differences(town: Town, version: str = "1.4.0") -> list[Difference]:
    found: list[Difference] = DRIVER.differences(town.target, release(version))
    return found


def container(town: Town) -> Object:
    found: Object = town.deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def names(town: Town) -> list[str]:
    return [one["name"] for one in container(town).get("env", [])]


def edited(town: Town, spec: Object, manager: str = "kubectl-edit") -> None:
    town.cluster.update("Deployment", NAME, {"spec": spec}, manager)
    town.cluster.settle()


def in_container(**fields: Any) -> Object:
    return {"template": {"spec": {"containers": [{"name": NAME, **fields}]}}}


def as_deployed(town: Town, version: str = "1.4.0") -> bool:
    """Nothing differs, and to deploy it again has nothing to do."""
    return differences(town, version) == [] and town.rollout(version).steps == ()


def test_what_the_server_fills_in_is_no_difference(town: Town) -> None:
    town.settings(autoscale={})
    assert town.deploy("1.4.0") is None
    spec = town.deployment["spec"]["template"]["spec"]
    assert (spec["dnsPolicy"], spec["securityContext"], spec["restartPolicy"]) == ("ClusterFirst", {}, "Always")
    assert container(town)["imagePullPolicy"] == "IfNotPresent"
    assert container(town)["livenessProbe"]["timeoutSeconds"] == 1
    assert town.cluster.get("Service", NAME)["spec"]["clusterIP"]
    assert as_deployed(town)


def test_nothing_that_was_filled_in_is_held_by_us_or_by_who_made_it(town: Town) -> None:
    town.deploy("1.4.0")
    (entry,) = (one for one in town.deployment["metadata"]["managedFields"] if one["manager"] == "controlplane")
    pod = entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]
    assert "f:containers" in pod and "f:dnsPolicy" not in pod
    for kind, name in list(town.cluster.managed):
        managers = {one["manager"] for one in town.cluster.get(kind, name)["metadata"]["managedFields"]}
        assert "controlplane-make" not in managers, kind


def test_others_that_hold_fields_still_hold_them_after_the_maker_let_go(town: Town) -> None:
    """An object that was made before makers let go, with a label of somebody else."""
    town.deploy("1.4.0")
    made = {"metadata": {"labels": {"app": NAME}}}
    town.cluster.update("Service", NAME, made, "controlplane-make")
    town.cluster.update("Service", NAME, {"metadata": {"labels": {"team": "pitches"}}}, "kubectl-label")
    assert town.deploy("1.5.0") is None
    found = town.cluster.get("Service", NAME)["metadata"]
    assert {one["manager"] for one in found["managedFields"]} == {"controlplane", "kubectl-label"}
    assert found["labels"]["team"] == "pitches"


def test_a_variable_that_is_taken_away_goes(town: Town) -> None:
    town.deploy("1.4.0")
    assert "LOG_LEVEL" in names(town)
    town.placement.environment.configuration.filter(key="LOG_LEVEL").delete()
    assert town.deploy("1.5.0") is None
    assert names(town) == ["DATABASE_PASSWORD"]
    assert as_deployed(town, "1.5.0")


def test_another_port_replaces_the_one_of_the_service(town: Town) -> None:
    town.deploy("1.4.0")
    town.settings(service_port=8080)
    assert town.deploy("1.5.0") is None
    assert [one["port"] for one in town.cluster.get("Service", NAME)["spec"]["ports"]] == [8080]


def test_an_empty_variable_is_no_difference(town: Town) -> None:
    town.placement.environment.configuration.create(key="EMPTY", value="")
    town.deploy("1.4.0")
    assert {"name": "EMPTY"} in container(town)["env"]  # as a server writes it
    assert as_deployed(town)


@pytest.mark.parametrize(
    ("given", "written"),
    [("0.5", "500m"), ("2000m", "2"), ("1Gi", "1Gi"), ("1024Mi", "1Gi"), ("1000000", "1M"), ("1.5Gi", "1536Mi")],
)  # fmt: skip
def test_amounts_are_the_same_however_they_are_written(town: Town, given: str, written: str) -> None:
    town.settings(resources={"limits": {"memory": given}})
    town.deploy("1.4.0")
    assert container(town)["resources"]["limits"]["memory"] == written
    assert as_deployed(town)


def test_the_order_of_variables_is_no_difference(town: Town) -> None:
    town.deploy("1.4.0")
    container(town)["env"].reverse()
    assert as_deployed(town)


def test_going_back_where_lists_keep_their_order(town: Town) -> None:
    """A variable that the failed release did not have comes back at another place than it had."""
    town.cluster.order_stays = True
    town.placement.environment.configuration.create(key="A_FIRST_ONE", value="yes")
    town.deploy("1.4.0")
    town.placement.environment.configuration.filter(key="A_FIRST_ONE").delete()
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    worker = town.worker()
    assert "exit code" in str(town.deploy("1.6.0", worker))
    assert names(town) == ["DATABASE_PASSWORD", "LOG_LEVEL", "A_FIRST_ONE"]
    assert worker.effects[-1][2]["digest"] == digest_of_release("1.4.0")


def test_going_back_from_more_variables_of_the_same_image(town: Town) -> None:
    """All of the former template is in the later one, and yet it is another."""
    town.deploy("1.4.0")
    marks = town.deployment["spec"]["template"]["metadata"]["annotations"]
    few = {key: marks[key] if key in (VERSION, DIGEST) else None for key in marks}
    town.placement.environment.configuration.create(key="A_NEW_ONE", value="yes")
    rollout, worker = town.rollout("1.4.0"), town.worker()
    former = town.cluster.get("ReplicaSet", town.running().reference)
    worker.do(do_until(worker, rollout, "deployment"))
    assert "A_NEW_ONE" in names(town)
    former["spec"]["template"] |= {"metadata": {"annotations": few}}  # as if somebody else had made it
    worker.do(rollout.recovery[0])
    assert "A_NEW_ONE" not in names(town)


def test_going_back_to_pods_without_a_service_account(town: Town) -> None:
    town.deploy("1.4.0")
    town.settings(service_account="pitchey")
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    assert "exit code" in str(town.deploy("1.6.0"))
    assert "serviceAccountName" not in town.deployment["spec"]["template"]["spec"]
    assert town.pods() == [digest_of_release("1.4.0")] * 3


def test_a_service_account_that_the_settings_no_longer_name_goes(town: Town) -> None:
    town.settings(service_account="pitchey")
    town.deploy("1.4.0")
    assert town.deployment["spec"]["template"]["spec"]["serviceAccount"] == "pitchey"
    town.settings(service_account="")
    assert town.deploy("1.5.0") is None
    assert "serviceAccountName" not in town.deployment["spec"]["template"]["spec"]


def test_going_back_to_a_probe_and_from_one(town: Town) -> None:
    town.settings(ready_path="", liveness_delay=0)
    town.deploy("1.4.0")
    assert as_deployed(town)
    town.settings(ready_path="/ready")
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    assert "exit code" in str(town.deploy("1.6.0"))
    assert "readinessProbe" not in container(town)
    assert town.deploy("1.7.0") is None
    assert container(town)["readinessProbe"]["failureThreshold"] == 3


def test_what_others_add_to_the_template_is_no_difference_and_stays_on_the_way_back(town: Town) -> None:
    town.deploy("1.4.0")
    mark = {"kubectl.kubernetes.io/restartedAt": "2026-11-29T07:00:00Z"}
    edited(town, {"template": {"metadata": {"annotations": mark}}}, "kubectl-rollout")
    edited(town, {"template": {"spec": {"containers": [{"name": "proxy", "image": "registry.test/proxy:1"}]}}}, "mesh")
    assert as_deployed(town)
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    assert "exit code" in str(town.deploy("1.6.0"))
    template = town.deployment["spec"]["template"]
    assert mark.items() <= template["metadata"]["annotations"].items()
    assert {one["name"] for one in template["spec"]["containers"]} == {NAME, "proxy"}


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (in_container(resources={"limits": {"cpu": "4"}}), "environment"),
        (in_container(env=[{"name": "LOG_LEVEL", "value": "a-sentinel"}]), "environment"),
        (in_container(env=[{"name": "ADDED", "value": "a-sentinel"}]), "environment"),
        ({"strategy": {"rollingUpdate": {"maxUnavailable": 2}}}, "environment"),
        ({"replicas": 5}, "count"),
    ],
)
def test_what_somebody_changed_is_put_right_by_the_same_release(town: Town, spec: Object, what: str) -> None:
    town.settings(force=True)
    town.deploy("1.4.0")
    edited(town, spec)
    (found,) = differences(town)
    assert found.what == what and "a-sentinel" not in f"{found}"
    rollout = town.rollout("1.4.0")
    assert "changed in the cluster" in rollout.changes[0]["from"]
    assert town.deploy("1.4.0") is None
    if "ADDED" in f"{spec}":  # it is somebody else's, and stays until they take it away
        assert [one.what for one in differences(town)] == ["environment"]
    else:
        assert as_deployed(town)


def test_settings_that_are_not_deployed_yet_are_named(town: Town) -> None:
    town.deploy("1.4.0")
    town.settings(grace_seconds=45)
    (found,) = differences(town)
    assert (found.what, found.found) == ("environment", "other template.spec.terminationGracePeriodSeconds")
    town.settings(grace_seconds=30, ready_path="")
    assert [(one.what, one.found) for one in differences(town)] == [("environment", "other settings")]
    assert town.rollout("1.4.0").steps
