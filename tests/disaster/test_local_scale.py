"""The applications of a side on this computer: all of it stopped and seen to be, or so many started and in rotation."""

import os
import signal
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from controlplane.embedded.processes import wait_until
from controlplane.operations.errors import Invalid, LeaseLost, StepError, Unknown
from controlplane.operations.plans import StepSpec
from controlplane.operations.registry import step_function
from deployments import demo
from environments.addresses import NoAnswer, get
from environments.drivers.base import Scalable, Scaling, Software
from environments.drivers.local.scale import ScalableLocalDriver
from environments.targets import target_of
from tests.environments.conftest import MakeFleet, fleet
from tests.environments.fleet import Fleet, Mortal, Worker, release

__all__ = ["fleet"]
DRIVER = ScalableLocalDriver()


def scale(one: Fleet, count: int, software: Software | None = None, key: str = "applications") -> Scaling:
    return DRIVER.scale(target_of(one.placement, configuration=""), count, software, key=key)


def carry_out(scaling: Scaling, worker: Worker) -> None:
    for step in (*scaling.begin, *scaling.wait):
        worker.do(step)


def statuses(one: Fleet, path: str = "/ready") -> list[int | str]:
    """What each instance answers; "" for nothing."""
    found: list[int | str] = []
    for instance in one.placement.instances:
        try:
            found.append(get(f"{instance['address']}{path}").status)
        except NoAnswer:
            found.append("")
    return found


def step_of(scaling: Scaling, end: str) -> StepSpec:
    return next(step for step in (*scaling.begin, *scaling.wait) if step.key.endswith(end))


@pytest.fixture
def production(fleet: MakeFleet) -> Fleet:
    made = fleet(3)
    assert made.deploy("1.4.0") is None
    return made


@pytest.fixture
def dr(fleet: MakeFleet) -> Fleet:
    return fleet(3, "dr")


def test_the_driver_offers_it() -> None:
    assert isinstance(DRIVER, Scalable)


def test_the_plan_says_what_is_begun_and_what_is_waited_for(production: Fleet) -> None:
    stop = scale(production, 0, key="fence/backend")
    assert [step.key for step in stop.begin] == [f"fence/backend/production-{n}/halt" for n in (1, 2, 3)]
    assert [step.key for step in stop.wait] == [f"fence/backend/production-{n}/gone" for n in (1, 2, 3)]
    start = scale(production, 2, release("1.5.0"))
    keys = [step.key for step in (*start.begin, *start.wait)]
    assert len(keys) == len(set(keys))
    assert [key.removeprefix("applications/production-") for key in keys] == [
        "3/halt", "1/clear", "1/launch", "2/clear", "2/launch",
        "3/gone", "1/up", "2/up", "applications/check", "1/back", "2/back",
    ]  # fmt: skip
    assert scale(production, 2, release("1.5.0")) == start


def test_nothing_runs_and_nothing_answers_after_a_stop(production: Fleet) -> None:
    carry_out(scale(production, 0), Worker(fence=9))
    assert statuses(production) == [""] * 3
    assert not any(folder.occupied for folder in production.folders)
    assert [production.effects(n)[-1] for n in (1, 2, 3)] == [("stop", "1.4.0")] * 3


def test_a_process_that_ignores_the_signal_is_ended_before_it_counts_as_gone(production: Fleet) -> None:
    pid = production.folders[0].pid or 0
    os.kill(pid, signal.SIGSTOP)
    stop, worker = scale(production, 0), Worker(fence=9)
    for step in stop.begin:
        worker.do(step)
    assert production.folders[0].occupied
    threading.Timer(0.5, os.kill, [pid, signal.SIGCONT]).start()
    for step in stop.wait:
        worker.do(step)
    assert not any(folder.occupied for folder in production.folders)


def test_a_worker_that_comes_late_starts_nothing_at_a_side_that_was_stopped(dr: Fleet) -> None:
    late = scale(dr, 1, release("1.5.0"))
    stop = scale(dr, 0)
    carry_out(stop, Worker(fence=5))
    with pytest.raises(LeaseLost):
        Worker(fence=4).do(step_of(late, "dr-1/launch"))
    assert dr.effects() == []


def test_a_stop_that_is_repeated_by_the_next_worker_raises_the_fence_again(dr: Fleet) -> None:
    for fence in (5, 8):
        carry_out(scale(dr, 0), Worker(fence=fence))
        assert [folder.fence for folder in dr.folders] == [fence] * 3


def test_somebody_else_who_answers_at_the_address_is_no_proof(dr: Fleet) -> None:
    port = urlsplit(dr.placement.instances[0]["address"]).port
    with socket.create_server(("127.0.0.1", port or 0)):
        gone = step_of(scale(dr, 0), "dr-1/gone")
        worker = Worker(fence=5)
        function = step_function(gone.function)
        function.act(worker, **gone.arguments)
        assert function.verify
        verdict = function.verify(worker, **gone.arguments)
    assert verdict.outcome == "pending"
    assert verdict.reason.startswith("nothing of ours runs at dr-1, and yet somebody answers at http://127.0.0.1:")
    assert function.verify(worker, **gone.arguments).outcome == "passed"


def test_what_cannot_be_looked_at_is_not_known_and_the_first_step_goes_on(dr: Fleet, data_dir: Path) -> None:
    folder = dr.folders[0].path
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where a folder should be")
    stop, worker = scale(dr, 0), Worker(fence=5)
    worker.do(step_of(stop, "dr-1/halt"))
    assert worker.said[0].startswith("dr-1 cannot be told to end: ")
    with pytest.raises(Unknown, match="dr-1 cannot be looked at"):
        worker.do(step_of(stop, "dr-1/gone"))
    folder.unlink()


