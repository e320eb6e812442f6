"""Bad luck, on whole operations: the real pipe from a real PostgreSQL into a real S3, and back in a restore test.

The state is right, the words say what happened, nothing is called a backup that does not restore, nothing is left.

    pg_dump killed, connection cut      here; test_database.py; pg_restore: here
    disk full on a restore              here, on a file system that is full; test_restoring.py
    S3 5xx, slow-down, time-out         here; each call of the protocol: test_storage_s3_faults.py
    upload part lost                    here; each part: test_storage_s3_faults.py
    object truncated                    here; test_making.py, test_sealing.py, test_pitr.py
    a flipped bit                       test_proving.py, test_restoring.py, test_sealing.py, test_pitr.py
    wrong credentials, bucket missing   here; test_storage_s3.py; of the database: test_database.py
    database renamed                    here; test_database.py
    table dropped during the dump       test_database.py: before pg_dump has its locks, and after
    newer server than client            here; test_database.py
    worker killed at every boundary     test_bad_luck_workers.py; test_making.py
    clock jumped, two workers at once   test_bad_luck_workers.py
    all of it at random                 tests/chaos/backups: `bin/chaos backups`
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backups.models import Backup, Kind, Policy, Storage
from backups.programs import Server
from backups.proofs import read_all
from backups.scratch import place, scratches
from backups.services import request_backup, request_proof
from backups.sources import Unrestorable
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.plans import Retry
from controlplane.operations.states import State
from tests.backups.company import Make, only_backup
from tests.backups.databases import Notes, database, run, url_of
from tests.backups.processes import killing, worker
from tests.backups.wire import BROKEN, DROPPED, LOST_BEFORE, SILENT, SLOW_DOWN, Fault, OwnBucket

pytest_plugins = ["tests.backups.stores"]
pytestmark = pytest.mark.django_db(transaction=True)

# Random bytes, so that what is put is larger than a part, and a dump is still being made while the first is put.
LARGE = """
CREATE TABLE large AS SELECT n, (SELECT string_agg(decode(md5(random()::text), 'hex'), ''::bytea)
                                   FROM generate_series(1, 640) WHERE n > 0) AS raw FROM generate_series(1, 1000) n;
CREATE TABLE small AS SELECT n FROM generate_series(1, 12) n
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A database of 10 MB."""
    with database(LARGE) as made:
        yield made


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once."""
    monkeypatch.setattr(Retry, "delay", lambda self, attempt: 0.01)


@pytest.fixture
def policy(make_policy: Make, server: Server, bucket: OwnBucket, data_dir: Path) -> Policy:
    """Of the database, to the bucket."""
    secret = data_dir / "secrets" / "production" / "database-url"
    secret.parent.mkdir(parents=True)
    secret.write_text(url_of(server))
    settings = {**bucket.settings, "bucket": bucket.name, "answer_seconds": 1}
    storage = Storage.objects.create(slug="bucket", kind="s3", settings=settings)
    wanted = {"database": "file:production/database-url"}
    return make_policy("database", kind=Kind.DATABASE, settings=wanted, storage=storage)


def carried_out(operation: Operation) -> Operation:
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def back_up(person: Person, policy: Policy) -> Operation:
    return carried_out(request_backup(Actor(person), policy, reason="because"))


def prove(person: Person, backup: Backup) -> Operation:
    operation = carried_out(request_proof(Actor(person), backup, reason="to know"))
    backup.refresh_from_db()
    return operation


def said(operation: Operation) -> str:
    return "\n".join(operation.events.values_list("text", flat=True))


def nothing_came_of(operation: Operation, bucket: OwnBucket) -> bool:
    return (
        operation.state == State.FAILED and not Backup.objects.exists() and bucket.keys() == [] == bucket.uploads()
        and "env:" not in operation.outcome
    )  # fmt: skip


def came_of(operation: Operation, bucket: OwnBucket) -> Backup:
    """The backup, with nothing beside it."""
    assert operation.state == State.SUCCEEDED, operation.outcome
    backup = only_backup()
    there = sorted([f"{backup.key}manifest.json", *(one["key"] for one in backup.manifest["objects"])])
    assert sorted(bucket.keys()) == there and bucket.uploads() == []
    return backup


def no_scratch() -> bool:
    return list(scratches(place()).iterdir()) == []


