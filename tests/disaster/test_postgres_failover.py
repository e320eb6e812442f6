"""Two real servers: fenced, promoted, brought home, and every order that was acknowledged is accounted for."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups.disaster.base import Side
from backups.disaster.databases.postgres import PostgresDatabase
from backups.disaster.databases.postgres_fence import why_open
from backups.disaster.databases.postgres_standby import request_file
from backups.disaster.services import request_drill, request_failback, request_failover
from backups.disaster.sides import database_part, sides
from backups.models import Recovery, RecoveryPlan
from backups.programs import Server
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine, transitions
from controlplane.operations.errors import LeaseLost, StepError
from controlplane.operations.models import Operation
from controlplane.operations.states import Answer, State
from tests.disaster.clusters import DATABASE, ROLE, Pair, Writer, pair, until
from tests.disaster.paper import plan, world

__all__ = ["pair", "plan"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

NEWEST = "SELECT coalesce(max(at), 'epoch') FROM orders"


@pytest.fixture
def real(plan: RecoveryPlan, pair: Pair, data_dir: Path) -> RecoveryPlan:
    """The plan of paper, with the two real servers for its database."""
    secrets = data_dir / "secrets"
    secrets.mkdir(exist_ok=True)
    (secrets / "primary").write_text(pair.primary.url_of(DATABASE))
    (secrets / "standby").write_text(pair.standby.url_of(DATABASE))
    plan.database = {
        "kind": "postgres", "roles": [ROLE], "newest": NEWEST, "primary": {"database": "file:primary"},
        "standby": {"database": "file:standby", "rebuild": "embedded"},
    }  # fmt: skip
    plan.checks = [{"name": "there are orders", "sql": "SELECT count(*) > 0 FROM orders"}]
    plan.save()
    return plan


@pytest.fixture
def servant(pair: Pair, real: RecoveryPlan) -> Iterator[None]:
    """Whoever runs the embedded servers: makes the standby anew when it is asked to."""
    stopping = threading.Event()

    def tend() -> None:
        while not stopping.wait(0.1):
            if request_file("dr").exists():
                pair.standby.renew()
                request_file("dr").unlink()

    thread = threading.Thread(target=tend)
    thread.start()
    yield
    stopping.set()
    thread.join()


def run(operation: Operation, *people: Person) -> Operation:
    """Approved by these, to its end or to a question."""
    for person in people:
        transitions.approve(operation.pk, Actor(person), operation.plan_digest)
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def failover(plan: RecoveryPlan, alice: Person, *others: Person) -> Operation:
    return run(request_failover(Actor(alice), plan, point="standby", words="red", reason="down"), *others)


def test_under_load_nothing_acknowledged_is_missing_and_the_old_side_takes_nothing(
    real: RecoveryPlan, pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    with Writer(pair.primary) as old:
        operation = failover(real, alice, bob, ada)
        assert operation.state == State.SUCCEEDED, operation.outcome
        count = len(old.acknowledged)
        until(lambda: "not permitted to log in" in old.refused)
    assert len(old.acknowledged) == count, "it was told that something is committed after the fence"
    assert old.acknowledged <= pair.ids(pair.standby)
    with Writer(pair.standby, start=10**6) as new:
        pass
    assert new.acknowledged <= pair.ids(pair.standby)
    recovery = Recovery.objects.get()
    assert (recovery.fence_proven, recovery.rpo_seconds) == (True, 0)


def test_a_primary_that_is_restarted_comes_back_fenced(
    real: RecoveryPlan, pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    with Writer(pair.primary):
        pass
    assert failover(real, alice, bob, ada).state == State.SUCCEEDED
    pair.primary.restart()
    assert why_open(Server.of_url(pair.primary.url_of(DATABASE)), [ROLE]) == ""
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(Writer(pair.primary).url)


def test_a_request_to_make_the_standby_anew_that_was_left_behind_is_gone_when_people_come(
    real: RecoveryPlan, pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    with Writer(pair.primary):
        pass
    request_file("dr").write_text("{}")
    assert failover(real, alice, bob, ada).state == State.SUCCEEDED
    assert not request_file("dr").exists()


def test_a_primary_that_is_reached_again_is_fenced_when_somebody_tries_again(
    real: RecoveryPlan, pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    with Writer(pair.primary) as old:
        pass
    until(lambda: old.acknowledged <= pair.ids(pair.standby))
    pair.primary.stop()
    operation = failover(real, alice, bob, ada)
    assert operation.state == State.NEEDS_OPERATOR
    pair.primary.start()
    transitions.resolve(operation.pk, Actor(alice), "database/fenced", Answer.RETRY, "it is back")
    operation = run(operation)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert why_open(Server.of_url(pair.primary.url_of(DATABASE)), [ROLE]) == ""
    assert Recovery.objects.get().fence_proven is True


def test_a_dead_primary_is_left_with_what_had_arrived_and_somebodys_word(
    real: RecoveryPlan, pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    with Writer(pair.primary) as old:
        until(lambda: old.acknowledged <= pair.ids(pair.standby) or len(old.acknowledged) > 200)
    until(lambda: old.acknowledged <= pair.ids(pair.standby))
    pair.primary.stop()
    operation = failover(real, alice, bob, ada)
    assert operation.state == State.NEEDS_OPERATOR
    step = operation.steps.get(state="unknown")
    assert step.key == "database/fenced"
    assert "cannot be reached" in step.error
    transitions.resolve(operation.pk, Actor(alice), step.key, Answer.SKIP, "its power is off, I am in front of it")
    operation = run(operation)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert old.acknowledged <= pair.ids(pair.standby)
    assert Recovery.objects.get().fence_proven is False


def test_home_again_with_everything_and_the_standby_follows(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, pair: Pair, servant: None, alice: Person, bob: Person, ada: Person
) -> None:
    with Writer(pair.primary) as old:
        assert failover(real, alice, bob, ada).state == State.SUCCEEDED
    real.refresh_from_db()
    world.restored.clear()
    with Writer(pair.standby, start=10**6) as there:
        operation = run(request_failback(Actor(alice), real, reason="it is mended"), bob, ada)
        assert operation.state == State.SUCCEEDED, operation.outcome
    assert old.acknowledged | there.acknowledged <= pair.ids(pair.primary)
    with Writer(pair.primary, start=2 * 10**6) as home:
        pass
    until(lambda: home.acknowledged <= pair.ids(pair.standby))
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        pair.on(pair.standby, DATABASE, "INSERT INTO orders (id) VALUES (0)")
    real.refresh_from_db()
    assert real.active == "primary"


def test_a_drill_reads_every_row_and_leaves_the_standby_as_it_was(
    real: RecoveryPlan, pair: Pair, alice: Person
) -> None:
    with Writer(pair.primary) as old:
        pass
    until(lambda: old.acknowledged <= pair.ids(pair.standby))
    operation = run(request_drill(Actor(alice), real, reason="monthly"))
    assert operation.state == State.SUCCEEDED, operation.outcome
    rehearsed = operation.steps.get(key="database/rehearse").checkpoint
    assert rehearsed["rows"] == {"public.orders": len(old.acknowledged)}
    assert why_open(Server.of_url(pair.primary.url_of(DATABASE)), [ROLE]) == f"{ROLE} can still log in"
    assert pair.standby.follows


@pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
def test_a_worker_dies_at_every_step_of_both_ways(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, pair: Pair, servant: None, alice: Person, bob: Person, ada: Person, boundary: str,
    crash_at: Callable[[str], object],
) -> None:  # fmt: skip
    with Writer(pair.primary) as old:
        crash_at(boundary)
        operation = request_failover(Actor(alice), real, point="standby", words="red", reason="down")
        _to_its_end(operation, bob, ada)
    assert old.acknowledged <= pair.ids(pair.standby)
    real.refresh_from_db()
    world.restored.clear()
    with Writer(pair.standby, start=10**6) as there:
        _to_its_end(request_failback(Actor(alice), real, reason="mended"), bob, ada)
    assert old.acknowledged | there.acknowledged <= pair.ids(pair.primary)
    assert pair.standby.follows


def _to_its_end(operation: Operation, *people: Person) -> None:
    for person in people:
        transitions.approve(operation.pk, Actor(person), operation.plan_digest)
    for turn in range(80):
        try:
            engine.run(operation.pk, f"w{turn}")
        except LeaseLost:
            pass
        Operation.objects.filter(pk=operation.pk, state=State.RUNNING).update(lease_until="2000-01-01T00:00:00Z")
        operation.refresh_from_db()
        if operation.state != State.RUNNING:
            break
    assert operation.state == State.SUCCEEDED, operation.outcome


def test_readiness_says_what_is_missing(real: RecoveryPlan, pair: Pair) -> None:
    database = PostgresDatabase()
    source, target = sides(real, database_part(real), real.primary)

    def wrong(**settings: Any) -> dict[str, str]:
        there = Side(source.environment, {**source.settings, **settings})
        return {one.key: one.words for one in database.readiness(there, target) if one.outcome != "ready"}

    assert wrong() == {}
    assert "There is no role nobody" in wrong(roles=["nobody"])["database-source"]
    pair.primary.stop()
    until(lambda: "receives nothing" in wrong().get("standby", ""))
    assert "cannot be reached" in wrong()["database-source"]
    pair.standby.stop()
    with pytest.raises(StepError, match="cannot be reached"):
        database.candidates(source, target)


@pytest.mark.parametrize(
    ("given", "key", "words"),
    [
        ({"primary": {}, "standby": {"database": "file:x"}, "roles": ["a"]}, "primary.database", "is missing"),
        ({"primary": {"database": "postgres://x"}, "standby": {}, "roles": ["a"]}, "primary.database", ""),
        ({"database": "file:x"}, "primary.roles", "is missing"),
        ({"database": "file:x", "roles": ["a"], "colour": "red"}, "colour", "is no setting"),
        ({"database": "file:x", "roles": ["a"], "rebuild": "by magic"}, "standby.rebuild", "has to be"),
    ],
)
def test_settings_that_are_wrong_are_said_in_words(given: dict[str, Any], key: str, words: str) -> None:
    assert words in PostgresDatabase().check_settings(given)[key]
