"""A restore over a database in use: what it drops is held by its own safety backup, and stopping it leaves nothing."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import sql

from backups.models import Backup, Kind, Policy, Restore
from backups.programs import Server
from backups.restore_services import Wish, request_restore
from backups.restores import STEPS
from backups.services import running
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.errors import Invalid
from controlplane.operations.models import Operation
from controlplane.operations.registry import StepContext, StepFunction, _functions
from controlplane.operations.states import State
from controlplane.operations.transitions import cancel
from tests.backups.company import Make, back_up, only_backup
from tests.backups.databases import database, run, url_of

pytestmark = pytest.mark.django_db(transaction=True)
ROWS = "CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users SELECT generate_series(1, 20)"


@pytest.fixture
def shop() -> Iterator[Server]:
    """A real database."""
    with database(ROWS) as server:
        yield server


@pytest.fixture
def dumps(shop: Server, make_policy: Make, data_dir: Path) -> Policy:
    """A policy of it, in an environment where restores need no approval."""
    secret = data_dir / "secrets" / "production" / "database-url"
    secret.parent.mkdir(parents=True)
    secret.write_text(url_of(shop))
    policy = make_policy("database", kind=Kind.DATABASE, settings={"database": "file:production/database-url"})
    policy.environment.approvals_required = 0
    policy.environment.save()
    return policy


def over(person: Person, backup: Backup, name: str) -> Operation:
    """Ask for a restore over the database."""
    return request_restore(Actor(person), backup, Wish(Restore.Target.EXISTING, database=name), reason="it is broken")


def databases(server: Server) -> list[str]:
    """Those whose names begin with that of this one."""
    with closing(server.named("postgres").connect(autocommit=True)) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [server.database])
        return sorted(name for (name,) in rows)


def test_only_what_the_safety_backup_holds_is_replaced(dumps: Policy, alice: Person, shop: Server) -> None:
    back_up(alice, dumps)
    with database(ROWS) as other:
        with pytest.raises(Invalid, match=f"Only {shop.database} can be replaced"):
            over(alice, only_backup(), other.database)
        # The catalog may be behind: the step asks the policy itself.
        backup = only_backup()
        backup.manifest["facts"]["database"] = other.database
        backup.save()
        operation = over(alice, backup, other.database)
        engine.run(operation.pk, "w1")
        operation.refresh_from_db()
        assert operation.state == State.FAILED and "nothing would hold it" in operation.outcome
        assert databases(other) == [other.database]


def test_stopped_before_the_swap_it_leaves_no_database(
    dumps: Policy, alice: Person, shop: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(alice, dumps)
    run(shop, "INSERT INTO users VALUES (21)")
    operation = over(alice, only_backup(), shop.database)
    restore = STEPS["backups.restore_database"]

    def and_stop(context: StepContext, **arguments: object) -> None:
        restore.act(context, **arguments)
        cancel(operation.pk, Actor(alice), "the wrong one")

    monkeypatch.setitem(_functions, "backups.restore_database", StepFunction(act=and_stop, observe=restore.observe))
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.CANCELLED, operation.outcome
    assert databases(shop) == [shop.database] and run(shop, "SELECT count(*) FROM users") == [(21,)]


def test_one_that_waits_for_approval_holds_up_no_backup(dumps: Policy, alice: Person, shop: Server) -> None:
    back_up(alice, dumps)
    dumps.environment.approvals_required = 1
    dumps.environment.save()
    operation = over(alice, only_backup(), shop.database)
    assert operation.state == State.AWAITING_APPROVAL and running(dumps) is None
    Operation.objects.filter(pk=operation.pk).update(state=State.RUNNING)
    assert running(dumps) == operation


def test_what_a_killed_worker_had_no_time_to_mark_is_dropped(dumps: Policy, alice: Person, shop: Server) -> None:
    back_up(alice, dumps)
    operation = over(alice, only_backup(), shop.database)
    with closing(shop.named("postgres").connect(autocommit=True)) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(f"{shop.database}_new_{operation.pk}")))
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert databases(shop) == [shop.database]


TRAITS = """
SELECT pg_get_userbyid(datdba), datconnlimit, datacl::text, pg_encoding_to_char(encoding), datcollate,
       (SELECT array_agg(setrole::regrole::text || array_to_string(setconfig, ';') ORDER BY setrole)
          FROM pg_db_role_setting WHERE setdatabase = d.oid)
  FROM pg_database d WHERE datname = current_database()
"""


def test_who_owns_it_who_may_enter_and_its_settings_stay(dumps: Policy, alice: Person, shop: Server) -> None:
    run(shop, f"""
        CREATE ROLE "{shop.database}_app" LOGIN; CREATE SCHEMA "My Shop";
        GRANT CONNECT, TEMPORARY ON DATABASE "{shop.database}" TO "{shop.database}_app" WITH GRANT OPTION;
        REVOKE ALL ON DATABASE "{shop.database}" FROM PUBLIC;
        ALTER DATABASE "{shop.database}" SET search_path TO "My Shop", public;
        ALTER DATABASE "{shop.database}" SET shop.greeting TO 'it''s = open';
        ALTER ROLE "{shop.database}_app" IN DATABASE "{shop.database}" SET statement_timeout TO '7s';
        ALTER DATABASE "{shop.database}" CONNECTION LIMIT 40;
        ALTER DATABASE "{shop.database}" OWNER TO "{shop.database}_app";
    """)  # fmt: skip
    try:
        before = run(shop, TRAITS)
        back_up(alice, dumps)
        operation = over(alice, only_backup(), shop.database)
        engine.run(operation.pk, "w1")
        operation.refresh_from_db()
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert run(
            shop, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        )
        assert run(shop, TRAITS) == before and databases(shop) == [shop.database]
    finally:
        admin = shop.named("postgres")
        run(shop, f'ALTER DATABASE "{shop.database}" OWNER TO CURRENT_USER; DROP OWNED BY "{shop.database}_app"')
        run(admin, f'DROP ROLE "{shop.database}_app"')
