"""Every move of the state machine that people and the clock make: one function, one transaction each.

A move is a compare-and-set on the old state, the event, the audit entry and, where somebody has to hear of
it, a ring after the commit. Not one row changed means somebody was first: Conflict, and nothing is written.
The worker's moves (claim, finish) are in `claims.py` and `engine.py`, built on the same `move`.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.audit.record import SYSTEM, Who, record
from controlplane.live.ring import ring
from controlplane.operations import approvals
from controlplane.operations.doorbell import ring_after_commit
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.events import NewEvent, append
from controlplane.operations.gates import Gate, failed_gates
from controlplane.operations.history import usual_seconds
from controlplane.operations.models import Approval, Event, Operation, OperationLock, Step
from controlplane.operations.plans import Plan
from controlplane.operations.registry import kind_of
from controlplane.operations.states import ALLOWED, BEFORE_START, FINISHED, Answer, State, StepState

CLOCK = SYSTEM("clock")


def locked(operation_id: int) -> Operation:
    """The operation with its row locked until the end of the transaction."""
    return Operation.objects.select_for_update().get(pk=operation_id)


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
    if not rows.update(state=to, **fields):
        operation.refresh_from_db()
        raise Conflict(f"It is {operation.get_state_display()}: that is no longer possible.")
    operation.refresh_from_db()
    if to in FINISHED:
        OperationLock.objects.filter(operation=operation).delete()
        kind_of(operation).finished(operation)
        _ring_the_next(operation)
    transaction.on_commit(lambda: ring("news", "operations inbox environments"))
    record(
        who,
        f"operation.{to}",
        f"operation {operation.pk}",
        scopes=operation.scopes,
        reason=reason,
        data={"title": operation.title, "text": text, "plan_digest": operation.plan_digest, **(data or {})},
    )


def _ring_the_next(operation: Operation) -> None:
    waiting = Operation.objects.filter(state=State.QUEUED, scopes__overlap=operation.scopes).exclude(pk=operation.pk)
    for operation_id in waiting.order_by("queued_at", "pk").values_list("pk", flat=True)[:5]:
        ring_after_commit(operation_id)


def request(
    actor: Actor,
    *,
    kind: str,
    title: str,
    scopes: Iterable[str],
    plan: Plan,
    gates: list[Gate],
    reason: str,
    approvals_required: int,
    approver_role: str = "approver",
    scheduled_for: datetime | None = None,
    attach: Callable[[Operation], object] = lambda operation: None,
) -> Operation:
    """Ask for an operation: freeze its plan and let it wait for what it needs.

    attach: writes the kind's own row, in the same transaction. Raises Invalid for an empty reason, a time in
    the past or a failed gate; the caller has checked the role.
    """
    if not reason.strip():
        raise Invalid("Say why: the reason is kept with the operation and shown to whoever approves it.")
    if refused := failed_gates(gates):
        raise Invalid(" ".join(f"{gate.title}: {gate.reason}" for gate in refused))
    if scheduled_for and scheduled_for <= timezone.now():
        raise Invalid("The planned start lies in the past. Give a time to come, or none to start at once.")
    with transaction.atomic():
        operation = Operation.objects.create(
            kind=kind,
            title=title,
            scopes=sorted(scopes),
            state=State.AWAITING_APPROVAL,
            reason=reason.strip(),
            plan=plan.as_json(),
            plan_digest=plan.digest,
            gates=[gate.as_json() for gate in gates],
            approvals_required=approvals_required,
            approver_role=approver_role,
            requested_by=actor.person,
            requested_by_name=actor.who.name,
            scheduled_for=scheduled_for,
            expected_seconds=usual_seconds(kind, scopes),
        )
        steps = [(Step.Phase.MAIN, spec) for spec in plan.steps] + [(Step.Phase.RECOVERY, s) for s in plan.recovery]
        Step.objects.bulk_create(
            Step(operation=operation, position=position, key=spec.key, phase=phase)
            for position, (phase, spec) in enumerate(steps)
        )
        attach(operation)
        append(operation.pk, [NewEvent(Event.Kind.STATE, f"asked for by {actor.who.name}: {operation.reason}")])
        if approvals_required == 0:
            _let_go(operation, actor.who, "needs no approval")
        else:
            hours = settings.APPROVAL_LIFETIME_HOURS
            Operation.objects.filter(pk=operation.pk).update(approval_deadline=Now() + timedelta(hours=hours))
            transaction.on_commit(lambda: ring("news", "operations inbox"))
        record(
            actor.who,
            "operation.requested",
            f"operation {operation.pk}",
            scopes=operation.scopes,
            reason=operation.reason,
            data={"title": title, "plan_digest": plan.digest},
        )
    operation.refresh_from_db()
    return operation


def _let_go(operation: Operation, who: Who, why: str) -> None:
    """Nothing more is needed: wait for the time, or for a worker."""
    waits = frozenset({State.AWAITING_APPROVAL})
    if operation.scheduled_for and operation.scheduled_for > timezone.now():
        move(operation, State.SCHEDULED, came_from=waits, who=who, text=f"{why}; starts at its planned time")
        return
    move(operation, State.QUEUED, came_from=waits, who=who, text=f"{why}; waits for a worker", queued_at=Now())
    ring_after_commit(operation.pk)


def approve(operation_id: int, actor: Actor, plan_digest: str, comment: str = "") -> Operation:
    """Sign the plan. The last signature needed lets the operation go. Raises Refused or Conflict."""
    with transaction.atomic():
        operation = locked(operation_id)
        approvals.check(operation, actor, plan_digest)
        _decide(operation, actor, Approval.Decision.APPROVED, comment)
        have = len(approvals.valid_approvals(operation))
        words = f"approved by {actor.who.name}" + (f": {comment}" if comment else "")
        append(operation.pk, [NewEvent(Event.Kind.STATE, words)])
        if have >= operation.approvals_required:
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


def reject(operation_id: int, actor: Actor, plan_digest: str, comment: str) -> Operation:
    """Say no to the plan, with the reason. One no is enough. Raises Refused, Conflict or Invalid."""
    if not comment.strip():
        raise Invalid("Say why you reject it: the person who asked will read it.")
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
        comment=comment.strip(),
    )


def cancel(operation_id: int, actor: Actor, reason: str) -> Operation:
    """Stop it: at once when it has not started, at its next safe point otherwise. Raises Invalid or Conflict."""
    if not reason.strip():
        raise Invalid("Say why you stop it: the reason is kept with the operation.")
    who = actor.who
    asked: dict[str, Any] = {"cancel_requested_by_name": who.name, "cancel_reason": reason.strip()}
    with transaction.atomic():
        operation = locked(operation_id)
        if operation.state in BEFORE_START:
            text = f"cancelled by {who.name} before it started: {reason.strip()}"
            move(
                operation, State.CANCELLED, came_from=BEFORE_START, who=who, text=text,
                reason=reason, outcome=text, **asked,
            )  # fmt: skip
        elif operation.state == State.NEEDS_OPERATOR:
            raise Conflict("It waits for an answer about a step: answer it, then it can be stopped.")
        else:
            text = f"{who.name} asks to stop at the next safe point: {reason.strip()}"
            running = frozenset({State.RUNNING})
            move(operation, State.CANCELLING, came_from=running, who=who, text=text, reason=reason, **asked)
    return operation


def resolve(operation_id: int, actor: Actor, step_key: str, answer: Answer, comment: str = "") -> Operation:
    """Answer for a step whose end nobody knows; the operation goes on. Raises Invalid or Conflict."""
    with transaction.atomic():
        operation = locked(operation_id)
        if operation.state != State.NEEDS_OPERATOR:
            raise Conflict(f"It waits for no answer: it is {operation.get_state_display()}.")
        step = operation.steps.filter(key=step_key, state=StepState.UNKNOWN).first()
        if step is None:
            raise Invalid(f"No step named {step_key} waits for an answer.")
        if answer is Answer.ROLL_BACK and step.phase == Step.Phase.RECOVERY:
            raise Invalid("This step already puts things back: try it again, leave it out, or say it is done.")
        new = {
            Answer.RETRY: StepState.PENDING,
            Answer.SKIP: StepState.SKIPPED,
            Answer.DONE: StepState.SUCCEEDED,
            Answer.ROLL_BACK: StepState.FAILED,
        }[answer]
        Step.objects.filter(pk=step.pk).update(
            state=new, error="" if new != StepState.FAILED else F("error"), finished_at=Now()
        )
        said = f" ({comment})" if comment else ""
        text = f"{actor.who.name} answers for {step.spec['title']}: {answer.label}{said}"
        append(operation.pk, [NewEvent(Event.Kind.STEP, text, step.key)])
        waits = frozenset({State.NEEDS_OPERATOR})
        # No lease: whichever worker comes first takes it over and goes on.
        move(
            operation, State.RUNNING, came_from=waits, who=actor.who, text="goes on", reason=comment,
            data={"step": step_key, "answer": str(answer)}, lease_until=Now(), worker="", outcome="",
        )  # fmt: skip
        ring_after_commit(operation.pk)
    return operation


def expire(operation_id: int) -> None:
    """The time for approvals is over (the clock calls it). Raises Conflict when somebody was first."""
    with transaction.atomic():
        operation = locked(operation_id)
        hours = settings.APPROVAL_LIFETIME_HOURS
        text = f"expired: not approved within {hours} h. Ask for it again if it is still wanted."
        waits = frozenset({State.AWAITING_APPROVAL})
        move(operation, State.EXPIRED, came_from=waits, who=CLOCK, text=text, outcome=text)


def fall_due(operation_id: int) -> None:
    """Its planned time has come (the clock calls it). Raises Conflict when somebody was first."""
    with transaction.atomic():
        operation = locked(operation_id)
        planned = frozenset({State.SCHEDULED})
        move(operation, State.QUEUED, came_from=planned, who=CLOCK, text="its time has come", queued_at=Now())
        ring_after_commit(operation_id)
