"""People follow a flag in the region that survives, with nothing of Route 53's control plane."""

from typing import Any

import pytest

from backups.disaster.base import Side
from backups.disaster.traffic.flag import FlagTraffic
from controlplane.operations.plans import StepSpec
from controlplane.operations.states import State
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, Fault, broken, denied, throttled
from tests.disaster.aws_world import BOUNDARIES, EAST, WEST, World, die_once_at

pytest_plugins = ["tests.disaster.aws_fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

NAME, OLD, NEW = "api.pitchey.com", "192.0.2.1", "192.0.2.2"
TRAFFIC = FlagTraffic()
CHANGES = {"object": ("PutObject", "DeleteObject"), "alarm": ("SetAlarmState", "SetAlarmState")}


@pytest.fixture(params=CHANGES)
def by(request: pytest.FixtureRequest, cloud_world: World) -> str:
    """By an object or an alarm: failover records that follow it; Route 53's API and us-east-1 are gone."""
    way = str(request.param)
    make(cloud_world, way)
    cloud_world.aws.cloud.cut("route53")
    cloud_world.aws.cloud.cut(EAST)
    cloud_world.forget_changes()
    return way


def make(world: World, way: str, missing: str = "ignore") -> None:
    """What has to be there beforehand; see the docs."""
    world.client("s3", WEST).create_bucket(Bucket="flags", CreateBucketConfiguration={"LocationConstraint": WEST})
    world.client("cloudwatch", WEST).put_metric_alarm(
        AlarmName="failover", ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1, MetricName="failover",
        Namespace="pitchey", Period=60, Threshold=0.5, Statistic="Maximum", TreatMissingData=missing,
    )  # fmt: skip
    world.client("cloudwatch", WEST).set_alarm_state(AlarmName="failover", StateValue="OK", StateReason="new")
    route53 = world.client("route53")
    zone = route53.create_hosted_zone(Name="pitchey.com", CallerReference="1")["HostedZone"]["Id"]
    host = f"flags.s3.{WEST}.amazonaws.com"
    object_check = {"Type": "HTTPS", "FullyQualifiedDomainName": host, "ResourcePath": "/failover", "Inverted": True}
    alarm_check = {"Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": WEST, "Name": "failover"}}
    check = object_check if way == "object" else alarm_check
    health = route53.create_health_check(CallerReference="1", HealthCheckConfig=check)["HealthCheck"]["Id"]
    records = [
        {"SetIdentifier": "a", "Failover": "PRIMARY", "HealthCheckId": health, "ResourceRecords": [{"Value": OLD}]},
        {"SetIdentifier": "b", "Failover": "SECONDARY", "ResourceRecords": [{"Value": NEW}]},
    ]
    changes = [
        {"Action": "UPSERT", "ResourceRecordSet": {"Name": NAME, "Type": "A", "TTL": 60, **one}} for one in records
    ]
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    world.aws.cloud.names.note()
    world.forget_changes()


def sides(world: World, way: str, **more: Any) -> tuple[Side, Side]:
    common = {
        "by": way, "region": WEST, "bucket": "flags", "key": "failover", "alarm": "failover", "path_style": True,
        "endpoint_url": world.aws.url, "access_key": "env:TEST_AWS_ACCESS_KEY", "secret_key": "env:TEST_AWS_SECRET_KEY",
        "retry_seconds": 0.01, **more,
    }  # fmt: skip
    return Side("production", {**common, "raised": False}), Side("dr", {**common, "raised": True})


def switching(world: World, way: str) -> tuple[StepSpec, ...]:
    part = TRAFFIC.switch(*sides(world, way))
    return (*part.begin, *part.wait, *part.open, *part.verify)


def seen(world: World) -> list[str]:
    """Where the name leads once the health checkers had their time."""
    world.aws.cloud.advance(40)
    return world.aws.cloud.names.lookup(NAME)


def test_there_and_back(cloud_world: World, by: str) -> None:
    there, back = CHANGES[by]
    assert seen(cloud_world) == [OLD]
    assert cloud_world.run(*switching(cloud_world, by)).state == State.SUCCEEDED
    assert seen(cloud_world) == [NEW]
    source, target = sides(cloud_world, by)
    part = TRAFFIC.switch(target, source)
    assert cloud_world.run(*part.begin, *part.verify).state == State.SUCCEEDED
    assert seen(cloud_world) == [OLD]
    assert cloud_world.aws.changes == ({there: 2} if there == back else {there: 1, back: 1})


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_workers_die_at_every_boundary(cloud_world: World, by: str, boundary: str) -> None:
    die_once_at(boundary)
    assert cloud_world.run(*switching(cloud_world, by)).state == State.SUCCEEDED
    assert cloud_world.aws.changes == {CHANGES[by][0]: 1}
    assert seen(cloud_world) == [NEW]


