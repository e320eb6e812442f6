"""A dump in the storage is a whole one: whatever happens, nothing half is kept, and words say what it was."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyrage
import pytest
import zstandard

from backups.engines import counting, dumping
from backups.engines import database as engine
from backups.engines.archive import Archive, Item, TableData
from backups.engines.counting import Recount, is_doubtful
from backups.engines.database import DatabaseEngine
from backups.engines.restoring import compare
from backups.manifest import encoded
from backups.programs import Server, program
from backups.sealing import Sealer, new_identity
from backups.storage.base import Stored, no_check
from controlplane.operations.errors import StepError
from tests.backups.databases import MIXED, ROWS, Notes, backed_up, database, job_for, run, url_of

LARGE = "CREATE TABLE large AS SELECT n, md5(n::text) AS a, random() AS b FROM generate_series(1, 400000) n"
SMALL = "CREATE TABLE small AS SELECT n FROM generate_series(1, 12) n"
OTHERS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name IN ('controlplane', 'pg_dump')
"""


class Slow:
    """A store that takes nothing before it may, so that a dump stands still in its middle."""

    def __init__(self, until: Callable[[], object]) -> None:
        self.until = until
        self.ended = False

    def put(self, key: str, chunks: Iterable[bytes], *, check: Callable[[], None] = no_check) -> Stored:
        size = 0
        for number, chunk in enumerate(chunks):
            if number == 0:
                self.until()
            check()
            size += len(chunk)
        self.ended = True
        return Stored(key, size, "")

    def problem(self) -> str:
        return ""


def refused(job: Any, hand: Notes | None = None) -> StepError:
    with pytest.raises(StepError) as caught:
        DatabaseEngine().take(job, hand or Notes())
    return caught.value


def nobody_left(server: Server) -> bool:
    """No process of a dump, no snapshot is held any more."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if run(server, OTHERS) == [(0,)]:
            return True
    return False


def dumps_of(server: Server) -> list[int]:
    """The processes of pg_dump that dump the database."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name, environment = (path / "comm").read_text(), (path / "environ").read_bytes()
        except OSError:
            continue
        if name.strip() == "pg_dump" and f"PGDATABASE={server.database}\0".encode() in environment:
            found.append(int(path.name))
    return found


def test_the_manifest_says_what_the_dump_holds(tmp_path: Path, monkeypatch: Any) -> None:
    hand = Notes()
    with database(MIXED) as server:
        manifest = backed_up(job_for(server, tmp_path, monkeypatch), hand)
        assert nobody_left(server)
    facts = manifest["facts"]
    assert {one["name"]: one["rows"] for one in facts["tables"]} == ROWS
    assert facts["large_objects"]["count"] == 3
    assert facts["database"] == server.database
    assert manifest["objects"][0]["name"] == "database.dump.zst"
    assert server.password in hand.masked
    assert "public.orders: 3,000 rows" in "\n".join(hand.lines)
    done, total, unit = hand.told[-1]
    assert (done, unit) == (manifest["source_bytes"], "bytes")
    assert total >= done
    assert server.password.encode() not in encoded(manifest)


@pytest.mark.parametrize("sealed", [False, True])
def test_stock_tools_restore_it(sealed: bool, tmp_path: Path, monkeypatch: Any) -> None:
    identity, recipient = new_identity()
    with database(MIXED) as source, database() as target:
        job = job_for(source, tmp_path, monkeypatch, sealer=Sealer(recipient) if sealed else None)
        manifest = backed_up(job)
        packed = (tmp_path / job.key / manifest["objects"][0]["name"]).read_bytes()
        if sealed:
            packed = pyrage.decrypt(packed, [pyrage.x25519.Identity.from_str(identity)])
        dump = tmp_path / "x.dump"
        if zstd := shutil.which("zstd"):
            dump.write_bytes(subprocess.run([zstd, "-d"], input=packed, capture_output=True, check=True).stdout)
        else:
            dump.write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(packed))
        command = [program("pg_restore"), "--exit-on-error", "-d", target.database, str(dump)]
        subprocess.run(command, env=target.environment(), check=True)
        for name, rows in ROWS.items():
            assert run(target, f"SELECT count(*) FROM ONLY {name}") == [(rows,)]


