"""The deed compared with the plan: what was done is explained by what was approved, or somebody hears of it.

1. In the finishing transaction every effect that a driver told (`StepContext.did`) is held against the plan: its step
   is one of the plan's and was begun; what was changed is named by the step; the facts are those of its arguments.
2. After a success the clock asks the operation's kind, by the network and outside of any transaction, whether there is
   what the plan promised. What another operation changed meanwhile cannot be told any more, and the page says so.

Nothing here knows a kind of operation. An argument that is empty leaves its fact open ("whatever runs there").
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F
from django.db.models.functions import Now

from controlplane.audit.record import SYSTEM, record
from controlplane.live.ring import ring
from controlplane.operations.errors import OperationError, StepError
from controlplane.operations.events import NewEvent, append
from controlplane.operations.models import Deed, Effect, Event, Operation
from controlplane.operations.registry import kind_of
from controlplane.operations.states import State, StepState

logger = logging.getLogger(__name__)
CLOCK = SYSTEM("clock")
# How long whoever asks has before another may; and after how many tries nobody asks any more.
PATIENCE = timedelta(seconds=60)
AGAIN = timedelta(seconds=15)
TRIES = 8
SHOWN = 20  # as many differences as anybody reads
Spec = Mapping[str, Any]


# --- one effect against one step: pure ------------------------------------------------------------------


def unexplained(effect: Effect, specs: Mapping[str, Spec], begun: frozenset[str]) -> str:
    """Why no step of the plan explains the effect, in words; "" when one does.

    specs: the plan's steps by key, those that put back among them. begun: keys of the steps that were tried.
    """
    done = f"{effect.what} {effect.subject}"
    spec = specs.get(effect.step)
    if spec is None:
        return f"{done}: the plan has no step {effect.step}"
    if effect.step not in begun:
        return f"{done}: the step “{spec['title']}” was never begun"
    said = list(_said("", spec["arguments"]))
    names = {str(spec["group"]), *(text for _, text in said), *(name for name, _ in said)}
    for part in effect.subject.split(", "):
        if not _is_named(part, names):
            return f"{done}: the step “{spec['title']}” says nothing of {part}"
    for name, value in effect.facts.items():
        wanted = _wanted(spec["arguments"], name, effect.subject)
        if wanted and not any(_fits(str(value), one) for one in wanted):
            return f"{done} with the {name} {value}: the plan says {' or '.join(sorted(wanted))}"
    return ""


def _is_named(part: str, names: set[str]) -> bool:
    """As it is, as the end of a path, or word by word ("Service web")."""
    if part in names or any(name.endswith(f"/{part}") for name in names):
        return True
    return all(word in names for word in part.split(" "))


def _said(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every plain value in a step's arguments, with the name it stands under; empty ones say nothing."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _said(str(key), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _said(name, inner)
    elif value not in ("", None):
        yield name, str(value)


def _wanted(arguments: Spec, name: str, subject: str) -> set[str]:
    """What the step says of this fact: under its name, for each subject ("weights"), or in an image's digest."""
    wanted = {text for key, text in _said("", arguments) if key == name}
    image = arguments.get("image")
    if name == "digest" and isinstance(image, str) and "@sha256:" in image:
        wanted.add(image)
    each = arguments.get(f"{name}s")
    if isinstance(each, Mapping) and subject in each:
        wanted.add(str(each[subject]))
    return wanted


def _fits(value: str, wanted: str) -> bool:
    return value == wanted or wanted.endswith(f"@{value}")


def specs_of(operation: Operation) -> dict[str, Spec]:
    """The steps of its plan by key."""
    return {spec["key"]: spec for spec in operation.plan["steps"] + operation.plan["recovery"]}


def compared(operation: Operation, effects: list[Effect]) -> list[str]:
    """For each of the operation's effects, in their order, why the plan does not explain it; "" where it does."""
    tried = operation.steps.exclude(state=StepState.PENDING, attempt=0).values_list("key", flat=True)
    specs, begun = specs_of(operation), frozenset(tried)
    return [unexplained(effect, specs, begun) for effect in effects]


