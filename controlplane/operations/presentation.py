"""How an operation is shown: its tone, how far it is, its steps by part, where it can be stopped.

Everything here is the same for every viewer, so the page and the live stream share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import groupby

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.operations.history import usual_seconds
from controlplane.operations.models import Operation, OperationLock, Step
from controlplane.operations.queue import queue_before
from controlplane.operations.states import EXECUTING, STEP_FINISHED, State, StepState
from controlplane.web.templatetags.ui import absolute, duration
from controlplane.web.tones import Tone

TONES: dict[str, Tone] = {
    State.AWAITING_APPROVAL: Tone.WAIT,
    State.SCHEDULED: Tone.IDLE,
    State.QUEUED: Tone.IDLE,
    State.RUNNING: Tone.BUSY,
    State.NEEDS_OPERATOR: Tone.WAIT,
    State.CANCELLING: Tone.BUSY,
    State.SUCCEEDED: Tone.OK,
    State.FAILED: Tone.BAD,
    State.CANCELLED: Tone.IDLE,
    State.REJECTED: Tone.BAD,
    State.EXPIRED: Tone.IDLE,
    State.STALE: Tone.WAIT,
}
STEP_TONES: dict[str, Tone] = {
    StepState.PENDING: Tone.IDLE,
    StepState.RUNNING: Tone.BUSY,
    StepState.SUCCEEDED: Tone.OK,
    StepState.FAILED: Tone.BAD,
    StepState.SKIPPED: Tone.IDLE,
    StepState.UNKNOWN: Tone.WAIT,
}
PUT_BACK = "put back: "


def stands_still(operation: Operation) -> bool:
    """Whether it has begun and is held, because the world is stopped."""
    return operation.paused_at is not None and operation.state in EXECUTING


def ran_for(operation: Operation) -> SafeString | str:
    """How long it ran, or has run so far; empty before its start."""
    until = operation.finished_at or (operation.paused_at if stands_still(operation) else None)
    if until and operation.started_at:
        return duration(until - operation.started_at)
    return running_since(operation.started_at)


def tone_of(operation: Operation) -> Tone:
    """One of the five states a person sees."""
    return Tone.WAIT if stands_still(operation) else TONES[operation.state]


def word_of(operation: Operation) -> str:
    """The state in words; a failure whose recovery ran says so."""
    if stands_still(operation):
        return "stands still"
    if operation.state == State.FAILED and operation.outcome.startswith(PUT_BACK):
        return "failed, put back"
    return operation.get_state_display()


def running_since(at: datetime | None) -> SafeString | str:
    """A duration that goes on, in words that do not depend on when they were rendered; `time.js` counts it."""
    if at is None:
        return ""
    markup = '<time datetime="{}" title="{}" data-since>since {}</time>'
    return format_html(markup, at.isoformat(), absolute(at), f"{timezone.localtime(at):%H:%M:%S}")


@dataclass(frozen=True)
class Row:
    """A row of the step rail. sub: a step below the part before it."""

    title: str
    tone: Tone
    word: str
    aside: str = ""
    sub: bool = False


@dataclass(frozen=True)
class Part:
    """Steps that stand together under one heading: an instance, or a step on its own."""

    title: str
    steps: tuple[Step, ...]
    named: bool

    @property
    def tone(self) -> Tone:
        """The worst that stands out: a doubt, a failure, a move; else done, or not begun."""
        states = {step.state for step in self.steps}
        for state in (StepState.UNKNOWN, StepState.FAILED, StepState.RUNNING):
            if state in states:
                return STEP_TONES[state]
        if states <= {StepState.SKIPPED}:
            return Tone.IDLE
        return Tone.OK if states <= STEP_FINISHED else Tone.BUSY if states & STEP_FINISHED else Tone.IDLE

    @property
    def begun(self) -> bool:
        """At least one of its steps was."""
        return any(step.state != StepState.PENDING or step.attempt for step in self.steps)

    @property
    def finished(self) -> bool:
        """All its steps are."""
        return all(step.state in STEP_FINISHED for step in self.steps)

    def rows(self) -> list[Row]:
        """Its heading, then, while it moves or where it went wrong, its steps."""
        words = {Tone.OK: "done", Tone.BUSY: "running", Tone.BAD: "failed", Tone.WAIT: "not known", Tone.IDLE: "to do"}
        if not self.named:
            return [step_row(step) for step in self.steps]
        rows = [Row(self.title, self.tone, words[self.tone], _spent(self.steps))]
        if self.tone in (Tone.BUSY, Tone.BAD, Tone.WAIT):
            rows += [step_row(step, sub=True) for step in self.steps]
        return rows


def step_row(step: Step, *, sub: bool = False) -> Row:
    """One step, with what it did so far in its own unit, or how long it took."""
    return Row(step.spec["title"], STEP_TONES[step.state], step.get_state_display(), _aside(step), sub)


def _aside(step: Step) -> str:
    if step.state == StepState.RUNNING:
        if step.progress_total:
            return f"{step.progress_done} of {step.progress_total} {step.progress_unit}".rstrip()
        return f"attempt {step.attempt}" if step.attempt > 1 else running_since(step.started_at)
    if step.state == StepState.SKIPPED:
        return "left out"
    return _spent([step])


def _spent(steps: Sequence[Step]) -> str:
    begun = [step.started_at for step in steps if step.started_at]
    ended = [step.finished_at for step in steps if step.finished_at]
    if not begun:
        return ""
    if any(step.state == StepState.RUNNING for step in steps):
        return running_since(min(begun))
    if not ended:
        return ""
    seconds = (max(ended) - min(begun)).total_seconds()
    return duration(seconds) if seconds >= 0.05 else "< 0.1 s"  # 0 s reads as if nothing happened


def _parts(steps: Sequence[Step]) -> list[Part]:
    grouped = groupby(steps, key=lambda step: step.spec["group"] or step.key)
    parts = []
    for _, members in grouped:
        held = tuple(members)
        group = held[0].spec["group"]
        parts.append(Part(group or held[0].spec["title"], held, bool(group)))
    return parts


class Status:
    """One operation with its steps, read once, and everything the page says of it."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.tone = tone_of(operation)
        self.word = word_of(operation)
        steps = list(operation.steps.all())
        for step in steps:
            step.operation = operation  # one plan in memory, not one a step
        self.main = [step for step in steps if step.phase == Step.Phase.MAIN]
        self.recovery = [step for step in steps if step.phase == Step.Phase.RECOVERY]
        self.parts = _parts(self.main)

    # --- how far ----------------------------------------------------------------------------------

    @cached_property
    def steps_done(self) -> int:
        """Main steps that are behind it."""
        return sum(step.state in STEP_FINISHED for step in self.main)

    @property
    def percent(self) -> int:
        """0–100 of its main steps; a step that counts in its own unit adds its share."""
        moving = [step for step in self.main if step.state == StepState.RUNNING and step.progress_total]
        share = sum(min(1.0, (step.progress_done or 0) / (step.progress_total or 1)) for step in moving)
        return round(100 * (self.steps_done + share) / max(1, len(self.main)))

    @property
    def where(self) -> str:
        """The part it is at and how many there are: "production-2, 2 of 3"; empty when nothing moves."""
        for part in self.parts:
            if part.begun and not part.finished:
                named = [each for each in self.parts if each.named]
                return f"{part.title}, {named.index(part) + 1} of {len(named)}" if part.named else part.title
        return ""

    @cached_property
    def waits_for(self) -> Operation | None:
        """While it is queued: the operation that holds one of its locks, or the one before it in the queue."""
        operation = self.operation
        if operation.state != State.QUEUED:
            return None
        lock = OperationLock.objects.filter(name__in=operation.lock_names).select_related("operation").first()
        return lock.operation if lock else queue_before(operation).first()

    # --- how long ---------------------------------------------------------------------------------

    @property
    def took(self) -> SafeString | str:
        """How long it ran, or has run so far; empty before its start."""
        return ran_for(self.operation)

    @cached_property
    def usual(self) -> float | None:
        """Seconds such an operation usually takes."""
        operation = self.operation
        return operation.expected_seconds or usual_seconds(operation.kind, operation.lock_names)

    # --- steps ------------------------------------------------------------------------------------

    @property
    def rail(self) -> list[Row]:
        """The steps, part by part; those that put back stand last, once one of them has begun."""
        rows = [row for part in self.parts for row in part.rows()]
        begun = [step for step in self.recovery if step.state != StepState.PENDING]
        for part in _parts(begun):
            rows.append(Row(f"Put back {part.title}" if part.named else part.title, part.tone, "", _spent(part.steps)))
            rows += [step_row(step, sub=True) for step in part.steps] if part.named else []
        return rows

    @property
    def stands_still(self) -> bool:
        """It has begun and is held, because the world is stopped."""
        return stands_still(self.operation)

    @property
    def is_executing(self) -> bool:
        """A worker is at it, or should be."""
        return self.operation.state in EXECUTING

    @property
    def open_step(self) -> Step | None:
        """The step of which a person must say what is true."""
        return next((step for step in self.main + self.recovery if step.state == StepState.UNKNOWN), None)

    @property
    def stops_within(self) -> str:
        """The step that runs now, if it can be stopped in the middle; empty if it cannot."""
        running = (step for step in self.main if step.state == StepState.RUNNING and step.spec.get("interruptible"))
        return next((step.spec["title"] for step in running), "")

    @property
    def stops_before(self) -> str:
        """The next safe point: the part before which it can stop; empty when it will run to its end."""
        for part in self.parts:
            for step in part.steps:
                if step.is_safe_point:
                    return part.title
        return ""

    @property
    def done_and_untouched(self) -> str:
        """Which named parts are done and which were never begun, in one sentence; empty for a plan without parts.

        One that a plan comes back to is done when all of it is, and untouched when none of it was begun.
        """
        named = [part for part in self.parts if part.named]
        unfinished = {part.title for part in named if not part.finished}
        begun = {part.title for part in named if part.begun}
        titles = list(dict.fromkeys(part.title for part in named))
        done = ", ".join(title for title in titles if title not in unfinished)
        untouched = ", ".join(title for title in titles if title not in begun)
        said = [f"Done: {done}." if done else "", f"Not touched yet: {untouched}." if untouched else ""]
        return " ".join(filter(None, said))
