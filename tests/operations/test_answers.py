"""Where the end of a step cannot be known, a person says retry, skip, done or roll back."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine, transitions
from controlplane.operations.errors import Conflict, Invalid, Unknown
from controlplane.operations.models import Operation
from controlplane.operations.states import Answer, State
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of

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


def test_it_cannot_be_stopped_before_it_is_answered(asked: Operation, alice: Person) -> None:
    with pytest.raises(Conflict, match="answer it"):
        transitions.cancel(asked.pk, Actor(alice), "enough")
