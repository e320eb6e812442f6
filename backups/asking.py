"""What the API's requests about backups have in common: the reason, the plan, and the operation that answers them."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from django.core.exceptions import NON_FIELD_ERRORS
from django.forms import BaseForm
from django.http import HttpResponse
from ninja.errors import ValidationError
from pydantic import BaseModel

from controlplane.accounts.api import ApiRequest
from controlplane.operations.api import ACTING
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan, StepSpec
from controlplane.operations.states import State
from controlplane.web.bodies import Body, Reason

AT_MOST = 100
# Spelled out: in the description, enumerations of the same name would be one.
WhatIs = Literal["database", "pitr", "uploads", "configuration", "images"]
BackupState = Literal["available", "damaged", "deleted"]
Verdict = Literal["", "proven", "failed"]


class ReasonIn(Body):
    reason: Reason


class OperationRef(BaseModel):
    """operation: its number. plan_digest: what an approver signs."""

    operation: int
    state: State
    plan_digest: str


CREATED: dict[str, Any] = {"response": {201: OperationRef, **ACTING}, "openapi_extra": DESCRIPTION}


def ask(
    request: ApiRequest,
    make: Callable[[], Operation],
    action: str,
    target: str,
    scope: str,
    *,
    look: Callable[[], None] = lambda: None,
) -> HttpResponse:
    """Ask for an operation, once for each Idempotency-Key, and answer with it. look: as of `answer_once`."""

    def effect() -> OperationRef:
        made = make()
        return OperationRef(operation=made.pk, state=State(made.state), plan_digest=made.plan_digest)

    return answer_once(request, effect, action=action, target=target, scopes=[scope], status=201, look=look)


def refused(form: BaseForm, *where: str) -> ValidationError:
    """What a form of the pages says is wrong, each field named. where: of the form in the request, to be raised."""
    return ValidationError([{"loc": where if name == NON_FIELD_ERRORS else (*where, name),
                             "msg": " ".join(map(str, words))} for name, words in form.errors.items()])  # fmt: skip


# --- plans --------------------------------------------------------------------------------------------


class PlannedChangeOut(BaseModel):
    """What becomes different, in words."""

    what: str
    before: str
    after: str


class PlannedStepOut(BaseModel):
    """One step. group: the heading that it stands under, or ""."""

    key: str
    title: str
    group: str


class PlanOut(BaseModel):
    """What would be done. recovery: the steps that put back what a failed one did.

    plan_digest: send it with the request, and nothing else than this plan is asked for.
    """

    summary: str
    plan_digest: str
    changes: list[PlannedChangeOut]
    steps: list[PlannedStepOut]
    recovery: list[PlannedStepOut]


def plan_out(plan: Plan) -> PlanOut:
    """A plan as programs see it."""
    return PlanOut(
        summary=plan.summary,
        plan_digest=plan.digest,
        changes=[PlannedChangeOut(what=one["what"], before=one["from"], after=one["to"]) for one in plan.changes],
        steps=_steps_out(plan.steps),
        recovery=_steps_out(plan.recovery),
    )


def _steps_out(steps: Iterable[StepSpec]) -> list[PlannedStepOut]:
    return [PlannedStepOut(key=one.key, title=one.title, group=one.group) for one in steps]
