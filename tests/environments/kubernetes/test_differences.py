"""What runs otherwise than it was deployed: image, count, environment, registration."""

import pytest

from controlplane.operations.registry import step_function
from environments.drivers.base import Comparable, Difference
from tests.environments.kubernetes.cluster import CRASHES
from tests.environments.kubernetes.fields import Object
from tests.environments.kubernetes.town import DRIVER, NAME, Town, digest_of_release, do_until, release


def _differences(town: Town, version: str = "1.4.0") -> list[Difference]:
    assert isinstance(DRIVER, Comparable)
    return DRIVER.differences(town.target, release(version))


def _container(town: Town, **fields: object) -> None:
    container: Object = {"name": NAME, **fields}
    town.cluster.update("Deployment", NAME, {"spec": {"template": {"spec": {"containers": [container]}}}}, "kubectl")
    town.cluster.settle()


def test_nothing_differs_after_a_deployment(town: Town) -> None:
    town.deploy("1.4.0")
    assert _differences(town) == []


def test_another_image(town: Town) -> None:
    town.deploy("1.4.0")
    _container(town, image="registry.test/pitchey-backend:latest")
    assert [(one.what, one.found) for one in _differences(town)] == [("image", "registry.test/pitchey-backend:latest")]


def test_another_count(town: Town) -> None:
    town.deploy("1.4.0")
    town.cluster.update("Deployment", NAME, {"spec": {"replicas": 5}}, "kubectl-scale")
    town.cluster.settle()
    assert [(one.what, one.wanted, one.found) for one in _differences(town)] == [("count", "3 pods", "5 pods")]
    town.settings(autoscale={})
    town.deploy("1.4.0")
    assert _differences(town) == []


def test_a_variable_that_somebody_changed_without_its_value(town: Town) -> None:
    town.deploy("1.4.0")
    _container(town, env=[{"name": "LOG_LEVEL", "value": "a-sentinel"}])
    (one,) = _differences(town)
    assert one.what == "environment" and "a-sentinel" not in f"{one}"


def test_a_configuration_that_is_not_deployed_yet(town: Town) -> None:
    town.deploy("1.4.0")
    town.placement.environment.configuration.filter(key="LOG_LEVEL").update(value="debug")
    assert [one.what for one in _differences(town)] == ["environment"]


def test_pods_that_are_no_endpoint(town: Town) -> None:
    town.deploy("1.4.0")
    town.cluster.get("EndpointSlice", f"{NAME}-x")["endpoints"][0]["conditions"]["ready"] = False
    before = town.cluster.tick
    town.cluster.tick = lambda: None  # type: ignore[method-assign]
    assert [(one.what, one.found) for one in _differences(town)] == [("registration", "2")]
    town.cluster.tick = before  # type: ignore[method-assign]


def test_endpoints_of_another_app_are_not_its_own(town: Town) -> None:
    """Somebody edited the selector, and as many pods of the other app are well."""
    town.deploy("1.4.0")
    town.cluster.other_pods("another", 3)
    town.cluster.update("Service", NAME, {"spec": {"selector": {"app": "another"}}}, "kubectl-edit")
    town.cluster.settle()
    assert [(one.what, one.found) for one in _differences(town)] == [
        ("registration", "other spec.selector"),
        ("registration", "0"),
        ("registration", "3 that are not its pods"),
    ]


def test_pods_with_its_labels_that_are_not_its_own(town: Town) -> None:
    town.deploy("1.4.0")
    town.cluster.other_pods(NAME, 1)
    town.cluster.tick = lambda: None  # type: ignore[method-assign]
    town.cluster.endpoints(NAME)
    assert [(one.what, one.found) for one in _differences(town)] == [("registration", "1 that is not its pod")]


def test_a_rollout_waits_until_the_endpoints_are_its_own_pods(town: Town) -> None:
    rollout, worker = town.rollout("1.4.0"), town.worker()
    rolled = do_until(worker, rollout, "rolled")
    town.cluster.other_pods("another", 3)
    town.cluster.update("Service", NAME, {"spec": {"selector": {"app": "another"}}}, "kubectl-edit")
    town.cluster.settle()
    worker.step_key, worker.checkpoint = rolled.key, {}
    verify = step_function(rolled.function).verify
    assert verify is not None
    assert "3 are no endpoint of the Service" in verify(worker, **rolled.arguments).reason


def test_a_port_more_and_a_kind_of_service(town: Town) -> None:
    town.deploy("1.4.0")
    ports = [{"port": 81, "targetPort": 8000, "protocol": "TCP"}]
    town.cluster.update("Service", NAME, {"spec": {"ports": ports, "type": "NodePort"}}, "kubectl-edit")
    assert [(one.what, one.found) for one in _differences(town)] == [("registration", "other spec.type, spec.ports.81")]


@pytest.mark.parametrize("kind", ["none", "LoadBalancer"])
def test_pods_that_are_not_ready_with_what_they_say(town: Town, kind: str) -> None:
    town.settings(service_type=kind)
    town.deploy("1.4.0")
    town.cluster.behaviours[digest_of_release("1.4.0")] = CRASHES
    for pod in town.cluster.of("Pod"):
        pod["status"]["containerStatuses"][0]["ready"] = False
    town.cluster.settle()
    found = [(one.what, one.wanted, one.found) for one in _differences(town)]
    assert found == [("count", "3 ready pods", f"0: {NAME}: CrashLoopBackOff, exit code 3")]
    town.cluster.settle()
    assert [(one.what, one.wanted, one.found) for one in _differences(town)] == found, "the same from look to look"


def test_pods_that_the_cluster_does_not_make(town: Town) -> None:
    town.settings(service_type="none")
    town.deploy("1.4.0")
    town.cluster.quota = 0
    for pod in town.cluster.of("Pod"):
        town.cluster.objects.pop(("Pod", pod["metadata"]["name"]))
    town.cluster.settle()
    assert [(one.what, one.found) for one in _differences(town)] == [("count", "0: exceeded quota: compute-resources")]


def test_no_deployment_at_all(town: Town) -> None:
    assert [(one.what, one.found) for one in _differences(town)] == [("image", "nothing")]
