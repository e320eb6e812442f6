"""A canary, carried out by the engine: what its numbers decide, and what is left of it however it ends."""

from collections.abc import Callable

import pytest

from controlplane.accounts.access import Actor
from controlplane.operations import boundaries, engine, transitions
from controlplane.operations.errors import Invalid
from controlplane.operations.models import Event, Operation
from controlplane.operations.states import State
from deployments.models import CanarySample, CanaryVerdict, Deployment
from environments.balancers.base import Counted, Standing
from environments.models import Environment
from tests.deployments.strategies.conftest import QUICK, Production
from tests.operations.dying import Killed, die_before_it_is_noted_as_told, run_until_the_end

pytestmark = pytest.mark.django_db(transaction=True)
Traffic = Callable[..., None]
ALL = ("production-1", "production-2", "production-3")


def lines(operation: Operation) -> str:
    return "\n".join(Event.objects.filter(operation=operation).order_by("seq").values_list("text", flat=True))


def test_a_good_one_goes_everywhere_and_the_weights_are_equal_again(production: Production, traffic: Traffic) -> None:
    operation = production.deploy()
    assert operation.state == State.SUCCEEDED
    assert production.versions() == ["1.5.0"] * 3
    assert production.balancer.weights == dict.fromkeys(ALL, 100)
    assert production.balancer.calls[0] == {"production-1": 22, "production-2": 100, "production-3": 100}
    verdict = CanaryVerdict.objects.get(operation=operation)
    assert (verdict.outcome, verdict.goes_on) == ("good", True)
    assert "The canary is no worse than the others: canary 0 % of 500 requests failed" in verdict.words
    did = production.effects(operation)
    assert [(what, subject) for what, subject, _ in did] == [
        *(("weighed", name) for name in ALL), ("judged", "production-1"), *(("weighed", name) for name in ALL)
    ]  # fmt: skip
    assert did[3][2] == {"verdict": "good", "requests": 500, "goes_on": True}
    assert Deployment.objects.get(operation=operation).strategy == "canary"


def test_a_bad_one_is_put_back_and_the_others_are_never_touched(production: Production, traffic: Traffic) -> None:
    traffic(bad=20)
    operation = production.deploy()
    assert operation.state == State.FAILED
    assert "The canary fails more than the others: canary 20 % of" in operation.outcome
    assert "put back" in operation.outcome
    assert "Never touched: production-2, production-3." in operation.outcome
    assert production.versions() == ["1.4.0"] * 3
    assert production.balancer.weights == dict.fromkeys(ALL, 100)
    assert ("judged", "production-1") in [(what, subject) for what, subject, _ in production.effects(operation)]
    assert CanaryVerdict.objects.get(operation=operation).outcome == "bad"


def test_a_slow_one_is_put_back(production: Production, traffic: Traffic) -> None:
    production.configure(**{**QUICK, "requests": 100_000})
    traffic(slow=200.0, requests=1000)
    operation = production.deploy()
    assert "The canary is more than 50 % slower than the others" in operation.outcome
    assert production.versions() == ["1.4.0"] * 3


def test_one_that_the_load_balancer_finds_unhealthy_is_put_back(production: Production, traffic: Traffic) -> None:
    production.configure(**{**QUICK, "requests": 100_000})
    production.balancer.standings["production-1"] = Standing.UNHEALTHY
    operation = production.deploy()
    assert "The load balancer says: production-1 is unhealthy (L7STS 503)." in operation.outcome
    assert production.versions() == ["1.4.0"] * 3


@pytest.mark.parametrize(
    ("setting", "ends", "words"),
    [
        ("abort", (State.FAILED, "1.4.0"), "So it goes back (without_verdict)."),
        ("proceed", (State.SUCCEEDED, "1.5.0"), "It goes on all the same (without_verdict)."),
    ],
)
def test_without_a_verdict_in_time_the_configuration_decides(
    production: Production, traffic: Traffic, setting: str, ends: tuple[State, str], words: str
) -> None:  # fmt: skip
    production.configure(**{**QUICK, "requests": 100_000, "deadline_seconds": 1, "without_verdict": setting})
    operation = production.deploy()
    assert (operation.state, {*production.versions()}) == (ends[0], {ends[1]})
    verdict = CanaryVerdict.objects.get(operation=operation)
    assert verdict.outcome == "none"
    assert verdict.words.startswith("No verdict yet, after ")
    assert "of 100000 requests a side" in verdict.words
    assert "and the 1 s for it are over" in verdict.words
    assert words in verdict.words


