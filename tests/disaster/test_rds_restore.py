"""A database comes up in the other region by each of the ways there are, closed until it is opened, each call once."""

import pytest

from backups.disaster.base import Candidate, Part
from controlplane.operations.states import State
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, Fault, broken, refused, throttled
from tests.disaster.aws_world import (
    BOUNDARIES,
    EAST,
    LIVE,
    STANDBY,
    WEST,
    World,
    die_once_at,
    lines,
    steps_of,
)

pytest_plugins = ["tests.disaster.aws_fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

# Each way, and the calls that change something, each of them exactly once.
WAYS = {
    "copy": {"CopyDBSnapshot": 1, "RestoreDBInstanceFromDBSnapshot": 1, "ModifyDBInstance": 1},
    "snapshot": {"RestoreDBInstanceFromDBSnapshot": 1, "ModifyDBInstance": 1},
    "time": {"RestoreDBInstanceToPointInTime": 1, "ModifyDBInstance": 1},
    "replica": {"PromoteReadReplica": 1},
}


def prepare(world: World, way: str) -> Candidate:
    """What the way needs, and the candidate by which it goes."""
    if way == "replica":
        world.replica()
    if way == "snapshot":
        copied = world.client("rds", WEST)
        source = world.client("rds").describe_db_snapshots()["DBSnapshots"][0]["DBSnapshotArn"]
        copied.copy_db_snapshot(
            SourceDBSnapshotIdentifier=source, TargetDBSnapshotIdentifier="copied-by-night", SourceRegion=EAST
        )
        world.aws.cloud.advance(1000)
    if way == "time":
        world.aws.cloud.rds.replicated[WEST, LIVE] = world.aws.cloud.clock.now()
    found = world.database.candidates(world.side(EAST), world.side(WEST))
    world.forget_changes()
    return next(one for one in found if one.key.startswith(f"{way}:"))


def restored(world: World, way: str, scratch: str = "") -> Part:
    return world.database.restore(world.side(EAST), world.side(WEST), prepare(world, way), scratch=scratch)


def assert_good(world: World, way: str) -> None:
    found = world.instance(WEST, STANDBY)
    assert found and found["DBInstanceStatus"] == "available"
    assert not found.get("ReadReplicaSourceDBInstanceIdentifier")
    assert world.groups(WEST, STANDBY) == [f"sg-open-{WEST}"]
    assert world.aws.changes == WAYS[way]


@pytest.mark.parametrize("way", WAYS)
def test_it_comes_up(cloud_world: World, way: str) -> None:
    part = restored(cloud_world, way)
    begun = cloud_world.aws.cloud.clock.now()
    operation = cloud_world.run(*steps_of(part))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert_good(cloud_world, way)
    took = (cloud_world.aws.cloud.clock.now() - begun).total_seconds()
    assert took >= {"copy": 2100, "replica": 300}.get(way, 1200)


@pytest.mark.parametrize("way", ["copy", "snapshot", "time"])
def test_nobody_gets_in_before_it_is_opened(cloud_world: World, way: str) -> None:
    part = restored(cloud_world, way)
    assert cloud_world.run(*part.begin, *part.wait).state == State.SUCCEEDED
    assert cloud_world.groups(WEST, STANDBY) == [f"sg-closed-{WEST}"]


def test_a_replica_takes_no_writes_before_it_is_opened(cloud_world: World) -> None:
    part = restored(cloud_world, "replica")
    assert cloud_world.run(*part.begin, *part.wait).state == State.SUCCEEDED
    assert cloud_world.aws.changes == {}
    found = cloud_world.instance(WEST, STANDBY)
    assert found and found["ReadReplicaSourceDBInstanceIdentifier"]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("way", WAYS)
def test_workers_die_at_every_boundary(cloud_world: World, way: str, boundary: str) -> None:
    part = restored(cloud_world, way)
    dead = die_once_at(boundary)
    operation = cloud_world.run(*steps_of(part))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert dead() >= len(steps_of(part)) - 3
    assert_good(cloud_world, way)


FAULTS = {"lost before": LOST_BEFORE, "lost after": LOST_AFTER, "throttled": throttled(), "broken": broken()}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_each_call_that_goes_wrong_is_looked_after(cloud_world: World, way: str, fault: Fault) -> None:
    part = restored(cloud_world, way)
    for action in WAYS[way]:
        cloud_world.once(action, fault)
    operation = cloud_world.run(*steps_of(part))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert_good(cloud_world, way)


@pytest.mark.parametrize("way", WAYS)
def test_reading_may_fail_anywhere(cloud_world: World, way: str) -> None:
    part = restored(cloud_world, way)
    for action in ("DescribeDBInstances", "DescribeDBSnapshots"):
        cloud_world.aws.will(action, *[LOST_BEFORE] * 10)
    operation = cloud_world.run(*steps_of(part))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert_good(cloud_world, way)


def test_the_region_is_away_in_the_middle_of_the_wait(cloud_world: World) -> None:
    part = restored(cloud_world, "time")
    assert cloud_world.run(*part.begin).state == State.SUCCEEDED
    operation = cloud_world.ask(*part.wait)
    cloud_world.aws.will("DescribeDBInstances", *[throttled()] * 6)
    assert cloud_world.finish(operation).state == State.SUCCEEDED
    assert any("AWS slows us down" in line for line in lines(operation))


def test_the_source_may_be_gone(cloud_world: World) -> None:
    part = restored(cloud_world, "time")
    cloud_world.aws.cloud.cut(EAST)
    operation = cloud_world.run(*steps_of(part))
    assert operation.state == State.SUCCEEDED, operation.outcome


def test_what_breaks_while_it_is_made_is_said(cloud_world: World) -> None:
    part = restored(cloud_world, "time")
    cloud_world.aws.cloud.rds.breaks[STANDBY] = "incompatible-network"
    operation = cloud_world.run(*steps_of(part))
    assert operation.state == State.FAILED
    assert "pitchey-dr (us-west-2) is incompatible-network" in operation.outcome


def test_the_quota_is_reached(cloud_world: World) -> None:
    part = restored(cloud_world, "time")
    cloud_world.aws.cloud.quotas["rds", "instances"] = 0
    operation = cloud_world.run(*steps_of(part))
    assert operation.state == State.FAILED and "InstanceQuotaExceeded" in operation.outcome


def test_the_snapshot_is_gone_meanwhile(cloud_world: World) -> None:
    part = restored(cloud_world, "snapshot")
    cloud_world.client("rds", WEST).delete_db_snapshot(DBSnapshotIdentifier="copied-by-night")
    operation = cloud_world.run(*steps_of(part))
    assert operation.state == State.FAILED and "DBSnapshotNotFound" in operation.outcome


class TestAnotherOfTheName:
    """There is a database of the name already, and it is not ours."""

    @pytest.fixture
    def world(self, cloud_world: World) -> World:
        cloud_world.client("rds", WEST).create_db_instance(
            DBInstanceIdentifier=STANDBY, DBInstanceClass="db.t3.micro", Engine="postgres", MasterUsername="prod",
            MasterUserPassword="very-secret", AllocatedStorage=20,
        )  # fmt: skip
        return cloud_world

    def test_it_is_never_taken_for_ours(self, world: World) -> None:
        operation = world.run(*steps_of(restored(world, "time")))
        assert operation.state == State.FAILED
        assert "There is a database pitchey-dr (us-west-2) already" in operation.outcome
        assert world.aws.changes == {}

    @pytest.mark.parametrize("fault", [None, LOST_AFTER, LOST_BEFORE])
    def test_it_is_renamed_where_the_plan_says_so(self, world: World, fault: Fault | None) -> None:
        candidate = prepare(world, "time")
        part = world.database.restore(world.side(EAST), world.side(WEST, replace="rename"), candidate)
        if fault:
            world.once("ModifyDBInstance", fault)
        operation = world.run(*steps_of(part))
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert world.instance(WEST, f"{STANDBY}-before-{operation.pk}")
        assert world.made_by(WEST, STANDBY) == f"operation {operation.pk}"
        assert world.aws.changes == {"ModifyDBInstance": 2, "RestoreDBInstanceToPointInTime": 1}


class TestDrills:
    """A drill's database has a name of its own, and goes away again."""

    @pytest.mark.parametrize("way", WAYS)
    def test_it_leaves_nothing_behind(self, cloud_world: World, way: str) -> None:
        part = restored(cloud_world, way, scratch="pitchey_DR drill")
        before = cloud_world.instance(WEST, STANDBY), cloud_world.aws.cloud.rds.snapshots(WEST)
        operation = cloud_world.run(*steps_of(part), *part.cleanup)
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert cloud_world.instance(WEST, "pitchey-dr-drill") is None
        assert (cloud_world.instance(WEST, STANDBY) is None) is (before[0] is None)
        assert cloud_world.aws.cloud.rds.snapshots(WEST) == before[1]
        assert "PromoteReadReplica" not in cloud_world.aws.changes

    @pytest.mark.parametrize("boundary", BOUNDARIES)
    def test_workers_die_while_it_is_cleaned_up(self, cloud_world: World, boundary: str) -> None:
        part = restored(cloud_world, "copy", scratch="drill")
        operation = cloud_world.ask(*steps_of(part), *part.cleanup)
        die_once_at(boundary)
        assert cloud_world.finish(operation).state == State.SUCCEEDED, operation.outcome
        assert cloud_world.instance(WEST, "drill") is None
        assert cloud_world.aws.changes["DeleteDBInstance"] == cloud_world.aws.changes["DeleteDBSnapshot"] == 1

    def test_what_was_never_made_is_gone_already(self, cloud_world: World) -> None:
        part = restored(cloud_world, "copy", scratch="drill")
        assert cloud_world.run(*part.cleanup).state == State.SUCCEEDED
        assert cloud_world.aws.changes == {}

    def test_somebody_else_s_is_left_alone(self, cloud_world: World) -> None:
        part = restored(cloud_world, "time", scratch="drill")
        cloud_world.run(*part.begin, *part.wait)  # another operation's
        operation = cloud_world.run(*part.cleanup)
        assert operation.state == State.SUCCEEDED
        assert cloud_world.instance(WEST, "drill")
        assert "drill is not of this operation, so it stays" in lines(operation)

    def test_one_that_is_still_being_made_is_waited_for_and_deleted(self, cloud_world: World) -> None:
        part = restored(cloud_world, "time", scratch="drill")
        operation = cloud_world.run(*part.begin, *part.cleanup)
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert cloud_world.instance(WEST, "drill") is None


def test_no_key_is_in_the_log(cloud_world: World) -> None:
    part = restored(cloud_world, "copy")
    cloud_world.once("CopyDBSnapshot", refused("Throttling", "AKIAIOSFODNN7EXAMPLE is slowed down"))
    operation = cloud_world.run(*steps_of(part))
    assert "AKIAIOSFODNN7EXAMPLE" not in "\n".join(lines(operation))