@pytest.mark.parametrize("fault", [LOST_AFTER, LOST_BEFORE, throttled(), broken()])
def test_a_change_that_goes_wrong_is_looked_after(cloud_world: World, by: str, fault: Fault) -> None:
    cloud_world.once(CHANGES[by][0], fault)
    assert cloud_world.run(*switching(cloud_world, by)).state == State.SUCCEEDED
    assert cloud_world.aws.changes == {CHANGES[by][0]: 1}
    assert seen(cloud_world) == [NEW]


def test_what_is_not_allowed_is_said(cloud_world: World, by: str) -> None:
    action = {"object": "s3:PutObject", "alarm": "cloudwatch:SetAlarmState"}[by]
    cloud_world.once(CHANGES[by][0], denied(action))
    operation = cloud_world.run(*switching(cloud_world, by))
    assert operation.state == State.FAILED and action in operation.outcome


def test_a_drill_has_a_flag_of_its_own(cloud_world: World) -> None:
    make(cloud_world, "object")
    part = TRAFFIC.switch(*sides(cloud_world, "object", drill_key="drill"), drill="x")
    assert cloud_world.run(*part.begin, *part.verify).state == State.SUCCEEDED
    objects = cloud_world.client("s3", WEST).list_objects_v2(Bucket="flags")["Contents"]
    assert [one["Key"] for one in objects] == ["drill"]
    assert cloud_world.run(*part.cleanup).state == cloud_world.run(*part.cleanup).state == State.SUCCEEDED
    assert cloud_world.aws.changes == {"PutObject": 1, "DeleteObject": 1}
    assert TRAFFIC.switch(*sides(cloud_world, "object"), drill="x").begin == ()


class TestReadiness:
    """Does the flag say what is so, and can it be changed?"""

    def looked(self, world: World, way: str) -> dict[str, str]:
        found = TRAFFIC.readiness(*sides(world, way))
        return {one.key.removeprefix("traffic/"): one.outcome for one in found}

    @pytest.mark.parametrize("way", CHANGES)
    def test_all_is_well(self, cloud_world: World, way: str) -> None:
        make(cloud_world, way)
        assert self.looked(cloud_world, way) == {"flag": "ready", "permissions": "ready"}

    def test_a_flag_that_is_up_already(self, cloud_world: World) -> None:
        make(cloud_world, "object")
        cloud_world.client("s3", WEST).put_object(Bucket="flags", Key="failover", Body=b"x")
        assert self.looked(cloud_world, "object")["flag"] == "not ready"

    def test_an_alarm_that_goes_back_by_itself(self, cloud_world: World) -> None:
        make(cloud_world, "alarm", missing="notBreaching")
        assert self.looked(cloud_world, "alarm")["flag"] == "not ready"

    def test_what_cannot_be_asked(self, cloud_world: World) -> None:
        cloud_world.aws.cloud.cut(WEST)
        assert self.looked(cloud_world, "object") == {"flag": "unknown", "permissions": "unknown"}


GOOD = {
    "kind": "flag", "region": WEST, "bucket": "flags", "key": "failover", "primary": {"raised": False},
    "standby": {"raised": True},
}  # fmt: skip
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no bucket": ({"bucket": ""}, "bucket"),
    "an alarm without a name": ({"by": "alarm"}, "alarm"),
    "no such way": ({"by": "semaphore"}, "by"),
    "both sides raise it": ({"primary": {"raised": True}}, "raised"),
    "one side does not say": ({"primary": {}}, "raised"),
    "an unknown setting": ({"colour": "red"}, "colour"),
    "no table": ({"primary": []}, "primary"),
}


@pytest.mark.parametrize(("change", "key"), WRONG.values(), ids=WRONG)
def test_wrong_settings(change: dict[str, Any], key: str) -> None:
    wrong = TRAFFIC.check_settings({**GOOD, **change})
    assert key in wrong or f"standby.{key}" in wrong
    assert TRAFFIC.check_settings(GOOD) == {}
