"""The rows of a dump, held against what the server says of the same snapshot.

What came is counted as it flows by, and pg_dump, its pipe and its archive are known to have ended well. This asks the
one who must know, besides: whether each of its tables came; and the server counts, in the very snapshot, the rows of
every small table, and of each large one of which far other numbers came than its statistics expect. To count all of
them would read the whole database a second time.
"""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from backups.engines.archive import Archive, TableData, quoted
from backups.programs import Server
from controlplane.operations.errors import StepError

POLL_SECONDS = 1.0
CANCEL_SECONDS = 5.0
LOCK_SECONDS = 60
# Up to so many rows it costs next to nothing to count. Statistics of larger tables lag behind by this share.
SMALL_ROWS, SHARE_OFF = 10_000, 0.1
# pg_dump takes only a part of an extension's tables, and nothing of what is not logged where that is not there at all.
EXPECTED = """
SELECT n.nspname, c.relname, c.oid, c.relfilenode, c.reltuples::float8
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
# pg_dump has let go of its locks: by now the name may be another table's, or its rows another's (TRUNCATE).
THE_SAME = "SELECT to_regclass(%s)::oid = %s AND pg_relation_filenode(%s) = %s"


class Expected(NamedTuple):
    """A table in the snapshot. rows: by its statistics, below 0 where there are none."""

    oid: int
    file: int
    rows: float


class Recount:
    """connection: in the transaction whose snapshot was dumped, and used by nobody else meanwhile.

    all_rows: of no table were they left out on purpose.
    """

    def __init__(self, server: Server, connection: psycopg.Connection[Any], *, all_rows: bool) -> None:
        self._server, self._connection, self._all_rows = server, connection, all_rows
        self._failure: Exception | None = None
        self._stopped = False

    def agree(self, archive: Archive, check: Callable[[], None]) -> None:
        """Raises StepError when the server has other tables or rows than came. check: called every second."""
        thread = threading.Thread(target=self._compare, args=(archive,), daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                check()
        finally:
            if thread.is_alive():
                self._stop(thread)
        if self._failure is not None:
            raise self._failure

    def _stop(self, thread: threading.Thread) -> None:
        self._stopped = True
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=CANCEL_SECONDS)
        thread.join(CANCEL_SECONDS)
        if thread.is_alive():  # a server that is frozen answers nothing
            with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _compare(self, archive: Archive) -> None:
        table = "the tables"
        try:
            execute = self._connection.execute
            execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
            expected = {(schema, name): Expected(*rest) for schema, name, *rest in execute(EXPECTED)}
            kind = "TABLE DATA" if self._all_rows else "TABLE"
            there = {(one.schema, one.name) for one in archive.items.values() if one.kind == kind}
            if missing := sorted(expected.keys() - there):
                raise StepError(f"The dump holds nothing of {quoted(*missing[0])}, which the server has.")
            for one in archive.tables:
                table = one.item.label
                wanted = expected.get((one.item.schema, one.item.name))
                if wanted is not None and is_doubtful(one.rows, wanted.rows) and not self._stopped:
                    self._count(one, wanted)
            table = "the large objects"
            row = execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
            objects = row[0] if row else 0
            if archive.large_objects.count != objects:
                raise StepError(f"The dump holds {archive.large_objects.count:,} of {objects:,} large objects.")
        except psycopg.Error as error:
            self._failure = self._in_words(table, error)
        except Exception as error:  # noqa: BLE001 -- raised by whoever waits: a count that broke is no agreement
            self._failure = error

    def _count(self, one: TableData, wanted: Expected) -> None:
        execute = self._connection.execute
        query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(one.item.schema, one.item.name))
        try:
            with self._connection.transaction():
                counted = execute(query).fetchone()
                same = execute(THE_SAME, [one.item.label, wanted.oid, wanted.oid, wanted.file]).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.LockNotAvailable):
            return  # dropped, or about to be changed, since pg_dump was done: that says nothing of what it took
        if counted and counted[0] != one.rows and same == (True,):
            raise StepError(f"The dump holds {one.rows:,} of {counted[0]:,} rows of {one.item.label}.")

    def _in_words(self, table: str, error: psycopg.Error) -> StepError:
        said = " ".join(str(error).split())
        if isinstance(error, psycopg.OperationalError):
            return StepError(
                f"The connection to {self._server} was lost while the rows of {table} were counted: {said}"
            )
        return StepError(f"The rows of {table} cannot be counted: {said}")


def is_doubtful(came: int, expected: float) -> bool:
    """Whether the server has to count. expected: by its statistics, below 0 where there are none."""
    return expected < 0 or max(came, expected) <= SMALL_ROWS or abs(came - expected) > SHARE_OFF * expected
