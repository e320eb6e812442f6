"""Restore points for programs: everything of an environment at one moment, made together and restored together."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from django.db.models import Prefetch
from django.http import HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, StringConstraints

from backups import services
from backups.access import HEAVY, load_point
from backups.asking import AT_MOST, CREATED, BackupState, PlanOut, Verdict, WhatIs, ask, plan_out
from backups.models import Backup, RestorePoint
from backups.page import database_of
from backups.restore_services import draft_point, plan_of_point, request_point_restore
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.api import Digest
from controlplane.operations.errors import OperationError
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan
from controlplane.web.bodies import Body, Reason
from controlplane.web.problems import problems
from controlplane.web.queries import Number, Parameters
from environments.access import load_environment

router = Router(tags=["backups"])

HERE = "/environments/{slug:environment}/restore-points"


class PointIn(Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
    reason: Reason


class PointRestoreIn(Body):
    """plan_digest: of the plan that was read; without it the plan as it is."""

    reason: Reason
    plan_digest: Digest | None = None


class PointQuery(Parameters):
    before: Number = 0


class PartOut(BaseModel):
    """One backup of a restore point. verdict: "" for not tested."""

    backup: int
    policy: str
    kind: WhatIs
    as_of: datetime
    size: int
    state: BackupState
    verdict: Verdict


class SoftwareOut(BaseModel):
    """What ran. The changes of the plan say what becomes of it."""

    service: str
    version: str
    digest: str


class PointOut(BaseModel):
    """A restore point. operation: that made it. parts: none before that operation has ended."""

    id: int
    environment: str
    name: str
    at: datetime
    made_by: str
    operation: int | None
    parts: list[PartOut]
    software: list[SoftwareOut]


class OnePointOut(PointOut):
    """With the way back to it. plan: null where it cannot be restored, which `cannot` says why."""

    plan: PlanOut | None
    cannot: str
    approvals_required: int


def _point(point: RestorePoint, parts: Iterable[Backup]) -> dict[str, Any]:
    return {
        "id": point.pk, "environment": point.environment.slug, "name": point.name, "at": point.at,
        "made_by": point.made_by_name, "operation": point.operation_id, "software": point.software,
        "parts": [_part(one) for one in parts],
    }  # fmt: skip


def _part(backup: Backup) -> dict[str, Any]:
    same = {name: getattr(backup, name) for name in ("kind", "as_of", "size", "state", "verdict")}
    return {"backup": backup.pk, "policy": backup.policy_slug, **same}


@router.get(HERE, response={200: list[PointOut], **problems(403, 404, 422)}, summary="Restore points")
def restore_points(request: ApiRequest, environment: str, wanted: Annotated[PointQuery, Query()]) -> list[PointOut]:
    """The newest 100 with a number below `before`; ask again with the last number for more."""
    place = load_environment(request.auth, environment)
    parts = Prefetch("backups", Backup.objects.defer(*HEAVY).order_by("kind", "pk"))
    rows = RestorePoint.objects.filter(environment=place).select_related("environment").prefetch_related(parts)
    rows = rows.filter(pk__lt=wanted.before) if wanted.before else rows
    return [PointOut(**_point(one, one.backups.all())) for one in rows.order_by("-pk")[:AT_MOST]]


@router.post(HERE, summary="Make a restore point", **CREATED)
def make_restore_point(request: ApiRequest, environment: str, body: PointIn) -> HttpResponse:
    """Database, uploads, configuration and images of one moment."""
    actor = request.auth
    place = load_environment(actor, environment, Role.OPERATOR)
    return ask(request, lambda: services.request_restore_point(actor, place, name=body.name, reason=body.reason),
               "restore_point.request", environment, environment)  # fmt: skip


@router.get(
    "/restore-points/{int:point_id}", response={200: OnePointOut, **problems(403, 404)}, summary="One restore point"
)
def restore_point(request: ApiRequest, point_id: int) -> OnePointOut:
    """What belongs to it, and what restoring all of it would do now: what runs is asked."""
    found = load_point(request.auth, point_id)
    plan, cannot = _way_back(found)
    parts = found.backups.defer(*HEAVY).order_by("kind", "pk")
    needed = found.environment.approvals_required
    return OnePointOut(**_point(found, parts), plan=plan, cannot=cannot, approvals_required=needed)


def _way_back(point: RestorePoint) -> tuple[PlanOut | None, str]:
    try:
        return plan_out(plan_of_point(point, database_of(point))), ""
    except OperationError as error:
        return None, str(error)


@router.post("/restore-points/{int:point_id}/restores", summary="Ask for the restore of all of it", **CREATED)
def restore_whole_point(request: ApiRequest, point_id: int, body: PointRestoreIn) -> HttpResponse:
    """It changes what is in use, so it waits for the environment's approvals."""
    found = load_point(request.auth, point_id, Role.OPERATOR)
    actor, reason, digest = request.auth, body.reason, body.plan_digest or ""
    database = database_of(found)
    seen: list[Plan | OperationError] = []

    def look() -> None:
        try:
            seen.append(draft_point(found, database))
        except OperationError as error:  # raised with the effect, so that its answer is kept
            seen.append(error)

    def make() -> Operation:
        if not seen:  # the key was there, and its time ran out just now
            look()
        (known,) = seen
        if isinstance(known, OperationError):
            raise known
        return request_point_restore(actor, found, database=database, reason=reason, plan_digest=digest, made=known)

    target = f"restore point {point_id}"
    return ask(request, make, "restore.request", target, found.environment.slug, look=look)