def test_it_is_of_one_moment(tmp_path: Path, monkeypatch: Any) -> None:
    """Rows that come while it runs are not in it, neither in the dump nor in the count."""
    with database(LARGE) as server:
        store = Slow(lambda: run(server, "INSERT INTO large SELECT * FROM large LIMIT 1000"))
        manifest = backed_up(job_for(server, store, monkeypatch))  # type: ignore[arg-type]
        assert manifest["facts"]["tables"][0]["rows"] == 400000


def test_rows_that_are_left_out_are_named_by_the_policy(tmp_path: Path, monkeypatch: Any) -> None:
    with database(MIXED) as server:
        manifest = backed_up(job_for(server, tmp_path, monkeypatch, exclude=["order*", "public.parted*"]))
    names = {one["name"] for one in manifest["facts"]["tables"]}
    assert names == set(ROWS) - {"public.orders", "public.parted_one", "public.parted_two"}


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "pg_dump was killed by signal 9 after"), (signal.SIGTERM, "Somebody stopped pg_dump after")],
)
def test_a_killed_pg_dump(number: signal.Signals, words: str, monkeypatch: Any) -> None:
    with database(LARGE) as server:
        store = Slow(lambda: [os.kill(pid, number) for pid in dumps_of(server)])  # type: ignore[func-returns-value]
        error = refused(job_for(server, store, monkeypatch))  # type: ignore[arg-type]
        assert words in str(error)
        assert not error.permanent
        assert not store.ended
        assert nobody_left(server)


def test_a_cut_connection(monkeypatch: Any) -> None:
    cut = f"SELECT pg_terminate_backend(pid) {OTHERS.partition('count(*)')[2]}"
    with database(LARGE) as server:
        store = Slow(lambda: run(server, cut))
        error = refused(job_for(server, store, monkeypatch))  # type: ignore[arg-type]
        assert "was lost" in str(error) and server.password not in str(error)
        assert not error.permanent
        assert not store.ended
        assert nobody_left(server)


def test_a_pg_dump_that_stands_still_is_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(dumping, "SILENT_SECONDS", 0.5)
    with database(LARGE) as server:
        store = Slow(lambda: [os.kill(pid, signal.SIGSTOP) for pid in dumps_of(server)])  # type: ignore[func-returns-value]
        error = refused(job_for(server, store, monkeypatch))  # type: ignore[arg-type]
        assert "said nothing more for" in str(error) and not error.permanent
        assert not store.ended
        assert nobody_left(server)


