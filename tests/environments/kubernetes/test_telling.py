"""What the cluster and the pods say during a rollout is in the log: restarts, events, ends of logs, the deadline."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.states import State
from deployments.models import Release
from deployments.services import request_deployment
from tests.environments.kubernetes.cluster import CRASHES, STUCK, STUMBLES, UNPULLABLE, WELL
from tests.environments.kubernetes.server import Fault
from tests.environments.kubernetes.town import IMAGE, NAME, Town, digest_of_release


@pytest.fixture
def bad(town: Town) -> Town:
    """1.4.0 runs, and 1.6.0 is bad."""
    town.deploy("1.4.0")
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    return town


def logs_asked(town: Town) -> list[dict[str, str]]:
    return [one.params for one in town.api.asked if "tailLines" in one.params]


def test_fewer_restarts_than_the_limit_are_no_failure(bad: Town) -> None:
    bad.cluster.behaviours[digest_of_release("1.6.0")] = STUMBLES
    assert bad.deploy("1.6.0") is None
    assert bad.pods() == [digest_of_release("1.6.0")] * 3
    bad.settings(restarts=1)
    bad.cluster.behaviours |= {digest_of_release("1.6.0"): WELL, digest_of_release("1.7.0"): STUMBLES}
    assert "was restarted 1 times, exit code 1" in str(bad.deploy("1.7.0"))
    assert bad.pods() == [digest_of_release("1.6.0")] * 3  # whose own restarts were before, and are no fault of this


def test_the_end_of_the_log_before_the_restart_is_told(bad: Town) -> None:
    bad.cluster.logs = [f"line {number}" for number in range(50)]
    bad.settings(log_lines=3)
    worker = bad.worker()
    bad.deploy("1.6.0", worker)
    told = [line.partition(" | ")[2] for line in worker.said if " | " in line]
    assert told[:3] == ["line 47", "line 48", "line 49"] and "line 46" not in told
    assert all(one["tailLines"] == "3" and one["previous"] == "true" for one in logs_asked(bad))


def test_no_lines_are_asked_for_when_none_are_wanted(bad: Town) -> None:
    bad.settings(log_lines=0)
    assert bad.deploy("1.6.0") is not None
    assert logs_asked(bad) == []


def test_a_log_that_may_not_be_read_is_said_and_hides_no_failure(bad: Town) -> None:
    bad.api.faults.append(Fault("GET", "Pod", 403, needs="tailLines", message="pods/log is forbidden", times=99))
    worker = bad.worker()
    assert "exit code 3" in str(bad.deploy("1.6.0", worker))
    assert any("its log cannot be read" in line and "pods/log is forbidden" in line for line in worker.said)


def test_events_that_may_not_be_read_are_said_once(bad: Town) -> None:
    bad.cluster.slow = 4
    bad.api.faults.append(Fault("GET", "Event", 403, message="events is forbidden", times=99))
    worker = bad.worker()
    assert bad.deploy("1.5.0", worker) is None
    assert len({line for line in worker.said if "events cannot be read" in line}) == 1


def test_only_events_of_this_deployment_and_its_pods_are_told(bad: Town) -> None:
    for name in ("another-pod", NAME):
        bad.cluster.objects["Event", name] = {
            "kind": "Event", "type": "Warning", "reason": "Noise", "message": f"about {name}", "count": 1,
            "involvedObject": {"name": name}, "metadata": {"name": name, "uid": name},
        }  # fmt: skip
    worker = bad.worker()
    bad.deploy("1.5.0", worker)
    assert [line for line in worker.said if "about" in line] == [f"{NAME}: Noise: about {NAME}"]
    assert all(one.params["fieldSelector"] == "type=Warning" for one in bad.api.asked if one.kind == "Event")


def test_an_image_that_cannot_be_pulled_has_no_log_and_says_why(bad: Town) -> None:
    bad.cluster.behaviours[digest_of_release("1.6.0")] = UNPULLABLE
    worker = bad.worker()
    assert "ImagePullBackOff: manifest unknown" in str(bad.deploy("1.6.0", worker))
    assert any("Failed to pull image" in line for line in worker.said)


@pytest.mark.django_db(transaction=True)
def test_at_the_deadline_it_goes_back_and_the_log_says_what_the_pods_said(town: Town, alice: Person) -> None:
    """By the real engine: the cluster itself never says that the rollout does not get on."""
    town.cluster.patience = 10**9
    environment = town.placement.environment
    outcomes = []
    for version, seconds in (("1.4.0", 60.0), ("1.6.0", 3.0)):
        release = Release.objects.create(
            service=town.placement.service, version=version, image=f"{IMAGE}:{version}", ci="passed",
            digest=digest_of_release(version),
        )  # fmt: skip
        town.settings(rollout_seconds=seconds)
        town.cluster.behaviours[digest_of_release("1.6.0")] = STUCK
        operation = request_deployment(Actor(alice), environment=environment, release=release, reason="because")
        engine.run(operation.pk, "w1")
        operation.refresh_from_db()
        outcomes.append(operation)
    good, late = outcomes
    assert (good.state, late.state) == (State.SUCCEEDED, State.FAILED), late.outcome
    assert town.pods() == [digest_of_release("1.4.0")] * 3
    said = [event.text for event in late.events.all()]
    assert any("cannot reach its database" in line for line in said)
    assert any("1 renewed" in line for line in said)
