"""Recovery plans for programs: how ready each is, what was done by it, and the same requests as the pages make."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field, StringConstraints

from backups.asking import AT_MOST, OperationRef, refused
from backups.disaster import services
from backups.disaster.access import load_plan
from backups.disaster.forms import PlanForm, typed
from backups.disaster.overview import HEAVY, PlanView, overview, took
from backups.disaster.plan_page import PlanPage
from backups.disaster.region_out import RegionsOut, regions_out
from backups.disaster.region_page import RegionPage
from backups.disaster.services import Draft, draft
from backups.models import Recovery, RecoveryPlan
from controlplane.accounts.access import Actor
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.api import ACTING
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from controlplane.web.bodies import Body, Reason
from controlplane.web.problems import problems
from controlplane.web.queries import Number, Parameters

router = Router(tags=["recovery"])

ONE = "/recovery-plans/{slug:plan}"
ServingSide = Literal["primary", "standby"]
WhatWasDone = Literal["failover", "failback", "drill", "fence"]
LookOutcome = Literal["ready", "not ready", "unknown"]
Key = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00\r\n]*$")]
Short = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00\r\n]*$")]
Fault = Literal["worker-dies", "connection-lost"]
Minutes = Annotated[int, Field(ge=1, le=35791394)]
Counts = dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,60}$")], Annotated[int, Field(ge=1, le=1000)]]


class RecoveryPlanOut(BaseModel):
    """A plan and its promises. rpo: seconds that would be lost now; rto: that a failover would take, as predicted.

    ready: null while nobody has looked. because: why it is not ready, else "".
    """

    plan: str
    name: str
    primary: str
    standby: str
    active: ServingSide
    ready: bool | None
    because: str
    looked_at: datetime | None
    restorable_to: datetime | None
    rpo: float | None
    rpo_promised: int
    rto: float | None
    rto_promised: int
    last_drill: datetime | None
    last_drill_proven: bool | None
    next_drill: datetime | None
    drill_overdue: bool
    kit_made_at: datetime | None


class SqlCheck(BaseModel):
    """A question in SQL that has to answer true."""

    name: str
    sql: str


class OneRecoveryPlanOut(RecoveryPlanOut):
    """The same with what it is made of; see docs/disaster-recovery.md. Of secrets the references, never the values."""

    database: dict[str, Any]
    traffic: dict[str, Any]
    uploads: dict[str, Any]
    services: dict[str, int]
    configuration: dict[str, Any]
    checks: list[SqlCheck]
    tell: list[str]
    approvals_required: int
    drill_schedule: str
    drill_time_zone: str
    next_drills: list[datetime]


class LookedOut(BaseModel):
    """One thing that has to hold for a failover, and whether it does."""

    title: str
    outcome: LookOutcome
    words: str


class ReadinessOut(BaseModel):
    """The last look; at is null while there was none. predicted: seconds of a failover."""

    at: datetime | None
    ready: bool | None
    restorable_to: datetime | None
    predicted: float | None
    checks: list[LookedOut]


class RecoveryRunOut(BaseModel):
    """A failover, failback or drill. took, lost: seconds; null where that is not known (yet).

    fence_proven: null where nothing had to be fenced, or it has not ended.
    """

    operation: int
    kind: WhatWasDone
    state: State
    source: str
    target: str
    requested_by: str
    requested_at: datetime
    reason: str
    incident: int | None
    faults: list[str]
    restore_point: str
    predicted: float | None
    took: float | None
    lost: float | None
    recovered_at: datetime | None
    fence_proven: bool | None
    accepted_risk: str
    accepted_risk_by: str


class FailoverIn(Body):
    """words: what people see. point: the key of a restore point; left out, the newest. incident: to break the glass."""

    words: Reason
    reason: Reason
    point: Key = ""
    incident: Annotated[int, Field(ge=1, le=2**53)] | None = None


class FailbackIn(Body):
    """words: how one knows that the old side is well again."""

    words: Reason
    reason: Reason


class DrillIn(Body):
    """faults: with any it is a game day."""

    reason: Reason
    faults: Annotated[list[Fault], Field(max_length=10)] = []


class SqlCheckIn(Body):
    name: Line
    sql: Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00\r\n]*$")]


class PlanChangesIn(Body):
    """What becomes different; what is left out, or null, stays as it is."""

    reason: Reason
    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00\r\n]*$")] | None = None
    rto_minutes: Minutes | None = None
    rpo_minutes: Minutes | None = None
    approvals_required: Annotated[int, Field(ge=1, le=5)] | None = None
    services: Counts | None = None
    checks: Annotated[list[SqlCheckIn], Field(max_length=50)] | None = None
    tell: Annotated[list[Line], Field(max_length=50)] | None = None
    drill_schedule: Short | None = None
    drill_time_zone: Annotated[str, StringConstraints(min_length=1, max_length=60)] | None = None
    database: dict[str, Any] | None = None
    traffic: dict[str, Any] | None = None
    uploads: dict[str, Any] | None = None
    configuration: dict[str, str] | None = None


class RunsQuery(Parameters):
    before: Number = 0


def plan_out(view: PlanView) -> RecoveryPlanOut:
    """A plan as programs see it."""
    plan, look = view.plan, view.look
    side: Any = plan.active
    return RecoveryPlanOut(
        plan=plan.slug,
        name=plan.name,
        primary=plan.primary.slug,
        standby=plan.standby.slug,
        active=side,
        ready=look.ready if look else None,
        because=view.because,
        looked_at=look.at if look else None,
        restorable_to=look.restorable_to if look else None,
        rpo=view.rpo.now,
        rpo_promised=plan.rpo_seconds,
        rto=view.rto.now,
        rto_promised=plan.rto_seconds,
        last_drill=view.drill.operation.requested_at if view.drill else None,
        last_drill_proven=view.drill_is_proven if view.drill else None,
        next_drill=view.drill_due_at,
        drill_overdue=view.drill_is_overdue,
        kit_made_at=view.kit.made_at if view.kit else None,
    )


def one_plan_out(actor: Actor, plan: RecoveryPlan) -> OneRecoveryPlanOut:
    """A plan with what it is made of, from the same parts as its page."""
    page = PlanPage(actor, plan)
    same = {name: getattr(plan, name) for name in _SAME}
    return OneRecoveryPlanOut(**plan_out(page.view).model_dump(), next_drills=page.next_drills, **same)


_SAME = OneRecoveryPlanOut.model_fields.keys() - RecoveryPlanOut.model_fields.keys() - {"next_drills"}


def run_out(recovery: Recovery) -> RecoveryRunOut:
    """A run as programs see it."""
    operation = recovery.operation
    kind: Any = recovery.kind
    return RecoveryRunOut(
        operation=operation.pk,
        kind=kind,
        state=State(operation.state),
        source=recovery.source.slug,
        target=recovery.target.slug,
        requested_by=operation.requested_by_name,
        requested_at=operation.requested_at,
        reason=operation.reason,
        incident=recovery.incident,
        faults=recovery.faults,
        restore_point=str(recovery.point.get("key", "")),
        predicted=recovery.predicted.get("seconds"),
        took=took(recovery),
        lost=recovery.rpo_seconds,
        recovered_at=recovery.recovered_at,
        fence_proven=recovery.fence_proven,
        accepted_risk=recovery.accepted_risk,
        accepted_risk_by=recovery.accepted_risk_by_name,
    )


@router.get("/recovery-plans", response={200: list[RecoveryPlanOut], **problems()}, summary="Could we move now?")
def recovery_plans(request: ApiRequest) -> list[RecoveryPlanOut]:
    """Each plan of which this person sees both sides, with its promises and why it is not ready."""
    return [plan_out(view) for view in overview(request.auth)]


@router.get(ONE, response={200: OneRecoveryPlanOut, **problems(403, 404)}, summary="One recovery plan")
def recovery_plan(request: ApiRequest, plan: str) -> OneRecoveryPlanOut:
    """How it stands, what it is made of, when it is rehearsed next."""
    return one_plan_out(request.auth, load_plan(request.auth, plan))


@router.get(f"{ONE}/readiness", response={200: ReadinessOut, **problems(403, 404)}, summary="The last look at it")
def recovery_readiness(request: ApiRequest, plan: str) -> ReadinessOut:
    """Everything that a failover needs, and whether it is there, what is not well first."""
    view = PlanPage(request.auth, load_plan(request.auth, plan)).view
    look = view.look
    known: list[dict[str, Any]] = [{"title": one.title, "outcome": one.word, "words": one.words} for one in view.looked]
    return ReadinessOut(
        at=look.at if look else None,
        ready=look.ready if look else None,
        restorable_to=look.restorable_to if look else None,
        predicted=look.predicted_seconds if look else None,
        checks=[LookedOut(**one) for one in known],
    )


@router.get(f"{ONE}/regions", response={200: RegionsOut, **problems(403, 404)}, summary="What is in the other region")
def recovery_regions(request: ApiRequest, plan: str) -> RegionsOut:
    """Uploads, database, images, secrets and the kit on both sides, as the clock heard last; nobody is asked now."""
    return regions_out(RegionPage(load_plan(request.auth, plan)))


@router.get(
    f"{ONE}/runs", response={200: list[RecoveryRunOut], **problems(403, 404, 422)}, summary="What was done by it"
)
def recovery_runs(request: ApiRequest, plan: str, wanted: Annotated[RunsQuery, Query()]) -> list[RecoveryRunOut]:
    """The newest 100 with an operation's number below `before`; ask again with the last one for more."""
    rows = Recovery.objects.filter(plan=load_plan(request.auth, plan)).select_related("operation", "source", "target")
    rows = rows.filter(operation_id__lt=wanted.before) if wanted.before else rows
    return [run_out(one) for one in rows.defer(*HEAVY).order_by("-operation_id")[:AT_MOST]]


