"""The Celery application of a chaos run: the real one, with a listener that dies at chosen boundaries.

`faults/<operation>.json` in the data folder says {"boundary", "nth", "action"}; whoever meets it takes the
file away first, so that it strikes once.
"""

import json
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery.signals import worker_process_init

from controlplane.celery import app
from controlplane.operations import boundaries

FAULTS = Path(os.environ["DATA_DIR"]) / "faults"
met: dict[tuple[int, str], int] = {}


@worker_process_init.connect
def name_connections(**_: Any) -> None:
    """Let the database know which worker process writes: the judge of stale writes reads it."""
    os.environ["PGAPPNAME"] = f"{socket.gethostname()}:{os.getpid()}"


def strike(boundary: str, operation_id: int, step: str) -> None:
    """Die, or freeze, if this is the place."""
    path = FAULTS / f"{operation_id}.json"
    try:
        fault = json.loads(path.read_text())
    except FileNotFoundError:
        return
    if fault["boundary"] != boundary:
        return
    met[operation_id, boundary] = met.get((operation_id, boundary), 0) + 1
    if met[operation_id, boundary] != fault["nth"]:
        return
    with suppress(FileNotFoundError):
        path.rename(path.with_suffix(".taken"))
        struck = {"at": time.time(), "pid": os.getpid(), "action": fault["action"], "step": step}
        path.with_suffix(".draft").write_text(json.dumps(struck))
        path.with_suffix(".draft").rename(path.with_suffix(".struck"))
        number = signal.SIGSTOP if fault["action"] == "freeze" else signal.SIGKILL
        os.kill(os.getppid() if fault["action"] == "kill parent" else os.getpid(), number)
        if fault["action"] == "kill parent":
            os.kill(os.getpid(), signal.SIGKILL)


boundaries.listeners.append(strike)
__all__ = ["app"]