def of_dump(server: Server, name: str = "pg_dump") -> list[int]:
    """Processes of the program that are at the database."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            comm, environment = (path / "comm").read_text(), (path / "environ").read_bytes()
        except OSError:
            continue
        if comm.strip() == name and f"PGDATABASE={server.database}\0".encode() in environment:
            found.append(int(path.name))
    return found


def kill_dump(server: Server) -> None:
    for pid in of_dump(server):
        os.kill(pid, signal.SIGKILL)


def cut(server: Server) -> None:
    run(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'controlplane'"
                " AND datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip


class TestBackup:
    @pytest.fixture
    def larger(self, server: Server) -> Iterator[None]:
        """So large that a dump is far from its end when the first part is full."""
        run(server, "CREATE TABLE larger AS TABLE large; INSERT INTO larger TABLE large")
        yield
        run(server, "DROP TABLE larger")

    @pytest.mark.parametrize(("hit", "words"), [(kill_dump, "pg_dump was killed by signal 9"), (cut, "was lost")])
    def test_pg_dump(  # noqa: PLR0917 - fixtures
        self,
        larger: None,
        policy: Policy,
        alice: Person,
        bucket: OwnBucket,
        server: Server,
        hit: Callable[[Server], None],
        words: str,
    ) -> None:
        """While the first part is put. Once: it is tried again. Each time: it fails, and nothing is left."""
        fault = Fault(before=lambda: hit(server), passes=True)
        bucket.proxy.will("UploadPart", *[fault] * 20)
        operation = back_up(alice, policy)
        assert words in operation.outcome and nothing_came_of(operation, bucket)
        assert of_dump(server) == []
        bucket.proxy.reset()
        bucket.proxy.will("UploadPart", fault)
        operation = back_up(alice, policy)
        assert words in said(operation)
        came_of(operation, bucket)

    @pytest.mark.parametrize(
        ("action", "fault", "words"),
        [
            ("UploadPart", SLOW_DOWN, "slows us down"),
            ("UploadPart", SILENT, "No answer"),
            ("PutObject", BROKEN, "trouble of its own"),
            ("PutObject", LOST_BEFORE, "No answer"),
        ],
        ids=["part slow-down", "part time-out", "manifest 500", "manifest lost"],
    )
    def test_s3(  # noqa: PLR0917 - fixtures
        self, policy: Policy, alice: Person, bucket: OwnBucket, action: str, fault: Fault, words: str
    ) -> None:
        bucket.proxy.will(action, *[fault] * 12)
        operation = back_up(alice, policy)
        assert words in operation.outcome and nothing_came_of(operation, bucket)
        bucket.proxy.reset()
        bucket.proxy.will(action, fault)
        came_of(back_up(alice, policy), bucket)

    @pytest.mark.parametrize(
        ("action", "words"), [("UploadPart", "InvalidPart"), ("PutObject", "though S3 said that it was")]
    )
    def test_what_s3_took_is_not_there(
        self, policy: Policy, alice: Person, bucket: OwnBucket, action: str, words: str
    ) -> None:
        """A part of the object, or the manifest."""
        bucket.proxy.will(action, DROPPED)
        operation = back_up(alice, policy)
        assert words in said(operation)
        came_of(operation, bucket)

    def test_nothing_is_begun_where_it_cannot_end(
        self, policy: Policy, alice: Person, bucket: OwnBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = policy.storage.settings
        policy.storage.settings = good | {"bucket": "never-made"}
        policy.storage.save()
        operation = back_up(alice, policy)
        assert "There is no such bucket" in operation.outcome and nothing_came_of(operation, bucket)
        policy.storage.settings = good
        policy.storage.save()
        monkeypatch.setenv("TEST_S3_SECRET_KEY", "wrong-secret-key")
        operation = back_up(alice, policy)
        assert "does not know these credentials" in operation.outcome and "wrong-secret-key" not in said(operation)
        assert bucket.proxy.asked["UploadPart"] == 0 and nothing_came_of(operation, bucket)

    def test_the_database_was_renamed(
        self, policy: Policy, alice: Person, bucket: OwnBucket, server: Server, data_dir: Path
    ) -> None:
        secret = data_dir / "secrets" / "production" / "database-url"
        secret.write_text(url_of(server.named(f"{server.database}_old")))
        operation = back_up(alice, policy)
        assert f'database "{server.database}_old" does not exist' in operation.outcome
        assert nothing_came_of(operation, bucket) and server.password not in said(operation)

    def test_a_newer_server(
        self, policy: Policy, alice: Person, bucket: OwnBucket, tmp_path: Path, settings: Any
    ) -> None:
        (tmp_path / "pg_dump").write_text('#!/bin/sh\necho "pg_dump (PostgreSQL) 17.2"\n')
        (tmp_path / "pg_dump").chmod(0o755)
        settings.POSTGRES_PROGRAMS = str(tmp_path)
        operation = back_up(alice, policy)
        assert "is newer than pg_dump 17.2 here" in operation.outcome and "POSTGRES_PROGRAMS" in operation.outcome
        assert nothing_came_of(operation, bucket)


class TestProof:
    @pytest.fixture
    def backup(self, policy: Policy, alice: Person, bucket: OwnBucket) -> Backup:
        return came_of(back_up(alice, policy), bucket)

    def test_a_truncated_object(self, backup: Backup, alice: Person, bucket: OwnBucket) -> None:
        key = backup.manifest["objects"][0]["key"]
        content = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=content[: len(content) // 2])
        operation = prove(alice, backup)
        assert operation.state == State.FAILED and backup.verdict == Backup.Verdict.FAILED
        assert "is damaged in the storage" in backup.verdict_words and no_scratch()

    @pytest.mark.parametrize("fault", [BROKEN, SILENT], ids=["500", "time-out"])
    def test_a_storage_that_is_away_says_nothing_of_the_backup(
        self, backup: Backup, alice: Person, bucket: OwnBucket, fault: Fault
    ) -> None:
        bucket.proxy.will("GetObject", *[fault] * 20)
        operation = prove(alice, backup)
        assert operation.state == State.FAILED and backup.verdict == Backup.Verdict.NONE and backup.tested_at is None
        bucket.proxy.reset()
        bucket.proxy.will("GetObject", fault)
        assert prove(alice, backup).state == State.SUCCEEDED and backup.verdict == Backup.Verdict.PROVEN
        assert no_scratch()

    def test_a_connection_that_is_cut_is_taken_up(self, backup: Backup, alice: Person, bucket: OwnBucket) -> None:
        bucket.proxy.will("GetObject", Fault(passes=True), Fault(passes=True), *[Fault(cut=3_000_000)] * 4)
        assert prove(alice, backup).state == State.SUCCEEDED and backup.verdict == Backup.Verdict.PROVEN

    @pytest.mark.parametrize("name", ["pg_restore", "a process of pg_restore", "postgres"])
    def test_a_program_that_is_killed_says_nothing_of_the_backup(
        self, backup: Backup, alice: Person, name: str
    ) -> None:
        """pg_restore, one of those that load its tables, or the scratch server while it restores."""
        with killing(name.rpartition(" ")[2], beside="pg_restore", below=name.startswith("a process")) as killed:
            operation = prove(alice, backup)
        assert killed and "again in" in said(operation)
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert backup.verdict == Backup.Verdict.PROVEN and no_scratch()

    def test_a_reader_that_is_killed_says_nothing_of_the_backup(self, server: Server) -> None:
        """What reads every row of a cluster that came back."""

        def kill_the_first() -> None:
            while not of_dump(server):
                pass
            kill_dump(server)

        killer = threading.Thread(target=kill_the_first)
        killer.start()
        with pytest.raises(StepError, match="cut short") as raised:
            read_all(Notes(), server)
        killer.join()
        assert not raised.value.permanent and not isinstance(raised.value, Unrestorable)

    def test_a_full_disk_says_nothing_of_the_backup(self, make_policy: Make, alice: Person, data_dir: Path) -> None:
        """The scratch server's own: many short rows, which take far more room there than in a dump."""
        full = scratches(place())
        mount = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            f'mount -t tmpfs -o size=130m,mode=711 none {full} && exec "$0" "$@"',
        ]
        if os.geteuid() or subprocess.run([*mount, "true"], check=False, capture_output=True).returncode:
            pytest.skip("no file system of its own can be made here")
        with database("CREATE TABLE flags AS SELECT true AS flag FROM generate_series(1, 3500000) n") as server:
            secret = data_dir / "secrets" / "production" / "database-url"
            secret.parent.mkdir(parents=True, exist_ok=True)
            secret.write_text(url_of(server))
            flags = make_policy("flags", kind=Kind.DATABASE, settings={"database": "file:production/database-url"})
            assert back_up(alice, flags).state == State.SUCCEEDED
        backup = only_backup()
        operation = request_proof(Actor(alice), backup, reason="to know")
        with worker(operation.pk, data_dir, before=mount) as process:
            assert process.wait(40) == 0
        operation.refresh_from_db()
        backup.refresh_from_db()
        assert operation.state == State.FAILED and "is full" in operation.outcome, operation.outcome
        assert "No space left on device" in operation.outcome and backup.verdict == Backup.Verdict.NONE
