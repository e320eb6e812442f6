"""The page of one failover, failback or drill, made for the worst night of the year: what is next, how it stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from backups.disaster.charts import RtoBar, rto_bar
from backups.disaster.panels import Panel, panels_of
from backups.disaster.plans import PROOF, VERIFY
from backups.models import Recovery
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.approvals import valid_approvals, why_not
from controlplane.operations.approvers import people_who_can
from controlplane.operations.models import Approval, Event, Operation, Step
from controlplane.operations.presentation import STEP_TONES, Part, Status
from controlplane.operations.states import BEFORE_START, STEP_FINISHED, Answer, State, StepState
from controlplane.web.tones import Tone

STORY = 14
WORDS = {Tone.OK: "done", Tone.BUSY: "under way", Tone.BAD: "failed", Tone.WAIT: "not known", Tone.IDLE: "to do"}


@dataclass(frozen=True)
class Phase:
    """The steps of one heading, wherever they stand in the plan: what takes long is begun early and waited for later.

    now: the step that it is at, or the next one. took: seconds, of all its steps that are over. since: when the one
    that runs began. predicted: seconds, of the one that runs, else of all; None where nobody knows.
    """

    title: str
    tone: Tone
    word: str
    now: str
    predicted: float | None
    took: float | None
    since: datetime | None


@dataclass(frozen=True)
class Proof:
    """Something that has to be seen with one's own eyes. word: proven, not proven, not yet."""

    title: str
    tone: Tone
    word: str
    words: str


@dataclass(frozen=True)
class Hand:
    """Somebody who has a hand in it."""

    name: str
    part: str
    words: str
    at: datetime | None


@dataclass(frozen=True)
class Told:
    """One entry of its story, as `web/_story.html` takes it."""

    at: datetime
    tone: Tone
    text: str
    aside: str = ""
    pinned: bool = False


