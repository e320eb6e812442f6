"""Ways in which recovering PostgreSQL could lose something, or tell what is untrue; each was a hole once."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups.disaster.base import NOT_KNOWN, READY, Candidate, Side
from backups.disaster.databases.postgres import PostgresDatabase
from backups.disaster.databases.postgres_bringing import _make, _restore, _verify
from backups.disaster.databases.postgres_fence import _prove, fence, why_open
from backups.disaster.databases.postgres_server import following
from backups.disaster.databases.postgres_standby import _caught_up
from backups.disaster.services import request_failback
from backups.disaster.sides import database_part, sides
from backups.models import RecoveryPlan
from backups.programs import Server
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.embedded.postgres import Postgres
from controlplane.operations import transitions
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.states import Answer, State
from tests.disaster.clusters import DATABASE, MORE, ROLE, Pair, Writer, pair, until
from tests.disaster.paper import plan, world
from tests.disaster.test_postgres_failover import failover, real, run, servant

__all__ = ["pair", "plan", "real", "servant"]
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(120),
]

# What home cannot take in as it is: it belongs to a role that was made in the other region.
STRANGE = "CREATE ROLE only_here", "CREATE TABLE extra ()", "ALTER TABLE extra OWNER TO only_here"


class Hand:
    """A step's context, on paper."""

    step_key = "review"

    def __init__(self, operation_id: int = 1) -> None:
        self.operation_id, self.scopes, self.fence, self.attempt = operation_id, ["dr"], 1, 1
        self.checkpoint: dict[str, Any] = {}
        self.said: list[str] = []

    def log(self, text: str, *, level: str = "line") -> None:
        self.said.append(text)

    def save_checkpoint(self, **values: Any) -> None:
        self.checkpoint |= values

    def nothing(self, *values: Any) -> None:
        """Not of interest."""

    mask = progress = check = wait = nothing

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def did(self, what: str, subject: str, **facts: Any) -> None:
        """Not of interest."""

    def remaining(self) -> float:
        return 60.0


def primary(pair: Pair, database: str = DATABASE) -> Server:
    return Server.of_url(pair.primary.url_of(database))


def standby(pair: Pair) -> Server:
    return Server.of_url(pair.standby.url_of(DATABASE))


def both(plan: RecoveryPlan) -> tuple[Side, Side]:
    return sides(plan, database_part(plan), plan.primary)


# --- the fence ----------------------------------------------------------------------------------------


def test_a_session_that_the_plan_does_not_name_cannot_write_once_the_fence_is_proven(pair: Pair) -> None:
    pair.on(pair.primary, DATABASE, "CREATE ROLE batch LOGIN PASSWORD 'b'", "GRANT INSERT ON orders TO batch")
    url = f"postgres://batch:b@127.0.0.1:{pair.primary.port}/{DATABASE}"
    with psycopg.connect(url, autocommit=True) as batch:
        batch.execute("SELECT 1")
        fence(primary(pair), [ROLE])
        if why_open(primary(pair), [ROLE]):
            return  # it is said, so nobody takes it for proven
        with pytest.raises(psycopg.Error):
            batch.execute("INSERT INTO orders (id) VALUES (1)")


def test_a_role_behind_a_group_that_the_plan_names_is_no_proof(pair: Pair) -> None:
    pair.on(pair.primary, DATABASE, "CREATE ROLE people NOLOGIN", "GRANT INSERT ON orders TO people",
            "CREATE ROLE worker LOGIN PASSWORD 'w' IN ROLE people")  # fmt: skip
    fence(primary(pair), ["people"])
    assert why_open(primary(pair), ["people"]), "worker can log in and write"


def test_the_fence_does_not_lock_out_who_has_to_open_it(real: RecoveryPlan, pair: Pair) -> None:
    """Everybody's first mistake: the applications log in as the administrator whose URL the plan has."""
    server = primary(pair)
    source, target = both(real)
    there = Side(source.environment, {**source.settings, "roles": [server.user]})
    looked = {one.key: one.outcome for one in PostgresDatabase().readiness(there, target)}
    with suppress(StepError):  # refusing is right
        fence(server, [server.user])
    server.connect().close()
    assert looked["database-source"] != READY


def test_who_cannot_fence_is_not_said_to_be_ready(real: RecoveryPlan, pair: Pair, data_dir: Path) -> None:
    """CREATEROLE alone changes no role of others since PostgreSQL 16, no database, and promotes nothing."""
    pair.on(pair.primary, DATABASE, "CREATE ROLE almost LOGIN CREATEROLE PASSWORD 'a'")
    url = f"postgres://almost:a@127.0.0.1:{pair.primary.port}/{DATABASE}"
    (data_dir / "secrets" / "almost").write_text(url)
    source, target = both(real)
    there = Side(source.environment, {**source.settings, "database": "file:almost"})
    with pytest.raises(StepError, match="permission denied"):
        fence(Server.of_url(url), [ROLE])
    looked = {one.key: one.outcome for one in PostgresDatabase().readiness(there, target)}
    assert looked["database-source"] != READY


