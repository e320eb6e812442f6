"""The rules of environments for programs: what is asked for, freezes, and the ticks of a checklist."""

from datetime import datetime
from typing import Annotated, Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Router
from pydantic import BaseModel, Field, StringConstraints

from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.access import load_operation
from controlplane.operations.api import ACTING
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.web.bodies import Body, Reason
from controlplane.web.problems import problems
from deployments.gates.windows import LONGEST_MINUTES
from deployments.models import ChecklistTick, Deployment
from deployments.policies import end_freeze, freeze, policy_of, tick, ticks_of
from deployments.policy_page import PolicyPage
from environments.access import load_environment
from environments.models import Environment

router = Router(tags=["deployments"])

Words = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f]*$")]
Zone = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9_+/-]+$")]
Wall = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$")]
Minutes = Annotated[int, Field(ge=1, le=LONGEST_MINUTES)]


class DeploymentRuleOut(BaseModel):
    """What a deployment has to fulfil, in words."""

    title: str
    words: str


class FreezeOut(BaseModel):
    """starts: by the wall's clock of the zone. begins, ends: of the time it closes now or next; null: not in a year."""

    id: int
    reason: str
    zone: str
    starts: str
    minutes: int
    rule: str
    author: str
    begins: datetime | None
    ends: datetime | None


class RulesOut(BaseModel):
    """open: whether a deployment may start now, as far as times go. opens: when it may; null when nobody knows."""

    environment: str
    open: bool
    opens: datetime | None
    rules: list[DeploymentRuleOut]
    checklist: list[str]
    freezes: list[FreezeOut]


class FreezeIn(Body):
    """A freeze; rule: an RRULE for one that comes again, "" for once."""

    reason: Reason
    zone: Zone
    starts: Wall
    minutes: Minutes
    rule: Words = ""


class ThawIn(Body):
    reason: Reason


class ChecklistTickIn(Body):
    """item: as the checklist has it."""

    item: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class ChecklistItemOut(BaseModel):
    """by, at: who ticked it and when; null while nobody has."""

    item: str
    by: str | None
    at: datetime | None


class ChecklistOut(BaseModel):
    """The items of a checklist."""

    items: list[ChecklistItemOut]


CHANGED: dict[str, Any] = {"response": {200: RulesOut, **ACTING}, "openapi_extra": DESCRIPTION}


def rules_out(environment: Environment) -> RulesOut:
    """The rules as they are now."""
    page = PolicyPage(environment)
    freezes = [
        FreezeOut(id=one.row.pk, reason=one.row.reason, zone=one.row.zone, starts=one.row.starts,
                  minutes=one.row.minutes, rule=one.row.rule, author=one.row.author_name, begins=one.begins,
                  ends=one.ends)
        for one in page.freezes
    ]  # fmt: skip
    return RulesOut(
        environment=environment.slug,
        open=page.is_open,
        opens=page.opens,
        rules=[DeploymentRuleOut(title=title, words=words) for title, words in page.rules],
        checklist=list(page.policy.checklist),
        freezes=freezes,
    )


@router.get("/environments/{slug:environment}/rules", response={200: RulesOut, **problems(404)}, summary="Its rules")
def rules(request: ApiRequest, environment: str) -> RulesOut:
    """What a deployment has to fulfil there, and when it is closed."""
    return rules_out(load_environment(request.auth, environment))


@router.post("/environments/{slug:environment}/freezes", summary="Close it for a time", **CHANGED)
def add_freeze(request: ApiRequest, environment: str, body: FreezeIn) -> HttpResponse:
    """By an approver; what is asked for meanwhile waits."""
    found = load_environment(request.auth, environment, Role.APPROVER)

    def effect() -> RulesOut:
        freeze(request.auth, found, **body.model_dump())
        return rules_out(found)

    return answer_once(request, effect, action="environment.freeze", target=environment, scopes=[environment])


@router.post("/environments/{slug:environment}/freezes/{int:freeze_id}/end", summary="Open it again", **CHANGED)
def end_one_freeze(request: ApiRequest, environment: str, freeze_id: int, body: ThawIn) -> HttpResponse:
    """By an approver, before its time."""
    found = load_environment(request.auth, environment, Role.APPROVER)

    def effect() -> RulesOut:
        end_freeze(request.auth, found, freeze_id, body.reason)
        return rules_out(found)

    return answer_once(request, effect, action="environment.thaw", target=environment, scopes=[environment])


TICKED: dict[str, Any] = {"response": {200: ChecklistOut, **ACTING}, "openapi_extra": DESCRIPTION}


@router.post("/deployments/{int:operation_id}/ticks", summary="Tick an item of its checklist", **TICKED)
def tick_item(request: ApiRequest, operation_id: int, body: ChecklistTickIn) -> HttpResponse:
    """By an operator; it starts once all of it is ticked."""
    operation = load_operation(request.auth, operation_id, Role.OPERATOR)
    deployment = get_object_or_404(Deployment.objects.select_related("environment"), operation=operation)

    def effect() -> ChecklistOut:
        tick(request.auth, operation.pk, body.item)
        items = ticks_of(operation, policy_of(deployment.environment))
        return ChecklistOut(items=[_item(one["item"], one["tick"]) for one in items])

    return answer_once(
        request, effect, action="deployment.tick", target=f"operation {operation_id}", scopes=operation.scopes
    )


def _item(item: str, ticked: ChecklistTick | None) -> ChecklistItemOut:
    return ChecklistItemOut(item=item, by=ticked.by_name if ticked else None, at=ticked.at if ticked else None)
