"""What runs otherwise than it was deployed: image, count, environment, registration."""

from environments.drivers.base import Comparable, Difference
from tests.environments.kubernetes.fields import Object
from tests.environments.kubernetes.town import DRIVER, NAME, Town, release


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


def test_no_deployment_at_all(town: Town) -> None:
    assert [(one.what, one.found) for one in _differences(town)] == [("image", "nothing")]
