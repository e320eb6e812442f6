"""How late a line is: 1,000 viewers of one operation, 200 lines a second, worker → PostgreSQL → viewers.

The limit is a plain asyncio server that says the same bytes to the same viewers at the same pace; both are measured in
turns, so that what else the machine does falls on both. All processes are real, each with its own interpreter.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.embedded.processes import free_port
from controlplane.operations import transitions
from tests.operations import recipes

VIEWERS = 1000
RATE = 200
SECONDS = 20
TURNS = 2
WAIT_SECONDS = 60


def run() -> dict[str, Any]:
    """The figures of `bin/bench live`."""
    recipes.register()
    recipes.reset().plan = recipes.empty_plan(1)
    person = Person.objects.create(username="bench")
    Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
    lines = RATE * SECONDS
    ours, limits, memory = [], [], []
    for turn in range(TURNS):
        operation = transitions.request(
            Actor(person), kind="sample", title="Live", scopes=[f"live-{turn}"], plan=recipes.world.plan, gates=[],
            reason="bench", approvals_required=0,
        )  # fmt: skip
        figures, kilobytes = _ours(operation.pk, lines, _cookie(person))
        ours.append(figures)
        memory.append(kilobytes)
        limits.append(_limit(lines, int(figures["bytes_per_line"])))
    return {
        "p50_ms": _mean(ours, "p50_ms"),
        "p99_ms": _mean(ours, "p99_ms"),
        "limit_p50_ms": _mean(limits, "p50_ms"),
        "limit_p99_ms": _mean(limits, "p99_ms"),
        "ratio_p99": round(_mean(ours, "p99_ms") / _mean(limits, "p99_ms"), 2),
        "lost": sum(turn["lost"] for turn in ours),
        "doubled": sum(turn["doubled"] for turn in ours),
        "kb_per_viewer": max(memory),
    }


def _ours(operation_id: int, lines: int, cookie: str) -> tuple[dict[str, float], float]:
    port = free_port()
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"]
    web_process = _process("uvicorn", "tests.benchmarks.live_web:application", "--port", str(port), *options)
    writer_process = _process("tests.benchmarks.live_writer", *map(str, (operation_id, lines, RATE)))
    with web_process as web, writer_process as writer:
        last = int(_line(writer))
        _wait_for(port)
        viewers = (port, f"/live/operations/{operation_id}?after={last}", cookie)
        # One viewer comes and goes first, so that what is loaded once is not counted as the others'.
        with _viewers(*viewers, 1, last + 1, last + lines):
            before = _memory(web.pid)
        with _viewers(*viewers, VIEWERS, last + 1, last + lines) as client:
            _go(writer)
            return _figures(client), round((_memory(web.pid) - before) / VIEWERS, 1)


def _limit(lines: int, bytes_per_line: int) -> dict[str, float]:
    port = free_port()
    with _process("tests.benchmarks.live_limit", *map(str, (port, lines, RATE, bytes_per_line))) as server:
        _wait_for(port)
        with _viewers(port, "/", "none", VIEWERS, 1, lines) as client:
            _go(server)
            return _figures(client)


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _viewers(port: int, path: str, cookie: str, *numbers: int) -> Iterator[subprocess.Popen[str]]:
    arguments = (str(port), path, cookie, *map(str, numbers))
    with _process("tests.benchmarks.live_client", *arguments) as client:
        assert _line(client) == "connected"
        yield client


def _figures(client: subprocess.Popen[str]) -> dict[str, float]:
    figures: dict[str, float] = json.loads(_line(client))
    return figures


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def _cookie(person: Person) -> str:
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(person.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = person.get_session_auth_hash()
    session.create()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nothing listens on port {port}"
            time.sleep(0.05)


def _memory(pid: int) -> float:
    """Resident kilobytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def _mean(turns: list[dict[str, float]], name: str) -> float:
    return round(sum(turn[name] for turn in turns) / len(turns), 1)
