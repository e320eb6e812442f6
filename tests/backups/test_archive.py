"""pg_dump's format is read and passed on right, however its bytes come, and nothing that is missing goes unseen."""

import subprocess
from pathlib import Path

import psycopg
import pytest
import xxhash

from backups.engines.archive import Archive, Walker, quoted
from backups.engines.fetching import dump_to
from backups.programs import Server, program
from controlplane.operations.errors import StepError
from tests.backups.databases import MIXED, ROWS, Notes, database

SESSION = "SET extra_float_digits = 3; SET IntervalStyle = postgres; SET TimeZone = UTC; SET bytea_output = hex"


Copied = dict[str, tuple[int, str, int]]


@pytest.fixture(scope="module")
def seen() -> tuple[bytes, Copied]:
    """A dump, and what COPY itself says of each table: rows, hash, bytes."""
    with database(MIXED) as server:
        command = [program("pg_dump"), "--format=custom", "--compress=0"]
        data = subprocess.run(command, env=server.environment(), stdout=subprocess.PIPE, check=True).stdout
        archive, _ = walked(data, 1 << 20)
        return data, {one.item.label: _copied(server, one.item.label, one.item.columns) for one in archive.tables}


def _copied(server: Server, table: str, columns: str) -> tuple[int, str, int]:
    with server.connect() as connection:
        connection.execute(SESSION)
        with connection.cursor().copy(f"COPY {table} {columns} TO STDOUT".encode()) as copy:
            rows = [bytes(row) for row in copy]
    text = b"".join(rows)
    return len(rows), xxhash.xxh3_128_hexdigest(text), len(text)


def walked(data: bytes, size: int) -> tuple[Archive, bytes]:
    """What is in it, and what is passed on."""
    walker = Walker()
    pieces = [piece for start in range(0, len(data), size) for piece in walker.feed(data[start : start + size])]
    archive = walker.finish()
    assert walker.written == sum(map(len, pieces))
    return archive, b"".join(pieces)


def facts(archive: Archive) -> Copied:
    """As the server counts."""
    return {one.item.label: (one.rows, one.hash, one.bytes) for one in archive.tables}


@pytest.mark.parametrize("size", [1 << 20, 65536, 4096, 1009, 17])
def test_rows_and_hashes_are_those_of_copy(seen: tuple[bytes, Copied], size: int) -> None:
    data, copied = seen
    archive, kept = walked(data, size)
    assert facts(archive) == copied
    assert {name: rows for name, (rows, _, _) in copied.items()} == ROWS
    assert archive.large_objects.count == 3
    assert archive.encoding == "UTF8"
    assert all(kept[begins] in (1, 3) for begins in archive.positions.values())


def kept_of(data: bytes, size: int) -> tuple[Archive, bytes]:
    """What is in it, and what is passed on, marked as of version 19, which fills its chunks with rows itself."""
    # The version stands there twice: the server's, and pg_dump's.
    archive, kept = walked(data, size)
    version = archive.tool_version.encode()
    return archive, kept.replace(version, b"19" + version[2:], 2)


@pytest.mark.parametrize("size", [1 << 20, 65536, 1009, 17])
def test_what_is_kept_is_the_same_archive(seen: tuple[bytes, Copied], size: int) -> None:
    data, copied = seen
    before, kept = kept_of(data, size)
    archive, _ = walked(kept, 4096)
    assert facts(archive) == copied
    assert archive.large_objects.hash == before.large_objects.hash


def test_no_row_has_a_chunk_of_its_own(seen: tuple[bytes, Copied]) -> None:
    data, copied = seen
    _, kept = walked(data, 1 << 20)
    rows = sum(rows for rows, _, _ in copied.values())
    assert len(data) - len(kept) > 5 * rows - 15 * len(copied)


def test_every_cut_is_an_error(seen: tuple[bytes, Copied]) -> None:
    archive, data = kept_of(seen[0], 65536)
    blocks = sorted(archive.positions.values())
    near = [at + more for at in blocks for more in range(7)]
    for cut in {0, 4, 30, 200, 1000, *near, *range(blocks[0], len(data), 40_009), len(data) - 5, len(data) - 1}:
        with pytest.raises(StepError, match=r"cut off|holds no data of"):
            walked(data[:cut], 65536)


def test_what_stands_behind_the_end_is_an_error(seen: tuple[bytes, Copied]) -> None:
    with pytest.raises(StepError, match=r"damaged|cut off"):
        walked(seen[0] + b"x", 4096)


def test_the_positions_let_pg_restore_find_each_table_at_once(tmp_path: Path) -> None:
    with database(MIXED) as server:
        dump_to(tmp_path / "database.dump", server, Notes())
    data = (tmp_path / "database.dump").read_bytes()
    positions = kept_of(data, 1 << 20)[0].positions
    assert len(positions) == len(ROWS) + 1
    for place in positions:
        assert data[place : place + 1] == b"\2"
        assert data[int.from_bytes(data[place + 1 : place + 9], "little")] in (1, 3)


def test_names_are_quoted_as_sql_has_them() -> None:
    assert quoted("public", "users") == "public.users"
    assert quoted("A", 'b"c') == '"A"."b""c"'
    assert psycopg.sql.Identifier("A", 'b"c').as_string() == quoted("A", 'b"c')
