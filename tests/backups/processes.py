"""Workers as processes of their own, and programs that are killed as soon as they are there."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, signal, sys, django
django.setup()
from controlplane.operations import boundaries, engine
number, boundary, step = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def reached(at, operation, key):
    if (at, key) == (boundary, step):
        os.kill(os.getpid(), signal.SIGKILL)
boundaries.listeners.append(reached)
engine.run(number, f"process:{os.getpid()}")
"""


def test_url() -> str:
    """Of the database in which this test is."""
    return os.environ["DATABASE_URL"].rsplit("/", 1)[0] + "/" + str(settings.DATABASES["default"]["NAME"])


test_url.__test__ = False  # type: ignore[attr-defined]


@contextmanager
def worker(
    operation: int, data: Path, *, boundary: str = "", step: str = "", before: Sequence[str] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that carries the operation out, and kills itself at the boundary of the step."""
    environment = {**os.environ, "DATA_DIR": str(data), "DJANGO_SETTINGS_MODULE": "controlplane.settings",
                   "DATABASE_URL": test_url()}  # fmt: skip
    command = [*before, sys.executable, "-c", PROGRAM, str(operation), boundary, step]
    with subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def killing(name: str, *, beside: str, below: bool = False) -> Iterator[list[int]]:
    """Kill the first new child with the name, once there is one of the other name too. below: a child of it instead."""
    killed: list[int] = []
    stopped = threading.Event()
    before = _below(os.getpid())  # also the server that the tests themselves stand on, where one process runs them all

    def watch() -> None:
        while not stopped.is_set() and not killed:
            ours = [one for one in _below(os.getpid()) if one not in before]
            found = [pid for pid, its in ours if its == name]
            found = [pid for one in found for pid, its in _below(one) if its == name] if below else found
            if found and any(its == beside for _, its in ours):
                with suppress(ProcessLookupError):
                    os.kill(min(found), signal.SIGKILL)
                    killed.append(min(found))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        stopped.set()
        thread.join()


def _below(parent: int) -> list[tuple[int, str]]:
    """The children of a process: number and name."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            before, _, after = path.read_text().rpartition(")")
            if int(after.split()[1]) == parent:
                children.append((int(path.parent.name), before.partition("(")[2]))
    return children