def test_no_numbers_for_a_moment_are_no_verdict(production: Production, traffic: Traffic) -> None:
    def lose(boundary: str, operation_id: int, step: str) -> None:
        if (boundary, step) == ("intent_written", "judge"):
            production.balancer.refuses = 3

    boundaries.listeners.append(lose)
    try:
        operation = production.deploy()
    finally:
        boundaries.listeners.clear()
    assert operation.state == State.SUCCEEDED
    assert "no numbers: HAProxy does not answer at /run/haproxy.sock" in lines(operation)


def test_no_numbers_at_all_are_said_in_the_end(production: Production, traffic: Traffic) -> None:
    production.configure(**{**QUICK, "deadline_seconds": 1, "without_verdict": "proceed"})

    def lose(boundary: str, operation_id: int, step: str) -> None:
        if step == "judge":
            production.balancer.refuses = 1000 if boundary == "intent_written" else 0

    boundaries.listeners.append(lose)
    try:
        operation = production.deploy()
    finally:
        boundaries.listeners.clear()
    words = CanaryVerdict.objects.get(operation=operation).words
    assert "No numbers came last: HAProxy does not answer" in words
    assert "canary no requests" in words


def test_counters_that_begin_anew_take_nothing_away(production: Production, traffic: Traffic) -> None:
    """HAProxy is restarted in the middle: what it counted before is counted once, and so is what comes after."""
    begun = production.balancer.traffic

    def restarted() -> None:
        if CanarySample.objects.count() == 3:
            production.balancer.counters = {name: Counted(0, 0) for name in ALL}
        begun()

    production.balancer.traffic = restarted
    operation = production.deploy()
    rows = CanarySample.objects.filter(operation=operation)
    assert [row.canary_requests for row in rows] == [0, 100, 100, 100, 100, 100]
    assert [row.baseline_requests for row in rows] == [0, 200, 200, 200, 200, 200]


