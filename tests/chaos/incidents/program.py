"""A clock or the web process of a chaos run: the real one, which dies or freezes at a statement of its own.

`armed/<anything>.json` in the data folder says {"stage", "action"}. A process that comes to a boundary of the stage
takes the file away and strikes there, unless somebody was struck at this boundary before: so every boundary has its
turn before any comes again. A boundary is the moment before a statement, before a commit, and after a commit; the
stage is the clock's duty, `intake` (storing a body), or `web`.
"""

import contextvars
import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import django
import psycopg
import uvicorn
from django.core.management import call_command

FOLDER = Path(os.environ["DATA_DIR"])
ARMED, STRUCK, SEEN = FOLDER / "armed", FOLDER / "struck", FOLDER / "seen"
_seen: set[str] = set()
VALUES = re.compile(r"'(?:[^']|'')*'|\b\d+\b|(?:%s(?:::\w+)?,?\s*)+|\"s\d+_x\d+\"")
WRITES = ("INSERT", "UPDATE", "DELETE")
# How a sender looks whether its channel is there, four times a second.
IDLE = 'FROM "incidents_channel"'
PATIENCE_SECONDS = 4.0  # with boundaries that had their turn

# The last statement: a commit after another one is another boundary.
_last: contextvars.ContextVar[str] = contextvars.ContextVar("last", default="")
_found: contextvars.ContextVar[bool] = contextvars.ContextVar("found", default=False)


def stage() -> str:
    """What this thread does."""
    name = threading.current_thread().name
    if name.startswith(("clock ", "send ", "intake")):
        return name.removeprefix("clock ").partition("_")[0]
    return "web" if sys.argv[1] == "web" else "main"


def at(what: str) -> None:
    """Stand at a boundary: strike if somebody asked for it, and it is this one's turn."""
    here = stage().replace(" ", "-")
    boundary = f"{here}.{hashlib.sha256(what.encode()).hexdigest()[:24]}"
    if boundary not in _seen:
        _seen.add(boundary)
        (SEEN / boundary).touch()
    armed = ARMED / f"{here}.json"
    try:
        begun = armed.stat().st_mtime
    except FileNotFoundError:
        return
    mark = STRUCK / boundary
    if mark.exists() and time.time() - begun < PATIENCE_SECONDS:
        return
    taken = armed.with_name(f"{os.getpid()}-{threading.get_ident()}.taken")
    with suppress(FileNotFoundError):
        armed.rename(taken)
        wish = json.loads(taken.read_text())
        mark.write_text(f"{stage()}: {what}")
        struck = {"at": time.time(), "pid": os.getpid(), "boundary": f"{stage()}: {what[:160]}", **wish}
        draft = FOLDER / "reports" / f"{boundary}.draft"
        draft.write_text(json.dumps(struck))
        draft.rename(FOLDER / "reports" / f"{time.time_ns()}.json")
        os.kill(os.getpid(), signal.SIGSTOP if wish["action"] == "freeze" else signal.SIGKILL)


def install() -> None:
    """From now on, every statement and commit of this process is a boundary, whoever sends it.

    Not those of a look that finds nothing to do: there is nothing to lose. A look has found something when a
    statement had rows; after the commit it is over.
    """
    execute, commit = psycopg.Cursor.execute, psycopg.Connection.commit

    def executed(self: psycopg.Cursor[Any], query: Any, *values: Any, **options: Any) -> Any:
        text = VALUES.sub("?", str(query)).strip()[:2000]
        writes = text.startswith(WRITES)
        if IDLE in text:
            _found.set(False)
        # A sender is outside of any transaction, and each of its statements is next to a request.
        sends = stage().startswith("send")
        if _found.get() and (not self.connection.autocommit or writes or sends):
            at(text)
        _last.set(text)
        result = execute(self, query, *values, **options)
        if self.rowcount > 0 and IDLE not in text and text.removeprefix("SELECT ") != "clock_timestamp()":
            _found.set(True)
            if self.connection.autocommit and writes:
                at(f"after the commit of {text}")
        return result

    def committed(self: psycopg.Connection[Any]) -> None:
        if _found.get():
            at(f"before the commit of {_last.get()}")
        commit(self)
        if _found.get():
            at(f"after the commit of {_last.get()}")
        _found.set(False)

    psycopg.Cursor.execute = executed  # type: ignore[method-assign]
    psycopg.Connection.commit = committed  # type: ignore[method-assign]


def main() -> None:
    django.setup()
    install()
    if sys.argv[1] == "clock":
        call_command("clock")
    else:
        uvicorn.run("controlplane.asgi:application", host="127.0.0.1", port=int(sys.argv[2]), log_level="warning",
                    timeout_graceful_shutdown=2, access_log=False)  # fmt: skip


if __name__ == "__main__":
    main()