def poor_pg_dump(folder: Path, lines: str) -> str:
    """The folder of a pg_dump that leaves out something without a word. lines: of a shell script."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "pg_restore").symlink_to(program("pg_restore"))
    (programs / "pg_dump").write_text(f'#!/bin/sh\n{lines}\nexec {program("pg_dump")} "$@"\n')
    (programs / "pg_dump").chmod(0o755)
    return str(programs)


@pytest.mark.parametrize("statistics", [False, True])
def test_a_dump_that_lost_rows_is_refused(statistics: bool, tmp_path: Path, monkeypatch: Any) -> None:
    poor = poor_pg_dump(
        tmp_path,
        f'[ "$1" = --version ] || {program("psql")} -qc "DELETE FROM small WHERE n > 3"\n'
        'for last; do shift; case "$last" in --snapshot=*) ;; *) set -- "$@" "$last";; esac; done',
    )
    (tmp_path / "store").mkdir()
    with database(SMALL.replace("12", "5000")) as server:
        if statistics:
            run(server, "ANALYZE small")
        job = job_for(server, tmp_path / "store", monkeypatch)
        monkeypatch.setattr("django.conf.settings.POSTGRES_PROGRAMS", poor)
        assert str(refused(job)) == "The dump holds 3 of 5,000 rows of public.small."
        assert not list((tmp_path / "store").rglob("*.*"))
        assert nobody_left(server)


@pytest.mark.parametrize("settings", [{}, {"exclude": ["other"]}])
def test_a_dump_that_lost_a_table_is_refused(settings: Any, tmp_path: Path, monkeypatch: Any) -> None:
    poor = poor_pg_dump(tmp_path, '[ "$1" = --version ] || set -- "$@" --exclude-table=small')
    (tmp_path / "store").mkdir()
    with database(f"{SMALL}; CREATE TABLE other (n int)") as server:
        job = job_for(server, tmp_path / "store", monkeypatch, **settings)
        monkeypatch.setattr("django.conf.settings.POSTGRES_PROGRAMS", poor)
        assert str(refused(job)) == "The dump holds nothing of public.small, which the server has."
        assert not list((tmp_path / "store").rglob("*.*"))


@pytest.mark.parametrize(
    ("came", "expected", "doubtful"),
    [(0, -1, True), (12, 12, True), (10_001, 10_001, False), (0, 10_001, True), (900_000, 1_000_000, False),
     (899_999, 1_000_000, True), (1_100_001, 1_000_000, True)],
)  # fmt: skip
def test_the_server_counts_what_is_small_or_far_from_its_statistics(came: int, expected: float, doubtful: bool) -> None:
    assert is_doubtful(came, expected) == doubtful


@pytest.mark.parametrize(
    "change",
    ["TRUNCATE large", "ALTER TABLE large ALTER n TYPE bigint", "DROP TABLE large",
     "ALTER TABLE large RENAME TO former; CREATE TABLE large AS SELECT 1 AS n"],
)  # fmt: skip
def test_what_waited_behind_pg_dump_is_no_fault_of_the_dump(change: str, monkeypatch: Any) -> None:
    """A large table without statistics is counted once pg_dump has let go of it, and then it is another one."""
    with database(LARGE) as server:
        changing = threading.Thread(target=run, args=(server, change))
        agree = Recount.agree

        def agree_later(*arguments: Any) -> None:
            changing.join()
            agree(*arguments)

        monkeypatch.setattr(Recount, "agree", agree_later)
        manifest = backed_up(job_for(server, Slow(changing.start), monkeypatch))  # type: ignore[arg-type]
        assert manifest["facts"]["tables"][0]["rows"] == 400000


def test_a_server_that_is_frozen_while_it_counts(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(counting, "CANCEL_SECONDS", 0.5)
    with database(SMALL) as server, closing(server.connect(autocommit=True)) as connection:
        connection.execute("BEGIN")
        pid = connection.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(StepError, match="wanted"):
                Recount(server, connection, all_rows=True).agree(Archive(), unwanted)
        finally:
            os.kill(pid, signal.SIGCONT)


def unwanted() -> None:
    raise StepError("It is not wanted any more.")


def test_a_count_that_breaks_is_no_agreement(monkeypatch: Any) -> None:
    with database(SMALL) as server, closing(server.connect(autocommit=True)) as connection:
        connection.execute("BEGIN")
        monkeypatch.setattr(counting, "is_doubtful", lambda came, expected: 1 / 0)
        archive = Archive()
        archive.items[1] = item = Item(1, True, "TABLE DATA", "public", "small", "", "", (), 0)
        archive.tables.append(TableData(item, rows=12))
        with pytest.raises(ZeroDivisionError):
            Recount(server, connection, all_rows=True).agree(archive, lambda: None)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_database_that_is_not_in_utf8(encoding: str, tmp_path: Path, monkeypatch: Any) -> None:
    with database("", encoding=encoding) as server:
        run(server, 'CREATE TABLE "größe" (text text)' if encoding == "LATIN1" else 'CREATE TABLE "grosse" (text text)')
        table, text = ('"größe"', "schön") if encoding == "LATIN1" else ("grosse", "plain")
        run(server, f"INSERT INTO {table} VALUES ('{text}')")
        (manifest,) = [backed_up(job_for(server, tmp_path, monkeypatch))]
        assert [(one["name"], one["rows"]) for one in manifest["facts"]["tables"]] == [(f"public.{table}", 1)]
        assert manifest["facts"]["encoding"] == encoding
        assert compare(manifest, server, Notes()) == []


def test_a_table_that_is_dropped_while_it_begins(tmp_path: Path, monkeypatch: Any) -> None:
    """The drop comes between the snapshot and pg_dump's locks."""
    with database(SMALL) as server:
        begin = engine._begin

        def begin_and_drop(*arguments: Any) -> Any:
            snapshot = begin(*arguments)
            run(server, "DROP TABLE small")
            return snapshot

        monkeypatch.setattr(engine, "_begin", begin_and_drop)
        error = refused(job_for(server, tmp_path, monkeypatch))
        assert "dropped or renamed" in str(error), error
        assert not error.permanent
        assert nobody_left(server)


def test_a_table_that_is_dropped_during_the_dump_is_in_it(tmp_path: Path, monkeypatch: Any) -> None:
    with database(LARGE) as server:
        dropping = threading.Thread(target=lambda: run(server, "DROP TABLE large"))
        manifest = backed_up(job_for(server, Slow(dropping.start), monkeypatch))  # type: ignore[arg-type]
        dropping.join()
        assert manifest["facts"]["tables"][0]["rows"] == 400000
        assert run(server, "SELECT to_regclass('large')") == [(None,)]


