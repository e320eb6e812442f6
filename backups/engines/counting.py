"""The rows of each table, counted by the server in the very snapshot that is dumped."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import psycopg
from psycopg import sql

from backups.engines.archive import Archive, Item
from backups.engines.dumping import LOCK_SECONDS, Dump
from backups.programs import Server
from controlplane.operations.errors import StepError

POLL_SECONDS = 1.0
CANCEL_SECONDS = 5.0
# pg_dump takes only a part of the rows of a table that belongs to an extension.
OF_EXTENSIONS = """
SELECT n.nspname, c.relname
  FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e'
"""


class Counting:
    """Counts in a thread, beside the dump. The connection is in the transaction, and used by nobody else meanwhile."""

    def __init__(self, server: Server, connection: psycopg.Connection[Any], dump: Dump) -> None:
        self._server, self._connection, self._dump = server, connection, dump
        self._rows: dict[int, int] = {}
        self._objects = 0
        self._failure: StepError | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self) -> None:
        self._dump.contents.wait()  # by then pg_dump holds its locks
        table = "the tables"
        try:
            execute = self._connection.execute
            execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
            skipped = set(execute(OF_EXTENSIONS).fetchall())
            for item in self._dump.archive.data_of_tables():
                if self._stopped:
                    return
                table = item.label
                if (item.schema, item.name) not in skipped:
                    self._rows[item.number] = self._one(item)
            table = "the large objects"
            row = execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
            self._objects = row[0] if row else 0
        except psycopg.Error as error:
            self._failure = self._in_words(table, error)

    def _one(self, item: Item) -> int:
        query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(item.schema, item.name))
        row = self._connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def _in_words(self, table: str, error: psycopg.Error) -> StepError:
        said = " ".join(str(error).split())
        if isinstance(error, psycopg.errors.UndefinedTable):
            return StepError(f"{table} was dropped or renamed while it was being backed up: {said}")
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return StepError(f"{table} is locked by somebody for more than {LOCK_SECONDS} s, a migration perhaps.")
        if isinstance(error, psycopg.OperationalError):
            return StepError(
                f"The connection to {self._server} was lost while the rows of {table} were counted: {said}"
            )
        return StepError(f"The rows of {table} cannot be counted: {said}")

    def agree(self, archive: Archive, check: Callable[[], None]) -> None:
        """Wait for the count, and compare. check: called every second. Raises StepError when they differ."""
        while self._thread.is_alive():
            self._thread.join(POLL_SECONDS)
            check()
        if self._failure is not None:
            raise self._failure
        seen = {one.item.number: one.rows for one in archive.tables}
        for number, rows in self._rows.items():
            if seen.get(number) != rows:
                label = archive.items[number].label
                raise StepError(f"The dump holds {seen.get(number, 0):,} of {rows:,} rows of {label}.")
        if archive.large_objects.count != self._objects:
            raise StepError(f"The dump holds {archive.large_objects.count:,} of {self._objects:,} large objects.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped = True
        self._dump.program.kill()
        self._dump.contents.set()
        if self._thread.is_alive():
            with suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=CANCEL_SECONDS)
        self._thread.join()
