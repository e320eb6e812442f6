"""pg_dump, read through a pipe while it writes: blocks of the archive, which end only if the archive is whole."""

import fcntl
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

from backups.engines.archive import Archive, Walker
from backups.engines.running import Running
from backups.programs import Server, tool_version
from controlplane.operations.errors import StepError

BLOCK_BYTES = 512 * 1024
TICK_SECONDS = 1.0
PIPE_BYTES = 1024 * 1024
LOCK_SECONDS = 60
# A table that holds nothing but dead rows is read for long without a word.
SILENT_SECONDS = 3600.0
# The same values always come as the same text, whatever is set for the database or the role.
SAME_TEXT = {"PGTZ": "UTC", "PGOPTIONS": "-c bytea_output=hex"}
UNREACHABLE = ("server closed the connection", "terminating connection", "could not receive data",
               "connection to server", "no connection to the server", "SSL SYSCALL error",
               "could not send data")  # fmt: skip


class Dump:
    """A pg_dump that runs. Its pieces make its archive; leaving the block ends it, whatever it is at.

    Going through them raises StepError, in words, when pg_dump fails or its archive is not whole, so whoever gets to
    the end has all of a good one.
    """

    def __init__(self, server: Server, *arguments: str) -> None:
        self._server = server
        self.walker = Walker()
        environment = server.environment()
        options = " ".join(filter(None, [environment.get("PGOPTIONS", ""), SAME_TEXT["PGOPTIONS"]]))
        fixed = ["--format=custom", "--compress=0", f"--lock-wait-timeout={LOCK_SECONDS}s"]
        self.program = Running(
            "pg_dump", [*fixed, *arguments], server, stdout=subprocess.PIPE,
            environment={**SAME_TEXT, "PGOPTIONS": options}, output_bytes=BLOCK_BYTES,
        )  # fmt: skip
        with suppress(OSError):  # the system's limit is lower
            fcntl.fcntl(self.program.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._arrival = select.poll()
        self._arrival.register(self.program.stdout, select.POLLIN)

    @property
    def archive(self) -> Archive:
        """What was read so far."""
        return self.walker.archive

    def pieces(self, tick: Callable[[], None]) -> Iterator[bytes]:
        """The archive as it is kept, to be gone through once. tick: called every second in which nothing comes."""
        while block := self._read(tick):
            yield from self.walker.feed(block)
        if status := self.program.wait():
            raise in_words(self._server, status, self.program.said(), self.walker.bytes)
        self.walker.finish()

    def _read(self, tick: Callable[[], None]) -> bytes:
        """The next bytes; none at the end. Without a thread, which would have to be handed each piece."""
        began = time.monotonic()
        while not self._arrival.poll(TICK_SECONDS * 1000):
            if time.monotonic() - began > SILENT_SECONDS:
                raise StepError(
                    f"pg_dump of {self._server} said nothing more for {SILENT_SECONDS / 60:.0f} minutes after "
                    f"{self.walker.bytes:,} bytes. Look at what its server waits for (pg_stat_activity)."
                )
            tick()
        return os.read(self.program.stdout.fileno(), BLOCK_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.program.__exit__(*error)


def in_words(server: Server, status: int, said: str, count: int) -> StepError:
    """Why pg_dump failed, and what to do. count: bytes it had written."""
    last = " ".join(said.replace("pg_dump: ", "").split())
    if status < 0:
        return StepError(f"pg_dump was killed by signal {-status} after {count:,} bytes. {last}".rstrip())
    if "terminated by user" in said:
        return StepError(f"Somebody stopped pg_dump after {count:,} bytes.")
    if "server version mismatch" in said:
        return StepError(f"{last} {newer_server(server)}", permanent=True)
    if "LOCK TABLE" in said and "timeout" in said:
        return StepError(f"Somebody holds a table locked for more than {LOCK_SECONDS} s, a migration perhaps; "
                         f"the backup has to wait until it is done. {last}")  # fmt: skip
    if "permission denied" in said:
        return StepError(f"{server.user} may not read all of {server}: {last} {how_to_allow(server.user)}",
                         permanent=True)  # fmt: skip
    if any(words in said for words in UNREACHABLE):
        return StepError(f"The connection to {server} was lost after {count:,} bytes of the dump: {last}")
    if "does not exist" in said:
        return StepError(f"Something was dropped or renamed in {server} while it was being dumped: {last}")
    return StepError(f"pg_dump ended with status {status} after {count:,} bytes: {last}")


def newer_server(server: Server) -> str:
    """What to do when the server is newer than the programs."""
    return (
        f"{server} is newer than pg_dump {tool_version()} here, which cannot read it for sure. Install the client "
        "programs of the server's version and set POSTGRES_PROGRAMS to their folder."
    )


def how_to_allow(user: str) -> str:
    """What to do when not everything may be read."""
    return f'Let an administrator run: GRANT pg_read_all_data TO "{user}".'
