"""`bin/run` as people use it: one command, an address, sign-ins, an ordered stop, and nothing left behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controlplane.embedded.people import PEOPLE_FILE
from controlplane.embedded.place import CHECKOUT
from controlplane.embedded.processes import PROC, everybody, free_port, send, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

START_SECONDS = 120.0
STOP_SECONDS = 60.0


class Run:
    """One bin/run and what it printed."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.port = port
        self.printed = data.parent / f"printed-{free_port()}"
        given = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DATA_DIR")
        env = {name: value for name, value in os.environ.items() if name not in given}
        with self.printed.open("wb") as output:
            self.process = subprocess.Popen(
                [str(CHECKOUT / "bin/run"), "--port", str(port), "--data", str(data), "--workers", "1"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd="/",
            )

    def text(self) -> str:
        return self.printed.read_text()

    def welcomes(self) -> bool:
        """Wait until it prints the address; False if it ended instead."""
        wait_until(lambda: "Ctrl-C" in self.text() or self.process.poll() is not None, START_SECONDS)
        return "Ctrl-C" in self.text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def status(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()


def belonging_to(data: Path) -> dict[int, str]:
    """Every process that has the data folder in its command or its environment, whoever began it."""
    found = {}
    for process in everybody():
        folder = PROC / str(process.pid)
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            inside = str((folder / "cwd").readlink()).startswith(str(data))
        except OSError:
            continue
        if inside or str(data).encode() in text:
            found[process.pid] = process.name
    return found


@pytest.fixture
def start(data: Path) -> Iterator[Callable[[], Run]]:
    runs: list[Run] = []

    def start() -> Run:
        run = Run(data, free_port())
        runs.append(run)
        return run

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.stop()
    for pid in belonging_to(data):
        send(pid, signal.SIGKILL)


def test_a_first_start_a_second_one_beside_it_and_the_stop(start: Callable[[], Run], data: Path) -> None:
    run = start()
    assert run.welcomes(), run.text()
    assert f"http://127.0.0.1:{run.port}" in run.text()
    assert run.status("/healthz") == 200

    passwords = json.loads((data / PEOPLE_FILE).read_text())
    assert (data / PEOPLE_FILE).stat().st_mode & 0o777 == 0o600
    assert (data / "stack.json").stat().st_mode & 0o777 == 0o600
    for username in ("alice", "bob"):
        assert re.search(rf"{username}\s+{passwords[username]}", run.text())

    second = start()
    assert second.process.wait(30) == 1
    assert f"in use by process {run.process.pid} (bin/run on http://127.0.0.1:{run.port})" in second.text()

    assert run.stop() == 0
    assert "unexpectedly" not in run.text()
    stops = re.findall(r"\[(\w+)\] stopping", run.text())
    assert stops == ["clock", "wal", "auditor", "providers", "worker", "web", "demo"]
    assert run.text().rstrip().endswith("[run] everything has stopped")
    assert belonging_to(data) == {}, run.text()


def test_after_everything_was_killed_the_next_start_works(start: Callable[[], Run], data: Path) -> None:
    first = start()
    assert first.welcomes(), first.text()
    passwords = (data / PEOPLE_FILE).read_text()
    first.process.kill()
    for pid in belonging_to(data):
        send(pid, signal.SIGKILL)
    first.process.wait()

    second = start()
    assert second.welcomes(), second.text()
    assert second.status("/healthz") == 200
    assert (data / PEOPLE_FILE).read_text() == passwords

    second.process.kill()  # only the supervisor this time: all others live on
    second.process.wait()
    third = start()
    assert third.welcomes(), third.text()
    assert "[web] is still there from a start that was killed; ending it" in third.text()
    assert third.stop() == 0
    assert belonging_to(data) == {}, third.text()


def test_a_port_in_use_is_said_in_words(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        run = Run(data, other.getsockname()[1])
        assert run.process.wait(30) == 1
    assert f"Port {run.port} is in use by another program. Choose another: bin/run --port" in run.text()