class TestAnotherWorker:
    def test_goes_on_from_the_samples(self, production: Production, traffic: Traffic) -> None:
        """The first dies while it watches; what came meanwhile is counted once, by whoever goes on."""
        begun = production.balancer.traffic
        died: list[int] = []

        def dies() -> None:
            begun()
            if not died and CanarySample.objects.count() == 2:
                died.append(1)
                raise Killed

        production.balancer.traffic = dies
        operation = production.ask()
        with pytest.raises(Killed):
            engine.run(operation.pk, "w1")
        Operation.objects.filter(pk=operation.pk).update(lease_until="2001-01-01T00:00:00Z")
        assert engine.run(operation.pk, "w2")
        operation.refresh_from_db()
        assert operation.state == State.SUCCEEDED
        assert "goes on from 2 samples" in lines(operation)
        rows = CanarySample.objects.filter(operation=operation)
        # The look that was lost saw a hundred, and the next one a hundred more: they are one sample.
        assert [row.canary_requests for row in rows] == [0, 100, 200, 100, 100]
        assert CanaryVerdict.objects.filter(operation=operation).count() == 1

    def test_a_verdict_that_was_written_is_not_asked_for_again(self, production: Production, traffic: Traffic) -> None:
        def die(boundary: str, operation_id: int, step: str) -> None:
            if (boundary, step) == ("effect_done", "judge"):
                boundaries.listeners.clear()
                raise Killed

        boundaries.listeners.append(die)
        operation = production.ask()
        with pytest.raises(Killed):
            engine.run(operation.pk, "w1")
        traffic(bad=100)
        Operation.objects.filter(pk=operation.pk).update(lease_until="2001-01-01T00:00:00Z")
        engine.run(operation.pk, "w2")
        operation.refresh_from_db()
        assert operation.state == State.SUCCEEDED
        judged = [row for row in production.effects(operation) if row[0] == "judged"]
        assert len(judged) == 1

    def test_tells_of_weights_once(
        self, production: Production, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operation = production.ask()
        die_before_it_is_noted_as_told(monkeypatch)
        assert run_until_the_end(operation) == 1
        weighed = [subject for what, subject, _ in production.effects(operation) if what == "weighed"]
        assert weighed == [*ALL, *ALL], "to the canary its share, then equal ones"

    def test_one_that_was_late_writes_no_sample(self, production: Production, traffic: Traffic) -> None:
        begun = production.balancer.traffic

        def overtaken() -> None:
            begun()
            if CanarySample.objects.count() == 2:
                Operation.objects.update(fence=10_000)

        production.balancer.traffic = overtaken
        operation = production.ask()
        engine.run(operation.pk, "w1")
        assert CanarySample.objects.filter(operation=operation).count() == 2
        assert not CanaryVerdict.objects.exists()


def test_it_can_be_stopped_while_it_is_watched_and_is_put_back(production: Production, traffic: Traffic) -> None:
    production.configure(**{**QUICK, "requests": 100_000})
    begun = production.balancer.traffic
    operation = production.ask()

    def stop() -> None:
        begun()
        if CanarySample.objects.count() == 2:
            transitions.cancel(operation.pk, Actor(production.asks), "not today")

    production.balancer.traffic = stop
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.CANCELLED
    assert production.versions() == ["1.4.0"] * 3
    assert production.balancer.weights == dict.fromkeys(ALL, 100)


def test_a_plan_that_is_made_while_it_is_watched_fits_when_its_turn_comes(
    production: Production, traffic: Traffic
) -> None:
    Environment.objects.filter(slug="production").update(promoted_from="")
    production.estate.production.refresh_from_db()
    production.balancer.weights = {"production-3": 50}
    begun = production.balancer.traffic
    behind: list[Operation] = []

    def ask() -> None:
        begun()
        if CanarySample.objects.count() == 2 and not behind:
            behind.append(production.ask("1.4.0"))

    production.balancer.traffic = ask
    assert production.deploy().state == State.SUCCEEDED
    engine.run(behind[0].pk, "w2")
    behind[0].refresh_from_db()
    assert behind[0].state == State.SUCCEEDED, behind[0].outcome
    assert production.balancer.weights == {"production-1": 100, "production-2": 100, "production-3": 50}


class TestChoosing:
    def test_what_is_allowed(self, production: Production, traffic: Traffic) -> None:
        operation = production.deploy(strategy="rolling")
        assert Deployment.objects.get(operation=operation).strategy == "rolling"
        assert not CanaryVerdict.objects.exists()

    def test_what_is_not(self, production: Production) -> None:
        with pytest.raises(Invalid, match="“blue/green” may not be chosen here: write canary or rolling"):
            production.ask(strategy="blue_green")
        assert not Operation.objects.exists()

    def test_a_rollback_waits_for_no_verdict(self, production: Production, traffic: Traffic) -> None:
        production.deploy(strategy="rolling")
        operation = production.deploy("1.4.0", kind="rollback")
        assert operation.state == State.SUCCEEDED
        assert Deployment.objects.get(operation=operation).strategy == "rolling"

    def test_settings_that_moved_make_the_plan_stale(self, production: Production, traffic: Traffic) -> None:
        operation = production.ask()
        production.configure(**{**QUICK, "share_percent": 30})
        engine.run(operation.pk, "w1")
        operation.refresh_from_db()
        assert operation.state == State.STALE
        assert production.versions() == ["1.4.0"] * 3

    def test_a_driver_that_cannot_says_so(self, production: Production) -> None:
        Environment.objects.filter(slug="production").update(driver="paper")
        production.estate.production.refresh_from_db()
        with pytest.raises(Invalid, match="A canary needs a driver that deploys instance by instance: local and hosts"):
            production.ask()