def test_a_cold_side_comes_up_with_the_release_and_in_rotation(dr: Fleet) -> None:
    start, worker = scale(dr, 2, release("1.5.0")), Worker(fence=2)
    for step in start.begin:
        worker.do(step)
    assert wait_until(lambda: dr.versions() == ["1.5.0", "1.5.0", ""], 40)
    assert 200 not in statuses(dr)  # nobody is sent there before it was checked
    for step in start.wait:
        worker.do(step)
    assert statuses(dr) == [200, 200, ""]
    assert "dr-2: GET /health → 200" in " ".join(worker.said)


def test_a_repeated_start_starts_nothing_twice(dr: Fleet) -> None:
    for fence in (2, 3):
        carry_out(scale(dr, 3, release("1.5.0")), Worker(fence=fence))
    assert [dr.effects(n) for n in (1, 2, 3)] == [[("start", "1.5.0")]] * 3


def test_what_died_after_its_start_is_started_again_while_it_is_waited_for(dr: Fleet) -> None:
    start, worker = scale(dr, 1, release("1.5.0")), Worker(fence=2)
    for step in start.begin:
        worker.do(step)
    assert wait_until(lambda: dr.versions()[0] == "1.5.0", 40)
    dr.kill()
    assert wait_until(lambda: not dr.folders[0].occupied, 40)
    for step in start.wait:
        worker.do(step)
    assert statuses(dr) == [200, "", ""]


def test_another_release_makes_room(production: Fleet) -> None:
    carry_out(scale(production, 3, release("1.5.0")), Worker(fence=9))
    assert production.versions() == ["1.5.0"] * 3
    assert production.effects() == [("start", "1.4.0"), ("stop", "1.4.0"), ("start", "1.5.0")]


def test_fewer_instances_stop_the_others(production: Fleet) -> None:
    carry_out(scale(production, 1, release("1.4.0")), Worker(fence=9))
    assert production.versions() == ["1.4.0", "", ""]
    assert production.effects() == [("start", "1.4.0")]


def test_without_a_release_each_runs_what_it_ran_last(production: Fleet) -> None:
    carry_out(scale(production, 0), Worker(fence=9))
    carry_out(scale(production, 3, Software("", "", "")), Worker(fence=10))
    assert production.versions() == ["1.4.0"] * 3
    assert statuses(production) == [200] * 3


def test_where_nothing_ever_ran_nobody_knows_what_to_start(dr: Fleet) -> None:
    with pytest.raises(StepError, match="Nobody knows what dr-1 is to run"):
        carry_out(scale(dr, 1), Worker(fence=2))


def test_a_release_that_is_not_well_over_there_is_not_put_in_rotation(dr: Fleet) -> None:
    with pytest.raises(StepError, match="/health answered 503 on dr-1"):
        carry_out(scale(dr, 1, release("1.6.0")), Worker(fence=2))
    assert statuses(dr) == [503, "", ""]


def test_more_than_there_are_is_said_when_it_is_planned(dr: Fleet) -> None:
    with pytest.raises(Invalid, match="dr has 3 instances of pitchey-backend, not 4"):
        scale(dr, 4, release("1.5.0"))


def test_a_restart_of_everything_does_not_bring_back_what_a_recovery_stopped(production: Fleet) -> None:
    placement = production.placement
    placement.version, placement.digest = "1.4.0", release("1.4.0").digest
    carry_out(scale(production, 0), Worker(fence=demo.Hand().fence))
    demo.start_missing(placement)
    assert production.versions() == [""] * 3
    carry_out(scale(production, 3, release("1.4.0")), Worker(fence=demo.Hand().fence))
    production.kill()
    assert wait_until(lambda: not any(folder.occupied for folder in production.folders), 40)
    demo.start_missing(placement)
    assert wait_until(lambda: production.versions() == ["1.4.0"] * 3, 40)


def told(worker: Worker) -> list[str]:
    return [f"{what} {subject}" for what, subject, _ in worker.effects]


def test_what_a_stop_did_is_told_once_though_its_workers_die_before_they_tell(production: Fleet) -> None:
    worker = Mortal(fence=9)
    stop = scale(production, 1, release("1.4.0"))
    worker.do(step_of(stop, "production-3/halt"))
    worker.do(step_of(stop, "production-2/gone"))
    assert told(worker) == [
        "deregistered production-3", "told to end production-3",
        "deregistered production-2", "stopped production-2",
    ]  # fmt: skip
    assert len(worker.deaths) == 4
    assert production.effects(2)[-1] == ("stop", "1.4.0")


def test_what_a_start_did_is_told_once_though_its_workers_die_before_they_tell(production: Fleet) -> None:
    worker = Mortal(fence=9)
    carry_out(scale(production, 1, release("1.5.0")), worker)
    first = [one for one in worker.effects if one[1] == "production-1"]
    assert [what for what, *_ in first] == ["deregistered", "stopped", "started", "registered"]
    assert first[1][2] == {"ran": release("1.4.0").digest}
    carry_out(scale(production, 0), Worker(fence=worker.fence + 1))
    again = Mortal(fence=worker.fence + 2)
    carry_out(scale(production, 1), again)
    resumed = [one for one in again.effects if one[:2] == ("started", "production-1")]
    assert resumed == [("started", "production-1", {"version": "1.5.0", "digest": release("1.5.0").digest})]


def test_what_was_stopped_before_is_no_deed_of_the_next(production: Fleet) -> None:
    carry_out(scale(production, 0), Worker(fence=9))
    worker = Worker(fence=10)
    carry_out(scale(production, 0), worker)
    assert worker.effects == []
