"""Operations for programs: look, follow, decide, stop, answer. The same functions as the pages call."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from django.http import HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field, StringConstraints

from controlplane.accounts.api import ApiRequest, Program
from controlplane.accounts.models import Role
from controlplane.operations import transitions
from controlplane.operations.access import load_operation
from controlplane.operations.deed_page import DeedPage
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.models import Approval, Event, Operation, Step
from controlplane.operations.states import Answer, State, StepState
from controlplane.web.bodies import Body, Reason, Words
from controlplane.web.problems import problems

router = Router(tags=["operations"])

EVENTS_AT_MOST = 1000
LARGEST = 2**63 - 1
WENT_WRONG = frozenset({State.FAILED, State.STALE, State.EXPIRED, State.REJECTED, State.NEEDS_OPERATOR})
ACTING = problems(403, 404, 409, 413, 415, 422)

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class StepOut(BaseModel):
    """One step; one that puts back appears when it began."""

    key: str
    title: str
    state: StepState


class ApprovalOut(BaseModel):
    """One person's word. plan_digest: what they signed."""

    person: str
    decision: Approval.Decision
    plan_digest: str
    comment: str
    at: datetime


class QuestionOut(BaseModel):
    """Which step nobody knows the end of, at which attempt, and what to look at."""

    step: str
    attempt: int
    text: str


class OperationOut(BaseModel):
    """An operation. outcome: why it waits, or why it ended as it did. error: the same if it went wrong, else "".

    question: what a person has to answer, in the state `needs_operator`.
    """

    id: int
    kind: str
    title: str
    state: State
    scopes: list[str]
    plan_digest: str
    requested_by: str
    requested_at: datetime
    reason: str
    approvals_required: int
    approvals: list[ApprovalOut]
    steps: list[StepOut]
    question: QuestionOut | None
    last_seq: int
    outcome: str
    error: str


class EventOut(BaseModel):
    """One line of the story. seq: gapless from 1; step: the key of the step it belongs to, or ""."""

    seq: int
    at: datetime
    kind: Event.Kind
    step: str
    text: str


class EffectOut(BaseModel):
    """One change that a step made. not_explained: why no step of the plan explains it, or ""."""

    at: datetime
    step: str
    what: str
    subject: str
    facts: dict[str, Any]
    not_explained: str


class DeedOut(BaseModel):
    """What was done, beside the plan. differences: whatever is not as it was approved; empty is good.

    end: whether there is what the plan promised, asked once after a success; "" before the end.
    """

    effects: list[EffectOut]
    differences: list[str]
    end: str


class ApprovalIn(Body):
    """plan_digest: of the plan that was read."""

    plan_digest: Digest
    comment: Words = ""


class RejectionIn(Body):
    """plan_digest: of the plan that was read; without it the plan as it is."""

    comment: Reason
    plan_digest: Digest | None = None


class CancelIn(Body):
    reason: Reason


class ResolutionIn(Body):
    """What is true of the step whose end is not known. attempt: the one you looked at; another is a 409."""

    step: Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00]*$")]
    answer: Annotated[Answer, Field(strict=False)]
    comment: Words = ""
    attempt: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None

    def arguments(self) -> dict[str, Any]:
        """Of `transitions.resolve`."""
        return {"step_key": self.step, "answer": self.answer, "comment": self.comment, "attempt": self.attempt}


def operation_out(operation: Operation) -> OperationOut:
    """The operation as programs see it: two queries, however many steps."""
    steps = [step for step in operation.steps.all() if step.phase == Step.Phase.MAIN or step.state != StepState.PENDING]
    return OperationOut(
        id=operation.pk,
        kind=operation.kind,
        title=operation.title,
        state=State(operation.state),
        scopes=operation.scopes,
        plan_digest=operation.plan_digest,
        requested_by=operation.requested_by_name,
        requested_at=operation.requested_at,
        reason=operation.reason,
        approvals_required=operation.approvals_required,
        approvals=[_approval_out(one) for one in operation.approvals.all()],
        steps=[StepOut(key=step.key, title=step.spec["title"], state=StepState(step.state)) for step in steps],
        question=_question(steps) if operation.state == State.NEEDS_OPERATOR else None,
        last_seq=operation.last_seq,
        outcome=operation.outcome,
        error=operation.outcome if operation.state in WENT_WRONG else "",
    )


def _question(steps: list[Step]) -> QuestionOut | None:
    open_steps = (
        QuestionOut(step=s.key, attempt=s.attempt, text=s.error) for s in steps if s.state == StepState.UNKNOWN
    )
    return next(open_steps, None)


