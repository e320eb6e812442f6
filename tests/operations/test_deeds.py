"""What was done is explained by a step of the approved plan, or everybody hears of it."""

from typing import Any

import pytest
from django.db import connection

from controlplane.audit.models import Entry
from controlplane.embedded.processes import wait_until
from controlplane.operations import deeds, engine, registry
from controlplane.operations.errors import StepError
from controlplane.operations.models import Deed, Effect, Operation
from controlplane.operations.plans import Plan, StepSpec
from controlplane.operations.registry import Kind, StepContext, StepFunction
from tests.operations import recipes
from tests.operations.conftest import Ask
from tests.operations.recipes import World

pytestmark = pytest.mark.django_db(transaction=True)

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def _tell(context: StepContext, **arguments: Any) -> None:
    for what, subject, facts in told:
        context.did(what, subject, **facts)


told: list[tuple[str, str, dict[str, Any]]] = []
TELLING = StepFunction(act=_tell)


def plan(**arguments: Any) -> Plan:
    return Plan("telling", (StepSpec("go", "start it", "sample.telling", arguments, "production-1"),))


@pytest.fixture(autouse=True)
def _telling() -> None:
    registry.register_step("sample.telling", TELLING)
    told.clear()


def differences(ask: Ask, **arguments: Any) -> list[str]:
    operation = ask(plan(**arguments))
    assert engine.run(operation.pk, "w1")
    return list(Deed.objects.get(operation=operation).differences)


@pytest.mark.parametrize(
    ("subject", "facts", "arguments"),
    [
        ("production-1", {}, {}),  # the heading it stands under
        ("web", {}, {"place": {"service": "web"}}),
        ("production-2", {}, {"folder": "instances/production/production-2"}),
        ("Service web", {}, {"document": {"kind": "Service", "metadata": {"name": "web"}}}),
        ("a, b", {}, {"members": [{"name": "a"}, {"name": "b"}]}),
        ("b", {"weight": 5}, {"weights": {"a": 95, "b": 5}}),
        ("production-1", {"digest": DIGEST, "version": "1.5.0"}, {"digest": DIGEST, "version": "1.5.0"}),
        ("production-1", {"digest": DIGEST}, {"image": f"registry/web@{DIGEST}"}),
        ("production-1", {"count": 3}, {"count": 3}),
        ("production-1", {"digest": OTHER}, {"digest": ""}),  # the plan leaves it open
        ("production-1", {"took": 7}, {"digest": DIGEST}),
    ],
)
def test_what_a_step_says_is_explained(
    ask: Ask, subject: str, facts: dict[str, Any], arguments: dict[str, Any]
) -> None:
    told.append(("started", subject, facts))
    assert differences(ask, **arguments) == []


@pytest.mark.parametrize(
    ("subject", "facts", "arguments", "words"),
    [
        ("production-9", {}, {"name": "production-1"}, "says nothing of production-9"),
        ("a, c", {}, {"members": [{"name": "a"}, {"name": "b"}]}, "says nothing of c"),
        ("production-1", {"digest": OTHER}, {"digest": DIGEST}, f"with the digest {OTHER}: the plan says {DIGEST}"),
        ("production-1", {"digest": OTHER}, {"image": f"registry/web@{DIGEST}"}, f"with the digest {OTHER}"),
        ("production-1", {"version": "1.6"}, {"start": {"version": "1.5"}}, "with the version 1.6: the plan says 1.5"),
        ("production-1", {"count": 4}, {"count": 3}, "with the count 4: the plan says 3"),
        ("b", {"weight": 50}, {"weights": {"a": 95, "b": 5}}, "with the weight 50: the plan says 5"),
    ],
)
def test_anything_else_is_a_difference(
    ask: Ask, subject: str, facts: dict[str, Any], arguments: dict[str, Any], words: str
) -> None:
    told.append(("started", subject, facts))
    [difference] = differences(ask, **arguments)
    assert difference.startswith(f"started {subject}")
    assert words in difference


def test_an_effect_of_no_step_or_of_one_that_never_began(ask: Ask, world: World) -> None:
    operation = ask(Plan("two", (recipes.step("a", on_failure=("undo",)),), (recipes.step("undo"),)))
    Effect.objects.create(operation=operation, step="ghost", what="deleted", subject="a")
    Effect.objects.create(operation=operation, step="undo", what="stopped", subject="undo")
    engine.run(operation.pk, "w1")
    deed = Deed.objects.get(operation=operation)
    assert deed.differences == [
        "deleted a: the plan has no step ghost",
        "stopped undo: the step “bring undo” was never begun",
    ]
    assert not deed.is_explained


