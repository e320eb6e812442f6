"""Plans of strategies, by property: nobody but the canary is touched before a verdict, and recovery restores it all."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.operations.errors import Invalid
from controlplane.operations.plans import Plan, StepSpec
from deployments.plans import deployment_plan, serving, will_run
from deployments.strategies.blue_green import colours_of
from deployments.strategies.canary import split
from deployments.strategies.settings import (
    BLUE_GREEN,
    CANARY,
    NAMES,
    ROLLING,
    BlueGreenSettings,
    CanarySettings,
    Settings,
)
from deployments.strategies.situation import Situation
from deployments.strategies.weights import share_of, shares
from environments.drivers.base import Rollout, Running, Software, Target
from tests.deployments.strategies.world import DRIVER, NEW, OLD, World, situation

OTHER = Software("1.3.0", "registry/api", "sha256:" + "3" * 64)


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(f"api-{number}" for number in numbers)


TWO = BlueGreenSettings(blue=names(1, 2), green=names(3, 4))


def made(start: Situation, strategy: str, to: Software = NEW, **settings: Any) -> Plan:
    values = {"blue_green": TWO, **settings}
    return deployment_plan(DRIVER, start, to, Settings(**values), strategy)


def touches(step: StepSpec) -> set[str]:
    return {step.arguments["instance"]} if step.function == "paper.swap" else set()


@st.composite
def situations(draw: st.DrawFn, least: int = 1) -> Situation:
    count = draw(st.integers(least, 8))
    runs = draw(st.lists(st.sampled_from([OLD, OTHER, NEW]), min_size=count, max_size=count))
    has = draw(st.booleans())
    return situation(count, runs=runs, balanced=has, prometheus=draw(st.booleans()) or not has)


@st.composite
def canaries(draw: st.DrawFn) -> tuple[Situation, CanarySettings]:
    start = draw(situations(2))
    count = len(start.names)
    settings = CanarySettings(count=draw(st.integers(1, count - 1)), share_percent=draw(st.integers(1, 50)))
    return start, settings


@st.composite
def colours(draw: st.DrawFn) -> tuple[Situation, BlueGreenSettings]:
    blue, green = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    count = blue + green
    runs = draw(st.lists(st.sampled_from([OLD, OTHER, NEW]), min_size=count, max_size=count))
    each = draw(st.sampled_from([(100, 100), (100, 0), (0, 100)]))
    weights = {f"api-{number}": each[0] if number <= blue else each[1] for number in range(1, count + 1)}
    settings = BlueGreenSettings(
        blue=names(*range(1, blue + 1)), green=names(*range(blue + 1, count + 1)),
        soak_seconds=draw(st.sampled_from([0.0, 60.0])),
    )  # fmt: skip
    return situation(count, runs=runs, weights=weights), settings


def check_every_failure(start: Situation, plan: Plan, but: tuple[str, ...] = ()) -> None:
    """Whatever step fails, after its effect: afterwards all is as it was. but: steps whose effect may stay."""
    for number, step in enumerate(plan.steps):
        world, before = World.of(start), World.of(start)
        world.carry_out(plan, fails_at=number)
        assert world.runs == before.runs, step.key
        if step.key not in but:
            assert world.weights == before.weights or set(world.weights.values()) == {100}, step.key


class TestCanary:
    @given(canaries())
    def test_nobody_but_the_canary_is_touched_before_the_verdict(
        self, given_: tuple[Situation, CanarySettings]
    ) -> None:
        start, settings = given_
        plan = made(start, CANARY, canary=settings)
        chosen, others = split(start, settings)
        keys = [step.key for step in plan.steps]
        if "judge" not in keys:
            # Nothing to compare: all but the canary have it already.
            assert all(one.digest == NEW.digest for one in start.at(others))
            return
        before = set[str]().union(*map(touches, plan.steps[: keys.index("judge")]))
        assert before <= set(chosen)
        assert before | set(chosen) != set(start.names)

    @given(canaries())
    def test_recovery_restores_everything_touched(self, given_: tuple[Situation, CanarySettings]) -> None:
        start, settings = given_
        check_every_failure(start, made(start, CANARY, canary=settings))

    @given(canaries())
    def test_a_bad_verdict_never_touches_the_others(self, given_: tuple[Situation, CanarySettings]) -> None:
        start, settings = given_
        plan = made(start, CANARY, canary=settings)
        place = next((number for number, step in enumerate(plan.steps) if step.key == "judge"), None)
        if place is None:
            return
        world = World.of(start)
        world.carry_out(plan, fails_at=place)
        assert set(world.touched) <= set(split(start, settings)[0])

    @given(canaries())
    def test_a_good_one_brings_it_everywhere_with_equal_weights(self, given_: tuple[Situation, CanarySettings]) -> None:
        start, settings = given_
        world = World.of(start)
        world.carry_out(made(start, CANARY, canary=settings))
        assert {digest for _, digest in world.runs.values()} == {NEW.digest}
        assert set(world.weights.values()) <= {100}

    @given(canaries())
    def test_it_cannot_be_stopped_while_shares_are_unequal_but_by_being_put_back(
        self, given_: tuple[Situation, CanarySettings]
    ) -> None:
        start, settings = given_
        world = World.of(start)
        for step in made(start, CANARY, canary=settings).steps:
            if step.safe_point:
                assert len(set(world.weights.values())) <= 1, step.key
            world.do(step)

    def test_the_judging_can_be_stopped_in_its_middle(self) -> None:
        judge = next(step for step in made(situation(), CANARY).steps if step.key == "judge")
        assert judge.interruptible
        assert judge.on_failure == ("canary/put-back/api-1", "put-back/weights")
        assert judge.timeout > judge.arguments["deadline"]

    def test_it_is_compared_only_with_those_that_run_another_release(self) -> None:
        start = situation(4, runs=[OLD, NEW, OLD, OTHER])
        judge = next(step for step in made(start, CANARY).steps if step.key == "judge")
        assert [one["name"] for one in judge.arguments["others"]] == ["api-3", "api-4"]
        assert [one["name"] for one in judge.arguments["canaries"]] == ["api-1"]

    def test_its_order(self) -> None:
        plan = made(situation(3), CANARY)
        assert [step.key for step in plan.steps] == [
            "canary/weights", "canary/api-1/swap", "canary/verify", "judge", "weights",
            "rest/api-2/swap", "rest/api-3/swap", "rest/verify",
        ]  # fmt: skip
        assert plan.summary == "api 1.5.0 to production, from 1.4.0, canary api-1 first"
        said = {row["what"]: row["to"] for row in plan.changes}
        assert said["traffic"] == "9.9 % to api-1, then equal"
        assert said["judged"] == (
            "by the load balancer's counters, until 4000 requests a side: back if 2 points more fail, or answers come "
            "more than 50 % later; without a verdict after 1800 s it goes back"
        )

    def test_without_a_balancer_there_are_no_weights(self) -> None:
        plan = made(situation(3, balanced=False, prometheus=True), CANARY, canary=CanarySettings(instances=names(3)))
        assert [step.key for step in plan.steps if step.function != "paper.swap"] == [
            "canary/verify", "judge", "rest/verify",
        ]  # fmt: skip
        judge = next(step for step in plan.steps if step.key == "judge")
        assert judge.arguments["canaries"] == [{"name": "api-3", "host": "10.0.0.3", "port": 8000}]

    def test_where_nothing_else_runs_it_is_rolling_and_says_so(self) -> None:
        nothing = Software("", "", "")
        plan = made(situation(2, runs=[nothing, nothing]), CANARY)
        assert plan.summary.endswith("rolling, for nothing else runs that a canary could be compared with")
        assert all(step.key != "judge" for step in plan.steps)

    @pytest.mark.parametrize(
        ("start", "settings", "words"),
        [
            (situation(1), CanarySettings(), "A canary needs others to be compared with, and api has 1 instance in"),
            (situation(), CanarySettings(instances=("x",)), "The canary names x; the instances are api-1, api-2"),
            (situation(driver="ecs"), CanarySettings(), "A canary needs a driver that deploys instance by instance"),
            (situation(balanced=False), CanarySettings(), "Nothing could judge a canary here: PROMETHEUS_URL is not"),
            (situation(), CanarySettings(metrics="prometheus"), "judge a canary here: PROMETHEUS_URL is not set."),
        ],
    )
    def test_where_there_can_be_none_it_says_why(self, start: Situation, settings: CanarySettings, words: str) -> None:
        with pytest.raises(Invalid, match=re.escape(words)):
            made(start, CANARY, canary=settings)

    def test_weights_that_were_there_come_back_however_it_ends(self) -> None:
        start = situation(4, weights={"api-1": 7, "api-3": 50})
        plan = made(start, CANARY)
        had = {"api-1": 7, "api-2": 100, "api-3": 50, "api-4": 100}
        for number in range(len(plan.steps)):
            world = World.of(start)
            world.carry_out(plan, fails_at=number)
            assert world.weights == had, plan.steps[number].key
        world = World.of(start)
        world.carry_out(plan)
        assert world.weights == had
        assert plan.changes[1] == {
            "what": "traffic", "from": "api-1 7, api-2 100, api-3 50, api-4 100",
            "to": "10 % to api-1, then as before",
        }  # fmt: skip
        assert plan.steps[0].arguments["weights"] == {"api-1": 28, "api-2": 100, "api-3": 50, "api-4": 100}

    @pytest.mark.parametrize("weights", [1, 100])
    def test_where_all_weigh_the_same_it_does_not_matter_how_much(self, weights: int) -> None:
        """HAProxy begins anew with those of its file; a plan that waits is as good as before."""
        start = situation(3, weights=dict.fromkeys(names(1, 2, 3), weights))
        assert made(start, CANARY).digest == made(situation(3), CANARY).digest

    def test_nobody_stands_aside(self) -> None:
        """The way back of blue/green would get requests in the middle of it, and be what it is compared with."""
        start = situation(4, runs=[OTHER, OTHER, OLD, OLD], weights={"api-1": 0, "api-2": 0})
        with pytest.raises(Invalid, match="api-1, api-2 have the weight 0 in the load balancer"):
            made(start, CANARY, canary=CanarySettings(instances=names(3)))

    @given(st.integers(1, 12), st.integers(1, 12), st.integers(5, 50))
    def test_shares_are_near_what_was_asked_for(self, few: int, many: int, percent: int) -> None:
        chosen, others = [f"c{number}" for number in range(few)], [f"o{number}" for number in range(many)]
        weights = shares(chosen, dict.fromkeys(others, 100), percent)
        assert all(1 <= weight <= 100 for weight in weights.values())
        if percent * many >= (100 - percent) * few / 10:  # else one of them would weigh less than whole numbers can say
            assert share_of(chosen, weights) == pytest.approx(percent / 100, abs=0.02)

    @pytest.mark.parametrize(
        ("settings", "careful", "then"),
        [
            (CanarySettings(), True, "abort"),
            (CanarySettings(), False, "proceed"),
            (CanarySettings(without_verdict="proceed"), True, "proceed"),
        ],
    )
    def test_without_a_verdict_it_goes_back_in_production(
        self, settings: CanarySettings, careful: bool, then: str
    ) -> None:
        judge = next(
            step for step in made(situation(careful=careful), CANARY, canary=settings).steps if step.key == "judge"
        )
        assert judge.arguments["without_verdict"] == then


class TestBlueGreen:
    @given(colours())
    def test_who_serves_is_never_touched(self, given_: tuple[Situation, BlueGreenSettings]) -> None:
        start, settings = given_
        live = colours_of(start, settings).live
        world = World.of(start)
        world.carry_out(made(start, BLUE_GREEN, blue_green=settings))
        assert not set(world.touched) & set(live)

    @given(colours())
    def test_afterwards_the_other_colour_serves_all_of_it(self, given_: tuple[Situation, BlueGreenSettings]) -> None:
        start, settings = given_
        before = colours_of(start, settings)
        world = World.of(start)
        plan = made(start, BLUE_GREEN, blue_green=settings)
        world.carry_out(plan)
        if not plan.steps:
            assert {one.digest for one in start.at(before.live)} == {NEW.digest}
            return
        assert {world.runs[name][1] for name in before.idle} == {NEW.digest}
        assert all(world.weights[name] == 100 for name in before.idle)
        assert all(world.weights[name] == 0 for name in before.live)

    @given(colours())
    def test_recovery_restores_everything_touched(self, given_: tuple[Situation, BlueGreenSettings]) -> None:
        start, settings = given_
        plan = made(start, BLUE_GREEN, blue_green=settings)
        before = colours_of(start, settings)
        for number in range(len(plan.steps)):
            world = World.of(start)
            world.carry_out(plan, fails_at=number)
            assert world.runs == World.of(start).runs
            assert all(world.weights[name] == 100 for name in before.live)

    @given(colours())
    def test_at_no_time_does_nobody_serve(self, given_: tuple[Situation, BlueGreenSettings]) -> None:
        start, settings = given_
        world = World.of(start)
        for step in made(start, BLUE_GREEN, blue_green=settings).steps:
            world.do(step)
            assert any(world.weights.values())

    @pytest.mark.parametrize("weights", [100, 0], ids=["both have weight", "none has"])
    def test_where_the_weights_do_not_say_it_live_is_what_was_deployed(self, weights: int) -> None:
        """A load balancer that was restarted has forgotten them."""
        forgotten = dict.fromkeys(names(1, 2, 3, 4), weights)
        start = replace(situation(runs=[OLD, OLD, OTHER, OTHER], weights=forgotten), deployed=OTHER.digest)
        assert colours_of(start, TWO).live_name == "green"
        assert colours_of(replace(start, deployed=OLD.digest), TWO).live_name == "blue"
        same = replace(situation(weights=forgotten), deployed=OLD.digest)
        assert colours_of(same, TWO).live_name == "blue", "as before the first switch"
        with pytest.raises(Invalid, match="do not say which colour serves"):
            colours_of(replace(start, deployed=NEW.digest), TWO)

    def test_the_same_release_with_other_settings_goes_to_the_idle_colour(self) -> None:
        start = situation(runs=[NEW, NEW, OLD, OLD], weights={"api-3": 0, "api-4": 0})
        assert not made(start, BLUE_GREEN).steps
        changed = [replace(one, reference="with other settings") for one in start.running]
        touched = [touches(step) for step in made(replace(start, running=changed), BLUE_GREEN).steps if touches(step)]
        assert touched == [{"api-3"}, {"api-4"}]

    def test_the_way_back_is_nothing_but_the_switch(self) -> None:
        start = situation(4, runs=[OLD, OLD, NEW, NEW], weights=dict.fromkeys(names(1, 2), 0))
        plan = made(start, BLUE_GREEN, to=OLD)
        assert [step.key for step in plan.steps] == ["ready", "switch", "soak"]
        assert plan.summary == "api 1.4.0 to production, from 1.5.0, blue takes over from green"

    def test_its_order(self) -> None:
        plan = made(situation(4), BLUE_GREEN)
        assert [step.key for step in plan.steps] == [
            "apart", "idle/api-3/swap", "idle/api-4/swap", "idle/verify", "ready", "switch", "soak",
        ]  # fmt: skip
        switch = plan.steps[-2]
        assert list(switch.arguments["weights"].items()) == [("api-3", 100), ("api-4", 100), ("api-1", 0), ("api-2", 0)]
        assert switch.on_failure == ("put-back/switch", "idle/put-back/api-4", "idle/put-back/api-3")

    def test_what_is_served_is_what_the_live_colour_runs(self) -> None:
        start = situation(4, runs=[OLD, OLD, OTHER, OTHER], weights=dict.fromkeys(names(1, 2), 0))
        assert {one.version for one in serving(start, Settings(blue_green=TWO), BLUE_GREEN)} == {"1.3.0"}

    @pytest.mark.parametrize("strategy", NAMES)
    def test_the_plan_behind_another_is_the_one_that_fits_when_its_turn_comes(self, strategy: str) -> None:
        settings = Settings(blue_green=TWO)
        start = situation(4, weights=dict.fromkeys(names(3, 4), 0) if strategy == BLUE_GREEN else None)
        ahead = made(start, strategy)
        world = World.of(start)
        world.carry_out(ahead)
        software = {one.digest: one for one in (OLD, NEW)}
        runs = [software[world.runs[name][1]] for name in start.names]
        then = situation(4, runs=runs, weights=world.weights)
        assert made(will_run(start, NEW, settings, strategy), strategy, to=OTHER) == made(then, strategy, to=OTHER)

    @pytest.mark.parametrize(
        ("start", "settings", "words"),
        [
            (
                situation(driver="ecs"),
                TWO,
                "Blue/green needs a driver that deploys instance by instance: local",
            ),
            (situation(balanced=False), TWO, "Blue/green switches by the weights of a load balancer"),
            (situation(), BlueGreenSettings(), "blue has no instances"),
            (situation(), BlueGreenSettings(blue=names(1, 2), green=names(2, 3, 4)), "api-2 cannot be blue and green"),
            (situation(), BlueGreenSettings(blue=names(1, 2), green=names(3)), "api-4 is neither blue nor green"),
            (situation(), BlueGreenSettings(blue=names(1, 2), green=names(3, 9)), "green names api-9; the instances"),
        ],
    )
    def test_where_there_can_be_none_it_says_why(
        self, start: Situation, settings: BlueGreenSettings, words: str
    ) -> None:
        with pytest.raises(Invalid, match=re.escape(words)):
            made(start, BLUE_GREEN, blue_green=settings)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[Situation, CanarySettings]:
    """The canaries are one target group, the others are the other one."""
    few, many = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    runs = draw(st.lists(st.sampled_from([OLD, OTHER, NEW]), min_size=few + many, max_size=few + many))
    chosen, others = names(*range(1, few + 1)), names(*range(few + 1, few + many + 1))
    start = situation(few + many, runs=runs, prometheus=True, second=draw(st.sampled_from([chosen, others])))
    return start, CanarySettings(instances=chosen, share_percent=draw(st.integers(1, 50)))


def lost_requests(start: Situation, world: World, step: StepSpec) -> str:
    """Whose swap leaves a group with nobody while it gets requests; "" for none."""
    assert start.balanced
    for group in start.balanced.groups:
        if touches(step) == group and any(world.weights[name] for name in group):
            return step.key
    return ""


class TestGroups:
    """Where weights are those of whole groups, as AWS's target groups have them."""

    @given(grouped())
    def test_a_group_gets_no_requests_while_its_only_instance_is_away(
        self, given_: tuple[Situation, CanarySettings]
    ) -> None:
        start, settings = given_
        plan = made(start, CANARY, canary=settings)
        if all(step.key != "judge" for step in plan.steps):
            return
        recovery = {step.key: step for step in plan.recovery}
        for number in range(len(plan.steps)):
            world = World.of(start)
            for step in plan.steps[: number + 1]:
                assert not lost_requests(start, world, step)
                world.do(step)
            for step in (recovery[key] for key in plan.steps[number].on_failure):
                assert not lost_requests(start, world, step)
                world.do(step)

    @given(grouped())
    def test_recovery_restores_everything_touched(self, given_: tuple[Situation, CanarySettings]) -> None:
        start, settings = given_
        check_every_failure(start, made(start, CANARY, canary=settings))

    @given(grouped())
    def test_members_of_a_group_always_have_one_weight(self, given_: tuple[Situation, CanarySettings]) -> None:
        start, settings = given_
        assert start.balanced
        plan = made(start, CANARY, canary=settings)
        for step in (*plan.steps, *plan.recovery):
            for group in start.balanced.groups if step.function == "strategy.weigh" else ():
                assert len({step.arguments["weights"][name] for name in group}) == 1

    def test_its_order(self) -> None:
        plan = made(situation(3, prometheus=True, second=names(1)), CANARY)
        assert [step.key for step in plan.steps] == [
            "canary/aside", "canary/api-1/swap", "canary/verify", "canary/weights", "judge", "weights",
            "rest/api-2/swap", "rest/api-3/swap", "rest/verify",
        ]  # fmt: skip
        judge = next(step for step in plan.steps if step.key == "judge")
        assert judge.on_failure == ("put-back/aside", "canary/put-back/api-1", "put-back/weights")

    def test_its_order_where_the_other_is_one_alone(self) -> None:
        plan = made(situation(2, prometheus=True, second=names(1)), CANARY)
        assert [step.key for step in plan.steps][4:] == [
            "judge", "rest/aside", "rest/api-2/swap", "rest/verify", "weights",
        ]  # fmt: skip

    def test_a_canary_that_is_no_group_has_no_weight_of_its_own(self) -> None:
        start = situation(3, prometheus=True, second=names(3))
        with pytest.raises(
            Invalid, match="The canary has to be one of the two target groups, and the others the other"
        ):
            made(start, CANARY)
        with pytest.raises(Invalid, match="api-1, api-2 are the first, api-3 the second"):
            made(start, BLUE_GREEN, blue_green=BlueGreenSettings(blue=names(1), green=names(2, 3)))

    def test_a_group_that_nobody_names_is_named_before_its_instances_are_touched(self) -> None:
        """Until then AWS does not ask for their health, so they would never be found well."""
        start = situation(4, second=names(3, 4))
        assert start.balanced
        only_blue = replace(start.balanced, weights={"api-1": 100, "api-2": 100, "api-3": None, "api-4": None})
        assert made(replace(start, balanced=only_blue), BLUE_GREEN).steps[0].key == "apart"
        only_green = replace(start.balanced, weights={"api-1": None, "api-2": None, "api-3": 100, "api-4": 100})
        assert colours_of(replace(start, balanced=only_green), TWO).live_name == "green"


