"""Restores: beside, new, over what is in use, in part; a database in use is replaced only by one known to be good."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from psycopg.errors import OperationalError
from psycopg.rows import tuple_row

from backups import restores
from backups.models import Backup, BackupRun, Kind, Policy, Restore, RestorePoint, ScratchDatabase
from backups.programs import Server
from backups.restore_services import Wish, draft_restore, plan_of_point, request_point_restore, request_restore
from backups.services import request_restore_point
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.embedded.processes import free_port
from controlplane.operations import boundaries, engine, transitions
from controlplane.operations.errors import Conflict, StepError
from controlplane.operations.models import Event, Operation
from controlplane.operations.registry import StepFunction, _functions, kind_of
from controlplane.operations.states import State
from environments.models import ConfigEntry, Environment, Placement, Service
from tests.backups.company import Make, back_up
from tests.backups.crashes import Crash, dying
from tests.backups.databases import database, run, url_of
from tests.backups.history import entry
from tests.environments.fleet import QUICK, Fleet, Worker, release

pytestmark = pytest.mark.django_db(transaction=True)
ROWS = """
CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users SELECT generate_series(1, 20);
CREATE SCHEMA billing; CREATE TABLE billing.invoices (id int); INSERT INTO billing.invoices VALUES (7);
"""
Target = Restore.Target


@pytest.fixture
def shop() -> Iterator[Server]:
    """A real database; what restores make beside it is dropped at the end."""
    with database(ROWS) as server:
        yield server
        with closing(server.named("postgres").connect(autocommit=True)) as admin:
            for name in databases(server):
                admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def dumps(shop: Server, make_policy: Make, data_dir: Path) -> Policy:
    """A policy of it; production takes one approval."""
    secret = data_dir / "secrets" / "production" / "database-url"
    secret.parent.mkdir(parents=True)
    secret.write_text(url_of(shop))
    return make_policy("database", kind=Kind.DATABASE, settings={"database": "file:production/database-url"})


@pytest.fixture
def backup(dumps: Policy, alice: Person, shop: Server) -> Backup:
    """With 20 users; now there are 5, and an order that no backup has."""
    assert back_up(alice, dumps).state == State.SUCCEEDED
    run(shop, "DELETE FROM users WHERE id > 5; CREATE TABLE orders (id int)")
    return Backup.objects.get()


def databases(server: Server) -> list[str]:
    """Those whose names begin with that of this one."""
    with closing(server.named("postgres").connect(autocommit=True)) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [server.database])
        return sorted(name for (name,) in rows)


def count(server: Server, what: str = "users") -> int:
    return int(run(server, f"SELECT count(*) FROM {what}")[0][0])


def ask(person: Person, backup: Backup, wish: Wish) -> Operation:
    return request_restore(Actor(person), backup, wish, reason="it is broken")


def carry_out(operation: Operation, worker: str = "w1") -> Operation:
    engine.run(operation.pk, worker)
    operation.refresh_from_db()
    return operation


def approved(operation: Operation, bob: Person) -> Operation:
    return transitions.approve(operation.pk, Actor(bob), operation.plan_digest)


class TestBeside:
    def test_into_a_scratch_database_to_look_into(self, backup: Backup, alice: Person, shop: Server) -> None:
        operation = carry_out(ask(alice, backup, Wish(Target.SCRATCH)))
        try:
            assert operation.state == State.SUCCEEDED, operation.outcome
            scratch = ScratchDatabase.objects.get(operation=operation)
            assert operation.events.filter(text__contains="look into it on this machine: psql -h").exists()
            assert restores.remove_scratch() == 0, "it stays for some hours"
        finally:
            ScratchDatabase.objects.update(expires_at="2000-01-01T00:00:00Z")
            restores.remove_scratch()
        scratch.refresh_from_db()
        assert scratch.removed_at is not None and not Path(scratch.folder).exists()
        assert count(shop) == 5

    @pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
    def test_a_worker_that_dies_anywhere_beside_a_scratch(self, backup: Backup, alice: Person, boundary: str) -> None:
        operation = ask(alice, backup, Wish(Target.SCRATCH))
        with dying(boundary, "restore"), pytest.raises(Crash):
            carry_out(operation)
        Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
        try:
            assert carry_out(operation, "w2").state == State.SUCCEEDED, operation.outcome
            told = Event.objects.filter(operation=operation, text__startswith="look into it on this machine: psql -h ")
            assert told.exists() and ScratchDatabase.objects.filter(operation=operation).count() == 1
        finally:
            ScratchDatabase.objects.update(expires_at="2000-01-01T00:00:00Z")
            restores.remove_scratch()

    def test_into_a_new_database(self, backup: Backup, alice: Person, shop: Server) -> None:
        name = f"{shop.database}_then"
        operation = carry_out(ask(alice, backup, Wish(Target.NEW, database=name)))
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert operation.approvals_required == 0, "nothing in use is changed"
        assert (count(shop.named(name)), count(shop)) == (20, 5)
        assert databases(shop) == [shop.database, name]

    def test_a_name_that_is_taken_is_left_alone(self, backup: Backup, alice: Person, shop: Server) -> None:
        operation = carry_out(ask(alice, backup, Wish(Target.NEW, database=shop.database)))
        assert operation.state == State.FAILED and "There is a database" in operation.outcome
        assert databases(shop) == [shop.database] and count(shop) == 5

    @pytest.mark.parametrize(
        ("part", "there", "missing"),
        [({"table": "users"}, "users", "billing.invoices"), ({"schema": "billing"}, "billing.invoices", "users")],
    )
    def test_only_a_part(  # noqa: PLR0917 (fixtures)
        self, backup: Backup, alice: Person, shop: Server, part: dict[str, Any], there: str, missing: str
    ) -> None:
        name = f"{shop.database}_part"
        operation = carry_out(ask(alice, backup, Wish(Target.NEW, database=name, **part)))
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert count(shop.named(name), there) > 0
        assert run(shop.named(name), f"SELECT to_regclass('{missing}')") == [(None,)]

    @pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
    def test_a_worker_that_dies_anywhere(self, backup: Backup, alice: Person, shop: Server, boundary: str) -> None:
        name = f"{shop.database}_then"
        operation = ask(alice, backup, Wish(Target.NEW, database=name))
        with dying(boundary, "restore"), pytest.raises(Crash):
            carry_out(operation)
        Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
        assert carry_out(operation, "w2").state == State.SUCCEEDED
        assert databases(shop) == [shop.database, name] and count(shop.named(name)) == 20


class TestOverTheExistingOne:
    def test_it_waits_for_an_approval_and_takes_a_safety_backup_first(
        self, backup: Backup, alice: Person, bob: Person, shop: Server
    ) -> None:
        operation = ask(alice, backup, Wish(Target.EXISTING, database=shop.database))
        assert operation.state == State.AWAITING_APPROVAL and not engine.run(operation.pk, "w1")
        assert carry_out(approved(operation, bob)).state == State.SUCCEEDED, operation.outcome
        assert count(shop) == 20 and databases(shop) == [shop.database]
        safety = Backup.objects.exclude(pk=backup.pk).get()
        assert f"taken for safety before {operation.title}" in safety.hold_reason
        assert (safety.held_by_name, safety.operation_id) == ("Alice", operation.pk)
        assert BackupRun.objects.get(backup=safety).cause == BackupRun.Cause.SAFETY
        back = ask(alice, safety, Wish(Target.NEW, database=f"{shop.database}_before"))
        assert carry_out(back).state == State.SUCCEEDED
        assert count(shop.named(f"{shop.database}_before")) == 5, "what was replaced can be had again"

    def test_who_is_connected_is_disconnected(self, backup: Backup, alice: Person, bob: Person, shop: Server) -> None:
        operation = approved(ask(alice, backup, Wish(Target.EXISTING, database=shop.database)), bob)
        with closing(shop.connect(autocommit=True, row_factory=tuple_row)) as client:
            client.execute("SELECT 1")
            assert carry_out(operation).state == State.SUCCEEDED, operation.outcome
            with pytest.raises(OperationalError):
                client.execute("SELECT 1")
        assert count(shop) == 20

    @pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
    @pytest.mark.parametrize("step", ["restore", "swap", "drop-old"])
    def test_a_worker_that_dies_anywhere(  # noqa: PLR0917 (fixtures)
        self, backup: Backup, alice: Person, bob: Person, shop: Server, boundary: str, step: str
    ) -> None:
        operation = approved(ask(alice, backup, Wish(Target.EXISTING, database=shop.database)), bob)
        with dying(boundary, step), pytest.raises(Crash):
            carry_out(operation)
        Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
        assert carry_out(operation, "w2").state == State.SUCCEEDED, operation.outcome
        assert count(shop) == 20 and databases(shop) == [shop.database]
        assert Backup.objects.count() == 2

    @pytest.mark.parametrize("after", [False, True])
    def test_a_swap_that_fails_leaves_the_old_one_in_its_place(  # noqa: PLR0917 (fixtures)
        self, backup: Backup, alice: Person, bob: Person, shop: Server, after: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        swap = restores.STEPS["backups.swap"]

        def fail(context: Any, **arguments: Any) -> None:
            if after:
                swap.act(context, **arguments)
            raise StepError("the server went away", permanent=True)

        monkeypatch.setitem(_functions, "backups.swap", StepFunction(act=fail, observe=swap.observe))
        operation = approved(ask(alice, backup, Wish(Target.EXISTING, database=shop.database)), bob)
        assert carry_out(operation).state == State.FAILED and "the server went away" in operation.outcome
        assert count(shop) == 5 and count(shop, "orders") == 0 and databases(shop) == [shop.database]
        assert Backup.objects.exclude(hold_reason="").count() == 1, "the safety backup is in the catalog all the same"

    def test_another_worker_shut_what_was_put_in_its_place(
        self, backup: Backup, alice: Person, bob: Person, shop: Server
    ) -> None:
        """It was at it while the one before was frozen, and then died."""
        operation = approved(ask(alice, backup, Wish(Target.EXISTING, database=shop.database)), bob)
        with dying("effect_done", "swap"), pytest.raises(Crash):
            carry_out(operation)
        run(shop.named("postgres"), f'ALTER DATABASE "{shop.database}" ALLOW_CONNECTIONS false')
        Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
        assert carry_out(operation, "w2").state == State.SUCCEEDED, operation.outcome
        assert count(shop) == 20 and databases(shop) == [shop.database]

    def test_a_connection_that_is_lost_at_the_swap_is_taken_up(
        self, backup: Backup, alice: Person, bob: Person, shop: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ask_for, to_lose = restores._mark_of, iter([OperationalError("server closed the connection unexpectedly")])

        def mark_of(server: Server, database: str) -> str | None:
            if begun and (error := next(to_lose, None)):
                raise error
            return ask_for(server, database)

        begun: list[str] = []
        monkeypatch.setattr(restores, "_mark_of", mark_of)
        boundaries.listeners.append(lambda at, number, key: begun.append(at) if key == "swap" else None)
        operation = approved(ask(alice, backup, Wish(Target.EXISTING, database=shop.database)), bob)
        try:
            assert carry_out(operation).state == State.SUCCEEDED, operation.outcome
        finally:
            boundaries.listeners.clear()
        assert count(shop) == 20 and databases(shop) == [shop.database]

    def test_a_damaged_backup_replaces_nothing(
        self, backup: Backup, alice: Person, bob: Person, shop: Server, data_dir: Path
    ) -> None:
        path = data_dir / "backups" / backup.key / backup.manifest["objects"][0]["name"]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)
        operation = approved(ask(alice, backup, Wish(Target.EXISTING, database=shop.database)), bob)
        assert carry_out(operation).state == State.FAILED
        assert count(shop) == 5 and databases(shop) == [shop.database]

    def test_deleted_before_it_began(self, backup: Backup, alice: Person, bob: Person, shop: Server) -> None:
        operation = approved(ask(alice, backup, Wish(Target.EXISTING, database=shop.database)), bob)
        Backup.objects.filter(pk=backup.pk).update(state=Backup.State.DELETED)
        carry_out(operation)
        assert operation.state == State.STALE and "deleted" in operation.outcome and count(shop) == 5


class TestFilesAndConfiguration:
    @pytest.fixture
    def uploads(self, make_policy: Make, tmp_path: Path) -> Policy:
        """A policy of a folder with one file."""
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "avatar.png").write_bytes(b"picture")
        return make_policy("uploads", kind=Kind.UPLOADS, settings={"source": {"folder": str(tmp_path / "source")}})

    def test_into_a_folder_beside(self, uploads: Policy, alice: Person, tmp_path: Path) -> None:
        back_up(alice, uploads)
        (tmp_path / "source" / "avatar.png").write_bytes(b"another")
        operation = ask(alice, Backup.objects.get(), Wish(Target.FOLDER, folder="then"))
        assert operation.approvals_required == 0
        assert carry_out(operation).state == State.SUCCEEDED, operation.outcome
        assert (tmp_path / "restored" / "production" / "then" / "avatar.png").read_bytes() == b"picture"
        assert (tmp_path / "source" / "avatar.png").read_bytes() == b"another"

    def test_over_the_files_in_use(self, uploads: Policy, alice: Person, bob: Person, tmp_path: Path) -> None:
        back_up(alice, uploads)
        (tmp_path / "source" / "avatar.png").write_bytes(b"another")
        (tmp_path / "source" / "newer.png").write_bytes(b"newer")
        operation = ask(alice, Backup.objects.get(), Wish(Target.FOLDER))
        assert operation.state == State.AWAITING_APPROVAL
        assert carry_out(approved(operation, bob)).state == State.SUCCEEDED, operation.outcome
        assert (tmp_path / "source" / "avatar.png").read_bytes() == b"picture"
        assert (tmp_path / "source" / "newer.png").exists(), "nothing is taken away"

    def test_the_configuration(self, policy: Policy, alice: Person, bob: Person) -> None:
        back_up(alice, policy)
        ConfigEntry.objects.filter(key="LOG_LEVEL").update(value="debug")
        operation = ask(alice, Backup.objects.get(), Wish(Target.CONFIGURATION))
        assert carry_out(approved(operation, bob)).state == State.SUCCEEDED, operation.outcome
        assert ConfigEntry.objects.get(key="LOG_LEVEL").value == "info"
        audited = Entry.objects.get(action="environment.configured")
        assert f"operation {operation.pk}" in audited.reason and "LOG_LEVEL" in str(audited.data)


class TestThePlan:
    WISHES: dict[str, Wish] = {
        "database": Wish(Target.EXISTING, database="shop"),
        "uploads": Wish(Target.FOLDER),
        "configuration": Wish(Target.CONFIGURATION),
    }

    @pytest.mark.parametrize("kind", WISHES)
    def test_read_asked_for_and_started_it_is_the_same(self, make_policy: Make, alice: Person, kind: str) -> None:
        from_history = entry(make_policy(kind, kind=kind))
        drafted = draft_restore(from_history, self.WISHES[kind]).plan
        operation = request_restore(
            Actor(alice), from_history, self.WISHES[kind], reason="because", plan_digest=drafted.digest
        )
        assert operation.plan_digest == drafted.digest == self.afresh(operation)

    def test_of_a_restore_point_too(self, make_policy: Make, production: Environment, alice: Person) -> None:
        point = RestorePoint.objects.create(environment=production, name="before", made_by_name="Alice")
        point.backups.set([entry(make_policy(kind, kind=kind)) for kind in self.WISHES])
        digest = plan_of_point(point, "shop").digest
        operation = request_point_restore(Actor(alice), point, database="shop", reason="because", plan_digest=digest)
        assert operation.plan_digest == digest == self.afresh(operation)

    def test_one_that_moved_is_not_asked_for(self, make_policy: Make, alice: Person) -> None:
        policy = make_policy("database", kind=Kind.DATABASE)
        backup = entry(policy)
        wish = self.WISHES["database"]
        read = draft_restore(backup, wish).plan.digest
        Policy.objects.update(settings={"database": "file:another"})
        backup = Backup.objects.select_related("policy__storage", "policy__environment").get()
        with pytest.raises(Conflict, match="not the one you read"):
            request_restore(Actor(alice), backup, wish, reason="because", plan_digest=read)

    def afresh(self, operation: Operation) -> str:
        """As the worker builds it at the start."""
        kind = kind_of(operation)
        return kind.plan(operation, kind.facts(operation)).digest


@pytest.fixture
def fleet(production: Environment) -> Iterator[Fleet]:
    """One real instance, on 1.4.0."""
    production.driver_settings = QUICK
    production.save()
    made = Fleet(Placement.objects.create(
        environment=production, service=Service.objects.create(slug="backend", name="Backend"), version="1.4.0",
        digest=release("1.4.0").digest, instances=[{"name": "one", "address": f"http://127.0.0.1:{free_port()}"}],
    ))  # fmt: skip
    ConfigEntry.objects.exclude(secret="").delete()
    assert made.deploy("1.4.0", Worker(fence=1)) is None
    yield made
    made.kill()


def test_a_restore_point_is_made_and_restored_as_one(  # noqa: PLR0917 (fixtures)
    dumps: Policy, policy: Policy, make_policy: Make, shop: Server, fleet: Fleet, alice: Person, bob: Person,
    production: Environment, tmp_path: Path,
) -> None:  # fmt: skip
    avatar = tmp_path / "source" / "avatar.png"
    avatar.parent.mkdir()
    avatar.write_bytes(b"picture")
    make_policy("uploads", kind=Kind.UPLOADS, settings={"source": {"folder": str(avatar.parent)}})
    made = carry_out(request_restore_point(Actor(alice), production, name="before 1.5.0", reason="because"))
    assert made.state == State.SUCCEEDED, made.outcome
    point = RestorePoint.objects.get()
    assert sorted(point.backups.values_list("kind", flat=True)) == ["configuration", "database", "uploads"]
    run(shop, "DELETE FROM users")
    avatar.write_bytes(b"another")
    ConfigEntry.objects.filter(key="LOG_LEVEL").update(value="debug")
    fleet.deploy("1.5.0", Worker(fence=1))
    operation = request_point_restore(Actor(alice), point, database=shop.database, reason="because")
    assert operation.state == State.AWAITING_APPROVAL
    assert carry_out(approved(operation, bob)).state == State.SUCCEEDED, operation.outcome
    assert count(shop) == 20 and ConfigEntry.objects.get(key="LOG_LEVEL").value == "info"
    assert avatar.read_bytes() == b"picture" and fleet.versions() == ["1.4.0"]
    assert databases(shop) == [shop.database]
    assert Backup.objects.exclude(hold_reason="").count() == 1
    groups = [step["group"] for step in operation.plan["steps"]]
    assert list(dict.fromkeys(groups)) == ["database", "uploads", "configuration", "backend"], "the software last"


def test_software_stays_when_the_data_does_not_come_back(  # noqa: PLR0917 (fixtures)
    dumps: Policy, shop: Server, fleet: Fleet, alice: Person, bob: Person, production: Environment, data_dir: Path
) -> None:
    carry_out(request_restore_point(Actor(alice), production, name="before 1.5.0", reason="because"))
    fleet.deploy("1.5.0", Worker(fence=1))
    point = RestorePoint.objects.get()
    dump = point.backups.get()
    (data_dir / "backups" / dump.key / dump.manifest["objects"][0]["name"]).write_bytes(b"damaged")
    asked = request_point_restore(Actor(alice), point, database=shop.database, reason="because")
    operation = carry_out(approved(asked, bob))
    assert operation.state == State.FAILED
    assert fleet.versions() == ["1.5.0"] and "Never touched: backend" in operation.outcome
    assert databases(shop) == [shop.database]


def test_half_a_restore_point_has_its_good_half(
    dumps: Policy, policy: Policy, alice: Person, production: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    take: Callable[..., None] = _functions["backups.take"].act

    def fail(context: Any, **arguments: Any) -> None:
        if arguments["policy"] == "production/database":
            raise StepError("the database is away", permanent=True)
        take(context, **arguments)

    monkeypatch.setitem(_functions, "backups.take", StepFunction(act=fail))
    made = carry_out(request_restore_point(Actor(alice), production, name="before", reason="because"))
    assert made.state == State.FAILED and "the database is away" in made.outcome
    assert RestorePoint.objects.get().backups.count() == Backup.objects.count() <= 1