def test_a_renamed_database_and_a_wrong_password(tmp_path: Path, monkeypatch: Any) -> None:
    with database(SMALL) as server:
        job = job_for(server, tmp_path, monkeypatch)
        name = job.settings["database"].removeprefix("env:")
        monkeypatch.setenv(name, url_of(server.named(f"{server.database}_old")))
        error = refused(job)
        assert "does not exist" in str(error) and error.permanent
        monkeypatch.setenv(name, url_of(server).replace(server.password, "wrong-password"))
        error = refused(job)
        assert "authentication failed" in str(error) and error.permanent
        assert "wrong-password" not in str(error)
        monkeypatch.setenv(name, "postgres://somebody@127.0.0.1:1/nowhere")
        error = refused(job)
        assert "cannot be reached" in str(error) and not error.permanent


def test_a_newer_server_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "pg_dump").write_text('#!/bin/sh\necho "pg_dump (PostgreSQL) 17.2"\n')
    (tmp_path / "pg_dump").chmod(0o755)
    monkeypatch.setattr("django.conf.settings.POSTGRES_PROGRAMS", str(tmp_path))
    with database(SMALL) as server:
        with pytest.raises(StepError, match=r"is newer than pg_dump 17\.2 here.*POSTGRES_PROGRAMS") as caught:
            DatabaseEngine().look(job_for(server, tmp_path, monkeypatch), Notes())
        assert caught.value.permanent


def test_what_may_not_be_read_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    with database(f"{SMALL}; CREATE TABLE secret (id int)") as server:
        role = server.database
        run(server, f"CREATE ROLE {role} LOGIN PASSWORD 'a-password'; GRANT SELECT ON small TO {role}")
        reader = Server(server.host, server.port, role, "a-password", server.database, {})
        job = job_for(reader, tmp_path, monkeypatch)
        try:
            with pytest.raises(StepError, match=r"may not read public\.secret .*GRANT pg_read_all_data TO") as caught:
                DatabaseEngine().look(job, Notes())
            assert caught.value.permanent
            assert "permission denied" in str(refused(job))
            run(server, f"GRANT pg_read_all_data TO {role}; ALTER TABLE small ENABLE ROW LEVEL SECURITY")
            with pytest.raises(StepError, match=r"Row security hides rows of small .*BYPASSRLS"):
                DatabaseEngine().look(job, Notes())
            run(server, f"ALTER ROLE {role} BYPASSRLS")
            DatabaseEngine().look(job, Notes())
            assert backed_up(job)["facts"]["tables"][1]["rows"] == 12
        finally:
            run(server, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_store_that_fails_ends_the_dump(tmp_path: Path, monkeypatch: Any) -> None:
    def fail() -> None:
        raise StepError("The bucket is gone.")

    with database(LARGE) as server:
        assert str(refused(job_for(server, Slow(fail), monkeypatch))) == "The bucket is gone."  # type: ignore[arg-type]
        assert nobody_left(server)
        assert not dumps_of(server)


def test_a_lost_lease_ends_the_dump(tmp_path: Path, monkeypatch: Any) -> None:
    def lost() -> None:
        raise KeyboardInterrupt

    with database(LARGE) as server:
        with pytest.raises(KeyboardInterrupt):
            DatabaseEngine().take(job_for(server, Slow(lambda: None), monkeypatch), Notes(lost))  # type: ignore[arg-type]
        assert nobody_left(server)
        assert not dumps_of(server)


def test_a_table_that_is_locked_is_waited_for_but_not_for_ever(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("backups.engines.dumping.LOCK_SECONDS", 0.2)
    with database(SMALL) as server, closing(server.connect()) as other:
        other.execute("LOCK TABLE small IN ACCESS EXCLUSIVE MODE")
        error = refused(job_for(server, tmp_path, monkeypatch))
        assert "locked" in str(error) and "migration" in str(error)
        assert not error.permanent


def test_settings_are_checked() -> None:
    check = DatabaseEngine().check_settings
    assert check({"database": "file:production/database-url", "exclude": ["audit.*"]}) == {}
    assert set(check({"database": "postgres://u:p@h/d", "exclude": "x", "more": 1})) == {"database", "exclude", "more"}
    assert set(check({})) == {"database"}
