"""The supervisor restarts what ends, stops in order within bounds, and ends what a killed one left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controlplane.embedded import supervisor as module
from controlplane.embedded.processes import boot, free_port, look, wait_until
from controlplane.embedded.stack import Stack, open_data_folder
from controlplane.embedded.supervisor import Program, Supervisor, end_leftovers, programs

GIVEN = {"DATABASE_URL": "postgres://elsewhere/db", "REDIS_URL": "redis://elsewhere", "SECRET_KEY": "given"}

# Each notes its name when it stops; "stubborn" ignores the signal and has a child that does as well.
NOTES_ITS_STOP = """
import signal, sys, time
def leave(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open(sys.argv[1] + "." + sys.argv[2], "w").close()
while True: time.sleep(60)
"""
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child: open(sys.argv[1], "w").write(f"{os.getpid()} {child}\\n")
while True: time.sleep(60)
"""

Supervise = Callable[[list[Program]], Supervisor]


@pytest.fixture
def supervise(data: Path) -> Iterator[Supervise]:
    """Run programs under a supervisor in a thread; at the end everything is stopped."""
    running: list[tuple[Supervisor, threading.Thread]] = []

    def supervise(programs: list[Program]) -> Supervisor:
        stack = Stack(data, environ=GIVEN)
        supervisor = Supervisor(stack, free_port(), programs)
        thread = threading.Thread(target=supervisor.watch)
        running.append((supervisor, thread))
        thread.start()
        return supervisor

    yield supervise
    for supervisor, thread in running:
        supervisor.stopping.set()
        thread.join()
        supervisor.shut_down()


def python(name: str, code: str, *arguments: str, stop_seconds: float = 5.0) -> Program:
    return Program(name, [sys.executable, "-c", code, *arguments], stop_seconds)


def test_what_ends_is_started_again_later_each_time(supervise: Supervise, data: Path) -> None:
    starts = data / "starts"
    open_data_folder(data)
    code = "import sys, time; open(sys.argv[1], 'a').write(f'{time.monotonic()}\\n'); sys.exit(3)"
    supervise([python("worker", code, str(starts))])
    assert wait_until(lambda: starts.exists() and len(starts.read_text().splitlines()) >= 3, 40)
    first, second, third, *_ = map(float, starts.read_text().splitlines())
    assert second - first >= module.FIRST_DELAY_SECONDS
    assert third - second >= 2 * module.FIRST_DELAY_SECONDS


def test_a_killed_program_is_replaced_and_said_in_words(
    supervise: Supervise, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_data_folder(data)
    stops = data / "stops"
    supervisor = supervise([python("worker", NOTES_ITS_STOP, str(stops), "worker")])
    assert wait_until(Path(f"{stops}.worker").exists, 40)
    first = supervisor.programs[0].process
    assert first is not None
    first.kill()
    assert wait_until(lambda: supervisor.programs[0].process not in (first, None), 40)
    assert "[worker] was killed by signal 9; starting it again in 0.5 s" in capsys.readouterr().out


def test_they_stop_in_order_even_when_one_is_stubborn(supervise: Supervise, data: Path) -> None:
    open_data_folder(data)
    stops, stubborn = data / "stops", data / "stubborn"
    names = ["clock", "worker", "web"]
    programs = [python(name, NOTES_ITS_STOP, str(stops), name) for name in names]
    programs.insert(1, python("stubborn", STUBBORN, str(stubborn), stop_seconds=0.2))
    supervisor = supervise(programs)
    for name in names:
        assert wait_until(Path(f"{stops}.{name}").exists, 40)
    assert wait_until(lambda: stubborn.exists() and stubborn.read_text().endswith("\n"), 40)
    supervisor.shut_down()
    assert stops.read_text().split() == names
    assert [look(int(pid)) for pid in stubborn.read_text().split()] == [None, None]
    assert not (data / "stack.json").exists()


def test_what_a_killed_supervisor_left_is_ended_with_its_children(
    supervise: Supervise, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEFTOVER_SECONDS", 1.0)
    open_data_folder(data)
    stubborn = data / "stubborn"
    supervisor = supervise([python("worker", STUBBORN, str(stubborn))])
    assert wait_until(lambda: stubborn.exists() and stubborn.read_text().endswith("\n"), 40)
    assert wait_until((data / "stack.json").exists, 40)
    supervisor.stopping.set()  # the thread ends, nothing is stopped: as if it had been killed
    leader, child = map(int, stubborn.read_text().split())
    process = supervisor.programs[0].process
    assert process is not None
    process.kill()
    process.wait()
    assert look(child), "a child outlives the process that began its session"
    end_leftovers(data)
    assert look(leader) is None
    assert look(child) is None
    supervisor.programs.clear()


def test_a_reused_process_number_is_left_alone(data: Path) -> None:
    open_data_folder(data)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        present = look(bystander.pid)
        assert present is not None
        running = {"web": {"pid": bystander.pid, "started": present.started - 1}}
        (data / "stack.json").write_text(json.dumps({"boot": boot(), "running": running}))
        end_leftovers(data)
        assert bystander.poll() is None
        bystander.send_signal(signal.SIGKILL)


def test_the_web_process_takes_nobodys_word_for_where_a_request_comes_from() -> None:
    web = next(program for program in programs(8000, 1) if program.name == "web")
    assert "--no-proxy-headers" in web.command