def _approval_out(approval: Approval) -> ApprovalOut:
    return ApprovalOut(
        person=approval.person_name,
        decision=Approval.Decision(approval.decision),
        plan_digest=approval.plan_digest,
        comment=approval.comment,
        at=approval.at,
    )


@router.get(
    "/{int:operation_id}",
    response={200: OperationOut, **problems(403, 404)},
    summary="One operation",
    auth=Program(),
)
def operation(request: ApiRequest, operation_id: int) -> OperationOut:
    """What it is, where it stands, who decided what. `last_seq` is the cursor of its newest event."""
    return operation_out(load_operation(request.auth, operation_id))


@router.get(
    "/{int:operation_id}/events",
    response={200: list[EventOut], **problems(403, 404, 422)},
    summary="Its log and its changes of state",
    auth=Program(),
)
def events(
    request: ApiRequest, operation_id: int, after: Annotated[int, Query(ge=0, le=LARGEST)] = 0
) -> list[EventOut]:
    """The first 1,000 events with a number above `after`, in order; ask again with the last number for more."""
    story = load_operation(request.auth, operation_id).events.filter(seq__gt=after).order_by("seq")
    return [EventOut(**row) for row in story.values(*EventOut.model_fields)[:EVENTS_AT_MOST]]


@router.get(
    "/{int:operation_id}/deed",
    response={200: DeedOut, **problems(403, 404)},
    summary="What was done, beside the plan",
)
def deed(request: ApiRequest, operation_id: int) -> DeedOut:
    """Every change its steps made so far, and what of it no step of the approved plan explains."""
    done = DeedPage(load_operation(request.auth, operation_id))
    effects = [
        EffectOut(
            at=one.effect.at,
            step=one.effect.step,
            what=one.effect.what,
            subject=one.effect.subject,
            facts=one.effect.facts,
            not_explained=one.wrong,
        )
        for one in done.all
    ]
    return DeedOut(effects=effects, differences=done.differences, end=done.deed.end if done.deed else "")


# --- What people do -----------------------------------------------------------------------------------


def _act(request: ApiRequest, pk: int, role: Role, action: str, act: Callable[[Operation], Operation]) -> HttpResponse:
    operation = load_operation(request.auth, pk, role)

    def effect() -> OperationOut:
        acted = act(operation)
        acted.refresh_from_db()
        return operation_out(acted)

    return answer_once(request, effect, action=f"operation.{action}", target=f"operation {pk}", scopes=operation.scopes)


@router.post(
    "/{int:operation_id}/approvals",
    response={200: OperationOut, **ACTING},
    summary="Approve the plan",
    openapi_extra=DESCRIPTION,
)
def approve(request: ApiRequest, operation_id: int, body: ApprovalIn) -> HttpResponse:
    """Sign the plan with this digest. Never by who asked for it (403); a digest that is not the plan's is a 409."""
    return _act(
        request,
        operation_id,
        Role.VIEWER,
        "approve",
        lambda _: transitions.approve(operation_id, request.auth, body.plan_digest, body.comment),
    )


@router.post(
    "/{int:operation_id}/rejection",
    response={200: OperationOut, **ACTING},
    summary="Reject the plan",
    openapi_extra=DESCRIPTION,
)
def reject(request: ApiRequest, operation_id: int, body: RejectionIn) -> HttpResponse:
    """Say no, with the reason; one no is enough. By whoever could approve it."""
    return _act(
        request,
        operation_id,
        Role.VIEWER,
        "reject",
        lambda operation: transitions.reject(
            operation_id, request.auth, body.plan_digest or operation.plan_digest, body.comment
        ),
    )


@router.post(
    "/{int:operation_id}/cancel",
    response={200: OperationOut, **ACTING},
    summary="Stop it",
    openapi_extra=DESCRIPTION,
)
def cancel(request: ApiRequest, operation_id: int, body: CancelIn) -> HttpResponse:
    """At once before it starts, at its next safe point while it runs."""
    return _act(
        request,
        operation_id,
        Role.OPERATOR,
        "cancel",
        lambda _: transitions.cancel(operation_id, request.auth, body.reason),
    )


@router.post(
    "/{int:operation_id}/resolution",
    response={200: OperationOut, **ACTING},
    summary="Answer for a step",
    openapi_extra=DESCRIPTION,
)
def resolve(request: ApiRequest, operation_id: int, body: ResolutionIn) -> HttpResponse:
    """Say what is true of the step whose end nobody knows (state `needs_operator`); the operation goes on."""
    return _act(
        request,
        operation_id,
        Role.OPERATOR,
        "resolve",
        lambda _: transitions.resolve(
            operation_id, request.auth, body.step, body.answer, body.comment, attempt=body.attempt
        ),
    )
