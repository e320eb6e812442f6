"""What restarted in the past is no reason to fail: only restarts of what an operation started are held against it."""

import os
import signal

import pytest

from controlplane.embedded.processes import wait_until
from controlplane.operations.errors import StepError
from environments.drivers.base import Rollout
from tests.environments.fleet import Worker
from tests.environments.hosts.conftest import BOTH_ENGINES, MakePark
from tests.environments.hosts.park import DRIVER, Park

pytestmark = BOTH_ENGINES


def restarting(park: MakePark, count: int) -> Park:
    """Hosts with 1.4.0, whose engine starts again what ends by itself."""
    production = park(count, soak_seconds=0)
    container = production.placement.environment.driver_settings["container"]
    production.settings(container={**container, "restart": "always"})
    assert production.deploy("1.4.0") is None
    return production


def restart(production: Park, number: int = 1) -> None:
    """Its process dies, and the engine starts it again."""
    found = production.container(number)
    assert found is not None
    with production.engine() as engine:
        os.kill(engine._client.inspect_container(found.id)["State"]["Pid"], signal.SIGKILL)

    def again() -> bool:
        now = production.container(number)
        return now is not None and now.is_running and now.restarts == found.restarts + 1

    assert wait_until(again, 40)


def do(worker: Worker, rollout: Rollout, *keys: str) -> None:
    """These steps of it, or of its way back."""
    steps = {step.key: step for step in (*rollout.steps, *rollout.recovery)}
    for key in keys:
        worker.checkpoint = {}
        worker.do(steps[key])


def test_what_was_never_stopped_is_put_back_though_it_was_restarted_once(park: MakePark) -> None:
    production = restarting(park, 1)
    restart(production)
    rollout = production.rollout("1.5.0")
    stop = next(step for step in rollout.steps if step.key == "production-1/stop")
    do(production.worker(), rollout, *stop.on_failure)
    assert production.versions() == ["1.4.0"]


def test_what_was_left_alone_may_have_been_restarted_once(park: MakePark) -> None:
    production = restarting(park, 2)
    restart(production, 2)
    with production.engine() as engine:
        engine.stop("pitchey-backend.production-1", 5)
    rollout = production.rollout("1.4.0")
    assert {step.group for step in rollout.steps} == {"production-1", ""}
    assert production.deploy("1.4.0") is None


def test_what_the_operation_started_may_not_be_restarted_at_any_time_of_it(park: MakePark) -> None:
    production = restarting(park, 1)
    rollout, worker = production.rollout("1.5.0"), production.worker()
    do(worker, rollout, *(f"production-1/{key}" for key in ("pull", "stop", "run", "check")))
    restart(production)
    with pytest.raises(StepError, match=r"it was restarted 1 times"):
        do(worker, rollout, "verify")
    with pytest.raises(StepError, match=r"1\.5\.0 was restarted 1 times at production-1"):
        do(worker, rollout, "production-1/run")


@pytest.mark.parametrize("known", [True, False])
def test_a_recovery_forgives_restarts_from_before_what_it_needs_was_there(park: MakePark, known: bool) -> None:
    """An application is started early in a failover, and its database comes later."""
    production = restarting(park, 1)
    software = production.images.release("1.4.0") if known else None
    down, up = (DRIVER.scale(production.target, count, software, key="switch") for count in (0, 1))
    worker = production.worker()
    for step in (*down.begin, *down.wait, *up.begin):
        worker.do(step)
    restart(production)
    for step in up.wait:
        worker.do(step)
    restart(production)
    with pytest.raises(StepError, match="it was restarted 1 times"):
        worker.do(next(step for step in up.wait if step.key.endswith("/check")))
