"""What apps register in `AppConfig.ready()`: kinds of operations and the functions of their steps."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan


class StepContext(Protocol):
    """What a step function is given. `scopes` and `fence` let the target refuse a worker that lost its lease."""

    operation_id: int
    scopes: list[str]
    step_key: str
    fence: int
    attempt: int
    checkpoint: dict[str, Any]

    def log(self, text: str, *, level: str = "line") -> None:
        """Add a line (level: line, warning, error) to the operation's log; secrets are masked."""

    def mask(self, *secrets: str) -> None:
        """Never show these values in any later line of the operation."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """Say how far the step is, in its own unit."""

    def save_checkpoint(self, **values: Any) -> None:
        """Keep facts durably, for the worker that may have to go on."""

    def together(self) -> AbstractContextManager[None]:
        """What is written down within is there as a whole or not at all, and durable at its end. Nothing slow there."""

    def did(self, what: str, subject: str, **facts: Any) -> None:
        """Write down, durably, one change that was made in the world; see `models.Effect`. Never a secret."""

    def check(self) -> None:
        """Raise LeaseLost when this worker may no longer act, Stopped when the step is interruptible and somebody
        asked to stop. Call it right before an effect, and now and then in long work."""

    def wait(self, seconds: float) -> None:
        """Sleep, but stop at once (LeaseLost) when the lease is gone."""

    def remaining(self) -> float:
        """Seconds until the stored deadline of this attempt."""


class Seen(Enum):
    """What `observe` found."""

    DONE = "done"
    NOT_DONE = "not done"


@dataclass(frozen=True)
class Verdict:
    """What `verify` found: passed, pending (ask again) or failed, with the reason in words."""

    outcome: str
    reason: str = ""


def passed(reason: str = "") -> Verdict:
    """The effect is there and good."""
    return Verdict("passed", reason)


def pending(reason: str) -> Verdict:
    """Not yet: the engine asks again until the step's deadline."""
    return Verdict("pending", reason)


def failed(reason: str) -> Verdict:
    """It will not become good; the recovery steps run."""
    return Verdict("failed", reason)


Observe = Callable[..., Seen]
Act = Callable[..., None]
Verify = Callable[..., Verdict]


@dataclass(frozen=True)
class StepFunction:
    """observe → act → verify, each `(context, **arguments)`.

    observe: is the effect there already? Raises `Unknown` when only a person can tell.
    act: bring it about; it may run again only if observe says it did not happen. Raises `StepError`.
    verify: is it good? Asked every `poll` seconds while pending. None: acting was all.
    """

    act: Act
    observe: Observe | None = None
    verify: Verify | None = None
    poll: float = 1.0


@dataclass(frozen=True)
class Demand:
    """Who has to approve: so many people, and of each group so many, as `Operation.approver_groups` keeps them."""

    count: int
    groups: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Kind:
    """One kind of operation, as its app describes it.

    facts: ask the world what the plan depends on (network allowed, outside of any transaction).
    plan: pure; the same facts give the same plan.
    gates: what must hold for it to start, asked in the claiming transaction, with the facts. What nobody may change
        between the answer and the start, they lock: rows after the operation's, before the audit trail's lock.
    moved: why the plan built afresh at the start is another than the signed one, in words that go on with ". Ask for it
        again"; "" where it is what runs there.
    demand: who would have to approve it if it were asked for now, where that may change while it waits: what was
        tightened since holds at the start too.
    secrets: values that must never be shown in the log of this operation.
    finished: called in the finishing transaction, once, when the operation has ended in any way.
    result: asked once after it succeeded (network allowed, outside of any transaction): in which points what there is
        now differs from what the plan promised, in words. Raises StepError when it cannot be asked.
    takes_away: it only takes away what must not be there (a side that came back and could serve people), so it
        starts and goes on while the world is stopped.
    background: long and nobody waits for it: only so many of these run at once, so that others find a free worker.
    """

    key: str
    label: str
    facts: Callable[[Operation], Mapping[str, Any]]
    plan: Callable[[Operation, Mapping[str, Any]], Plan]
    gates: Callable[[Operation, Mapping[str, Any]], list[Gate]]
    moved: Callable[[Operation, Plan], str] = lambda operation, fresh: ""
    demand: Callable[[Operation], Demand] | None = None
    secrets: Callable[[Operation], list[str]] = lambda operation: []
    finished: Callable[[Operation], None] = lambda operation: None
    result: Callable[[Operation], list[str]] | None = None
    takes_away: bool = False
    background: bool = False
    # A partial that says what the operation is about; it gets `operation`.
    facts_template: str = ""


_kinds: dict[str, Kind] = {}
_functions: dict[str, StepFunction] = {}


def register_kind(kind: Kind) -> None:
    """Make a kind known. Raises ValueError when the key is taken by another."""
    if _kinds.setdefault(kind.key, kind) is not kind:
        raise ValueError(f"kind {kind.key} is registered twice")


def register_step(name: str, function: StepFunction) -> None:
    """Make a step function known. Raises ValueError when the name is taken by another."""
    if _functions.setdefault(name, function) is not function:
        raise ValueError(f"step function {name} is registered twice")


def kind_of(operation: Operation) -> Kind:
    """The kind of an operation. Raises KeyError when no installed app knows it."""
    return _kinds[operation.kind]


def background_kinds() -> list[str]:
    """The keys of all kinds that run in the background."""
    return [kind.key for kind in _kinds.values() if kind.background]


def labels_that_take_away() -> list[str]:
    """The labels of all kinds that the stop of the world does not hold."""
    return [kind.label for kind in _kinds.values() if kind.takes_away]


def step_function(name: str) -> StepFunction:
    """The function a step names. Raises KeyError when no installed app knows it."""
    return _functions[name]
