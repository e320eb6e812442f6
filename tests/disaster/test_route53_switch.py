"""People follow the records: one change set, until all name servers have it; a drill has a name of its own."""

from collections.abc import Iterable
from typing import Any

import pytest

from backups.disaster.base import Side
from backups.disaster.traffic.route53 import Route53Traffic
from controlplane.operations.plans import StepSpec
from controlplane.operations.states import State
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, Fault, broken, refused, throttled
from tests.disaster.aws_world import BOUNDARIES, World, die_once_at, lines

pytest_plugins = ["tests.disaster.aws_fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

NAME, OLD, NEW = "api.pitchey.com", "192.0.2.1", "192.0.2.2"
TRAFFIC = Route53Traffic()


@pytest.fixture
def zone(cloud_world: World) -> str:
    """The zone of the company; the name leads to the old side."""
    route53 = cloud_world.client("route53")
    made = route53.create_hosted_zone(Name="pitchey.com", CallerReference="1")["HostedZone"]["Id"]
    identity = str(made).rpartition("/")[2]
    record = {"Name": NAME, "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": OLD}]}
    route53.change_resource_record_sets(
        HostedZoneId=identity, ChangeBatch={"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    )
    cloud_world.aws.cloud.names.note()
    cloud_world.forget_changes()
    return identity


def sides(world: World, zone: str, **more: Any) -> tuple[Side, Side]:
    common = {
        "zone": zone, "names": [NAME], "endpoint_url": world.aws.url, "access_key": "env:TEST_AWS_ACCESS_KEY",
        "secret_key": "env:TEST_AWS_SECRET_KEY", "retry_seconds": 0.01, **more,
    }  # fmt: skip
    return Side("production", {"values": [OLD], **common}), Side("dr", {"values": [NEW], **common})


def switching(world: World, zone: str, drill: str = "", **more: Any) -> Iterable[StepSpec]:
    part = TRAFFIC.switch(*sides(world, zone, **more), drill=drill)
    return (*part.begin, *part.wait, *part.open, *part.verify)


def test_people_are_sent_to_the_new_side(cloud_world: World, zone: str) -> None:
    begun = cloud_world.aws.cloud.clock.now()
    operation = cloud_world.run(*switching(cloud_world, zone))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert cloud_world.aws.cloud.names.lookup(NAME) == [NEW]
    assert cloud_world.aws.changes == {"ChangeResourceRecordSets": 1}
    assert (cloud_world.aws.cloud.clock.now() - begun).total_seconds() >= 60


def test_and_back(cloud_world: World, zone: str) -> None:
    cloud_world.run(*switching(cloud_world, zone))
    source, target = sides(cloud_world, zone)
    part = TRAFFIC.switch(target, source)
    assert cloud_world.run(*part.begin, *part.wait, *part.verify).state == State.SUCCEEDED
    assert cloud_world.aws.cloud.names.lookup(NAME) == [OLD]


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_workers_die_at_every_boundary(cloud_world: World, zone: str, boundary: str) -> None:
    die_once_at(boundary)
    assert cloud_world.run(*switching(cloud_world, zone)).state == State.SUCCEEDED
    assert cloud_world.aws.cloud.names.lookup(NAME) == [NEW]
    assert cloud_world.aws.changes == {"ChangeResourceRecordSets": 1}


FAULTS = {
    "lost before": LOST_BEFORE, "lost after": LOST_AFTER, "throttled": throttled(), "broken": broken(),
    "one before it": refused("PriorRequestNotComplete", "The request was rejected because of a prior request"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_change_that_goes_wrong_is_looked_after(cloud_world: World, zone: str, fault: Fault) -> None:
    cloud_world.once("ChangeResourceRecordSets", fault)
    operation = cloud_world.run(*switching(cloud_world, zone))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert cloud_world.aws.cloud.names.lookup(NAME) == [NEW]
    assert cloud_world.aws.changes == {"ChangeResourceRecordSets": 1}


def test_a_change_that_is_refused_is_said(cloud_world: World, zone: str) -> None:
    cloud_world.once("ChangeResourceRecordSets", refused("InvalidChangeBatch", "conflicts with other records"))
    operation = cloud_world.run(*switching(cloud_world, zone))
    assert operation.state == State.FAILED
    assert "InvalidChangeBatch" in operation.outcome and "conflicts with other records" in operation.outcome
    assert cloud_world.aws.cloud.names.lookup(NAME) == [OLD]


def test_without_the_control_plane_it_cannot_be_done(cloud_world: World, zone: str) -> None:
    """Why `flag` is recommended."""
    cloud_world.aws.cloud.cut("route53")
    operation = cloud_world.run(*switching(cloud_world, zone))
    assert operation.state == State.FAILED and "No answer to route53:ListResourceRecordSets" in operation.outcome


def test_weights_move_as_a_whole(cloud_world: World, zone: str) -> None:
    route53 = cloud_world.client("route53")
    simple = {"Name": NAME, "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": OLD}]}
    route53.change_resource_record_sets(
        HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": "DELETE", "ResourceRecordSet": simple}]}
    )
    cloud_world.forget_changes()
    operation = cloud_world.run(*switching(cloud_world, zone, weighted=True))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert {cloud_world.aws.cloud.names.lookup(NAME)[0] for _ in range(20)} == {NEW}
    found = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    weights = {one["SetIdentifier"]: one["Weight"] for one in found if "SetIdentifier" in one}
    assert weights == {"production": 0, "dr": 100}
    assert cloud_world.aws.changes == {"ChangeResourceRecordSets": 1}


def test_an_alias(cloud_world: World, zone: str) -> None:
    source, target = sides(cloud_world, zone)
    alias = {"zone": "Z1H1FL5HABSF5", "name": "dr-alb.us-west-2.elb.amazonaws.com"}
    settings = {key: value for key, value in target.settings.items() if key != "values"}
    part = TRAFFIC.switch(source, Side("dr", {**settings, "alias": alias}))
    operation = cloud_world.run(*part.begin, *part.wait, *part.verify)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert cloud_world.aws.cloud.names.lookup(NAME) == ["dr-alb.us-west-2.elb.amazonaws.com"]


class TestDrills:
    """The public name is never touched."""

    DRILL = "drill.pitchey.com"

    @pytest.mark.parametrize("boundary", BOUNDARIES)
    def test_its_own_name_comes_and_goes(self, cloud_world: World, zone: str, boundary: str) -> None:
        die_once_at(boundary)
        part = TRAFFIC.switch(*sides(cloud_world, zone, drill_name=self.DRILL), drill="x")
        operation = cloud_world.run(*part.begin, *part.wait, *part.verify)
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert cloud_world.aws.cloud.names.lookup(self.DRILL) == [NEW]
        assert cloud_world.aws.cloud.names.lookup(NAME) == [OLD]
        assert cloud_world.run(*part.cleanup).state == State.SUCCEEDED
        found = cloud_world.client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        assert f"{self.DRILL}." not in [one["Name"] for one in found]
        assert cloud_world.run(*part.cleanup).state == State.SUCCEEDED  # gone already
        assert cloud_world.aws.changes == {"ChangeResourceRecordSets": 2}

    def test_without_a_name_of_its_own_nothing_is_switched(self, cloud_world: World, zone: str) -> None:
        assert list(switching(cloud_world, zone, drill="x")) == []


class TestReadiness:
    """Would people follow?"""

    def looked(self, world: World, zone: str, **more: Any) -> dict[str, str]:
        found = TRAFFIC.readiness(*sides(world, zone, **more))
        return {one.key.removeprefix("traffic/"): one.outcome for one in found}

    def test_all_is_well(self, cloud_world: World, zone: str) -> None:
        assert set(self.looked(cloud_world, zone).values()) == {"ready"}

    def test_resolvers_keep_it_too_long(self, cloud_world: World, zone: str) -> None:
        assert self.looked(cloud_world, zone, max_ttl=30)["ttl"] == "not ready"

    def test_somebody_points_it_elsewhere(self, cloud_world: World, zone: str) -> None:
        cloud_world.run(*switching(cloud_world, zone))
        assert self.looked(cloud_world, zone)["records"] == "not ready"

    def test_permissions(self, cloud_world: World, zone: str) -> None:
        cloud_world.aws.cloud.denied.add("route53:ChangeResourceRecordSets")
        assert self.looked(cloud_world, zone)["permissions"] == "not ready"

    def test_what_cannot_be_asked(self, cloud_world: World, zone: str) -> None:
        cloud_world.aws.cloud.cut("route53")
        found = self.looked(cloud_world, zone)
        assert (found["records"], found["ttl"]) == ("unknown", "unknown")


GOOD = {"kind": "route53", "zone": "Z1", "names": [NAME], "primary": {"values": [OLD]}, "standby": {"values": [NEW]}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no zone": ({"zone": ""}, "zone"),
    "no names": ({"names": []}, "names"),
    "nowhere": ({"standby": {}}, "standby.values"),
    "two places": ({"standby": {"values": [NEW], "alias": {"zone": "Z", "name": "x"}}}, "standby.values"),
    "half an alias": ({"standby": {"alias": {"zone": "Z"}}}, "standby.alias"),
    "two names for a CNAME": ({"type": "CNAME", "standby": {"values": ["a", "b"]}}, "standby.values"),
    "no such type": ({"type": "MX"}, "type"),
    "a TTL that is none": ({"ttl": -1}, "ttl"),
    "an unknown setting": ({"colour": "red"}, "colour"),
    "no table": ({"primary": 3}, "primary"),
}


@pytest.mark.parametrize(("change", "key"), WRONG.values(), ids=WRONG)
def test_wrong_settings(change: dict[str, Any], key: str) -> None:
    wrong = TRAFFIC.check_settings({**GOOD, **change})
    assert key in wrong or f"standby.{key}" in wrong
    assert TRAFFIC.check_settings(GOOD) == {}


def test_no_key_is_in_the_log(cloud_world: World, zone: str) -> None:
    cloud_world.once("ChangeResourceRecordSets", refused("Throttling", "AKIAIOSFODNN7EXAMPLE is slowed down"))
    operation = cloud_world.run(*switching(cloud_world, zone))
    assert "AKIAIOSFODNN7EXAMPLE" not in "\n".join(lines(operation))
