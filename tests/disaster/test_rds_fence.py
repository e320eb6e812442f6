"""The old side's database is kept from being written to, and that is seen; what cannot be seen is asked of a person."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.operations import transitions
from controlplane.operations.states import Answer, State
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, Fault, denied, throttled
from tests.disaster.aws_world import BOUNDARIES, EAST, LIVE, World, die_once_at, lines

pytest_plugins = ["tests.disaster.aws_fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

CLOSED = [f"sg-closed-{EAST}"]
BY_GROUPS = {"ModifyDBInstance": 1, "RebootDBInstance": 1}


def test_by_groups_and_a_restart(cloud_world: World) -> None:
    fence = cloud_world.database.fence(cloud_world.side(EAST))
    operation = cloud_world.run(*fence.act, *fence.prove)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert cloud_world.groups(EAST, LIVE) == CLOSED
    assert cloud_world.aws.changes == BY_GROUPS
    assert any("takes no writes: it is in sg-closed-us-east-1 alone" in line for line in lines(operation))


def test_by_stopping(cloud_world: World) -> None:
    fence = cloud_world.database.fence(cloud_world.side(EAST, fence="stop"))
    assert cloud_world.run(*fence.act, *fence.prove).state == State.SUCCEEDED
    found = cloud_world.instance(EAST, LIVE)
    assert found and found["DBInstanceStatus"] == "stopped"
    assert cloud_world.aws.changes == {"StopDBInstance": 1}


def test_groups_without_a_restart_prove_nothing(cloud_world: World) -> None:
    """Connections that are open outlive a change of groups."""
    cloud_world.client("rds").modify_db_instance(
        DBInstanceIdentifier=LIVE, VpcSecurityGroupIds=CLOSED, ApplyImmediately=True
    )
    cloud_world.forget_changes()
    fence = cloud_world.database.fence(cloud_world.side(EAST))
    assert cloud_world.run(*fence.prove).state == State.SUCCEEDED
    assert cloud_world.aws.changes == {"RebootDBInstance": 1}


def test_a_restart_of_before_does_not_count(cloud_world: World) -> None:
    cloud_world.client("rds").reboot_db_instance(DBInstanceIdentifier=LIVE)
    cloud_world.aws.cloud.advance(120)
    cloud_world.forget_changes()
    fence = cloud_world.database.fence(cloud_world.side(EAST))
    assert cloud_world.run(*fence.act, *fence.prove).state == State.SUCCEEDED
    assert cloud_world.aws.changes == BY_GROUPS


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_workers_die_at_every_boundary(cloud_world: World, boundary: str) -> None:
    fence = cloud_world.database.fence(cloud_world.side(EAST))
    die_once_at(boundary)
    assert cloud_world.run(*fence.act, *fence.prove).state == State.SUCCEEDED
    assert cloud_world.aws.changes == BY_GROUPS


@pytest.mark.parametrize("fault", [LOST_AFTER, LOST_BEFORE, throttled()], ids=["after", "before", "throttled"])
@pytest.mark.parametrize("action", BY_GROUPS)
def test_a_call_that_goes_wrong(cloud_world: World, action: str, fault: Fault) -> None:
    cloud_world.once(action, fault)
    fence = cloud_world.database.fence(cloud_world.side(EAST))
    operation = cloud_world.run(*fence.act, *fence.prove)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert cloud_world.groups(EAST, LIVE) == CLOSED
    assert cloud_world.aws.changes == BY_GROUPS


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_a_region_that_is_away_fails_nothing_and_a_person_is_asked(cloud_world: World, how: str) -> None:
    cloud_world.aws.cloud.cut(EAST, how)  # type: ignore[arg-type]
    fence = cloud_world.database.fence(cloud_world.side(EAST, answer_seconds=0.1))
    operation = cloud_world.run(*fence.act, *fence.prove)
    assert operation.state == State.NEEDS_OPERATOR
    assert operation.steps.get(key="database/fence").state == "succeeded"
    assert "nobody can see whether pitchey in us-east-1 still takes writes" in operation.outcome


def test_a_region_that_comes_back_is_fenced_when_somebody_says_retry(cloud_world: World) -> None:
    cloud_world.aws.cloud.cut(EAST)
    fence = cloud_world.database.fence(cloud_world.side(EAST))
    operation = cloud_world.run(*fence.act, *fence.prove)
    cloud_world.aws.cloud.mend(EAST)
    transitions.resolve(operation.pk, Actor(cloud_world.alice), "database/fence-proof", Answer.RETRY)
    assert cloud_world.finish(operation).state == State.SUCCEEDED
    assert cloud_world.groups(EAST, LIVE) == CLOSED


def test_a_moment_without_an_answer_is_no_doubt(cloud_world: World) -> None:
    fence = cloud_world.database.fence(cloud_world.side(EAST))
    operation = cloud_world.ask(*fence.act, *fence.prove)
    cloud_world.aws.will("DescribeDBInstances", *[LOST_BEFORE] * 4)
    assert cloud_world.finish(operation).state == State.SUCCEEDED


def test_what_may_not_be_asked_is_doubt_at_once(cloud_world: World) -> None:
    fence = cloud_world.database.fence(cloud_world.side(EAST))
    cloud_world.aws.will("ModifyDBInstance", *[denied("rds:ModifyDBInstance")] * 2)
    operation = cloud_world.run(*fence.act, *fence.prove)
    assert operation.state == State.NEEDS_OPERATOR
    assert "add rds:ModifyDBInstance to the policy" in operation.outcome


def test_an_instance_that_is_not_there_proves_nothing(cloud_world: World) -> None:
    fence = cloud_world.database.fence(cloud_world.side(EAST, instance="pitchy"))
    operation = cloud_world.run(*fence.act, *fence.prove)
    assert operation.state == State.NEEDS_OPERATOR
    assert "There is no database pitchy (us-east-1)" in operation.outcome
