"""Workers that die anywhere, two at once, and a machine whose clock is wrong: still one backup, whole, and no more."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from psycopg import sql

from backups.duties import start_due
from backups.models import Backup, BackupRun, Kind, Policy, PolicyClock, Restore, Storage
from backups.programs import Server
from backups.restore_services import Wish, request_restore
from backups.scratch import place, scratches
from backups.services import request_backup, request_proof
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from controlplane.operations import boundaries, engine
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.backups.company import Make, back_up, only_backup
from tests.backups.databases import MIXED, database, run, url_of
from tests.backups.processes import worker
from tests.backups.wire import Fault, OwnBucket

pytest_plugins = ["tests.backups.stores"]
pytestmark = pytest.mark.django_db(transaction=True)

STEPS = ("intent_written", "effect_done", "verified", "state_written")
KILLED = -9
# More than a part, so that it is put in several.
WIDE = """
CREATE TABLE wide AS SELECT n, (SELECT string_agg(decode(md5(random()::text), 'hex'), ''::bytea)
                                  FROM generate_series(1, 640) WHERE n > 0) AS raw FROM generate_series(1, 900) n;
"""


@pytest.fixture
def dumps(make_policy: Make, data_dir: Path) -> Iterator[Policy]:
    """A policy of a real database."""
    with database(MIXED) as server:
        secret = data_dir / "secrets" / "production" / "database-url"
        secret.parent.mkdir(parents=True)
        secret.write_text(url_of(server))
        yield make_policy("database", kind=Kind.DATABASE, settings={"database": "file:production/database-url"})


def taken_over(operation: Operation) -> Operation:
    """Its worker is dead: another one goes on."""
    Operation.objects.filter(pk=operation.pk).update(lease_until="2000-01-01T00:00:00Z")
    assert engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    return operation


def only_that_is_there(data_dir: Path) -> bool:
    files = {path for path in (data_dir / "backups").rglob("*") if path.is_file()}
    return {path.parent for path in files} == {data_dir / "backups" / only_backup().key.rstrip("/")}


def no_scratch() -> bool:
    return list(scratches(place()).iterdir()) == []


@pytest.mark.parametrize("boundary", STEPS)
def test_killed_at_a_boundary_of_a_backup(dumps: Policy, alice: Person, data_dir: Path, boundary: str) -> None:
    operation = request_backup(Actor(alice), dumps, reason="because")
    with worker(operation.pk, data_dir, boundary=boundary, step="database-take") as process:
        assert process.wait(40) == KILLED
    assert taken_over(operation).state == State.SUCCEEDED, operation.outcome
    assert only_that_is_there(data_dir)


@pytest.mark.parametrize("boundary", STEPS)
def test_killed_at_a_boundary_of_a_restore_test(dumps: Policy, alice: Person, data_dir: Path, boundary: str) -> None:
    back_up(alice, dumps)
    backup = only_backup()
    operation = request_proof(Actor(alice), backup, reason="to know")
    with worker(operation.pk, data_dir, boundary=boundary, step="prove") as process:
        assert process.wait(40) == KILLED
    backup.refresh_from_db()
    assert backup.verdict == Backup.Verdict.NONE, "not before its operation has ended"
    assert taken_over(operation).state == State.SUCCEEDED, operation.outcome
    backup.refresh_from_db()
    assert backup.verdict == Backup.Verdict.PROVEN and no_scratch()


def test_killed_in_the_middle(make_policy: Make, alice: Person, bucket: OwnBucket, data_dir: Path) -> None:
    """While it puts a part, then while it fetches with its scratch server up: neither part nor server is left."""
    storage = Storage.objects.create(slug="bucket", kind="s3", settings={**bucket.settings, "bucket": bucket.name})
    secret = data_dir / "secrets" / "production" / "database-url"
    secret.parent.mkdir(parents=True)
    with database(WIDE) as server:
        secret.write_text(url_of(server))
        policy = make_policy(
            "database", kind=Kind.DATABASE, settings={"database": "file:production/database-url"}, storage=storage
        )
        operation = request_backup(Actor(alice), policy, reason="because")
        with worker(operation.pk, data_dir) as process:
            bucket.proxy.will("UploadPart", Fault(before=process.kill, passes=True))
            assert process.wait(40) == KILLED
        assert bucket.uploads() != []
        assert taken_over(operation).state == State.SUCCEEDED, operation.outcome
    backup = only_backup()
    there = bucket.keys()
    assert bucket.uploads() == [] and {key.rpartition("/")[0] + "/" for key in there} == {backup.key}
    operation = request_proof(Actor(alice), backup, reason="to know")
    bucket.proxy.reset()
    with worker(operation.pk, data_dir) as process:
        bucket.proxy.will("GetObject", Fault(passes=True), Fault(before=process.kill, passes=True))
        assert process.wait(40) == KILLED
    assert not no_scratch()
    assert taken_over(operation).state == State.SUCCEEDED, operation.outcome
    backup.refresh_from_db()
    assert backup.verdict == Backup.Verdict.PROVEN and no_scratch()


@pytest.mark.parametrize("marked", [False, True])
def test_killed_while_it_restores_into_a_new_database(dumps: Policy, alice: Person, marked: bool) -> None:
    """The name is taken only by what is whole; what a killed worker made of it before goes."""
    back_up(alice, dumps)
    server = Server.at(str(dumps.settings["database"]))
    name = f"copy_{server.database}"
    wish = Wish(Restore.Target.NEW, database=name)
    operation = request_restore(Actor(alice), only_backup(), wish, reason="to look into it")
    half = sql.Identifier(f"{name}_new_{operation.pk}")
    with closing(server.named("postgres").connect(autocommit=True)) as admin:
        try:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(half))
            if marked:
                words = sql.Literal(f"restored by operation {operation.pk} of the control plane")
                admin.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(half, words))
            engine.run(operation.pk, "w2")
            operation.refresh_from_db()
            assert operation.state == State.SUCCEEDED, operation.outcome
            there = admin.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [name]).fetchall()
            assert there == [(name,)] and run(server.named(name), "SELECT count(*) FROM users") == [(500,)]
        finally:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.parametrize("boundary", STEPS[:3])
def test_two_workers_at_once(dumps: Policy, alice: Person, data_dir: Path, boundary: str) -> None:
    """One is frozen in the middle of it; meanwhile another one does all of it; then the first goes on."""
    operation = request_backup(Actor(alice), dumps, reason="because")

    def freeze(at: str, number: int, key: str) -> None:
        if (at, key) == (boundary, "database-take"):
            boundaries.listeners.clear()
            assert taken_over(operation).state == State.SUCCEEDED, operation.outcome

    boundaries.listeners.append(freeze)
    try:
        engine.run(operation.pk, "w1")
    finally:
        boundaries.listeners.clear()
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED and operation.worker == "w2"
    assert Backup.objects.count() == 1 and only_that_is_there(data_dir)


@pytest.mark.parametrize("days", [-3650, 3650])
def test_a_clock_that_jumped(policy: Policy, days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due is due by the database's time, whatever this machine believes."""
    here, there = time.time, timezone.now
    monkeypatch.setattr(time, "time", lambda: here() + days * 86400)
    monkeypatch.setattr(timezone, "now", lambda: there() + timedelta(days=days))
    PolicyClock.objects.update(due_at=Now() + timedelta(minutes=5))
    assert start_due() == 0 and not BackupRun.objects.exists()
    PolicyClock.objects.update(due_at=Now() - timedelta(seconds=5))
    assert start_due() == 1 and BackupRun.objects.count() == 1
    clock = PolicyClock.objects.get()
    assert clock.due_at is not None and timedelta(0) < clock.due_at - database_time() < timedelta(days=1, seconds=5)
    assert start_due() == 0 and not policy.alerts.exists()