# --- asking -------------------------------------------------------------------------------------------

CREATED: dict[str, Any] = {"response": {201: OperationRef, **ACTING}, "openapi_extra": DESCRIPTION}


def _ask(
    request: ApiRequest,
    found: RecoveryPlan,
    kind: str,
    propose: Callable[[], Draft],
    make: Callable[[Draft], Operation],
) -> HttpResponse:
    """Ask once for each Idempotency-Key. What the plan depends on is asked for before, outside of any transaction."""
    seen: list[Draft] = []

    def look() -> None:
        seen.append(propose())

    def effect() -> OperationRef:
        if not seen:  # the key was there, and its time ran out just now
            look()
        made = make(seen[0])
        return OperationRef(operation=made.pk, state=State(made.state), plan_digest=made.plan_digest)

    return answer_once(
        request, effect, action=f"{kind}.request", target=f"recovery plan {found}", scopes=found.scopes, status=201,
        look=look,
    )  # fmt: skip


@router.post(f"{ONE}/failovers", summary="Ask for a failover", **CREATED)
def request_failover(request: ApiRequest, plan: str, body: FailoverIn) -> HttpResponse:
    """It waits for the plan's approvals, of others than who asks."""
    found = load_plan(request.auth, plan, Role.OPERATOR)
    actor, said = request.auth, body.model_dump()
    return _ask(request, found, services.FAILOVER, lambda: draft(found, services.FAILOVER, body.point),
                lambda made: services.request_failover(actor, found, **said, made=made))  # fmt: skip


