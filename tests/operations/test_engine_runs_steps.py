"""The engine runs a plan's steps in order, once each, and tells of it in one gapless sequence."""

from itertools import pairwise

import pytest
from django.db.models import Q

from controlplane.audit.models import Entry
from controlplane.operations import engine
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.models import Event, Operation, OperationLock
from controlplane.operations.states import State, StepState
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of, step

pytestmark = pytest.mark.django_db(transaction=True)


def end(operation: Operation) -> Operation:
    """Let one worker run it as far as it goes."""
    assert engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def states(operation: Operation) -> list[str]:
    return list(operation.steps.values_list("state", flat=True))


def test_each_step_happens_once_and_in_order(ask: Ask, world: World) -> None:
    done = end(ask(plan_of("a", "b", "c")))
    assert done.state == State.SUCCEEDED
    assert world.effects == {"a": 1, "b": 1, "c": 1}
    assert states(done) == [StepState.SUCCEEDED] * 3
    assert world.finished == [State.SUCCEEDED]


def test_events_have_no_gap_and_the_counter_is_right(ask: Ask, world: World) -> None:
    world.lines = {"a": [f"line {n}" for n in range(250)]}
    done = end(ask(plan_of("a", "b")))
    events = list(Event.objects.filter(operation=done).order_by("seq"))
    assert [event.seq for event in events] == list(range(1, done.last_seq + 1))
    assert [event.text for event in events if event.text.startswith("line ")] == [f"line {n}" for n in range(250)]
    assert all(one.at <= two.at for one, two in pairwise(events) if one.kind == two.kind)


def test_what_is_there_already_is_not_done_again(ask: Ask, world: World) -> None:
    world.there = {"a"}
    done = end(ask(plan_of("a", "b")))
    assert done.state == State.SUCCEEDED
    assert world.effects == {"b": 1}


def test_a_passing_error_is_tried_again(ask: Ask, world: World) -> None:
    world.errors = {"a": [StepError("registry answered 503")]}
    done = end(ask(plan_of("a")))
    assert done.state == State.SUCCEEDED
    assert done.steps.get().attempt == 2
    assert Event.objects.filter(operation=done, kind="warning", text__contains="again in 0 s (1 of 3)").exists()


def test_tries_come_to_an_end(ask: Ask, world: World) -> None:
    world.errors = {"a": [StepError("still no")] * 5}
    done = end(ask(plan_of("a", "b")))
    assert (done.state, world.effects["b"]) == (State.FAILED, 0)
    assert done.outcome == "bring a: still no. Never touched: b."
    assert done.steps.get(key="a").attempt == 3


def test_a_permanent_error_is_not_tried_again(ask: Ask, world: World) -> None:
    world.errors = {"a": [StepError("no such cluster", permanent=True)]}
    assert end(ask(plan_of("a"))).steps.get().attempt == 1


def test_a_failed_step_is_put_back_and_the_rest_is_never_touched(ask: Ask, world: World) -> None:
    world.bad = {"b": "/health answered 503 on b"}
    done = end(ask(plan_of("a", "b", "c", recovery=True)))
    assert done.state == State.FAILED
    assert done.outcome == "put back: bring b: /health answered 503 on b. Never touched: c."
    assert world.effects == {"a": 1, "b": 1, "undo-b": 1}


def test_what_cannot_be_put_back_needs_a_person(ask: Ask, world: World) -> None:
    world.bad = {"a": "broken", "undo-a": "broken too"}
    asked = end(ask(plan_of("a", recovery=True)))
    assert asked.state == State.NEEDS_OPERATOR
    assert asked.steps.get(key="undo-a").state == StepState.UNKNOWN
    assert OperationLock.objects.filter(operation=asked).exists()


def test_pending_ends_with_the_stored_deadline(ask: Ask, world: World) -> None:
    world.slow = {"a": 10_000}
    one = step("a", timeout=0.1)
    plan = type(plan_of())("sample", (one,))
    done = end(ask(plan))
    assert done.state == State.FAILED
    assert "not within its time: not yet" in done.outcome


def test_doubt_goes_to_a_person_not_to_a_guess(ask: Ask, world: World) -> None:
    world.doubt = {"a": Unknown("The host does not answer; look whether a runs there.")}
    asked = end(ask(plan_of("a", "b")))
    assert asked.state == State.NEEDS_OPERATOR
    assert world.effects == {}
    assert (asked.worker, asked.lease_until) == ("", None)


def test_a_bug_in_a_step_goes_to_a_person(ask: Ask, world: World) -> None:
    world.errors = {"a": [ValueError("oops")]}
    asked = end(ask(plan_of("a")))
    assert asked.state == State.NEEDS_OPERATOR
    assert "unexpected ValueError: oops" in asked.steps.get().error


def test_locks_end_with_the_operation(ask: Ask, world: World) -> None:
    done = end(ask(plan_of("a")))
    assert not OperationLock.objects.filter(operation=done).exists()


def test_every_state_change_is_in_the_audit_chain(ask: Ask, world: World) -> None:
    done = end(ask(plan_of("a")))
    entries = Entry.objects.filter(Q(target=f"operation {done.pk}")).order_by("id").values_list("action", flat=True)
    assert sorted(entries) == sorted(
        ["operation.queued", "operation.requested", "operation.running", "operation.succeeded"]
    )


def test_secrets_are_masked_before_they_are_stored(ask: Ask, world: World) -> None:
    world.secrets = ["hunter2-hunter2"]
    world.lines = {"a": ["password=hunter2-hunter2"]}
    world.bad = {"a": "denied for hunter2-hunter2"}
    done = end(ask(plan_of("a")))
    texts = " ".join(Event.objects.filter(operation=done).values_list("text", flat=True)) + done.outcome
    assert "hunter2" not in texts
    assert "password=••••••••" in texts


def test_a_text_of_several_lines_is_as_many_lines(ask: Ask, world: World) -> None:
    world.lines["one"] = ["first\r\nsecond\r\n", "50%\r", "with a \x0b and a \u2028 in it", ""]
    operation = ask()
    engine.run(operation.pk, "w1")
    lines = Event.objects.filter(operation=operation, kind="line").order_by("seq").values_list("text", flat=True)
    assert list(lines) == ["first", "second", "50%", "with a \x0b and a \u2028 in it", ""]
