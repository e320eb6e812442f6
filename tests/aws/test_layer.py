"""The simulator plays time as ECS lets it pass, so that the tests which stand on it mean something."""

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from tests.aws.ecs import Fate
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, SLOW, Layer, throttled

pytest_plugins = ["tests.aws.fixtures"]


@pytest.fixture
def client(aws: Layer) -> Any:
    """A service "api" of four tasks; its first revision runs, its second is registered."""
    client = client_of(aws)
    client.create_cluster(clusterName="c")
    for version in "12":
        container = {"name": "api", "image": f"api:{version}", "memory": 128}
        client.register_task_definition(family="api", containerDefinitions=[container])
    client.create_service(cluster="c", serviceName="api", taskDefinition="api:1", desiredCount=4)
    aws.taken.clear()
    return client


def client_of(aws: Layer, seconds: float = 10.0) -> Any:
    """One that asks once and waits so long for an answer."""
    once = Config(retries={"total_max_attempts": 1}, read_timeout=seconds)
    return boto3.client(
        "ecs", region_name="us-east-1", endpoint_url=aws.url, config=once,
        aws_access_key_id="a", aws_secret_access_key="b",
    )  # fmt: skip


def look(client: Any) -> tuple[Any, ...]:
    """Running, pending, deployments, and the state of the current one: one tick."""
    (one,) = client.describe_services(cluster="c", services=["api"])["services"]
    deployments = one["deployments"]
    return one["runningCount"], one["pendingCount"], len(deployments), deployments[0]["rolloutState"]


def update(client: Any, **values: Any) -> None:
    client.update_service(cluster="c", service="api", **values)


def test_a_rollout_takes_its_time(aws: Layer, client: Any) -> None:
    aws.ecs.polls = 2
    assert look(client) == (4, 0, 1, "COMPLETED")
    update(client, taskDefinition="api:2")
    assert [look(client) for _ in range(3)] == [
        (4, 2, 2, "IN_PROGRESS"),
        (4, 0, 1, "COMPLETED"),
        (4, 0, 1, "COMPLETED"),
    ]
    assert aws.changes == {"UpdateService": 1}


def test_it_hangs(aws: Layer, client: Any) -> None:
    aws.ecs.fates.append(Fate.HANGS)
    update(client, taskDefinition="api:2")
    assert {look(client) for _ in range(20)} == {(4, 4, 2, "IN_PROGRESS")}


def test_the_breaker_fails_it_and_goes_back(aws: Layer, client: Any) -> None:
    aws.ecs.polls, aws.ecs.shows_failure = 2, 1
    aws.ecs.fates.append(Fate.FAILS)
    update(client, taskDefinition="api:2")
    assert [look(client)[3] for _ in range(5)] == ["IN_PROGRESS", "FAILED", "IN_PROGRESS", "IN_PROGRESS", "COMPLETED"]
    (one,) = client.describe_services(cluster="c", services=["api"])["services"]
    assert one["taskDefinition"].endswith("api:1")
    assert any("rolling back" in event["message"] for event in one["events"])
    stopped = client.list_tasks(cluster="c", serviceName="api", desiredStatus="STOPPED")["taskArns"]
    reasons = client.describe_tasks(cluster="c", tasks=stopped)["tasks"]
    assert "CannotPullContainerError" in reasons[0]["stoppedReason"]


def test_the_same_again_starts_nothing_unless_forced(client: Any) -> None:
    look(client)
    update(client, taskDefinition="api:1")
    assert look(client)[2] == 1
    update(client, forceNewDeployment=True)
    assert look(client)[2] == 2


def test_lost_after_it_was_taken(aws: Layer, client: Any) -> None:
    aws.will("UpdateService", LOST_AFTER, LOST_BEFORE)
    for _ in range(2):
        with pytest.raises(ConnectionClosedError):
            update(client, taskDefinition="api:2")
    assert aws.changes == {"UpdateService": 1}
    assert aws.asked["UpdateService"] == 2


def test_too_late(aws: Layer, client: Any) -> None:
    aws.will("UpdateService", SLOW)
    with pytest.raises(ReadTimeoutError):
        update(client_of(aws, 0.2), taskDefinition="api:2")
    assert look(client)[2] == 2  # it was only not said


def test_throttled(aws: Layer, client: Any) -> None:
    aws.will("UpdateService", throttled())
    with pytest.raises(ClientError, match="ThrottlingException"):
        update(client, taskDefinition="api:2")
    assert aws.changes == {}
