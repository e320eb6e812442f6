"""Weights of AWS's target groups, as a canary and blue/green move them: what AWS is sent, once, wherever a worker dies.

The driver is of paper. Canaries are judged from a stand-in for Prometheus, or by CloudWatch, which is moto's like the
load balancer.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, engine
from controlplane.operations.models import Effect, Operation, Step
from controlplane.operations.states import State, StepState
from deployments.models import CanaryVerdict, StrategyTable
from deployments.services import request_deployment
from deployments.strategies.situation import can_count
from environments.drivers import DRIVERS
from environments.drivers.base import Running
from environments.models import Environment, Placement
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, Layer, denied, throttled
from tests.deployments.strategies.meter import Meter, serving
from tests.environments.balancers.test_amazon import account, client, count, group, listener
from tests.estate import Estate, paper
from tests.operations.dying import die_once_at_each_boundary, run_until_the_end

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)
ADDRESSES = {f"production-{number}": f"10.0.0.{number}" for number in (1, 2, 3)}
CANARY: dict[str, Any] = {
    "instances": ["production-1"], "share_percent": 10, "requests": 300, "interval_seconds": 0.1, "slower_percent": 0,
}  # fmt: skip
COLOURS: dict[str, Any] = {
    "blue": ["production-2", "production-3"], "green": ["production-1"], "soak_seconds": 0.2, "interval_seconds": 0.1,
}  # fmt: skip
# Of the first group, production-2 and 3 together, and of the second, production-1.
ASIDE, SMALL, EQUAL = (200, 0), (200, 22), (200, 100)


@dataclass
class Groups:
    """Production behind two target groups. where: the listener, or the rule, whose forward has the weights."""

    aws: Layer
    estate: Estate
    asks: Person
    first: str
    second: str
    where: str = ""

    @property
    def change(self) -> str:
        """What AWS calls the change."""
        return "ModifyRule" if "listener-rule" in self.where else "ModifyListener"

    def sent(self) -> list[tuple[int, int]]:
        """The weights of both groups, change by change."""
        found = []
        for body in self.aws.bodies[self.change]:
            arns = {str(value): key.rpartition(".")[0] for key, value in body.items() if key.endswith("TargetGroupArn")}
            weights = [int(body[f"{arns[one]}.Weight"]) for one in (self.first, self.second)]
            found.append((weights[0], weights[1]))
        return found

    def behind(self, where: str) -> None:
        """This is the listener, or the rule."""
        self.where = where
        balancer = {
            "kind": "target_group", **account(self.aws), "target_group": self.first, "second_group": self.second,
            "first": ["production-2", "production-3"], "second": ["production-1"], "listener": where,
        }  # fmt: skip
        Environment.objects.filter(slug="production").update(
            driver="local", approvals_required=0, promoted_from="", driver_settings={"balancer": balancer}
        )
        self.estate.production.refresh_from_db()

    def ask(self, strategy: str, **settings: Any) -> Operation:
        """Ask for 1.5.0."""
        table = {"strategy": strategy, strategy: settings}
        environment, release = self.estate.production, self.estate.releases["1.5.0"]
        StrategyTable.objects.update_or_create(environment=environment, service=None, defaults={"settings": table})
        return request_deployment(Actor(self.asks), environment=environment, release=release, reason="because")

    def deploy(self, strategy: str, **settings: Any) -> Operation:
        """Ask for it, and run it to its end."""
        operation = self.ask(strategy, **settings)
        engine.run(operation.pk, "w1")
        operation.refresh_from_db()
        return operation

    def versions(self) -> list[str]:
        """What runs, instance by instance."""
        return [paper.runs[name].version for name in ADDRESSES]


@pytest.fixture
def groups(aws: Layer, estate: Estate, alice: Person, monkeypatch: pytest.MonkeyPatch) -> Iterator[Groups]:
    """All targets are registered and well; the listener sends everybody to the first group, and knows no other."""
    monkeypatch.setitem(DRIVERS, "local", paper)
    old = estate.releases["1.4.0"]
    paper.runs.update({name: Running(name, old.version, old.digest) for name in ADDRESSES})
    Placement.objects.filter(environment__slug="production").update(
        instances=[{"name": name, "address": f"http://{address}:8000"} for name, address in ADDRESSES.items()]
    )
    made = Groups(aws, estate, alice, group(aws, "stable"), group(aws, "canary"))
    for name, address in ADDRESSES.items():
        arn = made.second if name == "production-1" else made.first
        client(aws, "elbv2").register_targets(TargetGroupArn=arn, Targets=[{"Id": address, "Port": 8000}])
    aws.cloud.start(well=0, drain=300)
    made.behind(listener(aws, {"Type": "forward", "TargetGroupArn": made.first}))
    yield made
    boundaries.listeners.clear()


@pytest.fixture
def meter(settings: Any) -> Iterator[Meter]:
    """100 requests for each instance at each look."""
    with serving(Meter({name: f"{address}:8000" for name, address in ADDRESSES.items()})) as made:
        settings.PROMETHEUS_URL = made.url
        yield made


@pytest.fixture
def traffic(groups: Groups) -> Iterator[dict[str, int]]:
    """People come, and CloudWatch counts: 100 requests to each group, again and again. bad: so many of the canary's."""
    told, over = {"bad": 0}, threading.Event()

    def come() -> None:
        while not over.wait(0.05):
            now = datetime.now(UTC)
            count(groups.aws, groups.first, groups.where, now, RequestCount=100.0, TargetResponseTime=0.1)
            bad = float(told["bad"] if groups.versions()[0] != "1.4.0" else 0)
            count(groups.aws, groups.second, groups.where, now, RequestCount=100.0, HTTPCode_Target_5XX_Count=bad)

    coming = threading.Thread(target=come)
    coming.start()
    yield told
    over.set()
    coming.join()


