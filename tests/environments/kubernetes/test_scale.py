"""How many pods there are: the HorizontalPodAutoscaler is respected, and none runs when none is to run."""

import pytest

from controlplane.operations.errors import StepError, Unknown
from environments.drivers.base import Scaling
from tests.environments.fleet import Mortal, Worker
from tests.environments.kubernetes.server import Fault
from tests.environments.kubernetes.town import DRIVER, NAME, Town, digest_of_release, release


def _scaled(town: Town, count: int, version: str = "", worker: Worker | None = None) -> Worker:
    hand = worker or town.worker()
    software = release(version) if version else None
    scaling: Scaling = DRIVER.scale(town.target, count, software, key="there")
    for step in (*scaling.begin, *scaling.wait):
        hand.checkpoint = {}
        hand.do(step)
    return hand


def test_the_guides_bounds_and_goals(town: Town) -> None:
    town.settings(autoscale={})
    assert town.deploy("1.4.0") is None
    spec = town.cluster.get("HorizontalPodAutoscaler", f"{NAME}-hpa")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 10)
    goals = {one["resource"]["name"]: one["resource"]["target"]["averageUtilization"] for one in spec["metrics"]}
    assert goals == {"cpu": 70, "memory": 80}
    assert len(town.pods()) == 3


def test_a_deployment_leaves_the_autoscalers_count_alone(town: Town) -> None:
    town.settings(autoscale={"max": 8})
    town.deploy("1.4.0")
    town.cluster.update("Deployment", NAME, {"spec": {"replicas": 7}}, "kube-controller-manager")
    town.cluster.settle()
    assert town.deploy("1.5.0") is None
    assert town.deployment["spec"]["replicas"] == 7
    assert town.pods() == [digest_of_release("1.5.0")] * 7


def test_turning_the_autoscaler_on_does_not_set_the_count_to_one(town: Town) -> None:
    town.settings(replicas=5)
    town.deploy("1.4.0")
    town.settings(autoscale={})
    assert town.deploy("1.5.0") is None
    assert town.deployment["spec"]["replicas"] == 5


def test_scaling_stays_within_what_the_autoscaler_allows(town: Town) -> None:
    town.settings(autoscale={"min": 2, "max": 4})
    town.deploy("1.4.0")
    worker = _scaled(town, 9)
    assert town.deployment["spec"]["replicas"] == 4
    assert any("allows 4, not 9" in line for line in worker.said)


def test_to_none_and_back_with_another_release(town: Town) -> None:
    town.deploy("1.4.0")
    worker = _scaled(town, 0)
    assert town.pods() == []
    assert ("scaled", "production-1", {"count": 0}) in worker.effects
    _scaled(town, 2, "1.5.0")
    assert town.pods() == [digest_of_release("1.5.0")] * 2


def test_a_count_is_told_once_though_its_worker_dies_before_it_tells(town: Town) -> None:
    town.settings(autoscale={"min": 2, "max": 4})
    town.deploy("1.4.0")
    for count, facts in ((9, {"count": 9, "allowed": 4}), (0, {"count": 0})):
        hand = town.worker()
        worker = Mortal(fence=hand.fence, operation_id=hand.operation_id)
        _scaled(town, count, worker=worker)
        assert worker.effects == [("scaled", "production-1", facts)]
        assert len(worker.deaths) == 1
        town.fence = worker.fence


def test_what_comes_back_after_it_was_stopped_is_told_though_its_worker_dies(town: Town) -> None:
    town.deploy("1.4.0")
    scaling: Scaling = DRIVER.scale(town.target, 0, None, key="there")
    hand = town.worker()
    worker = Mortal(fence=hand.fence, operation_id=hand.operation_id)
    worker.do(scaling.wait[-1])  # nobody has scaled it before
    assert worker.effects == [("scaled", "production-1", {"count": 0})]


def test_a_deployment_does_not_start_what_is_scaled_to_none(town: Town) -> None:
    town.deploy("1.4.0")
    _scaled(town, 0)
    worker = town.worker()
    assert town.deploy("1.5.0", worker) is None
    assert town.pods() == []
    assert any("scaled to 0 pods" in line for line in worker.said)


NOBODY = "http://127.0.0.1:9"


def _stopped_with_a_url(town: Town) -> None:
    """A site that stands by: no pods, and a URL that nobody answers."""
    town.deploy("1.4.0")
    _scaled(town, 0)
    town.placement.environment.url = NOBODY
    town.placement.environment.save()


def test_nobody_is_asked_for_health_where_no_pod_is_to_run(town: Town) -> None:
    _stopped_with_a_url(town)
    worker = town.worker()
    assert town.deploy("1.5.0", worker) is None
    assert any(f"0 pods: nobody can answer {NOBODY}/health" in line for line in worker.said)


def test_nor_on_the_way_back(town: Town) -> None:
    _stopped_with_a_url(town)
    town.settings(autoscale={})
    town.api.faults.append(Fault("POST", "HorizontalPodAutoscaler", 403))
    worker = town.worker()
    assert "HorizontalPodAutoscaler" in str(town.deploy("1.5.0", worker))
    assert town.running().version == "1.4.0"
    assert any("nobody can answer" in line for line in worker.said)


def test_a_cluster_that_does_not_answer_for_a_moment_is_no_bad_answer(town: Town) -> None:
    _stopped_with_a_url(town)
    rollout, worker = town.rollout("1.5.0"), town.worker()
    *before, check = rollout.steps
    for step in before:
        worker.do(step)
    town.api.faults.append(Fault("GET", "Deployment", 500))
    worker.do(check)
    assert any("asking again" in line for line in worker.said)


def test_what_was_to_be_started_has_to_answer_even_if_it_was_stopped_again(town: Town) -> None:
    _stopped_with_a_url(town)
    scaling: Scaling = DRIVER.scale(town.target, 2, None, key="there")
    with pytest.raises(StepError, match="is not healthy"):
        town.worker().do(scaling.wait[-1])


def test_without_an_answer_nobody_says_that_nothing_runs(town: Town) -> None:
    town.deploy("1.4.0")
    town.api.faults.append(Fault("GET", "Pod", 500, times=9))
    with pytest.raises(Unknown, match="still run and write"):
        _scaled(town, 0)
