"""What was backed up comes back, all of it or one piece, and whether it did is seen from the rows themselves."""

from pathlib import Path
from typing import Any

import pytest

from backups.engines.fetching import dump_to
from backups.engines.restoring import compare, contents, fetch, restore, run_checks
from backups.sealing import Sealer, new_identity
from controlplane.operations.errors import StepError
from tests.backups.databases import MIXED, ROWS, Notes, backed_up, database, job_for, run


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of all kinds of tables."""
    path = tmp_path_factory.mktemp("dump") / "database.dump"
    with database(MIXED) as server:
        dump_to(path, server, Notes())
    return path


@pytest.mark.parametrize("sealed", [False, True])
def test_what_comes_back_is_what_was_backed_up(sealed: bool, tmp_path: Path, monkeypatch: Any) -> None:
    identity, recipient = new_identity()
    monkeypatch.setenv("IDENTITY", identity)
    sealer = Sealer(recipient, "env:IDENTITY") if sealed else Sealer()
    hand = Notes()
    with database(MIXED) as source, database() as target:
        job = job_for(source, tmp_path, monkeypatch, sealer=sealer)
        manifest = backed_up(job)
        path = fetch(manifest, job.store, sealer, tmp_path, hand)
        restore(path, target, hand)
        assert compare(manifest, target, hand) == []
        assert hand.told[-1][2] == "bytes"
        assert (len(ROWS), len(ROWS), "tables") in hand.told
        assert run(target, "SELECT sum(n) FROM (SELECT count(*) n FROM rich UNION ALL SELECT count(*) FROM sums)")
        assert run(target, "SELECT nextval('orders_id_seq')") == [(3001,)]


def test_each_difference_is_said(tmp_path: Path, monkeypatch: Any) -> None:
    with database(MIXED) as source:
        manifest = backed_up(job_for(source, tmp_path, monkeypatch))
        assert compare(manifest, source, Notes()) == []
        run(source, """
            UPDATE users SET name = 'other' WHERE id = 250; DELETE FROM tens WHERE ctid = '(0,5)';
            DROP TABLE base CASCADE; INSERT INTO nothing VALUES (1); CREATE TABLE more AS SELECT 1;
            SELECT lo_unlink(oid) FROM pg_largeobject_metadata
        """)  # fmt: skip
        assert compare(manifest, source, Notes()) == [
            "public.base is missing",
            "public.heir is missing",
            "public.more has 1 rows that are not in the backup",
            "public.nothing has 1 rows instead of 0",
            "public.tens has 299 rows instead of 300",
            "the rows of public.users have another content",
            "there are 0 large objects instead of 3",
        ]
        assert compare(manifest, source, Notes(), tables=["public.orders"]) == []
        assert compare(manifest, source, Notes(), tables=["public.nothing", '"Odd Schema"."Weird.""Table"']) == [
            "public.nothing has 1 rows instead of 0"
        ]


@pytest.mark.parametrize(
    ("piece", "tables"),
    [
        ({"table": "orders"}, {"orders"}),
        ({"table": "users", "schema": "public"}, {"users"}),
        ({"table": "parted"}, {"parted", "parted_one", "parted_two"}),
        ({"table": "parted_one"}, {"parted_one"}),
        ({"schema": "Odd Schema"}, {'Weird."Table'}),
    ],
)
def test_a_piece_comes_back_alone(piece: dict[str, str], tables: set[str], dump: Path) -> None:
    with database() as target:
        restore(dump, target, Notes(), **piece)  # type: ignore[arg-type]
        query = "SELECT tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        assert {name for (name,) in run(target, query)} == tables
        if "orders" in tables:
            assert run(target, "INSERT INTO orders (amount) VALUES (1) RETURNING id") == [(3001,)]
            assert run(target, "SELECT count(*) FROM pg_indexes WHERE tablename = 'orders'") == [(2,)]


def test_a_piece_that_is_not_there_is_said(dump: Path) -> None:
    with database() as target, pytest.raises(StepError, match=r"has no table public\.unknown"):
        restore(dump, target, Notes(), table="unknown")


def test_a_restore_into_a_full_database_is_refused_with_the_first_error(dump: Path) -> None:
    with database("CREATE TABLE users (id text)") as target:
        with pytest.raises(StepError, match='relation "users" already exists') as caught:
            restore(dump, target, Notes())
        assert caught.value.permanent


def test_a_restore_ends_with_the_lease(dump: Path) -> None:
    def lost() -> None:
        raise KeyboardInterrupt

    with database() as target:
        run(target, "CREATE TABLE users (id int)")  # so that something would go wrong later
        with pytest.raises((KeyboardInterrupt, StepError)):
            restore(dump, target, Notes(lost))
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while run(target, query) != [(0,)]:
            pass


def test_a_flipped_bit_a_lost_end_and_a_wrong_key_are_told_apart(tmp_path: Path, monkeypatch: Any) -> None:
    (identity, recipient), (other, _) = new_identity(), new_identity()
    monkeypatch.setenv("IDENTITY", identity)
    monkeypatch.setenv("OTHER", other)
    sealer = Sealer(recipient, "env:IDENTITY")
    with database("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n") as source:
        job = job_for(source, tmp_path, monkeypatch, sealer=sealer)
        manifest = backed_up(job)
    file = tmp_path / job.key / "database.dump.zst.age"
    good = file.read_bytes()

    def refusal(sealer: Sealer) -> str:
        with pytest.raises(StepError) as caught:
            fetch(manifest, job.store, sealer, tmp_path, Notes())
        assert caught.value.permanent
        assert not (tmp_path / "database.dump").exists()
        return str(caught.value)

    assert "belongs to" in refusal(Sealer(recipient, "env:OTHER"))
    for at in (30, len(good) // 2, len(good) - 1):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert "is damaged in the storage" in refusal(sealer)
    file.write_bytes(good[:-1000])
    assert f"it has {len(good) - 1000:,} of {len(good):,} bytes" in refusal(sealer)
    file.write_bytes(good)
    fetch(manifest, job.store, sealer, tmp_path, Notes())


def test_a_dump_that_does_not_fit_the_disk_is_not_fetched(tmp_path: Path, monkeypatch: Any) -> None:
    with database() as source:
        job = job_for(source, tmp_path, monkeypatch)
        manifest = backed_up(job) | {"source_bytes": 10**16}
    with pytest.raises(StepError, match=r"needs 10,000,000,\S+ bytes in .* are free"):
        fetch(manifest, job.store, job.sealer, tmp_path, Notes())


def test_a_full_disk_is_said_in_words(monkeypatch: Any, tmp_path: Path) -> None:
    with database("CREATE TABLE t AS SELECT n FROM generate_series(1, 20000) n") as source:
        job = job_for(source, tmp_path, monkeypatch)
        manifest = backed_up(job)
        full = tmp_path / "full"
        full.mkdir()
        (full / "database.dump").symlink_to("/dev/full")
        with pytest.raises(StepError, match="is full"):
            fetch(manifest, job.store, job.sealer, full, Notes())


@pytest.mark.parametrize(
    ("said", "blames"),
    [
        ("could not write to the communication channel: Broken pipe", False),
        ("a worker process died unexpectedly", False),
        ("could not create worker process: Resource temporarily unavailable", False),
        ("server closed the connection unexpectedly", False),
        (
            "could not uncompress data: incorrect data check\npg_restore: error: a worker process died unexpectedly",
            True,
        ),
        ("could not find block ID 7 in archive", True),
    ],
)
def test_only_what_pg_restore_read_is_held_against_the_dump(
    dump: Path, tmp_path: Path, settings: Any, said: str, blames: bool
) -> None:
    """A process that is gone, whoever notices it first, says nothing of the dump."""
    program = tmp_path / "pg_restore"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\npg_restore: error: {said}\nEND\nexit 1\n")
    program.chmod(0o755)
    with database() as target:
        settings.POSTGRES_PROGRAMS = str(tmp_path)
        with pytest.raises(StepError, match=said.partition(":")[0]) as raised:
            restore(dump, target, Notes())
    assert raised.value.permanent == blames


def test_a_dump_that_is_none_is_said(tmp_path: Path) -> None:
    path = tmp_path / "database.dump"
    path.write_bytes(b"-- PostgreSQL database dump\n" * 10)
    with pytest.raises(StepError, match="no dump in PostgreSQL's custom format"):
        contents(path)
    path.write_bytes(b"PGDMP")
    with pytest.raises(StepError, match="cut off"):
        contents(path)


def test_own_checks_must_answer_true() -> None:
    checks = [
        {"sql": "SELECT count(*) = 3 FROM t", "name": "three"},
        {"sql": "SELECT count(*) > 3 FROM t", "name": "more"},
        {"sql": "SELECT 'yes'", "name": "text"},
        {"sql": "SELECT true WHERE false", "name": "none"},
        {"sql": "DROP TABLE t", "name": "writes"},
        {"sql": "SELEKT", "name": ""},
        {"sql": "SELECT true"},
    ]
    with database("CREATE TABLE t AS SELECT n FROM generate_series(1, 3) n") as server:
        more, text, none, writes, wrong = run_checks(server, checks)
    assert more == "more: it answered False"
    assert text == "text: it answered yes"
    assert none == "none: it answered nothing"
    assert writes == "writes: cannot execute DROP TABLE in a read-only transaction"
    assert wrong.startswith('SELEKT: syntax error at or near "SELEKT"')
