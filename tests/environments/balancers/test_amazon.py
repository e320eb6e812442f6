"""AWS's load balancers: a target drains until AWS says that it is gone, is well when AWS says so; weights by groups.

Moto behind the layer of tests/aws, which plays how long it takes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from controlplane.operations.errors import StepError
from environments.balancers import BALANCERS
from environments.balancers.base import Balancer, Counted, Member, Standing
from tests.aws.layer import LOST_AFTER, Layer, denied, refused, throttled

pytest_plugins = ["tests.aws.fixtures"]
EAST = "us-east-1"
ONE, TWO = Member("one", "10.0.0.1", 8000), Member("two", "10.0.0.2", 8000)


@dataclass
class Place:
    """A load balancer of AWS, as the tests that hold for both kinds know it. ids: how AWS calls the members."""

    kind: Balancer
    settings: dict[str, Any]
    aws: Layer
    ids: dict[str, str]
    added: str
    removed: str

    def standing(self, member: Member) -> Standing:
        return self.kind.look(self.settings, member).standing


def client(aws: Layer, service: str) -> Any:
    make: Any = boto3.client  # the stubs want the service's name written out
    return make(service, region_name=EAST, endpoint_url=aws.url, aws_access_key_id="a", aws_secret_access_key="b")


def account(aws: Layer) -> dict[str, Any]:
    keys = {"access_key": "env:TEST_AWS_ACCESS_KEY", "secret_key": "env:TEST_AWS_SECRET_KEY"}
    return {"region": EAST, "endpoint_url": aws.url, **keys}


def group(aws: Layer, name: str) -> str:
    vpc = client(aws, "ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    made = client(aws, "elbv2").create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")
    return str(made["TargetGroups"][0]["TargetGroupArn"])


def listener(aws: Layer, action: dict[str, Any]) -> str:
    subnets = [one["SubnetId"] for one in client(aws, "ec2").describe_subnets()["Subnets"]][:2]
    elb = client(aws, "elbv2")
    balancer = elb.create_load_balancer(Name="web", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    made = elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[action])
    return str(made["Listeners"][0]["ListenerArn"])


def of_target_group(aws: Layer) -> Place:
    settings = {**account(aws), "target_group": group(aws, "web")}
    ids = {"one": ONE.host, "two": TWO.host}
    return Place(BALANCERS["target_group"], settings, aws, ids, "RegisterTargets", "DeregisterTargets")


def of_classic(aws: Layer) -> Place:
    ids = {"one": "i-0123456789abcdef1", "two": "i-0123456789abcdef2"}
    listeners = [{"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}]
    client(aws, "elb").create_load_balancer(
        LoadBalancerName="web", Listeners=listeners, AvailabilityZones=["us-east-1a"]
    )
    settings = {**account(aws), "load_balancer": "web", "instances": ids}
    removed = "DeregisterInstancesFromLoadBalancer"
    return Place(BALANCERS["classic_elb"], settings, aws, ids, "RegisterInstancesWithLoadBalancer", removed)


@pytest.fixture(params=[of_target_group, of_classic], ids=["target_group", "classic_elb"])
def place(request: pytest.FixtureRequest, aws: Layer) -> Place:
    """Each kind, with nobody registered; time counts."""
    make: Callable[[Layer], Place] = request.param
    made = make(aws)
    aws.cloud.start(well=10, drain=300)
    return made


def test_who_is_registered_serves_once_it_is_well(place: Place) -> None:
    assert place.standing(ONE) == Standing.ABSENT
    place.kind.add(place.settings, ONE)
    assert place.standing(ONE) == Standing.STARTING
    place.aws.cloud.advance(10)
    assert place.standing(ONE) == Standing.SERVING
    place.kind.add(place.settings, ONE)
    assert place.standing(ONE) == Standing.SERVING, "twice is once"
    assert place.standing(TWO) == Standing.ABSENT


def test_who_is_deregistered_drains_until_aws_says_that_it_is_gone(place: Place) -> None:
    place.kind.add(place.settings, ONE)
    place.aws.cloud.advance(10)
    place.kind.remove(place.settings, ONE)
    place.aws.cloud.advance(299)
    assert place.standing(ONE) == Standing.DRAINING
    place.kind.remove(place.settings, ONE)
    place.aws.cloud.advance(1)
    assert place.standing(ONE) == Standing.ABSENT
    place.kind.remove(place.settings, ONE)
    assert place.aws.changes[place.removed] == 1, "what is out already is not taken out again"


def test_who_drains_is_taken_back(place: Place) -> None:
    place.kind.add(place.settings, ONE)
    place.aws.cloud.advance(10)
    place.kind.remove(place.settings, ONE)
    place.aws.cloud.advance(100)
    place.kind.add(place.settings, ONE)
    place.aws.cloud.advance(250)
    assert place.standing(ONE) == Standing.SERVING


def test_who_is_ill_is_said_to_be_with_the_reason(place: Place) -> None:
    place.kind.add(place.settings, ONE)
    place.aws.cloud.advance(10)
    place.aws.cloud.balancing.fall_ill(place.ids["one"])
    seen = place.kind.look(place.settings, ONE)
    assert seen.standing == Standing.UNHEALTHY
    assert "ealth checks" in seen.words
    place.aws.cloud.balancing.recover(place.ids["one"])
    assert place.standing(ONE) == Standing.SERVING


def test_an_answer_that_is_lost_is_no_reason_to_do_it_differently(place: Place) -> None:
    place.aws.will(place.added, LOST_AFTER)
    with pytest.raises(StepError) as raised:
        place.kind.add(place.settings, ONE)
    assert not raised.value.permanent
    assert place.standing(ONE) == Standing.STARTING, "it was taken"
    assert place.aws.asked[place.added] == 1, "a change is sent once; who tries again looks first"


def test_a_refusal_says_what_to_do(place: Place) -> None:
    place.aws.will(place.added, denied(f"elasticloadbalancing:{place.added}"))
    with pytest.raises(StepError, match="has to add elasticloadbalancing:Register") as raised:
        place.kind.add(place.settings, ONE)
    assert raised.value.permanent
    place.aws.will(place.added, throttled())
    with pytest.raises(StepError, match="slows us down") as raised:
        place.kind.add(place.settings, ONE)
    assert not raised.value.permanent


def test_nobody_counts_by_target(place: Place) -> None:
    assert place.kind.counted(place.settings, [ONE, TWO]) == {}


def count(aws: Layer, arn: str, where: str, at: datetime, **counted: float) -> None:
    """Have CloudWatch count, for one minute of one group."""
    balancer = "/".join(where.rpartition(":")[2].split("/")[1:4])
    # In the order in which they are asked for: moto, unlike AWS, looks at it.
    dimensions = [{"Name": "TargetGroup", "Value": arn.rpartition(":")[2]}, {"Name": "LoadBalancer", "Value": balancer}]
    rows = [
        {"MetricName": name, "Dimensions": dimensions, "Timestamp": at, "Value": value}
        for name, value in counted.items()
    ]
    client(aws, "cloudwatch").put_metric_data(Namespace="AWS/ApplicationELB", MetricData=rows)


def test_an_instance_that_aws_does_not_know_is_not_registered(aws: Layer) -> None:
    place = of_classic(aws)
    aws.will("DescribeInstanceHealth", refused("InvalidInstance", "Could not find EC2 instance i-1."))
    assert place.standing(ONE) == Standing.ABSENT


def test_a_classic_one_has_no_weights_and_knows_its_members(aws: Layer) -> None:
    place = of_classic(aws)
    with pytest.raises(StepError, match="knows no weights"):
        place.kind.weigh(place.settings, {ONE: 1})
    with pytest.raises(StepError, match="do not say which instance three is"):
        place.kind.look(place.settings, Member("three", "10.0.0.3", 8000))


class TestWeights:
    """Of two target groups: blue has one and two, green has three."""

    THREE = Member("three", "10.0.0.3", 8000)

    @pytest.fixture
    def groups(self, aws: Layer) -> tuple[str, str]:
        return group(aws, "blue"), group(aws, "green")

    def settings(self, aws: Layer, groups: tuple[str, str], where: str) -> dict[str, Any]:
        blue, green = groups
        return {
            **account(aws), "target_group": blue, "second_group": green, "first": ["one", "two"], "second": ["three"],
            "listener": where,
        }  # fmt: skip

    def seen(self, settings: dict[str, Any]) -> list[int | None]:
        return [BALANCERS["target_group"].look(settings, member).weight for member in (ONE, TWO, self.THREE)]

    def test_they_are_those_of_the_listener_s_forward(self, aws: Layer, groups: tuple[str, str]) -> None:
        settings = self.settings(aws, groups, listener(aws, {"Type": "forward", "TargetGroupArn": groups[0]}))
        assert self.seen(settings) == [100, 100, None], "the listener does not know the second group yet"
        BALANCERS["target_group"].weigh(settings, {ONE: 95, TWO: 95, self.THREE: 10})
        assert self.seen(settings) == [95, 95, 10]
        action = client(aws, "elbv2").describe_listeners(ListenerArns=[settings["listener"]])["Listeners"][0]
        weights = [one["Weight"] for one in action["DefaultActions"][0]["ForwardConfig"]["TargetGroups"]]
        assert weights == [190, 10], "a group's share is that of its members together"

    def test_they_are_those_of_a_rule(self, aws: Layer, groups: tuple[str, str]) -> None:
        default = listener(aws, {"Type": "forward", "TargetGroupArn": groups[1]})
        forward = [{"TargetGroupArn": one, "Weight": 1} for one in groups]
        rule = client(aws, "elbv2").create_rule(
            ListenerArn=default, Priority=5, Conditions=[{"Field": "path-pattern", "Values": ["/api/*"]}],
            Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": forward}}],
        )["Rules"][0]["RuleArn"]  # fmt: skip
        settings = self.settings(aws, groups, rule)
        BALANCERS["target_group"].weigh(settings, {ONE: 100, TWO: 100, self.THREE: 0})
        assert self.seen(settings) == [100, 100, 0]
        BALANCERS["target_group"].weigh(settings, {self.THREE: 100})
        BALANCERS["target_group"].weigh(settings, {ONE: 0, TWO: 0})
        assert self.seen(settings) == [0, 0, 100], "one after the other, as a switch does it"
        assert not aws.changes.get("ModifyListener")

    def test_cloudwatch_counts_by_group_since_the_month_began(self, aws: Layer, groups: tuple[str, str]) -> None:
        where = listener(aws, {"Type": "forward", "TargetGroupArn": groups[0]})
        settings = self.settings(aws, groups, where)
        members, kind = [ONE, TWO, self.THREE], BALANCERS["target_group"]
        assert kind.counted(settings, members) == {"one": Counted(0, 0), "three": Counted(0, 0)}
        now = datetime.now(UTC)
        before_the_month = now.replace(day=1) - timedelta(days=2)
        count(aws, groups[0], where, before_the_month, RequestCount=77.0)
        count(aws, groups[0], where, now, RequestCount=900.0, HTTPCode_Target_5XX_Count=3.0, TargetResponseTime=0.5)
        count(aws, groups[0], where, now, RequestCount=100.0, TargetConnectionErrorCount=2.0, TargetResponseTime=1.5)
        count(aws, groups[1], where, now, RequestCount=40.0)
        assert kind.counted(settings, members) == {
            "one": Counted(1000, 5, seconds=2.0, timed=2), "three": Counted(40, 0),
        }  # fmt: skip
        assert kind.counted(settings, [self.THREE, TWO]) == {
            "two": Counted(1000, 5, seconds=2.0, timed=2), "three": Counted(40, 0),
        }  # fmt: skip

    def test_what_cloudwatch_refuses_says_what_to_do(self, aws: Layer, groups: tuple[str, str]) -> None:
        where = listener(aws, {"Type": "forward", "TargetGroupArn": groups[0]})
        aws.will("GetMetricData", denied("cloudwatch:GetMetricData"))
        with pytest.raises(StepError, match="has to add cloudwatch:GetMetricData"):
            BALANCERS["target_group"].counted(self.settings(aws, groups, where), [ONE])

    def test_of_a_network_load_balancer_nobody_counts_requests(self, aws: Layer, groups: tuple[str, str]) -> None:
        where = f"{ARN}listener/net/web/0123456789abcdef/0123456789abcdef"
        assert BALANCERS["target_group"].counted(self.settings(aws, groups, where), [ONE]) == {}
        assert not aws.asked["GetMetricData"]

    def test_members_of_a_group_have_one_in_common(self, aws: Layer, groups: tuple[str, str]) -> None:
        settings = self.settings(aws, groups, listener(aws, {"Type": "forward", "TargetGroupArn": groups[0]}))
        with pytest.raises(StepError, match="one weight in common"):
            BALANCERS["target_group"].weigh(settings, {ONE: 90, TWO: 10})

    def test_one_group_alone_has_none(self, aws: Layer) -> None:
        place = of_target_group(aws)
        with pytest.raises(StepError, match="name a second_group"):
            place.kind.weigh(place.settings, {ONE: 90, TWO: 10})
        assert place.kind.look(place.settings, ONE).weight is None

    def test_a_third_group_is_not_thrown_out(self, aws: Layer, groups: tuple[str, str]) -> None:
        forward = [{"TargetGroupArn": one, "Weight": 1} for one in (*groups, group(aws, "third"))]
        action = {"Type": "forward", "ForwardConfig": {"TargetGroups": forward}}
        settings = self.settings(aws, groups, listener(aws, action))
        with pytest.raises(StepError, match="targetgroup/third"):
            BALANCERS["target_group"].weigh(settings, {ONE: 90, TWO: 90})

    def test_what_does_not_forward_has_none(self, aws: Layer, groups: tuple[str, str]) -> None:
        action = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
        settings = self.settings(aws, groups, listener(aws, action))
        with pytest.raises(StepError, match="forwards nothing"):
            BALANCERS["target_group"].weigh(settings, {ONE: 90, TWO: 90})


ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:"
BLUE, GREEN = f"{ARN}targetgroup/blue/0123456789abcdef", f"{ARN}targetgroup/green/0123456789abcdef"
GOOD = {"region": EAST, "target_group": BLUE}
TWO_GROUPS = {"second_group": GREEN, "first": ["one"], "second": ["two"], "listener": f"{ARN}listener/app/web/1/2"}


@pytest.mark.parametrize(
    ("kind", "settings", "wrong"),
    [
        ("target_group", GOOD, set()),
        ("target_group", GOOD | TWO_GROUPS, set()),
        ("target_group", {}, {"region", "target_group"}),
        ("target_group", GOOD | {"region": "us-west-2"}, {"target_group"}),
        ("target_group", GOOD | {"target_group": "blue"}, {"target_group"}),
        ("target_group", GOOD | {"second_group": GREEN}, {"first", "second", "listener"}),
        ("target_group", GOOD | TWO_GROUPS | {"second_group": BLUE}, {"second_group"}),
        ("target_group", GOOD | TWO_GROUPS | {"second": ["one"]}, {"second"}),
        ("target_group", GOOD | TWO_GROUPS | {"first": [f"one-{number}" for number in range(10)]}, {"second"}),
        ("target_group", GOOD | {"targets": ["i-1"], "weights": 1}, {"targets", "weights"}),
        ("target_group", GOOD | {"access_key": "AKIA", "secret_key": "env:KEY"}, {"access_key"}),
        ("target_group", GOOD | {"access_key": "env:ID"}, {"access_key"}),
        ("classic_elb", {"region": EAST, "load_balancer": "web", "instances": {"one": "i-1"}}, set()),
        ("classic_elb", {"load_balancer": 5, "instances": "i-1"}, {"region", "load_balancer", "instances"}),
    ],
)
def test_wrong_settings_are_said_by_key(kind: str, settings: dict[str, Any], wrong: set[str]) -> None:
    assert set(BALANCERS[kind].problems({"kind": kind, **settings})) == wrong
