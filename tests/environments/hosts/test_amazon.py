"""Hosts behind AWS's load balancers: drained for as long as AWS says, and back once AWS finds them well.

The hosts are real, the load balancers are moto's behind the layer that plays their time: 300 seconds of draining and 30
until a target is well, at 300 seconds a second.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from environments.balancers import BALANCERS
from environments.balancers.base import Member, Standing
from tests.aws.layer import Layer
from tests.environments.balancers.test_amazon import account, client, group
from tests.environments.hosts.conftest import MakePark
from tests.environments.hosts.park import Park

pytest_plugins = ["tests.aws.fixtures"]
NAMES = ("production-1", "production-2")
DRAIN, WELL, SPEED = 300.0, 30.0, 300.0
Make = Callable[[Layer], dict[str, Any]]


def of_an_alb(aws: Layer) -> dict[str, Any]:
    return {"kind": "target_group", **account(aws), "target_group": group(aws, "web")}


def of_an_nlb(aws: Layer) -> dict[str, Any]:
    vpc = client(aws, "ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    made = client(aws, "elbv2").create_target_group(Name="web", Protocol="TCP", Port=80, VpcId=vpc, TargetType="ip")
    return {"kind": "target_group", **account(aws), "target_group": made["TargetGroups"][0]["TargetGroupArn"]}


def of_a_classic_one(aws: Layer) -> dict[str, Any]:
    client(aws, "elb").create_load_balancer(
        LoadBalancerName="web", AvailabilityZones=["us-east-1a"],
        Listeners=[{"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}],
    )  # fmt: skip
    ids = {name: f"i-0123456789abcdef{number}" for number, name in enumerate(NAMES)}
    return {"kind": "classic_elb", **account(aws), "load_balancer": "web", "instances": ids}


@pytest.fixture(params=[of_an_alb, of_an_nlb, of_a_classic_one], ids=["alb", "nlb", "classic"])
def production(request: pytest.FixtureRequest, aws: Layer, park: MakePark) -> Iterator[Park]:
    """Two hosts of 1.4.0 that are in service, from a moment on at which time counts."""
    make: Make = request.param
    made = park(2, balancer=make(aws), drain_seconds=DRAIN + 60, serving_seconds=WELL + 60)
    assert made.deploy("1.4.0") is None
    aws.cloud.start(speed=SPEED, drain=DRAIN, well=WELL)
    yield made
    aws.cloud.start()


def standings(production: Park) -> set[Standing]:
    settings = production.placement.environment.driver_settings["balancer"]
    ports = {one["name"]: int(one["address"].rpartition(":")[2]) for one in production.placement.instances}
    members = [Member(name, "127.0.0.1", port) for name, port in ports.items()]
    return {BALANCERS[settings["kind"]].look(settings, member).standing for member in members}


def test_each_is_drained_until_aws_says_so_and_followed_by_the_next_once_it_is_well(
    production: Park, aws: Layer
) -> None:
    began = aws.cloud.clock.seconds()
    worker = production.worker()
    assert production.deploy("1.5.0", worker) is None
    assert production.versions() == ["1.5.0", "1.5.0"]
    assert standings(production) == {Standing.SERVING}
    assert aws.cloud.clock.seconds() - began >= 2 * (DRAIN + WELL), "nobody was hurried"
    told = [(what, subject) for what, subject, _ in worker.effects if what != "pulled"]
    assert told == [
        (what, name) for name in NAMES for what in ("deregistered", "stopped", "started", "registered")
    ]  # fmt: skip
    assert worker.said.index("production-1: drained") < worker.said.index(
        "production-1: stopped 1.4.0, and keeps a copy of it to go back to"
    )


def test_a_bad_image_goes_back_behind_it_and_the_other_host_is_not_touched(production: Park, aws: Layer) -> None:
    error = production.deploy("1.6.0")
    assert str(error) == "/health answered 503 at production-1"
    assert production.versions() == ["1.4.0", "1.4.0"]
    assert standings(production) == {Standing.SERVING}
    assert production.effects(2) == [("start", "1.4.0")]
