"""Blue/green, carried out by the engine: the idle colour gets the release, the switch, and the way back."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from controlplane.operations import boundaries
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Deployment
from deployments.strategies.colours import idle_colours
from environments import drift
from environments.balancers.base import Standing
from environments.drivers.base import Difference, Software, Target
from environments.models import Drift, Placement
from tests.deployments.strategies.conftest import INSTANCES, Production
from tests.estate import paper

pytestmark = pytest.mark.django_db(transaction=True)
Traffic = Callable[..., None]
COLOURS = {"blue": ["production-1"], "green": ["production-2", "production-3"]}
QUICK = {"soak_seconds": 1, "interval_seconds": 0.1}
ON_BLUE = {"production-1": 100, "production-2": 0, "production-3": 0}
ON_GREEN = {"production-1": 0, "production-2": 100, "production-3": 100}


@pytest.fixture
def colours(production: Production) -> Production:
    """Blue serves, green is idle."""
    production.configure("blue_green", **COLOURS, **QUICK)
    production.balancer.weights = dict(ON_BLUE)
    return production


def words(operation: Operation) -> str:
    return str(Operation.objects.get(pk=operation.pk).outcome)


def test_the_idle_colour_takes_over_and_the_old_one_is_left_running(colours: Production, traffic: Traffic) -> None:
    operation = colours.deploy()
    assert operation.state == State.SUCCEEDED
    assert colours.versions() == ["1.4.0", "1.5.0", "1.5.0"]
    assert colours.balancer.weights == ON_GREEN
    assert colours.balancer.calls == [ON_GREEN]
    assert [row[:2] for row in colours.effects(operation)] == [("weighed", one["name"]) for one in INSTANCES]
    assert Placement.objects.get(environment__slug="production").version == "1.5.0"


def test_the_way_back_is_the_switch_alone(colours: Production, traffic: Traffic) -> None:
    colours.deploy()
    runs = dict(paper.runs)
    back = colours.deploy("1.4.0", kind="rollback")
    assert back.state == State.SUCCEEDED
    assert colours.balancer.weights == ON_BLUE
    assert paper.runs == runs
    assert Deployment.objects.get(operation=back).from_version == "1.5.0"


def test_too_many_failures_after_the_switch_turn_it_back(colours: Production, traffic: Traffic) -> None:
    traffic(bad=30)
    operation = colours.deploy()
    assert operation.state == State.FAILED
    assert "30 % of 200 requests failed since the switch, and 5 % may" in words(operation)
    assert colours.balancer.weights == ON_BLUE
    assert colours.versions() == ["1.4.0"] * 3


def test_one_that_becomes_unwell_turns_it_back(colours: Production, traffic: Traffic) -> None:
    begun = colours.balancer.traffic

    def falls_ill() -> None:
        begun()
        if colours.balancer.weights == ON_GREEN:
            colours.balancer.standings["production-3"] = Standing.UNHEALTHY

    colours.balancer.traffic = falls_ill
    operation = colours.deploy()
    assert "production-3 is unhealthy (L7STS 503)" in words(operation)
    assert colours.balancer.weights == ON_BLUE


def test_an_idle_colour_that_is_not_well_gets_nothing(colours: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.strategies.blue_green.READY_SECONDS", 0.5)
    colours.balancer.standings["production-2"] = Standing.UNHEALTHY
    operation = colours.deploy()
    assert operation.state == State.FAILED
    assert "production-2 is unhealthy" in words(operation)
    assert colours.balancer.calls == []
    assert colours.versions() == ["1.4.0"] * 3


def test_a_load_balancer_that_does_not_answer_is_asked_again_whether_it_is_well(
    colours: Production, traffic: Traffic
) -> None:
    def lose(boundary: str, operation_id: int, step: str) -> None:
        if (boundary, step) == ("intent_written", "ready"):
            colours.balancer.refuses = 1

    boundaries.listeners.append(lose)
    try:
        operation = colours.deploy()
    finally:
        boundaries.listeners.clear()
    assert operation.state == State.SUCCEEDED


def test_the_first_time_all_requests_go_to_blue_before_green_is_touched(colours: Production, traffic: Traffic) -> None:
    colours.balancer.weights = dict.fromkeys((one["name"] for one in INSTANCES), 100)
    operation = colours.deploy()
    assert operation.state == State.SUCCEEDED
    assert colours.balancer.calls == [ON_BLUE, ON_GREEN]


def test_numbers_that_are_away_for_a_moment_turn_nothing_back(colours: Production, traffic: Traffic) -> None:
    begun = colours.balancer.traffic
    lost: list[int] = []

    def away() -> None:
        begun()
        if colours.balancer.weights == ON_GREEN and not lost:
            lost.append(1)
            colours.balancer.refuses = 3

    colours.balancer.traffic = away
    assert colours.deploy().state == State.SUCCEEDED


def test_it_is_not_done_before_somebody_could_look(
    colours: Production, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.strategies.steps.MARGIN_SECONDS", 1.0)
    monkeypatch.setattr("deployments.strategies.blue_green.MARGIN_SECONDS", 1.0)
    begun = colours.balancer.traffic

    def away() -> None:
        begun()
        if colours.balancer.weights == ON_GREEN:
            raise StepError("HAProxy does not answer")

    colours.balancer.traffic = away
    operation = colours.deploy()
    assert operation.state == State.FAILED
    assert "nobody could see how it went: HAProxy does not answer" in words(operation)
    assert colours.balancer.calls == [ON_GREEN, ON_BLUE]


def test_an_idle_colour_that_gets_requests_again_is_drift(
    colours: Production, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "differences", lambda target, deployed: [], raising=False)
    colours.deploy()
    colours.balancer.weights["production-1"] = 100  # as after a restart of HAProxy
    placement = Placement.objects.get(environment__slug="production")
    drift.look_due()
    (found,) = Drift.objects.filter(placement=placement, ended_at=None)
    assert (found.what, found.subject, found.found) == ("registration", "production-1", "weight 100")
    assert colours.deploy("1.4.0", kind="rollback").state == State.SUCCEEDED
    assert colours.balancer.calls == [ON_GREEN, ON_GREEN, ON_BLUE], "green, which was deployed, is what serves"


def test_what_the_idle_colour_runs_is_no_drift(colours: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[list[str]] = []

    def differences(target: Target, deployed: Software) -> list[Difference]:
        compared.append([one.name for one in target.instances])
        return []

    monkeypatch.setattr(paper, "differences", differences, raising=False)
    placement = Placement.objects.get(environment__slug="production")
    assert idle_colours([placement]) == {placement.pk: frozenset()}, "nothing was switched yet"
    colours.deploy()
    assert idle_colours([placement]) == {placement.pk: {"production-1"}}
    drift.look_due()
    assert ["production-2", "production-3"] in compared
    colours.deploy("1.4.0", kind="rollback")
    assert idle_colours([placement]) == {placement.pk: {"production-2", "production-3"}}


def test_the_switch_that_ended_last_left_the_idle_colour(colours: Production, traffic: Traffic) -> None:
    """Whatever was asked for first may have waited for its time."""
    forward = colours.deploy()
    colours.deploy("1.4.0", kind="rollback")
    Operation.objects.filter(pk=forward.pk).update(finished_at=Now() + timedelta(hours=1))
    placement = Placement.objects.get(environment__slug="production")
    assert idle_colours([placement]) == {placement.pk: {"production-1"}}
