"""Backups for programs: how well everything is protected, the catalog, and the same requests as the pages make."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpResponse
from ninja import Query, Router
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from backups import services
from backups.access import load_backup, load_policy, visible_backups
from backups.models import Backup, BackupAlert
from backups.overview import PolicyView, overview
from backups.restore_services import Wish, request_restore
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from controlplane.web.bodies import Body, Reason
from controlplane.web.problems import problems
from environments.access import load_environment

router = Router(tags=["backups"])

LARGEST = 2**63 - 1
AT_MOST = 100
ACTING = problems(403, 404, 409, 413, 415, 422)
Name = Annotated[str, StringConstraints(max_length=127, pattern=r"^[^\x00]*$")]
# Spelled out: in the description, enumerations of the same name would be one.
WhatIs = Literal["database", "pitr", "uploads", "configuration", "images"]
BackupState = Literal["available", "damaged", "deleted"]
AlertKind = Literal["failed", "missed", "overrun", "stale", "unproven", "wal_gap", "wal_lag"]


class AlertOut(BaseModel):
    """Something that is wrong now."""

    kind: AlertKind
    words: str
    since: datetime
    operation: int | None


class WindowOut(BaseModel):
    """Every moment from `since` to `until` can be restored."""

    since: datetime
    until: datetime


class PolicyOut(BaseModel):
    """A policy and its promises. rpo: seconds that would be lost now; rto: that the last test's restore took."""

    environment: str
    policy: str
    kind: WhatIs
    paused: bool
    schedule: str
    time_zone: str
    next_run: datetime | None
    newest: datetime | None
    restorable_to: datetime | None
    windows: list[WindowOut]
    proven_at: datetime | None
    rpo: float | None
    rpo_promised: int
    rto: float | None
    rto_promised: int
    alerts: list[AlertOut]


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
    verdict: Literal["", "proven", "failed"]
    verdict_words: str
    tested_at: datetime | None
    restore_seconds: float | None
    expires_at: datetime | None
    kept_because: str
    hold_reason: str
    operation: int | None


class OperationRef(BaseModel):
    """operation: its number. plan_digest: what an approver signs."""

    operation: int
    state: State
    plan_digest: str


class ReasonIn(Body):
    reason: Reason


class RestoreIn(Body):
    """target: scratch, new, existing, folder or configuration. moment: with its offset; only for any-moment backups."""

    target: Literal["scratch", "new", "existing", "folder", "configuration"]
    reason: Reason
    moment: Annotated[AwareDatetime, Field(strict=False)] | None = None
    database: Name = ""
    folder: Name = ""
    schema_name: Name = ""
    table: Name = ""

    def wish(self) -> Wish:
        """As the service takes it."""
        return Wish(self.target, self.moment, self.database, self.folder, self.schema_name, self.table)