class TestAny:
    @given(situations())
    def test_rolling_is_the_drivers_own_way(self, start: Situation) -> None:
        plan = made(start, ROLLING)
        rollout = DRIVER.rollout(start.target, start.running, NEW)
        assert (plan.steps, plan.recovery) == (rollout.steps, rollout.recovery)

    @given(situations(4), st.sampled_from(NAMES))
    def test_equal_inputs_give_an_equal_digest(self, start: Situation, strategy: str) -> None:
        if strategy == BLUE_GREEN:
            start = situation(4)
        assert made(start, strategy).digest == made(start, strategy).digest


class TestChoosing:
    def test_only_what_is_allowed_may_be_chosen(self) -> None:
        settings = Settings(strategy=CANARY, also=(ROLLING,))
        assert settings.choose("", rollback=False) == CANARY
        assert settings.choose(ROLLING, rollback=False) == ROLLING
        with pytest.raises(Invalid, match="“blue/green” may not be chosen here: write canary or rolling"):
            settings.choose(BLUE_GREEN, rollback=False)
        with pytest.raises(Invalid, match="“fast” may not be chosen"):
            settings.choose("fast", rollback=False)

    def test_the_way_back_is_no_canary_unless_somebody_wants_one(self) -> None:
        settings = Settings(strategy=CANARY)
        assert settings.choose("", rollback=True) == ROLLING
        assert settings.choose(CANARY, rollback=True) == CANARY
        assert settings.offered(rollback=True) == (ROLLING, CANARY)
        assert settings.offered(rollback=False) == (CANARY,)
        assert Settings(strategy=BLUE_GREEN).choose("", rollback=True) == BLUE_GREEN


def test_both_parts_of_a_canary_count_who_else_is_away() -> None:
    """A driver that lets only so many be away at once has to know of all of them, though it renews only some."""
    asked: list[tuple[list[str], list[str]]] = []

    class Watched(type(DRIVER)):  # type: ignore[misc]
        def rollout(self, target: Target, running: list[Running], to: Software) -> Rollout:
            asked.append(([one.name for one in target.instances], [one.name for one in target.beside]))
            return DRIVER.rollout(target, running, to)

    start = situation(4, runs=[OLD, OLD, OLD, Software("", "", "")])
    deployment_plan(Watched(), start, NEW, Settings(blue_green=TWO), CANARY)
    assert asked == [
        (["api-1"], ["api-2", "api-3"]),  # api-4 never ran, and nobody misses it
        (["api-2", "api-3", "api-4"], ["api-1"]),
    ]