def rule(groups: Groups) -> str:
    """For a path; the listener itself sends everybody elsewhere."""
    forward = [{"TargetGroupArn": one, "Weight": 1} for one in (groups.first, groups.second)]
    made = client(groups.aws, "elbv2").create_rule(
        ListenerArn=groups.where, Priority=5, Conditions=[{"Field": "path-pattern", "Values": ["/api/*"]}],
        Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": forward}}],
    )  # fmt: skip
    return str(made["Rules"][0]["RuleArn"])


def weighed(operation: Operation, step: str) -> list[tuple[str, int]]:
    rows = Effect.objects.filter(operation=operation, step=step, what="weighed").order_by("subject")
    return [(row.subject, row.facts["weight"]) for row in rows]


class TestCanary:
    @pytest.mark.parametrize("by_rule", [False, True], ids=["listener", "rule"])
    def test_a_good_one(self, groups: Groups, meter: Meter, by_rule: bool) -> None:
        """It gets nothing while it is renewed, then its share: a group with nobody left would answer with errors."""
        if by_rule:
            groups.behind(rule(groups))
        operation = groups.deploy("canary", **CANARY)
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert groups.versions() == ["1.5.0"] * 3
        assert groups.sent() == [ASIDE, SMALL, EQUAL]
        assert set(groups.aws.changes) & {"ModifyListener", "ModifyRule"} == {groups.change}
        assert weighed(operation, "canary/weights") == [
            ("production-1", 22), ("production-2", 100), ("production-3", 100),
        ]  # fmt: skip
        assert CanaryVerdict.objects.get(operation=operation).outcome == "good"

    @pytest.mark.parametrize(("bad", "state", "outcome"), [(0, State.SUCCEEDED, "good"), (20, State.FAILED, "bad")])
    def test_without_a_metrics_stack_cloudwatch_judges(
        self, groups: Groups, traffic: dict[str, int], bad: int, state: State, outcome: str
    ) -> None:
        traffic["bad"] = bad
        operation = groups.deploy("canary", **CANARY)
        assert operation.state == state, operation.outcome
        assert CanaryVerdict.objects.get(operation=operation).outcome == outcome
        assert "the load balancer's counters" in str(operation.plan)
        assert groups.versions() == ["1.4.0" if bad else "1.5.0"] * 3

    def test_behind_a_network_load_balancer_nobody_counts_requests(self, groups: Groups) -> None:
        named = groups.estate.production.driver_settings["balancer"]
        assert can_count({"kind": "target_group", "settings": named})
        net = {**named, "listener": named["listener"].replace("/app/", "/net/")}
        assert not can_count({"kind": "target_group", "settings": net})

    def test_a_bad_one_gets_nothing_any_more_before_it_is_put_back(self, groups: Groups, meter: Meter) -> None:
        meter.bad = 20
        operation = groups.deploy("canary", **{**CANARY, "requests": 100_000})
        assert operation.state == State.FAILED
        assert "The canary fails more than the others: canary 20 % of" in operation.outcome
        assert groups.versions() == ["1.4.0"] * 3
        assert groups.sent() == [ASIDE, SMALL, ASIDE, EQUAL]
        recovery = Step.objects.filter(operation=operation, phase=Step.Phase.RECOVERY, state=StepState.SUCCEEDED)
        done = recovery.order_by("finished_at")
        assert [step.key for step in done] == ["put-back/aside", "canary/production-1-back", "put-back/weights"]

    @pytest.mark.parametrize("bad", [0, 20], ids=["good", "bad"])
    def test_a_death_at_every_boundary_changes_nothing(self, groups: Groups, meter: Meter, bad: int) -> None:
        meter.bad = bad
        operation = groups.ask("canary", **CANARY)
        reached = die_once_at_each_boundary()
        deaths = run_until_the_end(operation)
        assert deaths == len(reached) > 20
        assert ("effect_done", "canary/weights") in reached
        ends = [ASIDE, SMALL, ASIDE, EQUAL] if bad else [ASIDE, SMALL, EQUAL]
        assert groups.sent() == ends, "each change was sent once"
        assert groups.versions() == (["1.4.0"] if bad else ["1.5.0"]) * 3
        assert len(weighed(operation, "canary/weights")) == 3, "and written down once"

    @pytest.mark.parametrize("trouble", [LOST_BEFORE, LOST_AFTER, throttled()], ids=["before", "after", "throttled"])
    def test_an_answer_that_never_comes_is_looked_after_before_it_is_sent_again(
        self, groups: Groups, meter: Meter, trouble: Any
    ) -> None:
        groups.aws.will("ModifyListener", trouble)
        operation = groups.deploy("canary", **CANARY)
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert groups.sent() == [ASIDE, SMALL, EQUAL]
        assert len(weighed(operation, "canary/aside")) == 3

    def test_what_aws_refuses_is_said_and_leaves_everything_as_it_was(self, groups: Groups, meter: Meter) -> None:
        groups.aws.will("ModifyListener", denied("elasticloadbalancing:ModifyListener"))
        operation = groups.deploy("canary", **CANARY)
        assert operation.state == State.FAILED
        assert "has to add elasticloadbalancing:ModifyListener" in operation.outcome
        assert groups.versions() == ["1.4.0"] * 3
        assert groups.sent() == [EQUAL], "put back"


