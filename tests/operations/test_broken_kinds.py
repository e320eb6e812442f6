"""Something around the steps is broken: the operation says so, and can be stopped, answered for and ended."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, deadlines, engine, registry, ticks, transitions
from controlplane.operations.errors import Unknown
from controlplane.operations.models import Event, Operation, OperationLock
from controlplane.operations.plans import Plan, StepSpec
from controlplane.operations.states import Answer, State
from tests.operations import recipes
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of

pytestmark = pytest.mark.django_db(transaction=True)


def breaks(*values: Any) -> Any:
    raise ZeroDivisionError("in here")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Breaks one function of the kind."""

    def broken(part: str) -> None:
        kind = registry.Kind(**{**recipes.SAMPLE.__dict__, part: breaks})
        monkeypatch.setitem(registry._kinds, "sample", kind)

    return broken


@pytest.mark.parametrize("part", ["facts", "plan", "gates"])
def test_what_cannot_be_checked_waits_and_says_so(ask: Ask, alice: Person, broken: Any, part: str) -> None:
    operation = ask()
    broken(part)
    assert not engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.outcome.startswith("waits: it cannot be checked (ZeroDivisionError)")
    assert not OperationLock.objects.exists()
    assert transitions.cancel(operation.pk, Actor(alice), "enough").state == State.CANCELLED


def test_a_kind_that_nobody_knows_any_more(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = ask()
    monkeypatch.delitem(registry._kinds, "sample")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.outcome.startswith("waits: it cannot be checked (KeyError)")


def test_a_step_that_nobody_knows_has_not_begun(
    ask: Ask, alice: Person, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while workers of two versions run: whoever stops the operation meanwhile is heard before it is tried again."""
    operation = ask(plan_of("a"))
    with monkeypatch.context() as older:
        older.delitem(registry._functions, "sample.bring")
        engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert (operation.state, operation.steps.get().attempt) == (State.NEEDS_OPERATOR, 0)
    transitions.cancel(operation.pk, Actor(alice), "enough")
    transitions.resolve(operation.pk, Actor(alice), "a", Answer.RETRY)
    engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert (operation.state, world.effects) == (State.CANCELLED, {})


@pytest.mark.parametrize("state", [State.NEEDS_OPERATOR])
def test_secrets_that_cannot_be_had_are_a_question(ask: Ask, alice: Person, broken: Any, state: State) -> None:
    operation = ask(plan_of("a", "b"))
    broken("secrets")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == state
    assert "unexpected ZeroDivisionError: in here" in operation.outcome
    registry._kinds["sample"] = recipes.SAMPLE
    transitions.resolve(operation.pk, Actor(alice), "a", Answer.RETRY)
    engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED


def test_it_can_be_ended_though_it_stays_broken(ask: Ask, alice: Person, broken: Any) -> None:
    rolled, stopped, skipped = (ask(plan_of("a"), scopes=(name,)) for name in ("one", "two", "three"))
    broken("secrets")
    for operation in (rolled, stopped, skipped):
        engine.run(operation.pk, "w1")
    transitions.resolve(rolled.pk, Actor(alice), "a", Answer.ROLL_BACK)
    transitions.cancel(stopped.pk, Actor(alice), "enough")
    transitions.resolve(stopped.pk, Actor(alice), "a", Answer.RETRY)
    transitions.resolve(skipped.pk, Actor(alice), "a", Answer.SKIP)
    for operation in (rolled, stopped, skipped):
        engine.run(operation.pk, "w2")
    ends = dict(Operation.objects.values_list("pk", "state"))
    assert ends == {rolled.pk: State.FAILED, stopped.pk: State.CANCELLED, skipped.pk: State.SUCCEEDED}
    assert not OperationLock.objects.exists()


def test_a_question_that_was_written_already_stays_the_question(
    ask: Ask, world: World, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = ask(plan_of("a"))
    world.doubt = {"a": Unknown("Look at host 1.")}

    def die(boundary: str, operation_id: int, step: str) -> None:
        if boundary == "state_written":
            raise KeyboardInterrupt

    boundaries.listeners.append(die)
    with pytest.raises(KeyboardInterrupt):
        engine.run(operation.pk, "w1")
    boundaries.listeners.clear()
    Operation.objects.update(lease_until=Now() - timedelta(seconds=1))
    broken("secrets")
    engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert operation.state == State.NEEDS_OPERATOR
    assert "Look at host 1." in operation.outcome


def test_the_lease_is_renewed_while_secrets_are_fetched(
    ask: Ask, world: World, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.OPERATION_LEASE_SECONDS, settings.OPERATION_HEARTBEAT_SECONDS = 1.0, 0.1
    operation = ask()
    until: list[Any] = []

    def slowly(of: Operation) -> list[str]:
        first = Operation.objects.get(pk=of.pk).lease_until
        while (now := Operation.objects.get(pk=of.pk).lease_until) == first:
            pass
        until.append(now)
        return []

    monkeypatch.setitem(registry._kinds, "sample", registry.Kind(**{**recipes.SAMPLE.__dict__, "secrets": slowly}))
    assert engine.run(operation.pk, "w1")
    assert until
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED


def test_a_step_that_nobody_knows_is_a_question(ask: Ask) -> None:
    operation = ask(Plan("sample", (StepSpec("a", "bring a", "sample.gone"),)))
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.NEEDS_OPERATOR
    assert "sample.gone" in operation.outcome


def test_a_kind_that_cannot_take_note_of_the_end_does_not_hold_it_up(ask: Ask, broken: Any) -> None:
    operation = ask()
    broken("finished")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED
    assert not OperationLock.objects.exists()
    assert Event.objects.filter(operation=operation, kind="error", text__contains="could not be written down").exists()


def test_one_that_cannot_be_ended_holds_up_no_other(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    late = [ask(approvals=1).pk for _ in range(2)]
    Operation.objects.update(approval_deadline=Now() - timedelta(seconds=1))
    real = deadlines.expire

    def expire(operation_id: int) -> None:
        if operation_id == late[0]:
            breaks()
        real(operation_id)

    monkeypatch.setattr(ticks, "expire", expire)
    assert ticks.expire_approvals() == 1
    assert list(Operation.objects.order_by("pk").values_list("state", flat=True)) == [
        State.AWAITING_APPROVAL, State.EXPIRED,
    ]  # fmt: skip


def test_an_error_in_the_log_of_the_process_shows_no_secret(
    ask: Ask, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.secrets = ["correct-horse-battery"]
    world.errors = {"one": [ValueError("login failed for correct-horse-battery")]}
    operation = ask()
    engine.run(operation.pk, "w1")
    assert "login failed for" in caplog.text
    assert "correct-horse-battery" not in caplog.text
