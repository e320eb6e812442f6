"""The sample service: one process an instance, counted outside the control plane, quick to start and to stop."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.embedded import sample_service
from controlplane.embedded.processes import free_port, wait_until

Start = Callable[..., "Service"]


class Service:
    """A running sample service and what it wrote down."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        self.folder = folder
        self.port = port
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", sample_service.__file__, "--state-dir", str(folder)),
                *("--name", "production-1", "--port", str(port), "--version", "1.5.0", "--digest", "sha256:ab"),
                *arguments,
            ],
            stdout=subprocess.DEVNULL,
        )

    def ask(self, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path)
            with connection.getresponse() as response:
                return response.status, json.loads(response.read())
        finally:
            connection.close()

    def effects(self) -> list[dict[str, Any]]:
        log = self.folder / "effects.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a service (in the test's folder, unless another is given) and wait until it serves."""
    services: list[Service] = []

    def start_one(*arguments: str, folder: Path = tmp_path, port: int | None = None, serves: bool = True) -> Service:
        service = Service(folder, port or free_port(), *arguments)
        services.append(service)
        if serves:
            assert wait_until((folder / "instance.json").exists, 30)
        return service

    yield start_one
    for service in services:
        service.process.kill()
        service.process.wait()


def test_it_says_what_runs(start: Start) -> None:
    service = start()
    status, version = service.ask("/version")
    assert status == 200
    assert version["version"] == "1.5.0"
    assert version["digest"] == "sha256:ab"
    assert version["pid"] == service.process.pid
    assert service.ask("/health") == (200, {"status": "ok", "name": "production-1", "version": "1.5.0"})
    assert service.ask("/nowhere")[0] == 404
    assert service.ask("/health", "POST")[0] == 405


def test_a_bad_release_starts_and_answers_503_on_health(start: Start) -> None:
    service = start("--health-status", "503")
    assert service.ask("/health")[0] == 503
    assert service.ask("/version")[0] == 200


def test_it_is_ready_unless_it_is_out_of_rotation(start: Start, tmp_path: Path) -> None:
    service = start()
    assert service.ask("/ready")[0] == 200
    (tmp_path / "out-of-rotation").touch()
    assert service.ask("/ready")[0] == 503
    (tmp_path / "out-of-rotation").unlink()
    assert service.ask("/ready")[0] == 200


def test_a_start_and_a_stop_leave_one_line_each(start: Start) -> None:
    service = start("--operation", "214", "--fence", "3", "--step", "start:production-1")
    assert json.loads((service.folder / "instance.json").read_text())["pid"] == service.process.pid
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) == 0
    events = service.effects()
    assert [event["event"] for event in events] == ["start", "stop"]
    assert {(event["operation"], event["fence"], event["step"]) for event in events} == {
        ("214", "3", "start:production-1")
    }


def test_a_second_process_for_the_same_instance_leaves_and_counts_nothing(start: Start) -> None:
    first = start()
    second = start(serves=False)
    assert second.process.wait(30) == sample_service.EXIT_LOCKED
    assert [event["pid"] for event in first.effects()] == [first.process.pid]
    assert first.ask("/version")[1]["pid"] == first.process.pid


def test_a_port_that_is_taken_counts_nothing(start: Start, tmp_path: Path) -> None:
    first = start()
    other = tmp_path / "other"
    other.mkdir()
    second = start(folder=other, port=first.port, serves=False)
    assert second.process.wait(30) == sample_service.EXIT_UNAVAILABLE
    assert second.effects() == []


def test_the_lock_ends_with_a_killed_process(start: Start) -> None:
    first = start()
    first.process.kill()
    first.process.wait()
    (first.folder / "instance.json").unlink()
    second = start(port=first.port)
    assert second.ask("/version")[1]["pid"] == second.process.pid
    assert [event["event"] for event in second.effects()] == ["start", "start"]


def test_a_stop_does_not_wait_for_an_idle_connection(start: Start) -> None:
    service = start()
    idle = http.client.HTTPConnection("127.0.0.1", service.port)
    idle.connect()
    service.ask("/health")
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) == 0
    idle.close()