class PointIn(Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
    reason: Reason


def policy_out(view: PolicyView) -> PolicyOut:
    """A policy as programs see it."""
    policy = view.policy
    kind: Any = policy.kind
    return PolicyOut(
        environment=policy.environment.slug,
        policy=policy.slug,
        kind=kind,
        paused=policy.paused,
        schedule=policy.schedule,
        time_zone=policy.time_zone,
        next_run=policy.clock.due_at,
        newest=view.newest.as_of if view.newest else None,
        restorable_to=view.restorable_to,
        windows=[WindowOut(since=one.since, until=one.until) for one in view.windows],
        proven_at=view.proven.tested_at if view.proven else None,
        rpo=view.rpo.now,
        rpo_promised=policy.rpo_seconds,
        rto=view.rto.now,
        rto_promised=policy.rto_seconds,
        alerts=[_alert_out(alert) for alert in view.alerts],
    )


def _alert_out(alert: BackupAlert) -> AlertOut:
    kind: Any = alert.kind
    return AlertOut(kind=kind, words=alert.words, since=alert.raised_at, operation=alert.operation_id)


def backup_out(backup: Backup) -> BackupOut:
    """A backup as programs see it."""
    same = {name: getattr(backup, name) for name in BackupOut.model_fields if name not in _OTHER}
    return BackupOut(
        id=backup.pk, environment=backup.environment.slug, policy=backup.policy_slug, storage=backup.storage.slug,
        operation=backup.operation_id, **same,
    )  # fmt: skip


_OTHER = {"id", "environment", "policy", "storage", "operation"}


@router.get("/backup-policies", response={200: list[PolicyOut], **problems()}, summary="How well all is protected")
def policies(request: ApiRequest) -> list[PolicyOut]:
    """Each policy that this person sees, with its promises and what is wrong."""
    return [policy_out(view) for site in overview(request.auth) for view in site.policies]


@router.get("/backups", response={200: list[BackupOut], **problems(422)}, summary="The catalog")
def backups(
    request: ApiRequest,
    environment: Annotated[str, Query(max_length=60, pattern=r"^[A-Za-z0-9_-]*$")] = "",
    policy: Annotated[str, Query(max_length=60, pattern=r"^[A-Za-z0-9_-]*$")] = "",
    before: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
) -> list[BackupOut]:
    """The newest 100 with a number below `before`; ask again with the last number for more."""
    rows = visible_backups(request.auth)
    for name, value in (("environment__slug", environment), ("policy_slug", policy)):
        rows = rows.filter(**{name: value}) if value else rows
    rows = rows.filter(pk__lt=before) if before else rows
    return [backup_out(one) for one in rows.order_by("-pk")[:AT_MOST]]


@router.get("/backups/{int:backup_id}", response={200: BackupOut, **problems(403, 404)}, summary="One backup")
def backup(request: ApiRequest, backup_id: int) -> BackupOut:
    """What it holds, where it is, whether it restores, why it is kept."""
    return backup_out(load_backup(request.auth, backup_id))


def _ask(request: ApiRequest, ask: Callable[[], Operation], action: str, target: str, scope: str) -> HttpResponse:
    def effect() -> OperationRef:
        made = ask()
        return OperationRef(operation=made.pk, state=State(made.state), plan_digest=made.plan_digest)

    return answer_once(request, effect, action=action, target=target, scopes=[scope], status=201)


CREATED: dict[str, Any] = {"response": {201: OperationRef, **ACTING}, "openapi_extra": DESCRIPTION}


@router.post("/backup-policies/{slug:environment}/{slug:slug}/runs", summary="Make a backup now", **CREATED)
def run_policy(request: ApiRequest, environment: str, slug: str, body: ReasonIn) -> HttpResponse:
    """It needs no approval: it changes nothing."""
    policy = load_policy(request.auth, environment, slug, Role.OPERATOR)
    actor, reason = request.auth, body.reason
    return _ask(request, lambda: services.request_backup(actor, policy, reason=reason), "backup.request",
                f"policy {policy}", environment)  # fmt: skip


@router.post("/backups/{int:backup_id}/tests", summary="Test a backup by restoring it", **CREATED)
def test_backup(request: ApiRequest, backup_id: int, body: ReasonIn) -> HttpResponse:
    """Into a scratch PostgreSQL that is thrown away. Only this makes a backup verified."""
    found = load_backup(request.auth, backup_id, Role.OPERATOR)
    actor, reason = request.auth, body.reason
    return _ask(request, lambda: services.request_proof(actor, found, reason=reason), "backup.test",
                f"backup {backup_id}", found.environment.slug)  # fmt: skip


@router.post("/backups/{int:backup_id}/restores", summary="Ask for a restore", **CREATED)
def restore_backup(request: ApiRequest, backup_id: int, body: RestoreIn) -> HttpResponse:
    """One that changes what is in use waits for the environment's approvals."""
    found = load_backup(request.auth, backup_id, Role.OPERATOR)
    actor, wish, reason = request.auth, body.wish(), body.reason
    return _ask(request, lambda: request_restore(actor, found, wish, reason=reason), "restore.request",
                f"backup {backup_id}", found.environment.slug)  # fmt: skip


@router.post("/environments/{slug:environment}/restore-points", summary="Make a restore point", **CREATED)
def make_restore_point(request: ApiRequest, environment: str, body: PointIn) -> HttpResponse:
    """Database, uploads, configuration and images of one moment."""
    actor = request.auth
    place = load_environment(actor, environment, Role.OPERATOR)
    return _ask(request, lambda: services.request_restore_point(actor, place, name=body.name, reason=body.reason),
                "restore_point.request", environment, environment)  # fmt: skip


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
