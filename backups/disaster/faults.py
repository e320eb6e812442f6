"""What a game day may break on purpose, in a drill only: the drill has to come to its end all the same."""

import os
import signal
from collections.abc import Callable

from django.db import connection

from controlplane.operations.registry import Seen, StepContext, StepFunction

FAULTS = {
    "worker-dies": "the worker process is killed in the middle",
    "connection-lost": "PostgreSQL ends the worker's connection",
}


def _kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _lose_connection() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


_injections: dict[str, Callable[[], None]] = {"worker-dies": _kill_worker, "connection-lost": _lose_connection}


def _is_over(context: StepContext, *, fault: str) -> Seen:
    return Seen.DONE if context.checkpoint.get("injected") else Seen.NOT_DONE


def _inject(context: StepContext, *, fault: str) -> None:
    """Once: what is noted before it happens keeps the next worker from doing it again."""
    context.log(f"game day: {FAULTS[fault]}", level="warning")
    context.save_checkpoint(injected=True)
    _injections[fault]()


STEPS = {"recovery.fault": StepFunction(observe=_is_over, act=_inject)}
