"""Alert rules for programs: how each stands, its pause and its changes. The same functions as the pages call."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpResponse
from ninja import Router
from pydantic import BaseModel, Field, StringConstraints

from backups.asking import refused
from controlplane.accounts.access import Actor
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.api import ACTING
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.web.bodies import Body, Reason, Slug
from controlplane.web.problems import problems
from incidents.models import AlertRule, RuleState
from incidents.rules import changing
from incidents.rules.access import load_rule, visible_rules, visible_states
from incidents.rules.durations import written
from incidents.rules.forms import RuleForm
from incidents.rules.page import view_of

router = Router(tags=["incidents"])

ONE = "/alert-rules/{slug:rule}"
# Spelled out: in the description, enumerations of the same name would be one.
RuleStateIs = Literal["fine", "pending", "firing", "missing"]
RuleSeverity = Literal["critical", "warning", "info"]
ChannelIs = Literal["pagerduty", "slack", "email", "phone", "sms", "webhook"]
Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Duration = Annotated[str, StringConstraints(max_length=20, pattern=r"^[^\x00]*$")]
Slugs = Annotated[list[Slug], Field(max_length=100)]


class RuleStateOut(BaseModel):
    """How it stands in one environment. value: in ms, as a share of 1, in bytes, or a count; null: not known.

    firing_since, no_data_since: since when its alert, and that of missing data, are out.
    """

    environment: str
    state: RuleStateIs
    since: datetime
    value: float | None
    words: str
    evaluated_at: datetime | None
    firing_since: datetime | None
    no_data_since: datetime | None


class RuleOut(BaseModel):
    """One rule. meaning: its condition in words. environments: that it names; none: all that run something."""

    rule: str
    name: str
    condition: str
    meaning: str
    duration: str
    severity: RuleSeverity
    notify: list[str]
    environments: list[str]
    summary: str
    paused: bool
    states: list[RuleStateOut]


class RuleReasonIn(Body):
    reason: Reason


class RuleChangesIn(Body):
    """What becomes different; what is left out, or null, stays as it is."""

    reason: Reason
    condition: Text | None = None
    duration: Duration | None = None
    severity: RuleSeverity | None = None
    notify: Annotated[list[ChannelIs], Field(max_length=10)] | None = None
    environments: Slugs | None = None
    summary: Text | None = None


def rule_out(rule: AlertRule, rows: Sequence[RuleState]) -> RuleOut:
    """A rule as programs see it."""
    same = ("name", "condition", "severity", "notify", "environments", "summary", "paused")
    return RuleOut(
        **{name: getattr(rule, name) for name in same}, rule=rule.slug, duration=written(rule.for_seconds),
        meaning=view_of(rule, []).words, states=[_state_out(row) for row in rows],
    )  # fmt: skip


def _state_out(row: RuleState) -> RuleStateOut:
    state: Any = row.state
    return RuleStateOut(
        environment=row.environment.slug, state=state, since=row.since, value=row.value, words=row.words,
        evaluated_at=row.evaluated_at, firing_since=row.told_since, no_data_since=row.nodata_since,
    )  # fmt: skip


def _one(actor: Actor, slug: str) -> RuleOut:
    found = load_rule(actor, slug)
    return rule_out(found, list(visible_states(actor).filter(rule=found)))


@router.get("/alert-rules", response={200: list[RuleOut], **problems()}, summary="Alert rules, and how they stand")
def alert_rules(request: ApiRequest) -> list[RuleOut]:
    """Those that watch something you may look at; data that are missing are a state of their own."""
    return [rule_out(one, list(one.states.all())) for one in visible_rules(request.auth)]


@router.get(ONE, response={200: RuleOut, **problems(403, 404)}, summary="One alert rule")
def alert_rule(request: ApiRequest, rule: Slug) -> RuleOut:
    """With its state in each environment that you may look at."""
    return _one(request.auth, rule)


CHANGED: dict[str, Any] = {"response": {200: RuleOut, **ACTING}, "openapi_extra": DESCRIPTION}


def _change(request: ApiRequest, found: AlertRule, change: Callable[[], None], action: str) -> HttpResponse:
    def effect() -> RuleOut:
        change()
        return _one(request.auth, found.slug)

    target = f"alert rule {found.name}"
    return answer_once(request, effect, action=action, target=target, scopes=found.environments)


@router.post(f"{ONE}/pause", summary="Stop evaluating a rule", **CHANGED)
def pause_rule(request: ApiRequest, rule: Slug, body: RuleReasonIn) -> HttpResponse:
    """Until somebody resumes it; its alerts are taken back."""
    found = load_rule(request.auth, rule, Role.ADMIN)
    return _change(request, found, lambda: changing.pause(request.auth, found, body.reason, paused=True),
                   "alert_rule.pause")  # fmt: skip


@router.post(f"{ONE}/resume", summary="Evaluate a rule again", **CHANGED)
def resume_rule(request: ApiRequest, rule: Slug, body: RuleReasonIn) -> HttpResponse:
    """It begins anew."""
    found = load_rule(request.auth, rule, Role.ADMIN)
    return _change(request, found, lambda: changing.pause(request.auth, found, body.reason, paused=False),
                   "alert_rule.resume")  # fmt: skip


@router.post(f"{ONE}/changes", summary="Another condition, duration or severity", **CHANGED)
def change_rule(request: ApiRequest, rule: Slug, body: RuleChangesIn) -> HttpResponse:
    """By an administrator. A condition that cannot be understood is refused with the place of the character."""
    actor = request.auth
    found = load_rule(actor, rule, Role.ADMIN)
    form = _filled_in(load_rule(actor, rule, Role.ADMIN), body)
    values, reason = form.changed_values(), form.cleaned_data["reason"]
    return _change(request, found, lambda: changing.change(actor, found, values, reason), "alert_rule.change")


def _filled_in(there: AlertRule, body: RuleChangesIn) -> RuleForm:
    """The form of the page with what is there, and over it what is wanted. Raises ValidationError, naming fields."""
    same = {name: getattr(there, name) for name in RuleForm.Meta.fields}
    given = body.model_dump(exclude_none=True)
    form = RuleForm({**same, "duration": written(there.for_seconds), **given}, instance=there)
    if not form.is_valid():
        raise refused(form, "body", "body")
    return form
