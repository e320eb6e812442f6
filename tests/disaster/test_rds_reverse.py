"""Everything that was made at the other side comes home: behind the fence, so that nothing is missing."""

from typing import Any

import pytest

from backups.disaster.base import Side
from controlplane.operations.plans import StepSpec
from controlplane.operations.states import State
from tests.aws.layer import LOST_AFTER
from tests.disaster.aws_world import BOUNDARIES, EAST, LIVE, STANDBY, WEST, World, die_once_at

pytest_plugins = ["tests.disaster.aws_fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

WAYS = {
    "snapshot": {
        "ModifyDBInstance": 3, "RebootDBInstance": 1, "CreateDBSnapshot": 1, "CopyDBSnapshot": 1,
        "RestoreDBInstanceFromDBSnapshot": 1,
    },
    "replica": {
        "ModifyDBInstance": 3, "RebootDBInstance": 1, "CreateDBInstanceReadReplica": 1, "PromoteReadReplica": 1,
    },
}  # fmt: skip


@pytest.fixture
def world(cloud_world: World) -> World:
    """The standby's database serves; the old one lies about at home."""
    cloud_world.client("rds", WEST).create_db_instance(
        DBInstanceIdentifier=STANDBY, DBInstanceClass="db.r5.2xlarge", Engine="postgres", MasterUsername="prod",
        MasterUserPassword="very-secret", AllocatedStorage=500, VpcSecurityGroupIds=[f"sg-open-{WEST}"],
    )  # fmt: skip
    cloud_world.forget_changes()
    return cloud_world


def sides(world: World, **more: Any) -> tuple[Side, Side]:
    return world.side(WEST), world.side(EAST, replace="rename", **more)


def plan(world: World, way: str) -> list[StepSpec]:
    """In the order of a failback: begun, then the old side fenced and proven, then waited for and opened."""
    source, target = sides(world, reverse=way)
    part, fence = world.database.reverse(source, target), world.database.fence(source)
    return [*part.begin, *fence.act, *fence.prove, *part.wait, *part.open, *part.verify]


def assert_home(world: World, way: str) -> None:
    found = world.instance(EAST, LIVE)
    assert found and found["DBInstanceStatus"] == "available"
    assert not found.get("ReadReplicaSourceDBInstanceIdentifier")
    assert world.groups(EAST, LIVE) == [f"sg-open-{EAST}"]
    assert world.groups(WEST, STANDBY) == [f"sg-closed-{WEST}"]
    assert world.aws.changes == WAYS[way]


@pytest.mark.parametrize("way", WAYS)
def test_it_comes_home(world: World, way: str) -> None:
    operation = world.run(*plan(world, way))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert_home(world, way)
    assert world.instance(EAST, f"{LIVE}-before-{operation.pk}")


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("way", WAYS)
def test_workers_die_at_every_boundary(world: World, way: str, boundary: str) -> None:
    die_once_at(boundary)
    operation = world.run(*plan(world, way))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert_home(world, way)


@pytest.mark.parametrize("way", WAYS)
def test_every_answer_is_lost_once(world: World, way: str) -> None:
    for action in WAYS[way]:
        world.once(action, LOST_AFTER)
    operation = world.run(*plan(world, way))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert_home(world, way)


def test_the_snapshot_is_taken_behind_the_fence(world: World) -> None:
    keys = [step.key for step in plan(world, "snapshot")]
    assert keys.index("database/fence-proof") < keys.index("database/snapshot")


def test_a_replica_is_not_promoted_before_it_has_everything(world: World) -> None:
    world.aws.cloud.rds.lags[EAST, LIVE] = 100_000.0
    operation = world.ask(*plan(world, "replica"))
    world.aws.cloud.later(4000, lambda: world.aws.cloud.rds.lags.update({(EAST, LIVE): 1.0}))
    begun = world.aws.cloud.clock.now()
    assert world.finish(operation).state == State.SUCCEEDED
    assert (world.aws.cloud.clock.now() - begun).total_seconds() > 4000
    assert world.aws.changes["PromoteReadReplica"] == 1


def test_without_a_proven_fence_nobody_can_say_that_a_replica_has_everything(world: World) -> None:
    source, target = sides(world, reverse="replica")
    part = world.database.reverse(source, target)
    operation = world.run(*part.begin, *part.wait)
    assert operation.state == State.NEEDS_OPERATOR
    assert "Nobody saw when the source stopped taking writes" in operation.outcome


def test_what_lies_at_home_is_in_the_way_unless_the_plan_may_rename_it(world: World) -> None:
    part = world.database.reverse(world.side(WEST), world.side(EAST))
    operation = world.run(*part.begin)
    assert operation.state == State.FAILED
    assert "There is a database pitchey (us-east-1) already" in operation.outcome