def test_the_log_and_the_audit_trail_say_so(ask: Ask) -> None:
    told.append(("started", "elsewhere", {}))
    operation = ask(plan())
    engine.run(operation.pk, "w1")
    words = "started elsewhere: the step “start it” says nothing of elsewhere"
    assert operation.events.filter(kind="error").get().text == f"not explained by the plan: {words}"
    entry = Entry.objects.get(action="operation.succeeded")
    assert (entry.data["effects"], entry.data["not explained by the plan"]) == (1, [words])


@pytest.mark.timeout(30)
def test_what_is_told_together_waits_for_nobody(ask: Ask) -> None:
    """The lease's thread writes the log under the same row: it waits for the teller, who must not wait for it."""

    def tell(context: StepContext) -> None:
        with context.together():
            context.did("started", "production-1")
            context.log("a line")
            wait_until(_somebody_waits_for_a_row, 10)
            context.did("stopped", "production-1")

    registry.register_step("sample.together", StepFunction(act=tell))
    operation = ask(Plan("two", (StepSpec("go", "start it", "sample.together", {}, "production-1"),)))
    assert engine.run(operation.pk, "w1")
    assert [one.what for one in operation.effects.all()] == ["started", "stopped"]
    assert operation.events.filter(text="a line").exists()


def _somebody_waits_for_a_row() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
        return cursor.fetchone() is not None


def test_a_plan_that_failed_is_compared_too(ask: Ask, world: World) -> None:
    bad = recipes.step("b")
    operation = ask(Plan("two", (StepSpec("go", "start", "sample.telling", {}, "x"), bad)))
    told.append(("started", "x", {}))
    world.bad["b"] = "no"
    engine.run(operation.pk, "w1")
    deed = Deed.objects.get(operation=operation)
    assert (deed.effects, deed.differences, deed.end) == (1, [], Deed.End.NOBODY_KNOWS)


def test_where_nothing_was_told_there_is_nothing_to_compare(ask: Ask) -> None:
    engine.run(ask().pk, "w1")
    assert not Deed.objects.exists()


# --- what there is after the end --------------------------------------------------------------------------


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the kind answers, one a question: words, or an error."""
    answers: list[Any] = []

    def ask(operation: Operation) -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    asking = Kind(**{**recipes.SAMPLE.__dict__, "result": ask})
    monkeypatch.setitem(registry._kinds, "sample", asking)
    return answers


@pytest.fixture
def ended(ask: Ask, result: list[Any]) -> Operation:
    operation = ask()
    engine.run(operation.pk, "w1")
    return operation


def test_it_is_as_planned(ended: Operation, result: list[Any]) -> None:
    result.append([])
    assert deeds.ask_due() == 1
    assert ended.deed.end == Deed.End.AS_PLANNED
    assert Entry.objects.get(action="operation.compared").data["end"] == "as planned"
    assert deeds.ask_due() == 0


def test_it_differs(ended: Operation, result: list[Any]) -> None:
    result.append(["production-1 runs 1.4.0, not 1.5.0"])
    deeds.ask_due()
    assert (ended.deed.end, ended.deed.end_differences) == (Deed.End.DIFFERS, ["production-1 runs 1.4.0, not 1.5.0"])
    assert ended.events.filter(kind="error").get().text.endswith("production-1 runs 1.4.0, not 1.5.0")
    assert Entry.objects.get(action="operation.compared").data["differs"]


def test_who_does_not_answer_is_asked_again_and_then_no_more(ended: Operation, result: list[Any]) -> None:
    for tried in range(1, deeds.TRIES + 1):
        assert ended.deed.end == Deed.End.DUE
        result.append(StepError("no answer") if tried % 2 else RuntimeError("a bug"))
        assert deeds.ask_due() == 1
        assert deeds.ask_due() == 0  # not at once
        Deed.objects.update(ask_at=ended.requested_at)
        ended.refresh_from_db()
    assert ended.deed.end == Deed.End.UNHEARD
    assert Entry.objects.get(action="operation.compared").reason.startswith("RuntimeError")


def test_what_another_changed_meanwhile_is_not_told(ask: Ask, ended: Operation, result: list[Any]) -> None:
    engine.run(ask().pk, "w2")
    result.append(AssertionError("nobody is asked for the first"))
    first = Deed.objects.filter(operation=ended)
    Deed.objects.exclude(operation=ended).delete()
    deeds.ask_due()
    assert first.get().end == Deed.End.OVERTAKEN
    assert len(result) == 1


def test_two_clocks_ask_once(ended: Operation, result: list[Any]) -> None:
    deed = Deed.objects.get()
    Deed.objects.update(tries=deed.tries + 1)  # the other has claimed it since we looked
    result.append([])
    mine = Deed.objects.filter(pk=deed.pk, end=Deed.End.DUE, tries=deed.tries)
    assert not mine.update(tries=9)
    assert deeds.ask_due() == 1
    assert deeds.ask_due() == 0