def test_what_was_committed_without_waiting_is_below_the_noted_position(real: RecoveryPlan, pair: Pair) -> None:
    pair.on(pair.primary, "postgres", "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
    fence(primary(pair), [ROLE])  # its own commits flush what was before them
    options = "-c default_transaction_read_only=off -c synchronous_commit=off"
    with psycopg.connect(pair.primary.url_of(DATABASE), autocommit=True, options=options) as late:
        late.execute("INSERT INTO orders (id) VALUES (1)")
        end = late.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    hand = Hand()
    _prove(hand, database="file:primary", environment="production", roles=[ROLE])
    with psycopg.connect(pair.primary.url_of(DATABASE)) as admin:
        row = admin.execute("SELECT %s::pg_lsn >= %s::pg_lsn", [hand.checkpoint["position"], end[0] if end else ""])
        assert row.fetchone() == (True,), "an order that was acknowledged lies behind what the standby has to have"


# --- the standby --------------------------------------------------------------------------------------


@pytest.fixture
def frozen_sender(pair: Pair) -> Iterator[None]:
    """The network between both goes silent: the standby still takes itself for streaming."""
    until(lambda: (stand := following(standby(pair))) is not None and stand.streams)
    with psycopg.connect(pair.primary.url_of("postgres")) as admin:
        row = admin.execute("SELECT pid FROM pg_stat_replication").fetchone()
    assert row
    os.kill(row[0], signal.SIGSTOP)
    yield
    os.kill(row[0], signal.SIGCONT)


def test_a_standby_that_hears_nothing_is_not_said_to_have_everything(
    real: RecoveryPlan, pair: Pair, frozen_sender: None
) -> None:
    with Writer(pair.primary) as old:
        until(lambda: len(old.acknowledged) > 300)
    missing = old.acknowledged - pair.ids(pair.standby)
    assert missing
    source, target = both(real)
    looked = {one.key: one.words for one in PostgresDatabase().readiness(source, target)}
    assert " 0 bytes behind" not in looked["standby"], f"{len(missing)} acknowledged orders are not there"


def test_a_standby_of_another_server_is_not_said_to_be_ready(real: RecoveryPlan, pair: Pair, data_dir: Path) -> None:
    """Positions of two clusters have nothing to do with each other: "replayed up to there" would mean nothing."""
    stranger = Postgres(pair.primary.place, password="secret", port=None, log=data_dir / "log", durable=False,
                        name="stranger", more=MORE)  # fmt: skip
    stranger.start()
    try:
        pair.on(stranger, "postgres", f"CREATE ROLE {ROLE} LOGIN PASSWORD 'app'", f"CREATE DATABASE {DATABASE}")
        (data_dir / "secrets" / "primary").write_text(stranger.url_of(DATABASE))
        looked = {one.key: one.outcome for one in PostgresDatabase().readiness(*both(real))}
        assert looked["standby"] != READY
    finally:
        stranger.stop()


def test_the_newest_restore_point_comes_first_though_a_standby_stands_still(
    real: RecoveryPlan, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    newer = Candidate("backup:1", "backup 1", later, {"from": "backup", "backup": 1})
    monkeypatch.setattr("backups.disaster.databases.postgres._backups", lambda source: [newer])
    pair.primary.stop()
    found = PostgresDatabase().candidates(*both(real))
    assert [one.key for one in found] == ["backup:1", "standby"]


def test_a_primary_that_dies_after_the_proof_is_asked_about_and_not_waited_for(
    real: RecoveryPlan, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hours of waiting for what can never arrive, while nobody is served."""
    monkeypatch.setattr("backups.disaster.databases.postgres_standby._noted", lambda context: "FF/0")
    pair.primary.stop()
    until(lambda: (stand := following(standby(pair))) is not None and not stand.streams)
    monkeypatch.setattr("backups.disaster.databases.postgres_standby.SILENT_SECONDS", 0.0, raising=False)
    with pytest.raises(Unknown):
        _caught_up(Hand(), database="file:standby", environment="dr", source="production")


def test_without_a_question_the_newest_row_is_not_simply_of_now(real: RecoveryPlan, pair: Pair) -> None:
    """What was lost is measured with it: it would always be nothing."""
    source, _ = both(real)
    silent = Side(source.environment, {**source.settings, "newest": ""})
    with Writer(pair.primary):
        pass
    with psycopg.connect(pair.primary.url_of(DATABASE)) as admin:
        row = admin.execute("SELECT clock_timestamp()").fetchone()
    assert row
    found = PostgresDatabase().newest(silent)
    assert found.key == NOT_KNOWN or found.as_of <= row[0]


# --- bringing it over ---------------------------------------------------------------------------------


def test_a_long_name_is_never_cut_down_to_that_of_the_database_itself(pair: Pair) -> None:
    name = "o" * 63
    pair.on(pair.primary, "postgres", f"CREATE DATABASE {name}")
    pair.on(pair.primary, name, "CREATE TABLE precious ()")
    with suppress(StepError):  # refusing is right
        _make(Hand(), primary(pair, name))
    pair.on(pair.primary, name, "SELECT FROM precious")


def test_a_worker_that_dies_between_both_renames_loses_no_settings(
    real: RecoveryPlan, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.on(pair.primary, "postgres", "CREATE ROLE boss", f"ALTER DATABASE {DATABASE} OWNER TO boss",
            f"ALTER DATABASE {DATABASE} SET work_mem = '7MB'")  # fmt: skip
    hand = Hand(9)
    hand.checkpoint["filled"] = True
    pair.on(pair.primary, "postgres", f"CREATE DATABASE {DATABASE}_dr_9 OWNER boss",
            f"ALTER DATABASE {DATABASE}_dr_9 SET work_mem = '7MB'",
            f"ALTER DATABASE {DATABASE} RENAME TO {DATABASE}_left_9")  # fmt: skip
    filled: list[int] = []
    monkeypatch.setattr(
        "backups.disaster.databases.postgres_bringing._fill", lambda context, server, backup: filled.append(backup)
    )
    _restore(hand, database="file:primary", environment="production", backup=1)
    assert not filled, "it is filled a second time, by the model of a database that has another name by now"


# --- home ---------------------------------------------------------------------------------------------


def test_leaving_out_to_bring_the_data_home_opens_nothing_old(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, pair: Pair, servant: None, alice: Person, bob: Person, ada: Person
) -> None:
    """One click of a tired person must not lose everything that was acknowledged in the other region."""
    with Writer(pair.primary):
        pass
    assert failover(real, alice, bob, ada).state == State.SUCCEEDED
    real.refresh_from_db()
    world.restored.clear()
    with Writer(pair.standby, start=10**6) as there:
        pass
    pair.on(
        pair.standby, DATABASE, "CREATE ROLE only_here", "CREATE TABLE extra ()", "ALTER TABLE extra OWNER TO only_here"
    )
    operation = run(request_failback(Actor(alice), real, reason="mended"), bob, ada)
    assert operation.state == State.NEEDS_OPERATOR
    for _ in range(3):  # whatever it asks, this person wants to go on
        asked = operation.steps.filter(state__in=["unknown", "failed"]).first()
        if operation.state != State.NEEDS_OPERATOR or asked is None or asked.key == "database/follow":
            break
        transitions.resolve(operation.pk, Actor(alice), asked.key, Answer.SKIP, "go on, whatever it is")
        operation = run(operation)
    if why_open(primary(pair), [ROLE]):
        assert there.acknowledged <= pair.ids(pair.primary), "home is open without what was acknowledged elsewhere"
    assert there.acknowledged <= pair.ids(pair.standby), "what was acknowledged there is nowhere any more"


def test_a_way_home_that_cannot_work_closes_nothing(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, pair: Pair, servant: None, alice: Person, bob: Person, ada: Person
) -> None:
    """A role that home does not know is seen before anybody is locked out, or the way back is open at least."""
    with Writer(pair.primary):
        pass
    assert failover(real, alice, bob, ada).state == State.SUCCEEDED
    real.refresh_from_db()
    world.restored.clear()
    pair.on(
        pair.standby, DATABASE, "CREATE ROLE only_here", "CREATE TABLE extra ()", "ALTER TABLE extra OWNER TO only_here"
    )
    operation = run(request_failback(Actor(alice), real, reason="mended"), bob, ada)
    closed = why_open(standby(pair), [ROLE]) == ""
    assert not closed or operation.plan["recovery"], f"{operation.state}: nobody is served, nothing puts it back"


def test_verify_sees_that_applications_cannot_write(real: RecoveryPlan, pair: Pair) -> None:
    pair.on(pair.primary, "postgres", "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    until(lambda: _reads_only(pair))
    with pytest.raises(StepError):
        _verify(Hand(), database="file:primary", environment="production", checks=[], newest="")


def _reads_only(pair: Pair) -> bool:
    with psycopg.connect(pair.primary.url_of(DATABASE)) as admin:
        return admin.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
