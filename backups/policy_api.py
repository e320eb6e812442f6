"""Backup policies for programs: how well each protects, what its retention would do, and what one may change."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from django.forms import model_to_dict
from django.http import HttpResponse
from ninja import Router
from pydantic import BaseModel, Field, StringConstraints

from backups import services
from backups.access import load_policy
from backups.asking import CREATED, ReasonIn, WhatIs, ask, refused
from backups.cleaning import propose
from backups.forms import PolicyForm
from backups.models import BackupAlert, Policy
from backups.overview import PolicyView, overview
from backups.page import PolicyPage
from backups.retention import LONGEST
from controlplane.accounts.access import Actor
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.api import ACTING
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.web.bodies import Body, Reason
from controlplane.web.problems import problems

router = Router(tags=["backups"])

ONE = "/backup-policies/{slug:environment}/{slug:slug}"
AlertKind = Literal["failed", "missed", "overrun", "stale", "unproven", "wal_gap", "wal_lag"]
Proof = Literal["each", "schedule", "never"]
Cron = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
Zone = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[^\x00]*$")]
Seconds = Annotated[int, Field(ge=0, le=2**31 - 1)]
HowMany = Annotated[int, Field(ge=0, le=LONGEST)]
ProposalDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class BackupAlertOut(BaseModel):
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
    alerts: list[BackupAlertOut]


class OnePolicyOut(PolicyOut):
    """The same with what comes next and with its rules; see docs/backups.md.

    settings, recipient, identity: of a secret the reference, never the value. checks: questions in SQL.
    """

    storage: str
    settings: dict[str, Any]
    recipient: str
    identity: str
    checks: list[dict[str, str]]
    next_runs: list[datetime]
    next_proofs: list[datetime]
    full_every: int
    keep_days: int
    keep_last: int
    keep_daily: int
    keep_weekly: int
    keep_monthly: int
    keep_yearly: int
    proof: Proof
    proof_schedule: str


class ChangesIn(Body):
    """What becomes different; what is left out, or null, stays as it is."""

    reason: Reason
    schedule: Cron | None = None
    time_zone: Zone | None = None
    rpo_seconds: Seconds | None = None
    rto_seconds: Seconds | None = None
    keep_days: HowMany | None = None
    keep_last: HowMany | None = None
    keep_daily: HowMany | None = None
    keep_weekly: HowMany | None = None
    keep_monthly: HowMany | None = None
    keep_yearly: HowMany | None = None
    proof: Proof | None = None
    proof_schedule: Cron | None = None


class GoingOut(BaseModel):
    """A backup that no rule keeps."""

    backup: int
    as_of: datetime
    size: int


class KeptOut(GoingOut):
    """A backup that stays, and each rule that keeps it."""

    why: list[str]


class RetentionOut(BaseModel):
    """What retention says now. digest: of what would go; a clean-up is asked for with it."""

    digest: str
    would_go: list[GoingOut]
    kept: list[KeptOut]


class CleanUpIn(Body):
    """digest: of what would go, as retention has shown it."""

    reason: Reason
    digest: ProposalDigest


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


def _alert_out(alert: BackupAlert) -> BackupAlertOut:
    kind: Any = alert.kind
    return BackupAlertOut(kind=kind, words=alert.words, since=alert.raised_at, operation=alert.operation_id)


def one_policy_out(actor: Actor, policy: Policy) -> OnePolicyOut:
    """A policy with its rules, from the same parts as its page."""
    page = PolicyPage(actor, policy)
    same = {name: getattr(policy, name) for name in _SAME}
    return OnePolicyOut(
        **policy_out(page.view).model_dump(), storage=policy.storage.slug, next_runs=page.next_runs,
        next_proofs=page.next_proofs, **same,
    )  # fmt: skip


_SAME = OnePolicyOut.model_fields.keys() - PolicyOut.model_fields.keys() - {"storage", "next_runs", "next_proofs"}


@router.get("/backup-policies", response={200: list[PolicyOut], **problems()}, summary="How well all is protected")
def policies(request: ApiRequest) -> list[PolicyOut]:
    """Each policy that this person sees, with its promises and what is wrong."""
    return [policy_out(view) for site in overview(request.auth) for view in site.policies]


@router.get(ONE, response={200: OnePolicyOut, **problems(403, 404)}, summary="One policy")
def policy(request: ApiRequest, environment: str, slug: str) -> OnePolicyOut:
    """How it stands, when it runs next, what it keeps and how it is tested."""
    return one_policy_out(request.auth, load_policy(request.auth, environment, slug))


@router.post(f"{ONE}/runs", summary="Make a backup now", **CREATED)
def run_policy(request: ApiRequest, environment: str, slug: str, body: ReasonIn) -> HttpResponse:
    """It needs no approval: it changes nothing."""
    found = load_policy(request.auth, environment, slug, Role.OPERATOR)
    actor, reason = request.auth, body.reason
    return ask(request, lambda: services.request_backup(actor, found, reason=reason), "backup.request",
               f"policy {found}", environment)  # fmt: skip


# --- changing it --------------------------------------------------------------------------------------

CHANGED: dict[str, Any] = {"response": {200: OnePolicyOut, **ACTING}, "openapi_extra": DESCRIPTION}


def _change(request: ApiRequest, found: Policy, change: Callable[[], None], action: str) -> HttpResponse:
    scope = found.environment.slug

    def effect() -> OnePolicyOut:
        change()
        return one_policy_out(request.auth, load_policy(request.auth, scope, found.slug))

    return answer_once(request, effect, action=action, target=f"policy {found}", scopes=[scope])


@router.post(f"{ONE}/pause", summary="Stop making backups by schedule", **CHANGED)
def pause_policy(request: ApiRequest, environment: str, slug: str, body: ReasonIn) -> HttpResponse:
    """Until somebody resumes it; one that runs goes on."""
    found = load_policy(request.auth, environment, slug, Role.OPERATOR)
    return _change(request, found, lambda: services.pause(request.auth, found, body.reason, paused=True),
                   "backup.pause")  # fmt: skip


@router.post(f"{ONE}/resume", summary="Go on by schedule", **CHANGED)
def resume_policy(request: ApiRequest, environment: str, slug: str, body: ReasonIn) -> HttpResponse:
    """From the next time that its schedule names."""
    found = load_policy(request.auth, environment, slug, Role.OPERATOR)
    return _change(request, found, lambda: services.pause(request.auth, found, body.reason, paused=False),
                   "backup.pause")  # fmt: skip


@router.post(f"{ONE}/changes", summary="Another schedule, other rules", **CHANGED)
def change_policy(request: ApiRequest, environment: str, slug: str, body: ChangesIn) -> HttpResponse:
    """By an administrator. What it backs up, and where to, is declared in the configuration file."""
    actor = request.auth
    found = load_policy(actor, environment, slug, Role.ADMIN)
    form = _filled_in(load_policy(actor, environment, slug, Role.ADMIN), body)
    values, reason = form.changed_values(), form.cleaned_data["reason"]
    return _change(request, found, lambda: services.change_policy(actor, found, values, reason), "backup.change")


def _filled_in(there: Policy, body: ChangesIn) -> PolicyForm:
    """The form of the page with what is there, and over it what is wanted. Raises ValidationError, naming fields."""
    given = body.model_dump(exclude_none=True)
    form = PolicyForm({**model_to_dict(there, PolicyForm.Meta.fields), **given}, instance=there)
    if not form.is_valid():
        raise refused(form, "body", "body")
    return form


# --- retention ----------------------------------------------------------------------------------------


@router.get(
    f"{ONE}/retention",
    response={200: RetentionOut, **problems(403, 404)},
    summary="What would go, and why the others stay",
)
def retention(request: ApiRequest, environment: str, slug: str) -> RetentionOut:
    """A dry run as of now, the oldest first."""
    proposal = propose(load_policy(request.auth, environment, slug))
    return RetentionOut(
        digest=proposal.digest,
        would_go=[GoingOut(backup=one.pk, as_of=one.as_of, size=one.size) for one in proposal.go],
        kept=[
            KeptOut(backup=one.pk, as_of=one.as_of, size=one.size, why=proposal.reasons[one.pk])
            for one in proposal.keep
        ],
    )


@router.post(f"{ONE}/clean-ups", summary="Delete what retention lets go", **CREATED)
def clean_up(request: ApiRequest, environment: str, slug: str, body: CleanUpIn) -> HttpResponse:
    """Now, and nothing else than what retention has shown; else the clock does it daily."""
    found = load_policy(request.auth, environment, slug, Role.OPERATOR)
    actor, reason, shown = request.auth, body.reason, body.digest
    return ask(request, lambda: services.request_shown_cleanup(actor, found, shown=shown, reason=reason),
               "backup.clean", f"policy {found}", environment)  # fmt: skip
