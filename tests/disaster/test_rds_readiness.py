"""What there is to restore from, whether it could be done now, and settings that cannot be right."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.operations.errors import StepError
from tests.disaster.aws_world import EAST, LIVE, SNAPSHOT, STANDBY, WEST, World

pytest_plugins = ["tests.disaster.aws_fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def still(cloud_world: World) -> World:
    """Time stands still."""
    cloud_world.aws.cloud.start()
    return cloud_world


def keys(world: World, **more: Any) -> list[str]:
    return [one.key for one in world.database.candidates(world.side(EAST), world.side(WEST, **more))]


class TestCandidates:
    """The newest first, each with when its data are from."""

    def test_a_snapshot_of_the_source_has_to_be_copied(self, still: World) -> None:
        assert f"copy:rds:{SNAPSHOT}" in keys(still)

    def test_all_kinds(self, still: World) -> None:
        still.replica()
        still.aws.cloud.rds.replicated[WEST, LIVE] = datetime(2026, 11, 28, 3, tzinfo=UTC)
        found = still.database.candidates(still.side(EAST), still.side(WEST))
        kinds = {one.key.split(":")[0] for one in found}
        assert kinds == {"copy", "replica", "time"}
        assert [one.as_of for one in found] == sorted((one.as_of for one in found), reverse=True)

    def test_a_replica_is_as_of_its_lag(self, still: World) -> None:
        still.replica()
        still.aws.cloud.rds.lags[WEST, STANDBY] = 45.0
        (found,) = [
            one for one in still.database.candidates(still.side(EAST), still.side(WEST)) if "replica" in one.key
        ]
        age = (still.aws.cloud.clock.now() - found.as_of).total_seconds()
        assert 45 <= age <= 45 + 60
        assert "45 s behind" in found.title

    def test_a_replica_of_a_dead_region_is_as_of_its_death(self, still: World) -> None:
        still.replica()
        dead = still.aws.cloud.clock.now()
        still.aws.cloud.cut(EAST)
        still.aws.cloud.advance(7200)
        (found,) = still.database.candidates(still.side(EAST), still.side(WEST))
        assert abs((dead - found.as_of).total_seconds()) <= 65

    def test_how_far_a_replica_is_may_not_be_known(self, still: World) -> None:
        still.replica()
        still.aws.cloud.rds.lags[WEST, STANDBY] = None
        found = {one.key: one for one in still.database.candidates(still.side(EAST), still.side(WEST))}
        assert "how far behind is not known" in found[f"replica:rds:{STANDBY}"].title

    def test_without_the_source_what_the_target_has(self, still: World) -> None:
        still.aws.cloud.rds.replicated[WEST, LIVE] = datetime(2026, 11, 28, 3, tzinfo=UTC)
        still.aws.cloud.cut(EAST)
        assert keys(still) == [f"time:rds:{LIVE}"]

    def test_in_one_region_to_a_point_in_time(self, still: World) -> None:
        found = still.database.candidates(still.side(EAST), still.side(EAST, instance=STANDBY))
        assert found[0].key == f"time:rds:{LIVE}"
        assert still.aws.cloud.clock.now() - found[0].as_of == timedelta(seconds=300)
        assert f"snapshot:rds:{SNAPSHOT}" in [one.key for one in found]

    def test_by_a_prefix(self, still: World) -> None:
        still.client("rds", EAST).create_db_snapshot(DBInstanceIdentifier=LIVE, DBSnapshotIdentifier="nightly-1")
        still.aws.cloud.advance(400)
        found = still.database.candidates(still.side(EAST, snapshot_prefix="nightly-"), still.side(WEST))
        assert found[0].key == "copy:rds:nightly-1"

    def test_nobody_can_be_asked(self, still: World) -> None:
        still.aws.cloud.cut(EAST)
        still.aws.cloud.cut(WEST)
        with pytest.raises(StepError, match="dr cannot be asked what there is to restore"):
            keys(still)

    def test_the_newest_of_a_side(self, still: World) -> None:
        newest = still.database.newest(still.side(EAST))
        assert still.aws.cloud.clock.now() - newest.as_of == timedelta(seconds=300)
        with pytest.raises(StepError, match="does not say how far"):
            still.database.newest(still.side(WEST))


def looked(world: World, **more: Any) -> dict[str, tuple[str, str]]:
    found = world.database.readiness(world.side(EAST), world.side(WEST, **more))
    return {one.key.removeprefix("database/"): (one.outcome, one.words) for one in found}


class TestReadiness:
    """Each check says yes, no or that it cannot be asked."""

    def test_all_is_well(self, still: World) -> None:
        assert {outcome for outcome, _ in looked(still).values()} == {"ready"}

    def test_nothing_to_restore(self, still: World) -> None:
        for name in still.aws.cloud.rds.snapshots(EAST):
            still.client("rds", EAST).delete_db_snapshot(DBSnapshotIdentifier=name)
        assert looked(still)["candidates"][0] == "not ready"

    def test_the_quota(self, still: World) -> None:
        still.aws.cloud.quotas["rds", "instances"] = 0
        outcome, words = looked(still)["quota"]
        assert outcome == "not ready" and "0 of 0 database instances are used in us-west-2" in words

    def test_permissions(self, still: World) -> None:
        still.aws.cloud.denied.add("rds:CopyDBSnapshot")
        outcome, words = looked(still)["permissions"]
        assert outcome == "not ready" and "IAM does not allow rds:CopyDBSnapshot" in words
        still.aws.cloud.cut("iam")
        assert looked(still)["permissions"][0] == "unknown"

    def test_the_name_is_taken(self, still: World) -> None:
        still.client("rds", WEST).create_db_instance(
            DBInstanceIdentifier=STANDBY, DBInstanceClass="db.t3.micro", Engine="postgres", MasterUsername="prod",
            MasterUserPassword="very-secret", AllocatedStorage=20,
        )  # fmt: skip
        assert looked(still)["name"][0] == "not ready"
        assert looked(still, replace="rename")["name"] == ("ready", "pitchey-dr (us-west-2) will be renamed.")

    def test_a_replica_that_is_none_or_far_behind(self, still: World) -> None:
        assert looked(still, replica=True)["replica"][0] == "not ready"
        still.replica()
        assert looked(still, replica=True)["replica"][0] == "ready"
        still.aws.cloud.rds.lags[WEST, STANDBY] = 900.0
        outcome, words = looked(still, replica=True)["replica"]
        assert outcome == "not ready" and "900 s behind, at most 300 s" in words
        still.aws.cloud.rds.lags[WEST, STANDBY] = None
        assert looked(still, replica=True)["replica"][0] == "unknown"

    def test_groups_that_are_not_there(self, still: World) -> None:
        assert looked(still, subnet_group="dr-subnets")["groups"][0] == "not ready"
        assert looked(still, parameter_group="pg16-dr")["groups"][0] == "not ready"

    def test_a_region_that_is_away_is_unknown(self, still: World) -> None:
        still.aws.cloud.cut(WEST)
        found = looked(still)
        assert {key for key, (outcome, _) in found.items() if outcome == "unknown"} >= {"candidates", "name", "quota"}


GOOD = {
    "kind": "rds",
    "security_groups": ["sg-1"],
    "fenced_security_groups": ["sg-2"],
    "primary": {"region": EAST, "instance": LIVE},
    "standby": {"region": WEST, "instance": STANDBY},
}
WRONG = {
    "no region": ({"primary": {"instance": LIVE}}, "primary.region"),
    "a bad name": ({"standby": {"region": WEST, "instance": "9-lives"}}, "standby.instance"),
    "the same one twice": ({"standby": {"region": EAST, "instance": LIVE}}, "standby.instance"),
    "a fence that lets people in": ({"fenced_security_groups": ["sg-1"]}, "fenced_security_groups"),
    "no fence": ({"fenced_security_groups": []}, "fenced_security_groups"),
    "no such way": ({"fence": "hope"}, "fence"),
    "a standby that is stopped": ({"standby": {"region": WEST, "instance": STANDBY, "fence": "stop"}}, "standby.fence"),
    "an unknown setting": ({"colour": "red"}, "colour"),
    "a name without its zone": ({"endpoint_name": "db.pitchey.com"}, "zone"),
    "half of the keys": ({"access_key": "env:KEY"}, "secret_key"),
    "a secret that is none": ({"password": "swordfish"}, "password"),
    "seconds that are none": ({"restore_seconds": True}, "restore_seconds"),
    "no table": ({"standby": "us-west-2"}, "standby"),
    "a list that is none": ({"security_groups": "sg-1"}, "security_groups"),
}


class TestSettings:
    """What is wrong is said by its key."""

    def test_good_ones(self, cloud_world: World) -> None:
        assert cloud_world.database.check_settings(GOOD) == {}

    @pytest.mark.parametrize(("change", "key"), WRONG.values(), ids=WRONG)
    def test_wrong_ones(self, cloud_world: World, change: dict[str, Any], key: str) -> None:
        wrong = cloud_world.database.check_settings({**GOOD, **change})
        assert key in wrong or f"standby.{key}" in wrong

    def test_nonsense_never_breaks_it(self, cloud_world: World) -> None:
        for value in (None, 1, "x", [], [1], {}, {"a": None}, True, 1e99):
            for key in (*GOOD, "ttl", "checks", "kms_key", "multi_az"):
                cloud_world.database.check_settings({**GOOD, key: value})