# --- when it ends ---------------------------------------------------------------------------------------


def compare(operation: Operation) -> Deed | None:
    """Hold what was done against the plan, in the finishing transaction; None where there is nothing to hold."""
    effects = list(operation.effects.all())
    asks = operation.state == State.SUCCEEDED and kind_of(operation).result is not None
    if not effects and not asks:
        return None
    words = [one for one in compared(operation, effects) if one]
    deed = Deed.objects.create(
        operation=operation,
        effects=len(effects),
        differences=words,
        end=Deed.End.DUE if asks else Deed.End.NOBODY_KNOWS,
        ask_at=Now() if asks else None,
    )
    if words:
        _tell(operation, words)
    return deed


def _tell(operation: Operation, words: list[str]) -> None:
    """The log says it; the audit entry is the caller's, who writes one in any case."""
    events = [NewEvent(Event.Kind.ERROR, f"not explained by the plan: {one}") for one in words[:SHOWN]]
    append(operation.pk, events)


def said_of(deed: Deed | None) -> dict[str, Any]:
    """What the audit trail keeps of it, with the end of the operation."""
    return {"effects": deed.effects, "not explained by the plan": deed.differences} if deed else {}


# --- after the end --------------------------------------------------------------------------------------


def ask_due() -> int:
    """Ask what there is after operations that have succeeded (the clock calls it); returns how many were asked."""
    asked = 0
    due = Deed.objects.filter(end=Deed.End.DUE, ask_at__lte=Now()).order_by("ask_at")
    for deed in due.select_related("operation")[:10]:
        # A claim: whoever asks has a minute, then another clock may.
        mine = Deed.objects.filter(pk=deed.pk, end=Deed.End.DUE, tries=deed.tries, ask_at__lte=Now())
        if mine.update(ask_at=Now() + PATIENCE, tries=F("tries") + 1):
            _ask(deed)
            asked += 1
    return asked


def _ask(deed: Deed) -> None:
    operation = deed.operation
    if _is_overtaken(operation):
        _close(deed, Deed.End.OVERTAKEN)
        return
    ask = kind_of(operation).result
    try:
        words = ask(operation) if ask else []
    except (OperationalError, InterfaceError):
        raise
    except (StepError, OperationError) as error:
        _ask_later(deed, str(error))
        return
    except Exception as error:
        logger.exception("operation %s: nobody can say whether its end is as planned", operation.pk)
        _ask_later(deed, f"{type(error).__name__}; the clock's log says more")
        return
    if _is_overtaken(operation):  # while we asked
        _close(deed, Deed.End.OVERTAKEN)
    else:
        _close(deed, Deed.End.DIFFERS if words else Deed.End.AS_PLANNED, words)


def _is_overtaken(operation: Operation) -> bool:
    """Another operation began to change the same since: what there is now is not this one's."""
    others = Operation.objects.filter(lock_names__overlap=operation.lock_names, started_at__gte=operation.finished_at)
    return others.exclude(pk=operation.pk).exists()


def _ask_later(deed: Deed, words: str) -> None:
    if deed.tries + 1 >= TRIES:
        _close(deed, Deed.End.UNHEARD, [], words)
    else:
        Deed.objects.filter(pk=deed.pk, end=Deed.End.DUE).update(ask_at=Now() + AGAIN)


def _close(deed: Deed, end: Deed.End, words: list[str] | None = None, why: str = "") -> None:
    words = words or []
    operation = deed.operation
    with transaction.atomic():
        open_still = Deed.objects.filter(pk=deed.pk, end=Deed.End.DUE)
        if not open_still.update(end=end, end_differences=words, ask_at=None):
            return  # another clock was first
        if words:
            _tell(operation, words)
        transaction.on_commit(lambda: ring("news", "operations"))
        record(
            CLOCK, "operation.compared", f"operation {operation.pk}", scopes=operation.scopes, reason=why,
            data={"title": operation.title, "plan_digest": operation.plan_digest, "end": end.label,
                  "differs": words, "effects": deed.effects, "not explained by the plan": deed.differences},
        )  # fmt: skip
