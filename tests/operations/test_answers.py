"""Where the end of a step cannot be known, a person says retry, skip, done or roll back."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import boundaries, engine, transitions
from controlplane.operations.errors import Conflict, Invalid, Unknown
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan
from controlplane.operations.states import Answer, State
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of, step

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def asked(ask: Ask, world: World) -> Operation:
    """An operation that does not know whether step a happened."""
    world.doubt = {"a": Unknown("Look whether a runs.")}
    operation = ask(plan_of("a", "b", recovery=True))
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.NEEDS_OPERATOR
    return operation


@pytest.mark.parametrize(
    ("answer", "state", "effects"),
    [
        (Answer.RETRY, State.SUCCEEDED, {"a": 1, "b": 1}),
        (Answer.SKIP, State.SUCCEEDED, {"b": 1}),
        (Answer.DONE, State.SUCCEEDED, {"b": 1}),
        (Answer.ROLL_BACK, State.FAILED, {"undo-a": 1}),
    ],
)
def test_each_answer_goes_on_its_way(  # noqa: PLR0917
    asked: Operation, world: World, alice: Person, answer: Answer, state: State, effects: dict[str, int]
) -> None:
    transitions.resolve(asked.pk, Actor(alice), "a", answer, "I looked")
    assert engine.run(asked.pk, "w2")
    asked.refresh_from_db()
    assert (asked.state, dict(world.effects)) == (state, effects)


def test_an_answer_for_another_step_changes_nothing(asked: Operation, alice: Person) -> None:
    with pytest.raises(Invalid, match="No step named b"):
        transitions.resolve(asked.pk, Actor(alice), "b", Answer.DONE)


def test_two_answers_at_once_are_one_answer(asked: Operation, alice: Person) -> None:
    transitions.resolve(asked.pk, Actor(alice), "a", Answer.DONE)
    with pytest.raises(Conflict):
        transitions.resolve(asked.pk, Actor(alice), "a", Answer.ROLL_BACK)


def test_a_stop_asked_for_meanwhile_is_kept_until_it_is_answered(
    asked: Operation, alice: Person, bob: Person, world: World
) -> None:
    assert transitions.cancel(asked.pk, Actor(alice), "enough").state == State.NEEDS_OPERATOR
    with pytest.raises(Conflict, match="Alice has asked to stop it already"):
        transitions.cancel(asked.pk, Actor(bob), "enough of it")
    assert transitions.resolve(asked.pk, Actor(bob), "a", Answer.DONE).state == State.CANCELLING
    engine.run(asked.pk, "w2")
    asked.refresh_from_db()
    assert (asked.state, asked.outcome) == (State.CANCELLED, "stopped by Alice before b: enough. Never touched: b.")
    assert not world.effects
    assert Entry.objects.filter(action="operation.cancelling").earliest("pk").reason == "enough"


def test_a_stop_asked_for_before_the_doubt_is_not_forgotten(ask: Ask, world: World, alice: Person) -> None:
    operation = ask(plan_of("a", "b", "c"))

    def stop_at_b(boundary: str, operation_id: int, step: str) -> None:
        if (boundary, step) == ("intent_written", "b"):
            transitions.cancel(operation_id, Actor(alice), "bad feeling")
            world.doubt["b"] = Unknown("Look whether b runs.")

    boundaries.listeners.append(stop_at_b)
    engine.run(operation.pk, "w1")
    boundaries.listeners.clear()
    transitions.resolve(operation.pk, Actor(alice), "b", Answer.SKIP)
    engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert (operation.state, dict(world.effects)) == (State.CANCELLED, {"a": 1})


def test_an_answer_to_an_earlier_question_is_not_taken(asked: Operation, alice: Person, world: World) -> None:
    transitions.resolve(asked.pk, Actor(alice), "a", Answer.RETRY, attempt=1)
    world.doubt = {"a": Unknown("Now look at host 2.")}
    engine.run(asked.pk, "w2")
    with pytest.raises(Conflict, match="tried again since you read"):
        transitions.resolve(asked.pk, Actor(alice), "a", Answer.DONE, attempt=1)
    transitions.resolve(asked.pk, Actor(alice), "a", Answer.DONE, attempt=2)


def test_where_the_plan_has_nothing_to_put_back_the_end_says_so(ask: Ask, world: World, alice: Person) -> None:
    world.doubt = {"a": Unknown("Look whether a runs.")}
    operation = ask(plan_of("a"))
    engine.run(operation.pk, "w1")
    transitions.resolve(operation.pk, Actor(alice), "a", Answer.ROLL_BACK)
    engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert operation.state == State.FAILED
    assert operation.outcome == "bring a: Look whether a runs. The plan has nothing to put back after it."


def test_what_was_left_out_of_putting_back_is_not_called_put_back(ask: Ask, world: World, alice: Person) -> None:
    world.bad = {"a": "503"}
    world.doubt = {"undo-a": Unknown("Nobody knows.")}
    operation = ask(plan_of("a", recovery=True))
    engine.run(operation.pk, "w1")
    transitions.resolve(operation.pk, Actor(alice), "undo-a", Answer.SKIP)
    engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert operation.outcome == "bring a: 503. Not all of it was put back; left out: bring undo-a"


def test_a_step_that_asks_does_not_end_the_operation_when_it_fails(ask: Ask, world: World, alice: Person) -> None:
    world.bad = {"a": "503"}
    operation = ask(Plan("asks", (step("a", asks=True), step("b"))))
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.NEEDS_OPERATOR
    world.bad = {}
    transitions.resolve(operation.pk, Actor(alice), "a", Answer.RETRY)
    engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED


@pytest.mark.parametrize("answer", [Answer.SKIP, Answer.DONE])
def test_who_goes_on_at_a_risk_says_so_in_words(ask: Ask, world: World, alice: Person, answer: Answer) -> None:
    world.doubt = {"a": Unknown("Look whether a runs.")}
    operation = ask(Plan("risky", (step("a", risk="Two of them may run."),)))
    engine.run(operation.pk, "w1")
    with pytest.raises(Invalid, match="Two of them may run"):
        transitions.resolve(operation.pk, Actor(alice), "a", answer)
    transitions.resolve(operation.pk, Actor(alice), "a", answer, "I accept it: the host is burnt")
    kept = operation.steps.get(key="a").checkpoint["answered"]
    assert (kept["by"], kept["about"]) == ("Alice", "Look whether a runs.")
