"""The checks of a policy are somebody's text: they may read what was restored, all of it, and do nothing else."""

import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from backups.engines.restoring import run_checks
from backups.models import Backup, Kind, Policy, PolicyClock
from backups.scratch import Scratch
from backups.services import request_proof
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.embedded.place import discard
from controlplane.operations import engine
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.backups.clusters import Source
from tests.backups.company import Make, back_up, only_backup
from tests.backups.databases import database, url_of

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = """
CREATE TABLE plain (id serial, text text); INSERT INTO plain (text) VALUES ('a'), ('b');
CREATE SCHEMA closed; CREATE TABLE closed.inside AS SELECT 1 AS id; REVOKE ALL ON closed.inside FROM PUBLIC;
CREATE TABLE hidden AS SELECT n FROM generate_series(1, 5) n;
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE hidden FORCE ROW LEVEL SECURITY;
CREATE VIEW seen AS SELECT * FROM closed.inside; CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM plain;
CREATE VIEW file AS SELECT pg_read_file('PG_VERSION') AS text;
CREATE TYPE closed."a kind" AS (id int);
CREATE FUNCTION closed."is ""sane"";"("of, what" text, closed."a kind"[] DEFAULT NULL) RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER AS $$
  BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ' || quote_literal($1); RETURN true; END $$;
CREATE FUNCTION closed.counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM hidden';
CREATE PROCEDURE closed.alike(int, OUT int) LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE PROCEDURE closed.alike(int, int) LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION closed.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'nobody alters'; END $$;
CREATE EVENT TRIGGER "no one" ON ddl_command_start WHEN TAG IN ('ALTER ROUTINE') EXECUTE FUNCTION closed.refuse();
"""
AWAY = 'DROP EVENT TRIGGER "no one"; DROP TABLE plain, hidden CASCADE; DROP VIEW file; DROP SCHEMA closed CASCADE'
READS = [
    {"sql": sql}
    for sql in (
        "SELECT (SELECT count(*) FROM plain) = 2 AND (SELECT last_value FROM plain_id_seq) = 2",
        "SELECT count(*) = 1 FROM closed.inside",
        "SELECT count(*) = 5 FROM hidden;",
        "SELECT (SELECT count(*) FROM seen) = 1 AND (SELECT n FROM kept) = 2",
        "SELECT count(*) = 2 FROM plain WHERE text NOT LIKE '%s'",
        "SELECT closed.counted() = 5",
    )
]
RUNS = "COPY (SELECT 1) TO PROGRAM ''touch {marker}''"
TRIES = {
    "COPY (SELECT 1) TO PROGRAM 'touch {marker}'": "permission denied to COPY to or from an external program",
    "SELECT pg_read_file('PG_VERSION') <> ''": "permission denied for function pg_read_file",
    "SELECT text <> '' FROM file": "permission denied for function pg_read_file",
    'SELECT closed."is ""sane"";"(\'touch {marker}\')': "permission denied to COPY to or from an external program",
    "CREATE TABLE mine (id int)": "cannot execute CREATE TABLE in a read-only transaction",
    'SET ROLE "{superuser}"': 'permission denied to set role "{superuser}"',
    'SET SESSION AUTHORIZATION "{superuser}"': 'permission denied to set session authorization "{superuser}"',
    'DO $$ BEGIN SET ROLE "{superuser}"; EXECUTE \'' + RUNS + "'; END $$": 'denied to set role "{superuser}"',
    "DO $$ BEGIN RESET SESSION AUTHORIZATION; EXECUTE '" + RUNS + "'; END $$": "denied to COPY to or from",
    "DO $$ BEGIN RESET ROLE; PERFORM pg_read_file('PG_VERSION'); END $$": "denied for function pg_read_file",
    "RESET SESSION AUTHORIZATION; SELECT pg_read_file('PG_VERSION') <> ''": "cannot insert multiple commands",
    "SET statement_timeout = 0": "the last operation didn't produce",
}


@pytest.fixture
def marker() -> Iterator[Path]:
    """A file that the server's account could make, and that must not come about."""
    path = Path("/tmp") / f"cp-marker-{secrets.token_hex(8)}"
    yield path
    made = path.exists()
    path.unlink(missing_ok=True)
    assert not made


@pytest.fixture
def dumps(make_policy: Make, data_dir: Path) -> Iterator[Policy]:
    with database(TABLES) as server:
        secret = data_dir / "secrets" / "production" / "database-url"
        secret.parent.mkdir(parents=True)
        secret.write_text(url_of(server))
        yield make_policy("database", kind=Kind.DATABASE, settings={"database": "file:production/database-url"})


