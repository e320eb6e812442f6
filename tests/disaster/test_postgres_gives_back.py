"""A way home that fails anywhere behind its fence: people are let in again where they were, and come home later."""

from typing import Any

import psycopg
import pytest

from backups.disaster.databases.postgres_fence import why_open
from backups.disaster.services import request_failback
from backups.models import Recovery, RecoveryPlan
from backups.programs import Server
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, engine, transitions
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.states import Answer, State
from tests.disaster.clusters import DATABASE, ROLE, Pair, Writer, pair, until
from tests.disaster.paper import PRIMARY, STANDBY, plan, world
from tests.disaster.test_postgres_failover import failover, real, run, servant

__all__ = ["pair", "plan", "real", "servant"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

BEHIND_THE_FENCE = (
    "fence/api/stop", "database/fence", "applications/api/start", "fence/api/stopped", "database/fenced",
    "database/bring", "database/swap", "database/open", "database/verify",
)  # fmt: skip


def fails_once(key: str, boundary: str) -> None:
    """What the step does is done, and then it fails for good; or fails before it does anything."""
    failed: list[str] = []

    def listener(reached: str, operation_id: int, step: str) -> None:
        if (reached, step) == (boundary, key) and not failed:
            failed.append(step)
            raise StepError("it broke", permanent=True)

    boundaries.listeners.append(listener)


@pytest.fixture
def away(real: RecoveryPlan, pair: Pair, alice: Person, bob: Person, ada: Person) -> Any:
    """People are at the standby; what they ordered before is remembered."""
    with Writer(pair.primary) as old:
        assert failover(real, alice, bob, ada).state == State.SUCCEEDED
    world.restored.clear()
    real.refresh_from_db()
    yield old.acknowledged
    boundaries.listeners.clear()


def bring_home(plan: RecoveryPlan, alice: Person, *others: Person) -> Operation:
    return run(request_failback(Actor(alice), plan, reason="mended"), *others)


def give_up(operation: Operation, alice: Person) -> None:
    """Whoever is asked says that it is to be put back."""
    assert operation.state == State.NEEDS_OPERATOR, operation.outcome
    step = operation.steps.get(state="unknown")
    transitions.resolve(operation.pk, Actor(alice), step.key, Answer.ROLL_BACK, "not tonight")
    run(operation)


def home(pair: Pair) -> Server:
    return Server.of_url(pair.primary.url_of(DATABASE))


def are_back(plan: RecoveryPlan, pair: Pair) -> None:
    """People are served at the standby by its applications and its database, and nobody can write at home."""
    plan.refresh_from_db()
    assert (plan.active, world.people, world.running) == ("standby", STANDBY, {PRIMARY: 0, STANDBY: 3})
    assert why_open(home(pair), [ROLE]) == ""
    with Writer(pair.standby, start=5 * 10**6) as again:
        pass
    assert again.acknowledged <= pair.ids(pair.standby)


@pytest.mark.parametrize("key", BEHIND_THE_FENCE)
def test_people_are_let_back_in_and_come_home_another_day(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, away: set[int], servant: None, pair: Pair, alice: Person, bob: Person, ada: Person, key: str
) -> None:
    fails_once(key, "effect_done")
    with Writer(pair.standby, start=10**6) as there:
        operation = bring_home(real, alice, bob, ada)
        give_up(operation, alice)
        assert operation.state == State.FAILED
        assert operation.outcome.startswith("put back: "), operation.outcome
        if key != "fence/api/stop":
            until(lambda: "not permitted to log in" in there.refused)  # behind the fence, for a while
    are_back(real, pair)
    world.restored.clear()
    again = bring_home(real, alice, bob, ada)
    assert again.state == State.SUCCEEDED, again.outcome
    assert away | there.acknowledged <= pair.ids(pair.primary)
    real.refresh_from_db()
    assert (real.active, world.people) == ("primary", PRIMARY)


def test_half_of_a_swap_is_taken_back(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, away: set[int], pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    """Home's own database was renamed already, and nothing took its place."""
    fails_once("database/bring", "effect_done")
    operation = bring_home(real, alice, bob, ada)
    pair.on(
        pair.primary, "postgres", f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false",
        f"ALTER DATABASE {DATABASE} RENAME TO {DATABASE}_left_{operation.pk}",
    )  # fmt: skip
    give_up(operation, alice)
    assert operation.state == State.FAILED
    are_back(real, pair)
    assert databases(pair) == {DATABASE}
    assert away <= pair.ids(pair.primary) | pair.ids(pair.standby)


def test_home_that_is_gone_again_keeps_nobody_from_going_on_where_they_were(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, away: set[int], pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    """It was never opened, so nothing has to be proven of it."""
    fails_once("database/fenced", "effect_done")
    operation = bring_home(real, alice, bob, ada)
    pair.primary.stop()
    give_up(operation, alice)
    assert operation.state == State.FAILED, operation.outcome
    assert (world.people, world.running[STANDBY]) == (STANDBY, 3)
    with Writer(pair.standby, start=5 * 10**6):
        pass


def test_home_that_was_opened_and_is_gone_has_to_be_answered_for(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, away: set[int], pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    fails_once("database/open", "effect_done")
    operation = bring_home(real, alice, bob, ada)
    pair.primary.stop()
    give_up(operation, alice)
    assert operation.state == State.NEEDS_OPERATOR
    assert operation.steps.get(state="unknown").key == "back/close"
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(Writer(pair.standby).url)
    pair.primary.start()
    transitions.resolve(operation.pk, Actor(alice), "back/close", Answer.RETRY, "it is there again")
    run(operation)
    assert operation.state == State.FAILED
    are_back(real, pair)


def test_what_fails_once_people_may_be_at_home_is_not_put_back(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, away: set[int], pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    operation = request_failback(Actor(alice), real, reason="mended")
    back = {step.key for step in operation.steps.filter(phase="recovery")}
    steps = {step.key: set(step.spec["on_failure"]) for step in operation.steps.filter(phase="main")}
    assert {key for key, on_failure in steps.items() if on_failure} == set(BEHIND_THE_FENCE)
    assert steps["traffic/switch"] == steps["outside"] == set()
    assert steps["database/open"] == back


def test_the_way_back_is_proven_like_any_other(  # noqa: PLR0917 (fixtures)
    real: RecoveryPlan, away: set[int], pair: Pair, alice: Person, bob: Person, ada: Person
) -> None:
    """A worker that dies at it is followed by another."""
    fails_once("database/verify", "effect_done")
    operation = bring_home(real, alice, bob, ada)
    give_up(operation, alice)
    assert set(operation.steps.filter(phase="recovery").values_list("state", flat=True)) == {"succeeded"}
    assert Recovery.objects.get(operation=operation).recovered_at is None
    assert engine.run(operation.pk, "w9") is False, "it has ended"


def databases(pair: Pair) -> set[str]:
    """Those that are made from orders, or for it, at home."""
    with psycopg.connect(pair.primary.url_of("postgres")) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{DATABASE}%"]).fetchall()
    return {row[0] for row in rows}
