"""Every move of the state machine that people and the clock make: one function, one transaction each.

A move is a compare-and-set on the old state, the event, the audit entry and, where somebody has to hear of
it, a ring after the commit. Not one row changed means somebody was first: Conflict, and nothing is written.
The worker's moves (claim, finish) are in `claims.py` and `engine.py`, built on the same `move`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Least, Now

from controlplane.accounts.access import Actor, Machine
from controlplane.audit.record import SYSTEM, Who, record
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations import approvals
from controlplane.operations.doorbell import ring_after_commit, ring_workers
from controlplane.operations.endings import conclude
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.events import NewEvent, append, storable
from controlplane.operations.gates import Gate, failed_gates, pending_gates, set_aside_by
from controlplane.operations.history import usual_seconds
from controlplane.operations.models import Approval, Event, Operation, OperationLock, Step
from controlplane.operations.plans import Plan
from controlplane.operations.queue import turn_in_the_background
from controlplane.operations.registry import background_kinds
from controlplane.operations.states import ALLOWED, BEFORE_START, FINISHED, Answer, State, StepState

CLOCK = SYSTEM("clock")
LONGEST_WORDS = 2000
LONGEST_AHEAD = timedelta(days=366)
AFTER_ANSWER = {
    Answer.RETRY: StepState.PENDING,
    Answer.SKIP: StepState.SKIPPED,
    Answer.DONE: StepState.SUCCEEDED,
    Answer.ROLL_BACK: StepState.FAILED,
}


def locked(operation_id: int) -> Operation:
    """The operation with its row locked until the end of the transaction."""
    return Operation.objects.select_for_update().get(pk=operation_id)


def said(words: str, missing: str = "") -> str:
    """What a person wrote, stripped. missing: what to tell them when they wrote nothing, "" if they need not.

    Raises Invalid.
    """
    words = storable(words.strip())
    if missing and not words:
        raise Invalid(missing)
    if len(words) > LONGEST_WORDS:
        raise Invalid(f"Say it in at most {LONGEST_WORDS} characters; these are {len(words)}.")
    return words


def move(
    operation: Operation,
    to: State,
    *,
    came_from: Iterable[State],
    who: Who,
    text: str,
    reason: str = "",
    data: dict[str, Any] | None = None,
    held_fence: int | None = None,
    **fields: Any,
) -> None:
    """Compare-and-set the state, with its event and audit entry. Call it in a transaction.

    held_fence: the lease holder's, checked with the state. text: the event, in words. Raises Conflict when the
    operation is in none of the states it may come from, and refreshes `operation` otherwise.
    """
    came_from = [state for state in came_from if to in ALLOWED[state]]
    if to in FINISHED:
        fields.setdefault("finished_at", Now())
        fields |= {"lease_until": None}
    rows = Operation.objects.filter(pk=operation.pk, state__in=came_from)
    if held_fence is not None:
        rows = rows.filter(fence=held_fence)
    append(operation.pk, [NewEvent(Event.Kind.STATE, text)])
    fields = {name: storable(value) if isinstance(value, str) else value for name, value in fields.items()}
    if not rows.update(state=to, **fields):
        operation.refresh_from_db()
        raise Conflict(f"It is {operation.get_state_display()}: that is no longer possible.")
    operation.refresh_from_db()
    if to in FINISHED:
        OperationLock.objects.filter(operation=operation).delete()
        data = (data or {}) | conclude(operation)
        ring_the_next(operation)
    if to not in BEFORE_START:
        ring_the_background(operation)
    transaction.on_commit(lambda: ring("news", "operations inbox environments"))
    record(
        who,
        f"operation.{to}",
        f"operation {operation.pk}",
        scopes=operation.scopes,
        reason=reason,
        data={"title": operation.title, "text": text, "plan_digest": operation.plan_digest, **(data or {})},
    )


def ring_the_next(operation: Operation) -> None:
    """Ring after the commit for those whose turn may have come by it; what waits for a gate comes last."""
    waiting = Operation.objects.filter(state=State.QUEUED, lock_names__overlap=operation.lock_names).exclude(
        pk=operation.pk
    )
    order = (F("gate_pending_since").asc(nulls_first=True), "queued_at", "pk")
    for operation_id in waiting.order_by(*order).values_list("pk", flat=True)[:5]:
        ring_after_commit(operation_id)


def ring_the_background(operation: Operation) -> None:
    """If it is one in the background, ring after the commit for those whose turn has come by what became of it."""
    if operation.kind in background_kinds():
        # Looked up after the commit too: where one ends while another starts, whoever is last sees both.
        transaction.on_commit(_ring_whose_turn_it_is, robust=True)


def _ring_whose_turn_it_is() -> None:
    for operation in turn_in_the_background():
        ring_workers(operation.pk)


def request(
    actor: Actor | Machine,
    *,
    kind: str,
    title: str,
    scopes: Iterable[str],
    plan: Plan,
    gates: list[Gate],
    reason: str,
    approvals_required: int,
    approver_role: str = "approver",
    approver_groups: Sequence[Mapping[str, Any]] = (),
    scheduled_for: datetime | None = None,
    start_by: datetime | None = None,
    locks: Iterable[str] = (),
    expected_seconds: float | None = None,
    part_of: int | None = None,
    attach: Callable[[Operation], object] = lambda operation: None,
) -> Operation:
    """Ask for an operation: freeze its plan and let it wait for what it needs.

    start_by: when it has not started by then, it never does, and is expired.
    locks: what no other operation may hold meanwhile; the scopes, if it says nothing. expected_seconds: how long it
    may take, where no earlier one tells. approver_groups: of whom some have to be among those who approve, as the model
    says. part_of: the operation that asks for it and waits for it. attach: writes the kind's own row, in the same
    transaction. Raises Invalid for an empty reason, times in the past or in the wrong order, or a failed gate; the
    caller has checked the role.
    """
    reason = said(reason, "Say why: the reason is kept with the operation and shown to whoever approves it.")
    if refused := failed_gates(gates):
        raise Invalid(" ".join(f"{gate.title}: {gate.reason}" for gate in refused))
    may_be_planned(scheduled_for, start_by)
    scopes = sorted(set(scopes))
    lock_names = sorted(set(locks)) or scopes
    with transaction.atomic():
        operation = Operation.objects.create(
            kind=kind,
            title=title,
            scopes=scopes,
            lock_names=lock_names,
            state=State.AWAITING_APPROVAL,
            reason=reason,
            plan=plan.as_json(),
            plan_digest=plan.digest,
            gates=[gate.as_json() for gate in gates],
            approvals_required=approvals_required,
            approver_role=approver_role,
            approver_groups=[dict(group) for group in approver_groups],
            requested_by=actor.person,
            requested_by_name=actor.who.name,
            part_of_id=part_of,
            scheduled_for=scheduled_for,
            start_by=start_by,
            gate_pending_since=Now() if pending_gates(gates) else None,
            expected_seconds=usual_seconds(kind, lock_names) or expected_seconds,
        )
        _write_steps(operation, plan)
        attach(operation)
        append(operation.pk, [NewEvent(Event.Kind.STATE, f"asked for by {actor.who.name}: {reason}")])
        if approvals_required == 0:
            _let_go(operation, actor.who, "needs no approval")
        else:
            _wait_for_approvals(operation)
        record(
            actor.who, "operation.requested", f"operation {operation.pk}", scopes=scopes, reason=reason,
            data={"title": title, "plan_digest": plan.digest, **set_aside_by(gates)},
        )  # fmt: skip
    operation.refresh_from_db()
    return operation


def may_be_planned(scheduled_for: datetime | None, start_by: datetime | None) -> None:
    """Raises Invalid, in words, for times in the past, in the wrong order or further away than a year."""
    now = database_time()
    if scheduled_for and scheduled_for <= now:
        raise Invalid("The planned start lies in the past. Give a time to come, or none to start at once.")
    if start_by and start_by <= (scheduled_for or now):
        raise Invalid("It has to start by a time before its planned start, or in the past. Give a later one, or none.")
    if max(filter(None, (scheduled_for, start_by)), default=now) > now + LONGEST_AHEAD:
        raise Invalid("That is more than a year away: nobody can tell what will run then. Give an earlier one.")


def _write_steps(operation: Operation, plan: Plan) -> None:
    steps = [(Step.Phase.MAIN, spec) for spec in plan.steps] + [(Step.Phase.RECOVERY, spec) for spec in plan.recovery]
    Step.objects.bulk_create(
        Step(operation=operation, position=position, key=spec.key, phase=phase)
        for position, (phase, spec) in enumerate(steps)
    )


def _wait_for_approvals(operation: Operation) -> None:
    """Until the deadline, or until it is to start if that comes first."""
    until: Any = Now() + timedelta(hours=settings.APPROVAL_LIFETIME_HOURS)
    if starts := operation.scheduled_for or operation.start_by:
        until = Least(until, Value(starts))
    Operation.objects.filter(pk=operation.pk).update(approval_deadline=until)
    transaction.on_commit(lambda: ring("news", "operations inbox"))


def _let_go(operation: Operation, who: Who, why: str) -> None:
    """Nothing more is needed: wait for the time, or for a worker."""
    waits = frozenset({State.AWAITING_APPROVAL})
    if operation.scheduled_for:
        move(operation, State.SCHEDULED, came_from=waits, who=who, text=f"{why}; starts at its planned time")
        return
    move(operation, State.QUEUED, came_from=waits, who=who, text=f"{why}; waits for a worker", queued_at=Now())
    ring_after_commit(operation.pk)


def approve(operation_id: int, actor: Actor, plan_digest: str, comment: str = "") -> Operation:
    """Sign the plan. The last signature needed lets the operation go. Raises Refused, Conflict or Invalid."""
    comment = said(comment)
    with transaction.atomic():
        operation = locked(operation_id)
        approvals.check(operation, actor, plan_digest)
        _decide(operation, actor, Approval.Decision.APPROVED, comment)
        have = len(approvals.valid_approvals(operation))
        words = f"approved by {actor.who.name}" + (f": {comment}" if comment else "")
        append(operation.pk, [NewEvent(Event.Kind.STATE, words)])
        if approvals.enough(operation, approvals.demand_of(operation)):
            _let_go(operation, actor.who, f"approved by {have} of {operation.approvals_required}")
        transaction.on_commit(lambda: ring("news", "operations inbox"))
        record(
            actor.who,
            "operation.approved",
            f"operation {operation.pk}",
            scopes=operation.scopes,
            reason=comment,
            data={"plan_digest": plan_digest, "approvals": f"{have} of {operation.approvals_required}"},
        )
    return operation


def recount(operation_id: int) -> None:
    """Let it go if it has its approvals after all: somebody may have been activated again (the clock calls it).

    Raises Conflict when it has not.
    """
    with transaction.atomic():
        operation = locked(operation_id)
        have = len(approvals.valid_approvals(operation))
        waits = operation.state == State.AWAITING_APPROVAL and not approvals.too_late(operation)
        if not waits or not approvals.enough(operation, approvals.demand_of(operation)):
            raise Conflict("It still waits for an approval, or does not wait any more.")
        _let_go(operation, CLOCK, f"approved by {have} of {operation.approvals_required}")


def reject(operation_id: int, actor: Actor, plan_digest: str, comment: str) -> Operation:
    """Say no to the plan, with the reason. One no is enough. Raises Refused, Conflict or Invalid."""
    comment = said(comment, "Say why you reject it: the person who asked will read it.")
    with transaction.atomic():
        operation = locked(operation_id)
        approvals.check(operation, actor, plan_digest)
        _decide(operation, actor, Approval.Decision.REJECTED, comment)
        text = f"rejected by {actor.who.name}: {comment}"
        waits = frozenset({State.AWAITING_APPROVAL})
        move(operation, State.REJECTED, came_from=waits, who=actor.who, text=text, reason=comment, outcome=text)
    return operation


def _decide(operation: Operation, actor: Actor, decision: Approval.Decision, comment: str) -> None:
    Approval.objects.create(
        operation=operation,
        person=actor.person,
        person_name=actor.who.name,
        decision=decision,
        plan_digest=operation.plan_digest,
        comment=comment,
    )


def cancel(operation_id: int, actor: Actor, reason: str) -> Operation:
    """Stop it: at once when it has not started, at its next safe point otherwise. Raises Invalid or Conflict."""
    reason = said(reason, "Say why you stop it: the reason is kept with the operation.")
    who = actor.who
    asked: dict[str, Any] = {"cancel_requested_by_name": who.name, "cancel_reason": reason}
    with transaction.atomic():
        operation = locked(operation_id)
        if operation.state in BEFORE_START:
            text = f"cancelled by {who.name} before it started: {reason}"
            move(
                operation, State.CANCELLED, came_from=BEFORE_START, who=who, text=text,
                reason=reason, outcome=text, **asked,
            )  # fmt: skip
        elif operation.state == State.NEEDS_OPERATOR:
            _stop_after_the_answer(operation, who, reason, asked)
        else:
            text = f"{who.name} asks to stop at the next safe point: {reason}"
            running = frozenset({State.RUNNING})
            if operation.paused_at:  # no worker holds it: whichever comes first ends it where it stands
                asked |= {"paused_at": None, "lease_until": Now(), "outcome": ""}
                ring_after_commit(operation.pk)
            move(operation, State.CANCELLING, came_from=running, who=who, text=text, reason=reason, **asked)
    return operation


def _stop_after_the_answer(operation: Operation, who: Who, reason: str, asked: dict[str, Any]) -> None:
    """Its state still needs an answer, so only the wish is written down: `resolve` finds it."""
    if operation.cancel_requested_by_name:
        raise Conflict(f"{operation.cancel_requested_by_name} has asked to stop it already.")
    Operation.objects.filter(pk=operation.pk).update(**asked)
    text = f"{who.name} asks to stop once the step is answered for, at the next safe point: {reason}"
    append(operation.pk, [NewEvent(Event.Kind.STATE, text)])
    transaction.on_commit(lambda: ring("news", "operations"))
    record(
        who, "operation.cancelling", f"operation {operation.pk}", scopes=operation.scopes, reason=reason,
        data={"title": operation.title, "text": text, "plan_digest": operation.plan_digest},
    )  # fmt: skip
    operation.refresh_from_db()


def resolve(
    operation_id: int, actor: Actor, step_key: str, answer: Answer, comment: str = "", *, attempt: int | None = None
) -> Operation:
    """Answer for a step whose end nobody knows; the operation goes on.

    attempt: the one that was asked about, so that an answer to an earlier question is not taken for this one's;
    None for whichever it is. Raises Invalid or Conflict.
    """
    comment = said(comment)
    with transaction.atomic():
        operation = locked(operation_id)
        if operation.state != State.NEEDS_OPERATOR:
            raise Conflict(f"It waits for no answer: it is {operation.get_state_display()}.")
        step = _asked_about(operation, step_key, answer, comment, attempt)
        _write_answer(step, actor, answer, comment)
        because = f" ({comment})" if comment else ""
        text = f"{actor.who.name} answers for {step.spec['title']}: {answer.label}{because}"
        append(operation.pk, [NewEvent(Event.Kind.STEP, text, step.key)])
        waits = frozenset({State.NEEDS_OPERATOR})
        # No lease: whichever worker comes first takes it over and goes on.
        to = State.CANCELLING if operation.cancel_requested_by_name else State.RUNNING
        move(
            operation, to, came_from=waits, who=actor.who, text="goes on", reason=comment,
            data={"step": step_key, "answer": str(answer)}, lease_until=Now(), worker="", outcome="",
        )  # fmt: skip
        ring_after_commit(operation.pk)
    return operation


def _asked_about(operation: Operation, key: str, answer: Answer, comment: str, attempt: int | None) -> Step:
    """The step that waits for the answer. Raises Invalid or Conflict, where this answer cannot be given to it."""
    step = operation.steps.filter(key=key, state=StepState.UNKNOWN).first()
    if step is None:
        raise Invalid(f"No step named {key} waits for an answer.")
    if attempt is not None and attempt != step.attempt:
        raise Conflict("It was tried again since you read the question. Look at what it says now, then answer.")
    if answer is Answer.ROLL_BACK and step.phase == Step.Phase.RECOVERY:
        raise Invalid("This step already puts things back: try it again, leave it out, or say it is done.")
    risk = step.spec.get("risk", "") if answer in (Answer.SKIP, Answer.DONE) else ""
    if risk and not comment:
        raise Invalid(f"{risk} Say in words that you accept this, and why.")
    return step


def _write_answer(step: Step, actor: Actor, answer: Answer, comment: str) -> None:
    error = ""
    if answer is Answer.ROLL_BACK:
        nothing = "" if step.spec["on_failure"] else " The plan has nothing to put back after it."
        error = f"{step.error}{nothing}"
    # Whoever reads what came of it has to see that it is somebody's word.
    answered = {"by": actor.who.name, "answer": str(answer), "words": comment, "about": step.error}
    kept = {**step.checkpoint, "answered": answered}
    Step.objects.filter(pk=step.pk).update(state=AFTER_ANSWER[answer], error=error, finished_at=Now(), checkpoint=kept)
