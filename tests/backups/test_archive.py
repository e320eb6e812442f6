"""pg_dump's format is read right, however its bytes come, and nothing that is missing goes unseen."""

from pathlib import Path

import psycopg
import pytest
import xxhash

from backups.engines.archive import Archive, Walker, quoted
from backups.engines.fetching import dump_to
from backups.programs import Server
from controlplane.operations.errors import StepError
from tests.backups.databases import MIXED, ROWS, Notes, database

SESSION = "SET extra_float_digits = 3; SET IntervalStyle = postgres; SET TimeZone = UTC; SET bytea_output = hex"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, tuple[int, str, int]]]:
    """A dump, and what COPY itself says of each table: rows, hash, bytes."""
    path = tmp_path_factory.mktemp("dump") / "database.dump"
    with database(MIXED) as server:
        dump_to(path, server, Notes())
        whole = walked(path.read_bytes(), 1 << 20)
        copied = {one.item.label: _copied(server, one.item.label, one.item.columns) for one in whole.tables}
    return path.read_bytes(), copied


def _copied(server: Server, table: str, columns: str) -> tuple[int, str, int]:
    with server.connect() as connection:
        connection.execute(SESSION)
        with connection.cursor().copy(f"COPY {table} {columns} TO STDOUT".encode()) as copy:
            rows = [bytes(row) for row in copy]
    text = b"".join(rows)
    return len(rows), xxhash.xxh3_128_hexdigest(text), len(text)


def walked(data: bytes, size: int) -> Archive:
    walker = Walker()
    for start in range(0, len(data), size):
        walker.feed(data[start : start + size])
    return walker.finish()


@pytest.mark.parametrize("size", [1 << 20, 65536, 4096, 1009, 17])
def test_rows_and_hashes_are_those_of_copy(seen: tuple[bytes, dict[str, tuple[int, str, int]]], size: int) -> None:
    data, copied = seen
    archive = walked(data, size)
    assert {one.item.label: (one.rows, one.hash, one.bytes) for one in archive.tables} == copied
    assert {name: rows for name, (rows, _, _) in copied.items()} == ROWS
    assert archive.large_objects.count == 3
    assert archive.encoding == "UTF8"
    assert all(data[begins] in (1, 3) for begins in archive.positions.values())


def test_every_cut_is_an_error(seen: tuple[bytes, dict[str, tuple[int, str, int]]]) -> None:
    data = seen[0]
    blocks = sorted(walked(data, 1 << 20).positions.values())
    near = [at + more for at in blocks for more in range(7)]
    for cut in {0, 4, 30, 200, 1000, *near, *range(blocks[0], len(data), 40_009), len(data) - 5, len(data) - 1}:
        with pytest.raises(StepError, match=r"cut off|holds no data of"):
            walked(data[:cut], 65536)


def test_what_stands_behind_the_end_is_an_error(seen: tuple[bytes, dict[str, tuple[int, str, int]]]) -> None:
    with pytest.raises(StepError, match=r"damaged|cut off"):
        walked(seen[0] + b"x", 4096)


def test_the_hash_does_not_depend_on_the_chunks_of_a_version(
    seen: tuple[bytes, dict[str, tuple[int, str, int]]],
) -> None:
    """From version 19 on pg_dump fills its chunks up."""
    data, copied = seen
    archive = walked(data, 1 << 20)
    first = min(archive.positions.values())
    version = archive.tool_version.encode()
    repacked = data[:first].replace(version, b"19" + version[2:])
    for begins in sorted(archive.positions.values()):
        repacked += data[begins : begins + 6]
        at = begins + 6
        if data[begins] == 3:
            repacked += data[at:]
            break
        text = b""
        while length := int.from_bytes(data[at + 1 : at + 5], "little"):
            text += data[at + 5 : at + 5 + length]
            at += 5 + length
        for start in range(0, len(text), 1000):
            chunk = text[start : start + 1000]
            repacked += b"\0" + len(chunk).to_bytes(4, "little") + chunk
        repacked += bytes(5)
    for size in (1 << 20, 1013):
        again = walked(repacked, size)
        assert {one.item.label: (one.rows, one.hash, one.bytes) for one in again.tables} == copied


def test_the_positions_let_pg_restore_find_each_table_at_once(tmp_path: Path) -> None:
    with database(MIXED) as server:
        dump_to(tmp_path / "database.dump", server, Notes())
    data = (tmp_path / "database.dump").read_bytes()
    archive = walked(data, 1 << 20)
    for place, begins in archive.positions.items():
        assert data[place : place + 9] == b"\2" + begins.to_bytes(8, "little")


def test_names_are_quoted_as_sql_has_them() -> None:
    assert quoted("public", "users") == "public.users"
    assert quoted("A", 'b"c') == '"A"."b""c"'
    assert psycopg.sql.Identifier("A", 'b"c').as_string() == quoted("A", 'b"c')
