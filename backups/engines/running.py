"""One of PostgreSQL's programs at work: never left behind, and what it complains of is kept."""

import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Self

from backups.programs import Server, program

LINES_KEPT = 20
LONGEST_LINE = 2000


def _gathering(size: int) -> list[str]:
    """Where there is coreutils' stdbuf, it becomes the program after it has set the size of its buffer."""
    stdbuf = shutil.which("stdbuf") if size else None
    return [stdbuf, f"--output={size}"] if stdbuf else []


class Running:
    """A program that was started, in a session of its own. Leaving the block kills and reaps what still runs.

    heard: called by another thread with each line it says on its standard error. output_bytes: how much of its output
    it gathers before it writes it; programs write to a pipe in pieces of 4 KB otherwise, each a call to the system.
    """

    def __init__(
        self, name: str, arguments: list[str], server: Server, *, stdout: int = subprocess.DEVNULL,
        environment: dict[str, str] | None = None, heard: Callable[[str], None] = lambda line: None,
        output_bytes: int = 0,
    ) -> None:  # fmt: skip
        self.name = name
        self._heard = heard
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._process = subprocess.Popen(
            [*_gathering(output_bytes), program(name), *server.arguments(), *arguments],
            env=server.environment() | (environment or {}),
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True, cwd="/",
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def stdout(self) -> IO[bytes]:
        """Its output, when `stdout` was PIPE."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def _listen(self) -> None:
        assert self._process.stderr is not None
        while line := self._process.stderr.readline(LONGEST_LINE):
            text = line.decode(errors="replace").rstrip()
            if text:
                self._lines.append(text)
                self._heard(text)

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status; None when it still runs after so many seconds."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._listener.join()
        return status

    def said(self) -> str:
        """Its last lines."""
        return "\n".join(self._lines)

    def kill(self) -> None:
        """All of its session: pg_restore has processes of its own."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