class RunPage:
    """One recovery, for one viewer."""

    def __init__(self, actor: Actor, recovery: Recovery) -> None:
        self._actor = actor
        self.recovery = recovery
        self.operation: Operation = recovery.operation
        self.status = Status(self.operation)

    @cached_property
    def now(self) -> datetime:
        """By the database."""
        return database_time()

    # --- what is next -----------------------------------------------------------------------------

    @cached_property
    def ask(self) -> str:
        """What this viewer is to do, as a word that the template knows: only one at a time."""
        state = self.operation.state
        if state == State.AWAITING_APPROVAL:
            return "wait for approval" if self.why_not else "approve"
        if state == State.NEEDS_OPERATOR:
            return "answer" if self.may_operate else "wait for an answer"
        if state in BEFORE_START:
            return "wait for its start"
        if not self.operation.is_finished:
            return "watch"
        return "done" if state == State.SUCCEEDED else "ended"

    @cached_property
    def why_not(self) -> str:
        """Why this person cannot approve it; "" when they can."""
        return why_not(self.operation, self._actor)

    @cached_property
    def missing(self) -> int:
        """How many approvals are not there yet."""
        return self.operation.approvals_required - len(valid_approvals(self.operation))

    @cached_property
    def approvers(self) -> list[str]:
        """Who could give one."""
        asked_by = self.operation.requested_by_id or 0
        return people_who_can(Role(self.operation.approver_role), self.operation.scopes, besides=asked_by)

    @cached_property
    def may_operate(self) -> bool:
        """This viewer may answer for it and stop it."""
        return self._actor.may(Role.OPERATOR, self.operation.scopes)

    @cached_property
    def question(self) -> Step | None:
        """The step of which a person has to say what is true."""
        return self.status.open_step

    @property
    def running(self) -> Step | None:
        """The step that a worker is at."""
        return next((step for step in self.status.main if step.state == StepState.RUNNING), None)

    @property
    def risk(self) -> str:
        """What going on without a proof would risk, in words; "" where the question is another one."""
        return str(self.question.spec.get("risk", "")) if self.question else ""

    # --- how it stands ----------------------------------------------------------------------------

    @property
    def since(self) -> datetime:
        """From when its time counts: the decision; of a drill, which nobody waits for, its start."""
        operation = self.operation
        is_drill = self.recovery.kind == Recovery.Kind.DRILL
        return operation.started_at or self.now if is_drill else operation.requested_at

    @property
    def until(self) -> datetime | None:
        """When people were served, or when it ended without; None while neither has come."""
        return self.recovery.recovered_at or self.operation.finished_at

    @property
    def moving(self) -> bool:
        """Time counts: people are not served yet, and it goes on."""
        return self.until is None and (self.recovery.kind != Recovery.Kind.DRILL or bool(self.operation.started_at))

    @cached_property
    def seconds(self) -> float:
        """Since the decision, until people were served or now."""
        return max(0.0, ((self.until or self.now) - self.since).total_seconds())

    @cached_property
    def bar(self) -> RtoBar:
        """That time against the promise, and where each phase was predicted to end."""
        known = self.recovery.predicted.get("steps", {})
        at = max(0.0, ((self.operation.started_at or self.now) - self.since).total_seconds())
        ends: dict[str, float] = {}
        for step in self.status.main if known else []:
            at += known.get(step.key, 0.0)
            ends[_heading(step)] = at
        promised = self.recovery.plan.rto_seconds
        return rto_bar(self.seconds, promised, list(ends.items()), over=self.operation.is_finished)

    @property
    def predicted_is_least(self) -> bool:
        """Of some steps nobody knew anything when it was asked for."""
        return bool(self.recovery.predicted.get("unknown"))

    @cached_property
    def phases(self) -> list[Phase]:
        """By heading, in the order in which each is begun."""
        by_title: dict[str, list[Step]] = {}
        for step in self.status.main:
            by_title.setdefault(_heading(step), []).append(step)
        known = self.recovery.predicted.get("steps", {})
        return [_phase(title, steps, known, over=self.operation.is_finished) for title, steps in by_title.items()]

    @cached_property
    def proofs(self) -> list[Proof]:
        """What has to be seen, not believed: the fence, and that the new side serves."""
        shown = [step for step in self.status.main if step.spec["group"] in (PROOF, VERIFY)]
        return [self._proof(step) for step in shown]

    def _proof(self, step: Step) -> Proof:
        title, answered = step.spec["title"], step.checkpoint.get("answered")
        if step.state in STEP_FINISHED and answered and answered["answer"] != Answer.RETRY:
            return Proof(title, Tone.WAIT, "not proven", f"{answered['about']} {answered['by']}: {answered['words']}")
        if step.state in STEP_FINISHED:
            return Proof(title, Tone.OK, "proven", "")
        if step.state in (StepState.UNKNOWN, StepState.FAILED):
            tone = STEP_TONES[step.state]
            return Proof(title, tone, "not proven", step.error)
        return Proof(title, STEP_TONES[step.state], "looking" if step.state == StepState.RUNNING else "not yet", "")

    @property
    def unproven(self) -> int:
        """How many of these nobody has seen so far."""
        return sum(one.tone != Tone.OK for one in self.proofs)

    @cached_property
    def point_as_of(self) -> datetime | None:
        """As of when the restore point is; None where there is none to restore from."""
        text = self.recovery.point.get("as_of", "")
        return datetime.fromisoformat(text) if text else None

    @property
    def would_lose(self) -> float | None:
        """Seconds of data that are not in the restore point: measured at the end, until then from the request on."""
        if self.recovery.rpo_seconds is not None:
            return self.recovery.rpo_seconds
        if self.point_as_of is None:
            return None
        return max(0.0, (self.operation.requested_at - self.point_as_of).total_seconds())

    @property
    def panels(self) -> Sequence[Panel]:
        """What others show while people are moved: the demo's customers."""
        moving = self.recovery.kind in (Recovery.Kind.FAILOVER, Recovery.Kind.FAILBACK)
        return panels_of(self.recovery.plan) if moving else []

    # --- who --------------------------------------------------------------------------------------

    @cached_property
    def hands(self) -> list[Hand]:
        """Who asked, who gave their word, who took a risk; the names stay when people go."""
        operation, recovery = self.operation, self.recovery
        hands = [Hand(operation.requested_by_name, "asked for it", operation.reason, operation.requested_at)]
        hands += [Hand(one.person_name, _given(one), one.comment, one.at) for one in operation.approvals.all()]
        hands += [
            Hand(one["by"], f"answered for “{step.spec['title']}”", one["words"], step.finished_at)
            for step in self.status.main
            if (one := step.checkpoint.get("answered")) and not step.spec.get("risk")
        ]
        if recovery.accepted_risk:
            hands.append(Hand(recovery.accepted_risk_by_name, "took the risk", recovery.accepted_risk, None))
        return hands

    @property
    def seen(self) -> list[Hand]:
        """What people said they see, when it was asked for."""
        said = self.recovery.assessment.get("words", [])
        return [Hand(one["who"], "sees", one["words"], None) for one in said]

    @cached_property
    def story(self) -> list[Told]:
        """Its last turns and warnings, the newest last; the whole log has its own page."""
        kinds = [Event.Kind.STATE, Event.Kind.WARNING, Event.Kind.ERROR]
        events = Event.objects.filter(operation_id=self.operation.pk, kind__in=kinds).order_by("-seq")[:STORY]
        tones = {Event.Kind.WARNING: Tone.WAIT, Event.Kind.ERROR: Tone.BAD}
        return [Told(one.at, tones.get(Event.Kind(one.kind), Tone.IDLE), one.text) for one in reversed(events)]


def _given(approval: Approval) -> str:
    return str(approval.get_decision_display())


def _heading(step: Step) -> str:
    return str(step.spec["group"] or step.spec["title"])


def _phase(title: str, steps: Sequence[Step], known: Mapping[str, float], *, over: bool) -> Phase:
    part = Part(title, tuple(steps), named=True)
    if over and part.tone == Tone.BUSY:  # it was begun, and nobody will end it
        return Phase(title, Tone.IDLE, "left off", "left off", None, _spent(steps), None)
    stands_out = (StepState.UNKNOWN, StepState.FAILED, StepState.RUNNING)
    at = next((step for state in stands_out for step in steps if step.state == state), None)
    words = at.spec["title"] if at else ""
    if at is None and part.begun and not part.finished:
        words = f"then: {next(step for step in steps if step.state not in STEP_FINISHED).spec['title']}"
    running = at if at is not None and at.state == StepState.RUNNING else None
    foretold = [known[step.key] for step in ([running] if running else steps) if step.key in known]
    return Phase(
        title, part.tone, WORDS[part.tone], words, sum(foretold) if foretold else None, _spent(steps),
        running.started_at if running else None,
    )  # fmt: skip


def _spent(steps: Sequence[Step]) -> float | None:
    """Seconds, of those that are over; None while none is."""
    spent = [
        (step.finished_at - step.started_at).total_seconds() for step in steps if step.started_at and step.finished_at
    ]
    return sum(spent) if spent else None
