"""A kind of operation for real workers: each of its steps writes down that it began, and goes on when it is told to.

`tests.operations.held_worker` is the Celery application that knows it. The folder is that of the worker's DATA_DIR.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection

from controlplane.accounts.access import Actor
from controlplane.operations import registry, transitions
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan, StepSpec
from controlplane.operations.registry import Kind, StepContext, StepFunction

KIND, ROOT = "held", Path(__file__).parents[2]
LOOK_SECONDS = 0.02


def folder() -> Path:
    """Where the steps write and look."""
    return Path(settings.DATA_DIR) / "held"


def plan_of(names: list[str], seconds: float = 0.0) -> Plan:
    """A safe point before each step. seconds: how long each takes; 0: until it is told to go on."""
    steps = tuple(
        StepSpec(name, f"do {name}", "held.do", {"name": name, "seconds": seconds}, group=name, safe_point=True)
        for name in names
    )
    return Plan("held", steps)


def ask(actor: Actor, scope: str, plan: Plan) -> Operation:
    """Ask for one, without approvals."""
    return transitions.request(
        actor, kind=KIND, title=f"Held in {scope}", scopes=[scope], plan=plan, gates=[], reason="to see",
        approvals_required=0,
    )  # fmt: skip


def begun() -> list[tuple[int, str]]:
    """Which steps began, each time that they did."""
    path = folder() / "begun"
    lines = path.read_text().split("\n") if path.exists() else []
    return sorted((int(number), name) for number, _, name in (line.partition(" ") for line in lines if line))


def go_on(*names: str) -> None:
    """Let these steps of all operations go on."""
    for name in names:
        (folder() / f"{name}.go").touch()


def _do(context: StepContext, *, name: str, seconds: float) -> None:
    if seconds:
        context.wait(seconds)
        return
    with (folder() / "begun").open("a") as file:
        file.write(f"{context.operation_id} {name}\n")
    while not (folder() / f"{name}.go").exists():
        context.wait(LOOK_SECONDS)


def _plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    """As it was asked for: nothing in the world changes it."""
    return Plan("held", tuple(StepSpec(**_spec(one)) for one in operation.plan["steps"]))


def _spec(kept: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: kept[key] for key in ("key", "title", "function", "arguments", "group")}
    return {**values, "safe_point": True}


HELD = Kind(KIND, "held", facts=lambda operation: {}, plan=_plan, gates=lambda operation, facts: [])
DO = StepFunction(act=_do)


def register() -> None:
    """Make it known; harmless the second time."""
    registry.register_kind(HELD)
    registry.register_step("held.do", DO)


@contextmanager
def workers(count: int, log: Path) -> Iterator[None]:
    """A real worker with so many processes, on the database that is in use here."""
    folder().mkdir(exist_ok=True)
    url = urlsplit(os.environ["DATABASE_URL"])
    database = urlunsplit(url._replace(path=f"/{connection.settings_dict['NAME']}"))
    environment = {
        **os.environ, "DATABASE_URL": database, "DATA_DIR": str(settings.DATA_DIR),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }  # fmt: skip
    command = [
        sys.executable, "-P", "-m", "celery", "-A", "tests.operations.held_worker", "worker", "-P", "prefork",
        "-c", str(count), "--without-gossip", "--without-mingle", "-l", "WARNING",
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
