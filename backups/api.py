"""The catalog for programs: what there is, whether it restores, and the same requests as the pages make."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, StringConstraints

from backups import services
from backups.access import load_backup, visible_backups
from backups.asking import (
    AT_MOST,
    CREATED,
    BackupState,
    PlanOut,
    ReasonIn,
    Verdict,
    WhatIs,
    ask,
    plan_out,
    refused,
)
from backups.forms import CatalogFilter
from backups.models import Backup
from backups.restore_services import RestoreDraft, Wish, draft_restore, request_restore
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.answers import STATUS
from controlplane.operations.api import ACTING, Digest
from controlplane.operations.errors import OperationError
from controlplane.operations.gates import Outcome
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.web.bodies import Body, Reason
from controlplane.web.moments import Moment
from controlplane.web.problems import problem, problems
from controlplane.web.queries import Number, Parameters

router = Router(tags=["backups"])

Name = Annotated[str, StringConstraints(max_length=127, pattern=r"^[^\x00]*$")]
SlugOrNone = Annotated[str, StringConstraints(max_length=60, pattern=r"^[A-Za-z0-9_-]*$")]
DayOrNone = Annotated[str, StringConstraints(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")]


class CatalogQuery(Parameters):
    """The filters of the catalog's page; "" leaves one out.

    q: words, or how a location begins. verdict: none for those that are not tested. state: "" for those that are
    there, all for the deleted ones too, held. since, until: days in UTC, both included, as in 2026-11-24.
    """

    q: Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")] = ""
    environment: SlugOrNone = ""
    policy: SlugOrNone = ""
    kind: Literal["", "database", "pitr", "uploads", "configuration", "images"] = ""
    verdict: Literal["", "proven", "failed", "none"] = ""
    state: Literal["", "all", "held"] = ""
    since: DayOrNone = ""
    until: DayOrNone = ""
    before: Number = 0

    def filters(self) -> CatalogFilter:
        """As the page has them; but what cannot be read is an error here. Raises ValidationError, naming fields."""
        filters = CatalogFilter(self.model_dump(exclude={"before"}))
        if filters.errors:
            raise refused(filters, "query")
        return filters


class BackupOut(BaseModel):
    """One entry of the catalog. verdict: "" for not tested. key_id: whom it is encrypted to, or ""."""

    id: int
    environment: str
    policy: str
    kind: WhatIs
    level: str
    state: BackupState
    as_of: datetime
    seconds: float
    size: int
    source_bytes: int
    storage: str
    key: str
    sha256: str
    key_id: str
    verdict: Verdict
    verdict_words: str
    tested_at: datetime | None
    restore_seconds: float | None
    expires_at: datetime | None
    kept_because: str
    hold_reason: str
    operation: int | None


class WishIn(Body):
    """target: scratch, new, existing, folder or configuration. moment: with its offset; only for any-moment backups."""

    target: Literal["scratch", "new", "existing", "folder", "configuration"]
    moment: Moment | None = None
    database: Name = ""
    folder: Name = ""
    schema_name: Name = ""
    table: Name = ""

    def wish(self) -> Wish:
        """As the service takes it."""
        return Wish(self.target, self.moment, self.database, self.folder, self.schema_name, self.table)


class RestoreIn(WishIn):
    """The wish, and why. plan_digest: of the plan that was read; without it the plan as it is."""

    reason: Reason
    plan_digest: Digest | None = None


class GateOut(BaseModel):
    """What must hold before it may start, and how that stands."""

    key: str
    title: str
    outcome: Outcome
    reason: str


class DryRunOut(BaseModel):
    """What a restore would do. backup: the one it begins with, for a moment perhaps another one than was named.

    live: it changes what is in use. With a gate that failed it cannot be asked for.
    """

    backup: int
    title: str
    live: bool
    plan: PlanOut
    gates: list[GateOut]
    approvals_required: int


def backup_out(backup: Backup) -> BackupOut:
    """A backup as programs see it."""
    same = {name: getattr(backup, name) for name in BackupOut.model_fields if name not in _OTHER}
    return BackupOut(
        id=backup.pk, environment=backup.environment.slug, policy=backup.policy_slug, storage=backup.storage.slug,
        operation=backup.operation_id, **same,
    )  # fmt: skip


_OTHER = {"id", "environment", "policy", "storage", "operation"}


def dry_run_out(draft: RestoreDraft) -> DryRunOut:
    """A restore that nobody asked for yet, as programs see it."""
    gates = [GateOut(key=one.key, title=one.title, outcome=one.outcome, reason=one.reason) for one in draft.gates]
    return DryRunOut(
        backup=draft.backup.pk, title=draft.title, live=draft.is_live, plan=plan_out(draft.plan), gates=gates,
        approvals_required=draft.approvals_required,
    )  # fmt: skip


@router.get("/backups", response={200: list[BackupOut], **problems(422)}, summary="The catalog")
def backups(request: ApiRequest, wanted: Annotated[CatalogQuery, Query()]) -> list[BackupOut]:
    """The newest 100 that fit, with a number below `before`; ask again with the last number for more."""
    rows = visible_backups(request.auth).filter(wanted.filters().condition())
    rows = rows.filter(pk__lt=wanted.before) if wanted.before else rows
    return [backup_out(one) for one in rows.order_by("-pk")[:AT_MOST]]


@router.get("/backups/{int:backup_id}", response={200: BackupOut, **problems(403, 404)}, summary="One backup")
def backup(request: ApiRequest, backup_id: int) -> BackupOut:
    """What it holds, where it is, whether it restores, why it is kept."""
    return backup_out(load_backup(request.auth, backup_id))


@router.post("/backups/{int:backup_id}/tests", summary="Test a backup by restoring it", **CREATED)
def test_backup(request: ApiRequest, backup_id: int, body: ReasonIn) -> HttpResponse:
    """Into a scratch PostgreSQL that is thrown away. Only this makes a backup verified."""
    found = load_backup(request.auth, backup_id, Role.OPERATOR)
    actor, reason = request.auth, body.reason
    return ask(request, lambda: services.request_proof(actor, found, reason=reason), "backup.test",
               f"backup {backup_id}", found.environment.slug)  # fmt: skip


@router.post(
    "/backups/{int:backup_id}/plan",
    response={200: DryRunOut, **problems(403, 404, 413, 415, 422)},
    summary="What a restore would do",
)
def plan_restore(request: ApiRequest, backup_id: int, body: WishIn) -> DryRunOut | HttpResponse:
    """The dry run: it changes nothing, and is the plan that a request with the same wish has."""
    found = load_backup(request.auth, backup_id, Role.OPERATOR)
    try:
        return dry_run_out(draft_restore(found, body.wish()))
    except OperationError as error:
        return problem(STATUS[type(error)], str(error))


@router.post("/backups/{int:backup_id}/restores", summary="Ask for a restore", **CREATED)
def restore_backup(request: ApiRequest, backup_id: int, body: RestoreIn) -> HttpResponse:
    """One that changes what is in use waits for the environment's approvals."""
    found = load_backup(request.auth, backup_id, Role.OPERATOR)
    actor, wish, reason, digest = request.auth, body.wish(), body.reason, body.plan_digest or ""
    return ask(request, lambda: request_restore(actor, found, wish, reason=reason, plan_digest=digest),
               "restore.request", f"backup {backup_id}", found.environment.slug)  # fmt: skip


def _hold(request: ApiRequest, backup_id: int, change: Callable[..., None], reason: str) -> HttpResponse:
    found = load_backup(request.auth, backup_id, Role.OPERATOR)

    def effect() -> BackupOut:
        change(request.auth, found, reason)
        return backup_out(load_backup(request.auth, backup_id))

    target, scopes = f"backup {backup_id}", [found.environment.slug]
    return answer_once(request, effect, action="backup.hold", target=target, scopes=scopes)


CHANGED: dict[str, Any] = {"response": {200: BackupOut, **ACTING}, "openapi_extra": DESCRIPTION}


@router.post("/backups/{int:backup_id}/hold", summary="Keep a backup whatever retention says", **CHANGED)
def hold_backup(request: ApiRequest, backup_id: int, body: ReasonIn) -> HttpResponse:
    """Until somebody lets go of it."""
    return _hold(request, backup_id, services.hold, body.reason)


@router.post("/backups/{int:backup_id}/release", summary="Let go of a held backup", **CHANGED)
def release_backup(request: ApiRequest, backup_id: int, body: ReasonIn) -> HttpResponse:
    """From now on only retention keeps it."""
    return _hold(request, backup_id, services.let_go, body.reason)
