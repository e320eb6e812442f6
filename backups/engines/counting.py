"""The rows of a dump, held against what the server says of the same snapshot.

What came is counted as it flows by, and pg_dump, its pipe and its archive are known to have ended well. This asks the
one who must know, besides: whether each of its tables came, and of a table of which far more or fewer rows came than
its statistics expect, or that has none, the server counts the rows in the very snapshot. To count all of them would
read the whole database a second time.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from backups.engines.archive import Archive, TableData, quoted
from backups.programs import Server
from controlplane.operations.errors import StepError

POLL_SECONDS = 1.0
CANCEL_SECONDS = 5.0
LOCK_SECONDS = 60
# Statistics lag behind: by so many rows, or this share of them.
ROWS_OFF, SHARE_OFF = 1000, 0.1
# Of an extension's tables pg_dump takes only a part.
EXPECTED = """
SELECT n.nspname, c.relname, c.reltuples::float8
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""


class Recount:
    """connection: in the transaction whose snapshot was dumped, and used by nobody else meanwhile.

    all_tables: none was left out on purpose.
    """

    def __init__(self, server: Server, connection: psycopg.Connection[Any], *, all_tables: bool) -> None:
        self._server, self._connection, self._all_tables = server, connection, all_tables
        self._failure: Exception | None = None

    def agree(self, archive: Archive, check: Callable[[], None]) -> None:
        """Raises StepError when the server counts other rows than came. check: called every second."""
        thread = threading.Thread(target=self._compare, args=(archive,), daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                check()
        finally:
            if thread.is_alive():
                with suppress(psycopg.Error):
                    self._connection.cancel_safe(timeout=CANCEL_SECONDS)
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _compare(self, archive: Archive) -> None:
        table = "the tables"
        try:
            execute = self._connection.execute
            execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
            expected = {(schema, name): rows for schema, name, rows in execute(EXPECTED)}
            came = {(one.item.schema, one.item.name): one for one in archive.tables}
            if self._all_tables and (missing := sorted(expected.keys() - came.keys())):
                raise StepError(f"The dump holds nothing of {quoted(*missing[0])}, which the server has.")
            for name in came.keys() & expected.keys():
                table = came[name].item.label
                if is_doubtful(came[name].rows, expected[name]):
                    self._count(came[name])
            table = "the large objects"
            row = execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
            objects = row[0] if row else 0
            if archive.large_objects.count != objects:
                raise StepError(f"The dump holds {archive.large_objects.count:,} of {objects:,} large objects.")
        except StepError as error:
            self._failure = error
        except psycopg.Error as error:
            self._failure = self._in_words(table, error)

    def _count(self, one: TableData) -> None:
        query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(one.item.schema, one.item.name))
        try:
            with self._connection.transaction():
                row = self._connection.execute(query).fetchone()
        except psycopg.errors.UndefinedTable:
            return  # dropped as soon as pg_dump, which kept it there, was done
        assert row is not None
        if row[0] != one.rows:
            raise StepError(f"The dump holds {one.rows:,} of {row[0]:,} rows of {one.item.label}.")

    def _in_words(self, table: str, error: psycopg.Error) -> StepError:
        said = " ".join(str(error).split())
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return StepError(f"{table} is locked by somebody for more than {LOCK_SECONDS} s, a migration perhaps.")
        if isinstance(error, psycopg.OperationalError):
            return StepError(
                f"The connection to {self._server} was lost while the rows of {table} were counted: {said}"
            )
        return StepError(f"The rows of {table} cannot be counted: {said}")


def is_doubtful(came: int, expected: float) -> bool:
    """Whether the server has to count. expected: by its statistics, below 0 where there are none."""
    return expected < 0 or abs(came - expected) > max(ROWS_OFF, SHARE_OFF * expected)
