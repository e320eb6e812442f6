"""Bringing a dump back with pg_restore, and asking whether what came back is what was backed up."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from backups.engines.archive import Archive, Walker
from backups.engines.base import Hand
from backups.engines.dumping import BLOCK_BYTES, UNREACHABLE, Dump
from backups.engines.fetching import dump_to, fetch
from backups.engines.pieces import piece
from backups.engines.running import Running
from backups.programs import NoRoom, Server
from controlplane.operations.errors import StepError

__all__ = ["compare", "contents", "dump_to", "fetch", "restore", "run_checks"]

JOBS = 2
POLL_SECONDS = 0.5
CHECK_SECONDS = 60
PROBLEMS_KEPT = 3
# A dump made by newer programs sets what an older server does not know; the rows do not depend on it.
HARMLESS = ("unrecognized configuration parameter",)
# What pg_restore and those that load its tables for it say when one of them is gone, whoever notices first.
DEAD_PROCESS = ("worker process died", "could not create worker process", "communication channel")
ERROR = "pg_restore: error: "
FINISHED = "pg_restore: finished item "


def contents(path: Path) -> Archive:
    """What a dump holds, by its own table of contents. Raises StepError."""
    walker = Walker()
    with path.open("rb", buffering=0) as file:
        while not walker.archive.contents_read:
            block = file.read(BLOCK_BYTES)
            if not block:
                raise StepError(f"{path.name} is no whole dump: its table of contents is cut off.", permanent=True)
            walker.feed(block)
    return walker.archive


def restore(
    path: Path, server: Server, hand: Hand, *, jobs: int = JOBS, schema: str = "", table: str = "", owners: bool = False
) -> None:
    """Load a dump into a database that is there and empty.

    schema, table: only that (see `pieces.piece`). owners: also who owns what and who may do what; the roles must be
    there. Raises StepError with what went wrong first; what was loaded until then stays.
    """
    archive = contents(path)
    chosen = piece(archive, schema=schema, table=table) if schema or table else []
    total = sum(one.number in chosen or not chosen for one in archive.data_of_tables())
    hand.mask(*filter(None, [server.password]))
    hand.log(f"restoring {total} tables into {server}")
    arguments = ["--format=custom", f"--jobs={jobs}", "--verbose"]
    arguments += [] if owners else ["--no-owner", "--no-privileges"]
    with _listed(path, chosen) as listed:
        _run([*arguments, *listed, str(path)], server, hand, total)


@contextmanager
def _listed(path: Path, chosen: Iterable[int]) -> Iterator[list[str]]:
    """The argument that names the entries, in a file beside the dump; nothing for all of them."""
    if not chosen:
        yield []
        return
    listing = path.with_name(f"{path.name}.list")
    listing.write_text("".join(f"{number};\n" for number in chosen))
    try:
        yield [f"--use-list={listing}"]
    finally:
        listing.unlink()


class _Listener:
    """What pg_restore says of itself, heard by another thread."""

    def __init__(self) -> None:
        self.tables = 0
        self.problems: list[str] = []
        self.harmless = 0

    def hear(self, line: str) -> None:
        """One line."""
        if line.startswith(ERROR):
            if any(words in line for words in HARMLESS):
                self.harmless += 1
            elif len(self.problems) < PROBLEMS_KEPT:
                self.problems.append(line.removeprefix(ERROR))
        elif " TABLE DATA " in line and line.startswith(FINISHED):
            self.tables += 1


def _run(arguments: list[str], server: Server, hand: Hand, total: int) -> None:
    listener = _Listener()
    with Running("pg_restore", arguments, server, heard=listener.hear) as program:
        told = -1
        while (status := program.wait(POLL_SECONDS)) is None and not listener.problems:
            hand.check()
            if listener.tables != told:
                told = listener.tables
                hand.progress(told, total, "tables")
        said = program.said()
    if listener.problems:
        raise _in_words(server, listener.problems)
    if status is not None and status < 0:
        raise StepError(f"pg_restore was killed by signal {-status} after {listener.tables} of {total} tables.")
    if status and not listener.harmless:
        raise _in_words(server, [f"pg_restore ended with status {status}: {' '.join(said.split())}"])
    if listener.harmless:
        hand.log(f"{listener.harmless} settings of a newer PostgreSQL were left out", level="warning")
    hand.progress(total, total, "tables")


def _in_words(server: Server, problems: list[str]) -> StepError:
    said = "; ".join(problems)
    if "No space left on device" in said:
        return NoRoom(f"The disk of the server of {server} is full. Make room, then try again. It says: {said}",
                      permanent=True)  # fmt: skip
    if any(words in said for words in UNREACHABLE):
        return StepError(f"The connection to {server} was lost during the restore: {said}")
    # One that dies of what it read says so itself first, and then it is the dump that is to blame.
    if all(any(words in problem for words in DEAD_PROCESS) for problem in problems):
        return StepError(f"A process of pg_restore was killed during the restore into {server}: {said}")
    return StepError(f"The dump cannot be restored into {server}: {said}", permanent=True)


def compare(manifest: Mapping[str, Any], server: Server, hand: Hand, tables: Iterable[str] | None = None) -> list[str]:
    """What is otherwise in a restored database than in its backup, in words; nothing when all is the same.

    The database is read just as it was for the backup, so the hashes are of the same text. tables: only those, by
    their names in the manifest; large objects are then left out.
    """
    facts = manifest["facts"]
    wanted = {one["name"]: one for one in facts["tables"]}
    arguments = ["--data-only", f"--encoding={facts.get('encoding', 'UTF8')}"]
    if tables is not None:
        names = set(tables)
        wanted = {name: one for name, one in wanted.items() if name in names}
        arguments += [f"--table={name}" for name in wanted]
        if not wanted:
            return []
    total = sum(one["bytes"] for one in wanted.values())
    with Dump(server, *arguments) as dump:
        tell_at = 0.0
        for _ in dump.pieces(hand.check):
            if time.monotonic() >= tell_at:
                tell_at = time.monotonic() + 1
                hand.check()
                hand.progress(dump.walker.bytes, max(total, dump.walker.bytes), "bytes")
    archive = dump.archive
    found = {one.item.label: {"rows": one.rows, "hash": one.hash} for one in archive.tables}
    differences = [words for name in sorted(wanted | found) if (words := _difference(name, wanted, found))]
    if tables is None:
        objects, expected = archive.large_objects, facts["large_objects"]
        if objects.count != expected["count"]:
            differences.append(f"there are {objects.count} large objects instead of {expected['count']}")
        elif objects.hash != expected["hash"]:
            differences.append("the large objects have another content")
    return differences


def _difference(name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if name not in found:
        return f"{name} is missing"
    rows = found[name]["rows"]
    if name not in wanted:
        # The tables whose rows a policy leaves out are there, and empty.
        return f"{name} has {rows:,} rows that are not in the backup" if rows else ""
    if rows != wanted[name]["rows"]:
        return f"{name} has {rows:,} rows instead of {wanted[name]['rows']:,}"
    return "" if found[name]["hash"] == wanted[name]["hash"] else f"the rows of {name} have another content"


def run_checks(server: Server, checks: Iterable[Mapping[str, str]]) -> list[str]:
    """Those of a user's SQL checks that do not answer true, in words. They can only read, for at most a minute each.

    server: as whom they are asked decides what they can read.
    """
    answers = [(check.get("name") or check["sql"], _answer(server, check["sql"])) for check in checks]
    return [f"{name}: {words}" for name, words in answers if words]


def _answer(server: Server, query: str) -> str:
    """What is wrong with the answer; "" when it is true. On a connection of its own, as a check may change settings."""
    options = f"-c default_transaction_read_only=on -c statement_timeout={CHECK_SECONDS}s"
    with closing(server.connect(autocommit=True, options=options)) as connection:
        try:
            # Prepared, it can only be one statement: none before it puts the limits away.
            row = connection.execute(query.encode(), prepare=True).fetchone()
        except psycopg.errors.QueryCanceled:
            return f"no answer within {CHECK_SECONDS} s"
        except psycopg.Error as error:
            if connection.broken:
                raise  # a server that is gone says nothing of what is in it
            return " ".join(str(error).split())
    return "" if row is not None and row[0] is True else f"it answered {row[0] if row else 'nothing'}"