@router.post(f"{ONE}/failbacks", summary="Ask for the way home", **CREATED)
def request_failback(request: ApiRequest, plan: str, body: FailbackIn) -> HttpResponse:
    """With everything that was made at the other side; it waits for the plan's approvals."""
    found = load_plan(request.auth, plan, Role.OPERATOR)
    actor, said = request.auth, body.model_dump()
    return _ask(request, found, services.FAILBACK, lambda: draft(found, services.FAILBACK),
                lambda made: services.request_failback(actor, found, **said))  # fmt: skip


@router.post(f"{ONE}/drills", summary="Rehearse it", **CREATED)
def request_drill(request: ApiRequest, plan: str, body: DrillIn) -> HttpResponse:
    """Into an isolated target, so it needs no approval."""
    found = load_plan(request.auth, plan, Role.OPERATOR)
    actor, said = request.auth, body.model_dump()
    return _ask(request, found, services.DRILL, lambda: draft(found, services.DRILL, faults=body.faults),
                lambda made: services.request_drill(actor, found, **said, made=made))  # fmt: skip


@router.post(
    f"{ONE}/changes",
    summary="Other promises, other settings",
    response={200: OneRecoveryPlanOut, **ACTING},
    openapi_extra=DESCRIPTION,
)
def change_recovery_plan(request: ApiRequest, plan: str, body: PlanChangesIn) -> HttpResponse:
    """By an administrator. What was asked for by the old plan and has not begun becomes stale."""
    actor = request.auth
    found = load_plan(actor, plan, Role.ADMIN)
    form = _filled_in(found, body)
    values, reason = form.changed_values(), form.cleaned_data["reason"]

    def effect() -> OneRecoveryPlanOut:
        services.change_plan(actor, found, values, reason)
        return one_plan_out(actor, load_plan(actor, plan))

    return answer_once(
        request, effect, action="recovery_plan.change", target=f"recovery plan {found}", scopes=found.scopes
    )


def _filled_in(found: RecoveryPlan, body: PlanChangesIn) -> PlanForm:
    """The form of the page with what is there, and over it what is wanted. Raises ValidationError, naming fields."""
    wanted = body.model_dump(exclude_none=True)
    values = typed(found) | wanted
    if "services" in wanted:
        values["services"] = "\n".join(f"{slug} {count}" for slug, count in wanted["services"].items())
    if "checks" in wanted:
        values["checks"] = "\n".join(f"{one['name']}: {one['sql']}" for one in wanted["checks"])
    if "tell" in wanted:
        values["tell"] = "\n".join(wanted["tell"])
    for part in ("database", "traffic", "uploads", "configuration"):
        values[part] = json.dumps(values[part])
    form = PlanForm(values, plan=found)
    if not form.is_valid():
        raise refused(form, "body", "body")
    return form
