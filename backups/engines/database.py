"""A logical backup: pg_dump through zstd and age into the storage, with nothing in between on a disk.

1. A transaction exports its snapshot, and pg_dump reads from exactly that.
2. What it writes is read as it flows by: the rows and a hash of each table (`archive.py`).
3. The same transaction says which tables there are, and counts the rows of the small ones, and of those whose
   statistics expect far other numbers. A dump without one of them, or with other numbers, is refused.
4. Only when pg_dump ended well, its archive is whole and the numbers agree does the stream end; anything else makes
   the storage abort the upload. So an object that is there is a whole one.

    database   the secret reference of the connection URL
    exclude    patterns of tables whose rows are left out, as in `audit.*`; the tables themselves are kept
"""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import zstandard

from backups.engines.archive import Archive
from backups.engines.base import Hand, Job, Taken
from backups.engines.counting import Recount
from backups.engines.dumping import Dump, how_to_allow, newer_server
from backups.programs import Server, tool_version
from controlplane.operations.errors import StepError
from environments.secrets import problem_with

NAME = "database.dump.zst"
# Quick enough to keep up with pg_dump on one core, and smaller than what gzip makes of the same.
COMPRESSION = zstandard.ZstdCompressionParameters.from_level(1, window_log=20, hash_log=15, write_checksum=True)
PROGRESS_SECONDS = 1.0

# The size is asked in a way that waits for no lock. Text is not as large as pages are, but near to it.
BEGIN = """
SELECT now(), pg_export_snapshot(), current_database(), current_setting('server_version'),
       greatest(0, pg_database_size(current_database()) - (SELECT coalesce(sum(relpages), 0) FROM pg_class
                 WHERE relkind = 'i') * current_setting('block_size')::bigint)::bigint
"""
# Neither the server's own limits nor a policy of rows may cut a backup short without a word.
SESSION = """
SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off;
SET max_parallel_workers_per_gather = 0
"""
UNREADABLE = """
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
   AND NOT (has_schema_privilege(n.oid, 'USAGE') AND CASE WHEN c.relkind = 'S'
            THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END)
 ORDER BY 1
"""
HIDDEN = """
SELECT c.oid::regclass::text FROM pg_class c
 WHERE c.relrowsecurity AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user)
   AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE'))
 ORDER BY 1
"""


@dataclass(frozen=True)
class Snapshot:
    """The moment a backup is of. estimate: bytes of what is no index on the server's disk."""

    as_of: datetime
    name: str
    database: str
    server_version: str
    estimate: int


class DatabaseEngine:
    """See `base.Engine`."""

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """`database`, and perhaps `exclude`."""
        wrong = {key: "is not a setting of a database dump" for key in settings if key not in ("database", "exclude")}
        reference = settings.get("database")
        if not isinstance(reference, str):
            wrong["database"] = "has to be the secret reference of the connection URL"
        elif problem := problem_with(reference):
            wrong["database"] = problem
        exclude = settings.get("exclude", [])
        if not isinstance(exclude, list) or not all(isinstance(one, str) and one.strip() for one in exclude):
            wrong["exclude"] = "has to be a list of patterns of tables"
        return wrong

    def look(self, job: Job, hand: Hand) -> None:
        """Whether the server can be reached, its version fits, and everything may be read."""
        server = _server(job, hand)
        with closing(server.connect(autocommit=True)) as connection:
            check_version(server, connection)
            _check_privileges(server, connection)

    def take(self, job: Job, hand: Hand) -> Taken:
        """Make the backup."""
        server = _server(job, hand)
        exclude = [f"--exclude-table-data={pattern}" for pattern in job.settings.get("exclude", [])]
        with closing(server.connect(autocommit=True)) as connection:
            check_version(server, connection)
            snapshot = _begin(server, connection)
            hand.log(f"dumping {server} as of {snapshot.as_of:%H:%M:%S} UTC, PostgreSQL {snapshot.server_version}")
            recount = Recount(server, connection, all_rows=not exclude)
            with Dump(server, f"--snapshot={snapshot.name}", *exclude) as dump:
                pieces = _Pieces(dump, recount, snapshot, hand)
                with closing(pieces.stream()) as stream, closed(job.sealer.seal(stream)) as sealed:
                    stored = job.store.put(job.key + NAME + job.sealer.suffix, sealed, check=hand.check)
                facts = facts_of(dump.archive, snapshot)
                return Taken((stored,), snapshot.as_of, dump.walker.written, facts)


