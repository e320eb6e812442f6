"""Blue/green on real hosts behind a real HAProxy: the switch, the way back, and an old colour that nobody touches."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from controlplane.operations.models import Effect, Operation
from controlplane.operations.states import State
from environments import drift
from environments.models import Drift
from tests.backups.processes import worker
from tests.environments.hosts.street import Make, Street, requests, street

__all__ = ["street"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
COLOURS: dict[str, Any] = {"blue": ["production-1"], "green": ["production-2"], "interval_seconds": 0.1}
ON_BLUE, ON_GREEN = [100, 0], [0, 100]
ONCE = [("start", "1.4.0")]
RENEWED = [*ONCE, ("stop", "1.4.0"), ("start", "1.5.0")]


@pytest.fixture
def two(street: Make) -> Street:
    """One host a colour; both have the same weight, as HAProxy starts."""
    made = street(2)
    made.configure("blue_green", **COLOURS, soak_seconds=1, least_requests=20)
    return made


def served(street: Street) -> list[int]:
    """Requests by instance, as HAProxy counted them."""
    return [one.requests for one in street.counted().values()]


def test_the_switch_and_the_way_back(two: Street) -> None:
    """Nobody sees a failure, and the container of the old colour is the same one all the while."""
    before = two.containers()
    with requests(two) as heard:
        operation = two.deploy("1.5.0")
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert two.park.versions() == ["1.4.0", "1.5.0"]
        assert two.weights() == ON_GREEN
        assert (two.park.effects(1), two.park.effects(2)) == (ONCE, RENEWED)
        switched = two.containers()
        assert switched[0] == before[0]
        assert drift.look_due() == 1
        assert [(one.what, one.found) for one in Drift.objects.all()] == [], "the way back is meant to be there"
        back = two.deploy("1.4.0", kind="rollback")
    assert back.state == State.SUCCEEDED, back.outcome
    assert two.weights() == ON_BLUE
    assert two.containers() == switched, "the way back is the switch alone"
    assert (two.park.effects(1), two.park.effects(2)) == (ONCE, RENEWED)
    assert heard.failed == 0 < heard.sent, heard


def test_failures_after_the_switch_turn_it_back_and_then_put_the_new_colour_back(two: Street) -> None:
    blue = two.containers()[0]
    with requests(two) as heard:
        operation = two.deploy("1.8.0")
    assert operation.state == State.FAILED
    assert "requests failed since the switch, and 5 % may" in operation.outcome
    assert two.weights() == ON_BLUE
    assert two.park.versions() == ["1.4.0", "1.4.0"]
    assert two.containers()[0] == blue
    assert two.park.effects(1) == ONCE
    assert two.park.effects(2) == [*ONCE, ("stop", "1.4.0"), ("start", "1.8.0"), ("stop", "1.8.0"), *ONCE]
    assert heard.ways == {"status 500"}, heard
    errors = [one.errors for one in two.counted().values()]
    assert errors == [0, heard.failed]
    done = list(Effect.objects.filter(operation=operation).order_by("pk").values_list("what", "subject", "facts"))
    turned = done.index(
        ("weighed", "production-1", {"weight": 100}), done.index(("weighed", "production-1", {"weight": 0}))
    )
    stopped = max(place for place, one in enumerate(done) if one[:2] == ("stopped", "production-2"))
    assert turned < stopped, "nobody is sent to the new colour any more when it is put back"


def test_a_colour_that_does_not_start_well_never_gets_a_request(two: Street) -> None:
    two.park.settings(start_seconds=1.5)
    before = two.containers()[0]
    with requests(two) as heard:
        operation = two.deploy("1.6.0")
    assert operation.state == State.FAILED
    assert "/health answered 503 at production-2" in operation.outcome
    assert two.park.versions() == ["1.4.0", "1.4.0"]
    assert two.weights() == ON_BLUE
    assert two.containers()[0] == before
    assert heard.failed == 0 < heard.sent, heard


@pytest.mark.parametrize(("boundary", "step"), [("effect_done", "switch"), ("intent_written", "soak")])
def test_a_worker_that_dies_around_the_switch_is_followed_by_another(
    two: Street, data_dir: Path, boundary: str, step: str
) -> None:
    operation = two.ask("1.5.0")
    with requests(two) as heard:
        with worker(operation.pk, data_dir, boundary=boundary, step=step) as process:
            assert process.wait(60) == -9
        assert two.weights() == ON_GREEN
        Operation.objects.filter(pk=operation.pk).update(lease_until=Now() - timedelta(seconds=1))
        two.run(operation, "w2")
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert two.weights() == ON_GREEN
    assert (two.park.effects(1), two.park.effects(2)) == (ONCE, RENEWED)
    weighed = [
        row[1:] for row in Effect.objects.filter(operation=operation, step="switch").values_list("pk", "subject")
    ]
    assert sorted(weighed) == [("production-1",), ("production-2",)]
    assert heard.failed == 0, heard


def test_the_old_colour_is_renewed_by_the_next_deployment_and_not_before(two: Street) -> None:
    assert two.deploy("1.5.0").state == State.SUCCEEDED
    before = two.containers()
    operation = two.deploy("1.3.0")
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert two.park.versions() == ["1.3.0", "1.5.0"]
    assert two.weights() == ON_BLUE
    after = two.containers()
    assert after[1] == before[1]
    assert after[0] != before[0]
