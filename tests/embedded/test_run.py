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

from controlplane.embedded.containers import Choice, Wish, look, podman_of
from controlplane.embedded.people import PEOPLE_FILE
from controlplane.embedded.place import CHECKOUT
from controlplane.embedded.processes import PROC, everybody, free_port, send, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

START_SECONDS = 240.0
STOP_SECONDS = 150.0


class Run:
    """One bin/run and what it printed."""

    def __init__(self, data: Path, port: int, containers: str = "--no-containers") -> None:
        self.data = data
        self.port = port
        self.printed = data.parent / f"printed-{free_port()}"
        # Nothing of the test run's own, whose static files it would clear away.
        given = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DATA_DIR", "STATIC_ROOT", "HTTPS")
        env = {name: value for name, value in os.environ.items() if name not in given}
        with self.printed.open("wb") as output:
            self.process = subprocess.Popen(
                [str(CHECKOUT / "bin/run"), "--port", str(port), "--data", str(data), "--workers", "1", containers],
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
            with connection.getresponse() as response:
                return response.status
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
def start(data: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*containers: str) -> Run:
        run = Run(data, free_port(), *containers)
        runs.append(run)
        return run

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.stop()
    podman_of(data).delete()
    for pid in belonging_to(data):
        send(pid, signal.SIGKILL)


def test_a_first_start_a_second_one_beside_it_and_the_stop(start: Callable[..., Run], data: Path) -> None:
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
    assert stops == ["clients", "clock", "wal", "auditor", "providers", "names", "worker", "web", "demo"]
    assert run.text().rstrip().endswith("[run] everything has stopped")
    assert belonging_to(data) == {}, run.text()


def test_after_everything_was_killed_the_next_start_works(start: Callable[..., Run], data: Path) -> None:
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


def test_staging_in_containers_is_stopped_in_order_and_found_again_after_a_kill(
    start: Callable[..., Run], data: Path, spacious: Path
) -> None:
    choice, podman = look(spacious / "trial", Wish.IF_POSSIBLE), podman_of(data)
    podman_of(spacious / "trial").delete()
    if choice != Choice():
        pytest.skip(choice.why)
    first = start("--containers")
    assert first.welcomes(), first.text()
    assert "[staging] It runs in containers on this computer's Podman." in first.text()
    running = podman.run("ps", "--quiet").split()
    assert len(running) == 2
    first.process.kill()
    first.process.wait()

    second = start("--containers")
    assert second.welcomes(), second.text()
    assert "[engine] is still there from a start that was killed; ending it" in second.text()
    assert podman.run("ps", "--quiet").split() == running, "they served all the while"
    assert second.stop() == 0
    assert "[engine] stopping" in second.text()
    assert belonging_to(data) == {}, second.text()
    assert not podman.passing.exists()
    assert str(data) not in Path("/proc/mounts").read_text()


def test_a_port_in_use_is_said_in_words(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        run = Run(data, other.getsockname()[1])
        assert run.process.wait(30) == 1
    assert f"Port {run.port} is in use by another program. Choose another: bin/run --port" in run.text()