class TestBlueGreen:
    def test_the_first_time_the_idle_group_is_named_before_it_is_touched(self, groups: Groups) -> None:
        """AWS asks for nobody's health in a group that no listener names: green would never be found well."""
        operation = groups.deploy("blue_green", **COLOURS)
        assert operation.state == State.SUCCEEDED, operation.outcome
        steps = list(Step.objects.filter(operation=operation, phase=Step.Phase.MAIN).order_by("position"))
        assert steps[0].key == "apart"
        assert groups.versions() == ["1.5.0", "1.4.0", "1.4.0"]
        assert groups.sent() == [(200, 0), (0, 100)], "all of them at once"

    def test_one_that_is_not_well_turns_it_back(self, groups: Groups) -> None:
        def falls_ill(boundary: str, operation_id: int, step: str) -> None:
            if (boundary, step) == ("effect_done", "switch"):
                groups.aws.cloud.balancing.fall_ill(ADDRESSES["production-1"])

        boundaries.listeners.append(falls_ill)
        operation = groups.deploy("blue_green", **{**COLOURS, "soak_seconds": 5})
        assert operation.state == State.FAILED
        assert "production-1 is unhealthy" in operation.outcome
        assert groups.sent() == [(200, 0), (0, 100), (200, 0)]
        assert groups.versions() == ["1.4.0"] * 3

    def test_a_death_at_every_boundary_changes_nothing(self, groups: Groups) -> None:
        operation = groups.ask("blue_green", **COLOURS)
        reached = die_once_at_each_boundary()
        deaths = run_until_the_end(operation)
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert deaths == len(reached) > 10
        assert groups.sent() == [(200, 0), (0, 100)]
        assert weighed(operation, "switch") == [("production-1", 100), ("production-2", 0), ("production-3", 0)]