@pytest.fixture
def copies(pitr: Policy, source: Source) -> Iterator[Policy]:
    """Of a cluster whose database lets in none but those it names, and is read-only unless somebody says otherwise."""
    PolicyClock.objects.create(policy=pitr)
    source.ask(TABLES)
    source.ask("REVOKE CONNECT ON DATABASE controlplane FROM PUBLIC")
    source.ask("ALTER DATABASE controlplane CONNECTION LIMIT 0")
    source.ask("ALTER DATABASE controlplane SET default_transaction_read_only = on")
    yield pitr
    source.ask("BEGIN READ WRITE; ALTER DATABASE controlplane RESET ALL; COMMIT")
    source.ask("ALTER DATABASE controlplane CONNECTION LIMIT -1")
    source.ask("GRANT CONNECT ON DATABASE controlplane TO PUBLIC")
    source.ask(AWAY)


@pytest.fixture(params=["dumps", "copies"])
def tested(request: pytest.FixtureRequest) -> Policy:
    """A policy of a dump, then one of a cluster; both hold the same tables."""
    policy: Policy = request.getfixturevalue(request.param)
    return policy


def proven(alice: Person, policy: Policy, checks: list[dict[str, str]]) -> Operation:
    """A restore test of its only backup, with these checks."""
    policy.checks = checks
    policy.save()
    made = back_up(alice, policy)
    assert made.state == State.SUCCEEDED, made.outcome
    operation = request_proof(Actor(alice), only_backup(), reason="to know")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def test_they_read_every_table_and_the_rows_that_are_hidden_from_others(tested: Policy, alice: Person) -> None:
    operation = proven(alice, tested, READS)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert "6 checks of your own agree" in only_backup().verdict_words


def test_whatever_else_they_try_is_refused_and_said(tested: Policy, alice: Person, marker: Path) -> None:
    superuser = "postgres" if tested.kind == Kind.DATABASE else "controlplane"
    filled = {
        sql.format(marker=marker, superuser=superuser): words.format(superuser=superuser)
        for sql, words in TRIES.items()
    }
    operation = proven(alice, tested, [{"name": f"try {n}.", "sql": sql} for n, sql in enumerate(filled)])
    assert operation.state == State.FAILED and only_backup().verdict == Backup.Verdict.FAILED
    said = only_backup().verdict_words
    assert said.startswith("A check of your own fails: try 0.: ")
    for number, words in enumerate(filled.values()):
        assert words in said.partition(f"try {number}.: ")[2].partition("; try ")[0]


@pytest.fixture
def scratch(data_dir: Path) -> Iterator[Scratch]:
    scratch = Scratch(7, 2)
    scratch.open()
    scratch.initialise()
    scratch.start(time.sleep)
    yield scratch
    scratch.remove()
    discard((data_dir / "servers").resolve())


def test_the_role_itself_may_only_read_whatever_its_transactions_are(scratch: Scratch, marker: Path) -> None:
    """Without the limits that a check is asked with, and several statements at a time."""
    with scratch.server("postgres").connect(autocommit=True) as admin:
        admin.execute(TABLES)
        admin.execute(f"COPY (SELECT 1) TO PROGRAM 'touch {marker}'".encode())  # so it can be done, by that one
    assert marker.exists()
    marker.unlink()
    tries = [
        f"RESET SESSION AUTHORIZATION; RESET ROLE; COPY (SELECT 1) TO PROGRAM 'touch {marker}'",
        "SELECT pg_read_file('PG_VERSION')", "SELECT lo_import('/etc/passwd')", "COPY plain FROM '/etc/passwd'",
        "SET ROLE postgres", "SET SESSION AUTHORIZATION postgres", "SET ROLE pg_execute_server_program",
        "CREATE TABLE mine (id int)", "CREATE ROLE mine", "INSERT INTO plain (text) VALUES ('c')", "DELETE FROM hidden",
        "ALTER ROLE CURRENT_USER SUPERUSER", "GRANT pg_read_server_files TO CURRENT_USER",
    ]  # fmt: skip
    with closing(scratch.reader("postgres").connect(autocommit=True)) as connection:
        for sql in tries:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql.encode())


def test_each_has_a_role_of_its_own_and_what_one_changes_is_not_the_next_ones(scratch: Scratch) -> None:
    assert scratch.reader("postgres").user != scratch.reader("postgres").user
    checks = [
        {"sql": "SELECT set_config('statement_timeout', '0', false) = '0'"},
        {"sql": "SELECT current_setting('statement_timeout') = '1min'"},
        {"sql": "SELECT current_setting('transaction_read_only') = 'on'"},
    ]
    assert run_checks(scratch.reader("postgres"), checks * 10) == []


def test_a_server_that_goes_away_says_nothing_of_the_backup(scratch: Scratch) -> None:
    with pytest.raises(psycopg.OperationalError):
        run_checks(scratch.reader("postgres"), [{"sql": "SELECT pg_terminate_backend(pg_backend_pid())"}])
    reader = scratch.reader("postgres")
    scratch.stop()
    with pytest.raises(StepError, match="cannot be reached"):
        run_checks(reader, [{"sql": "SELECT true"}])
