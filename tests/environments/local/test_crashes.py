"""A worker may die or freeze between any two instructions: nothing starts twice, and who is late does nothing."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from controlplane.embedded.processes import wait_until
from controlplane.operations.errors import LeaseLost, StepError
from controlplane.operations.plans import StepSpec
from environments.drivers.local.instance_folder import InstanceFolder
from tests.environments.conftest import MakeFleet
from tests.environments.fleet import Fleet, Worker, release
from tests.environments.late_worker import start

Late = Callable[..., subprocess.Popen[str]]
DIGEST = release("1.5.0").digest


@pytest.fixture
def production(fleet: MakeFleet) -> Fleet:
    return fleet(1)


@pytest.fixture
def late(production: Fleet) -> Iterator[Late]:
    """Starts a worker process that dies or freezes at a moment of its start of 1.5.0, and waits until it is there."""
    processes: list[subprocess.Popen[str]] = []

    def begin(moment: str, fence: int = 1) -> subprocess.Popen[str]:
        folder = production.folders[0]
        folder.path.mkdir(parents=True, exist_ok=True)
        arguments = [str(folder.path), str(port_of(production)), str(fence), moment, DIGEST]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.environments.late_worker", *arguments],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        processes.append(process)
        assert process.stdout and process.stdout.readline() == "here\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def port_of(fleet: Fleet) -> int:
    return urlsplit(fleet.placement.instances[0]["address"]).port or 0


def go_on(process: subprocess.Popen[str]) -> str:
    """Wake a frozen worker; what it then says."""
    process.send_signal(signal.SIGCONT)
    return process.communicate(timeout=40)[0].strip()


def step(fleet: Fleet, key: str, version: str = "1.5.0") -> StepSpec:
    rollout = fleet.rollout(version)
    return next(step for step in (*rollout.steps, *rollout.recovery) if step.key == key)


def folder_of(fleet: Fleet) -> InstanceFolder:
    return fleet.folders[0]


def test_a_frozen_worker_that_wakes_late_does_not_start(production: Fleet, late: Late) -> None:
    frozen = late("before", fence=1)
    begin = step(production, "production-1/start")
    Worker(fence=2).do(begin)
    Worker(fence=3).do(step(production, "production-1/stop", "1.6.0"))
    assert go_on(frozen) == "production-1: fence 1 is too late, 3 was here"
    assert production.versions() == [""]
    assert production.effects() == [("start", "1.5.0"), ("stop", "1.5.0")]


def test_a_late_worker_stops_nothing(production: Fleet) -> None:
    production.deploy("1.4.0", Worker(fence=1))
    stop = step(production, "production-1/stop")
    with production.folders[0].control(Worker(fence=5)):
        pass
    with pytest.raises(LeaseLost):
        Worker(fence=4).do(stop)
    assert production.versions() == ["1.4.0"]
    assert production.effects() == [("start", "1.4.0")]


def test_a_worker_whose_lease_is_gone_does_nothing(production: Fleet) -> None:
    with pytest.raises(LeaseLost):
        Worker(lost=True).do(step(production, "production-1/start"))
    assert production.effects() == []


def test_a_worker_frozen_inside_keeps_others_out_until_it_wakes(production: Fleet, late: Late) -> None:
    frozen = late("inside", fence=1)
    second, folder = Worker(fence=2), folder_of(production)
    waiting = threading.Thread(target=start, args=[folder, second, port_of(production), DIGEST])
    waiting.start()
    assert wait_until(lambda: bool(second.said), 40)
    assert second.said == ["production-1: another worker is just changing it, waiting for its end"]
    assert go_on(frozen) == "started"
    waiting.join(10)
    assert wait_until(lambda: folder.runs(DIGEST), 40)
    assert production.effects() == [("start", "1.5.0")]


def test_a_worker_that_dies_inside_leaves_the_way_free(production: Fleet, late: Late) -> None:
    frozen = late("inside", fence=1)
    frozen.kill()
    Worker(fence=2).do(step(production, "production-1/start"))
    assert production.effects() == [("start", "1.5.0")]


def test_an_intent_without_a_process_is_no_start(production: Fleet, late: Late) -> None:
    late("intent").wait(10)
    assert production.versions() == [""]
    Worker(fence=2).do(step(production, "production-1/start"))
    assert production.effects() == [("start", "1.5.0")]


def test_a_start_whose_worker_died_at_once_is_found_and_not_repeated(production: Fleet, late: Late) -> None:
    begin = step(production, "production-1/start")
    late("spawned")
    worker = Worker(fence=2)
    worker.do(begin)
    assert production.effects() == [("start", "1.5.0")]
    assert "started" not in " ".join(worker.said)


def test_two_workers_at_once_start_one_process(production: Fleet) -> None:
    folder = folder_of(production)
    with ThreadPoolExecutor() as pool:
        begun = [pool.submit(start, folder, Worker(fence=7), port_of(production), DIGEST) for _ in range(4)]
        assert sorted(one.result() for one in begun) == [False, False, False, True]
    assert wait_until(lambda: folder.runs(DIGEST), 40)
    assert production.effects() == [("start", "1.5.0")]


def test_a_stop_whose_worker_died_is_found_done(production: Fleet) -> None:
    production.deploy("1.4.0")
    stop = step(production, "production-1/stop")
    folder = folder_of(production)
    assert folder.pid
    os.kill(folder.pid, signal.SIGTERM)
    assert wait_until(lambda: not folder.occupied, 30)
    Worker(fence=9).do(stop)
    assert production.effects() == [("start", "1.4.0"), ("stop", "1.4.0")]
    assert folder.wanted == {}


def test_what_ignores_sigterm_is_killed(production: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("environments.drivers.local.instance_folder.GRACE_SECONDS", 0.3)
    production.deploy("1.4.0")
    stop, folder = step(production, "production-1/stop"), folder_of(production)
    worker = Worker(fence=9)
    assert folder.pid
    os.kill(folder.pid, signal.SIGSTOP)
    worker.do(stop)
    assert worker.said[0] == "production-1: did not end within 0.3 s of SIGTERM"
    assert production.versions() == [""]


def test_a_process_is_not_stopped_by_an_old_pid(production: Fleet) -> None:
    """The pid in the file is of a process that has ended; somebody else may have the number by now."""
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        folder = folder_of(production)
        production.deploy("1.4.0")
        stop = step(production, "production-1/stop")
        production.kill()
        assert wait_until(lambda: not folder.occupied, 30)
        (folder.path / "instance.json").write_text(f'{{"pid": {stranger.pid}}}')
        Worker(fence=9).do(stop)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_lock_that_never_comes_free_is_told_in_words(
    production: Fleet, late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("environments.drivers.local.instance_folder.PATIENCE_SECONDS", 0.1)
    late("inside")
    with pytest.raises(StepError, match=r"Another worker has been changing production-1"):
        Worker(fence=2).do(step(production, "production-1/start"))