@contextmanager
def closed(pieces: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """A generator whose clean-up happens now, not when somebody forgets it."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, Generator):
            pieces.close()


class _Pieces:
    """The compressed dump, as it is made, while the progress is told."""

    def __init__(self, dump: Dump, recount: Recount, snapshot: Snapshot, hand: Hand) -> None:
        self._dump, self._recount, self._snapshot, self._hand = dump, recount, snapshot, hand
        self._packed = 0  # bytes that went into the compressor
        self._told = 0
        self._tell_at = 0.0

    def stream(self) -> Generator[bytes, None, None]:
        """One zstd frame, with a checksum. Ends only when everything agrees. Raises StepError."""
        compressor = zstandard.ZstdCompressor(compression_params=COMPRESSION).compressobj()
        for piece in self._dump.pieces(self._tick):
            self._packed += len(piece)
            if packed := compressor.compress(piece):
                yield packed
            self._tell()
        self._tell_at = 0.0
        self._tell()
        if self._packed != self._dump.walker.written:
            raise StepError(f"Only {self._packed:,} of {self._dump.walker.written:,} bytes came to be compressed.")
        self._recount.agree(self._dump.archive, self._hand.check)
        yield compressor.flush()

    def _tick(self) -> None:
        self._hand.check()
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now < self._tell_at:
            return
        self._tell_at = now + PROGRESS_SECONDS
        done = self._dump.walker.written
        self._hand.progress(done, max(done, self._snapshot.estimate), "bytes")
        tables = self._dump.archive.tables
        while self._told < len(tables) and tables[self._told].done:
            one = tables[self._told]
            self._hand.log(f"{one.item.label}: {one.rows:,} rows, {one.bytes:,} bytes")
            self._told += 1


def check_version(server: Server, connection: psycopg.Connection[Any]) -> None:
    """Raises StepError when the server is newer than our programs."""
    if connection.info.server_version // 10_000 > int(tool_version().split(".")[0]):
        raise StepError(newer_server(server), permanent=True)


def facts_of(archive: Archive, snapshot: Snapshot) -> dict[str, Any]:
    """What the manifest says of a dump."""
    tables = sorted(archive.tables, key=lambda one: one.item.label)
    objects = archive.large_objects
    return {
        "server_version": snapshot.server_version,
        "tool_version": archive.tool_version,
        "database": snapshot.database,
        "encoding": archive.encoding,
        "tables": [
            {"name": one.item.label, "columns": one.item.columns, "rows": one.rows, "hash": one.hash,
             "bytes": one.bytes}
            for one in tables
        ],
        "large_objects": {"count": objects.count, "hash": objects.hash},
        "positions": sorted(map(list, archive.positions.items())),
    }  # fmt: skip


def _server(job: Job, hand: Hand) -> Server:
    server = Server.at(job.settings["database"])
    hand.mask(server.password)
    return server


def _begin(server: Server, connection: psycopg.Connection[Any]) -> Snapshot:
    """The connection is in the transaction from here on."""
    try:
        connection.execute(SESSION)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = connection.execute(BEGIN).fetchone()
    except psycopg.Error as error:
        raise StepError(f"{server} gives no snapshot to back up from: {error}") from error
    assert row is not None
    return Snapshot(*row)


def _check_privileges(server: Server, connection: psycopg.Connection[Any]) -> None:
    try:
        unreadable = [name for (name,) in connection.execute(UNREADABLE.replace("%%", "%"))]
        hidden = [name for (name,) in connection.execute(HIDDEN)]
    except psycopg.Error as error:
        raise StepError(f"{server} does not say what may be read: {error}") from error
    if unreadable:
        raise StepError(f"{server.user} may not read {_some(unreadable)} of {server}. {how_to_allow(server.user)}",
                        permanent=True)  # fmt: skip
    if hidden:
        raise StepError(
            f"Row security hides rows of {_some(hidden)} from {server.user}. "
            f'Let an administrator run: ALTER ROLE "{server.user}" BYPASSRLS.',
            permanent=True,
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
