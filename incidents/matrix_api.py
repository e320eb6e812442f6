"""The escalation matrix for programs: its policies with their levels and targets, and what one may change.

The same functions as the pages call. Incidents that run keep the policy they were opened with.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from django.http import HttpResponse
from ninja import Router
from pydantic import BaseModel, Field, StringConstraints

from backups.asking import refused
from controlplane.accounts.access import Actor
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.api import ACTING, Digest
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.web.bodies import Body, Reason, Slug
from controlplane.web.problems import problems
from incidents import matrix_services
from incidents.matrix_forms import LevelForm, PolicyFields, word_of
from incidents.matrix_services import LEVELS_AT_MOST, LONGEST_SECONDS, LevelPlan, PolicyPlan
from incidents.models import EscalationPolicy
from incidents.oncall.access import load_policy, look, may_add

router = Router(tags=["incidents"])

ONE = "/escalation-policies/{slug:policy}"
SeverityIs = Literal["P1", "P2", "P3", "P4"]
ChannelIs = Literal["pagerduty", "slack", "email", "phone", "sms", "webhook"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
Target = Annotated[str, StringConstraints(min_length=1, max_length=160, pattern=r"^[^\x00,]*$")]
Seconds = Annotated[int, Field(ge=0, le=LONGEST_SECONDS, multiple_of=60)]
After = Annotated[int, Field(ge=60, le=LONGEST_SECONDS, multiple_of=60)]
Repeats = Annotated[int, Field(ge=0, le=20)]
Severities = Annotated[list[SeverityIs], Field(max_length=4)]


class PolicyLevelOut(BaseModel):
    """One level. after_seconds: since the opening. targets: a username, or schedule:NAME.

    channels: in the order in which they are tried.
    """

    level: int
    role: str
    after_seconds: int
    targets: list[str]
    channels: list[str]


class EscalationPolicyOut(BaseModel):
    """One policy. repeats: how often all levels are gone through again. digest: for who changes it."""

    policy: str
    name: str
    severities: list[str]
    repeats: int
    repeat_after_seconds: int
    levels: list[PolicyLevelOut]
    digest: str


class PolicyLevelIn(Body):
    """A level as it is to be: whole minutes since the opening, each level later than the one before."""

    role: Name
    after_seconds: Seconds
    targets: Annotated[list[Target], Field(min_length=1, max_length=20)]
    channels: Annotated[list[ChannelIs], Field(min_length=1, max_length=6)]


Levels = Annotated[list[PolicyLevelIn], Field(min_length=1, max_length=LEVELS_AT_MOST)]


class EscalationPolicyIn(Body):
    """policy: its short name. severities: that no other policy has; none: it pages nobody yet."""

    policy: Slug
    name: Name
    severities: Severities
    repeats: Repeats = 0
    repeat_after_seconds: After = 1800
    levels: Levels
    reason: Reason


class EscalationChangesIn(Body):
    """What becomes different; what is left out, or null, stays as it is. digest: of the policy that was read.

    levels: all of them, in their order; they replace those that there are.
    """

    reason: Reason
    digest: Digest
    name: Name | None = None
    severities: Severities | None = None
    repeats: Repeats | None = None
    repeat_after_seconds: After | None = None
    levels: Levels | None = None


def policy_out(policy: EscalationPolicy) -> EscalationPolicyOut:
    """A policy as programs see it."""
    return EscalationPolicyOut(
        policy=policy.slug, name=policy.name, severities=sorted(policy.severities), repeats=policy.repeats,
        repeat_after_seconds=policy.repeat_after_seconds, digest=matrix_services.digest_of(policy),
        levels=[
            PolicyLevelOut(level=one.number, role=one.role, after_seconds=one.after_seconds, channels=one.channels,
                           targets=[word_of(target) for target in one.targets])
            for one in policy.levels.all()
        ],
    )  # fmt: skip


def _one(actor: Actor, slug: str) -> EscalationPolicyOut:
    return policy_out(load_policy(actor, slug))


@router.get(
    "/escalation-policies", response={200: list[EscalationPolicyOut], **problems(404)}, summary="The escalation matrix"
)
def escalation_policies(request: ApiRequest) -> list[EscalationPolicyOut]:
    """All policies: who is paged, after how long, by what. Who that is right now, /on-call says."""
    look(request.auth, "read the escalation matrix")
    return [policy_out(one) for one in EscalationPolicy.objects.prefetch_related("levels")]


@router.get(ONE, response={200: EscalationPolicyOut, **problems(404)}, summary="One escalation policy")
def escalation_policy(request: ApiRequest, policy: Slug) -> EscalationPolicyOut:
    """With its levels, and the digest that a change needs."""
    return _one(request.auth, policy)


@router.post(
    "/escalation-policies", response={201: EscalationPolicyOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Add an escalation policy",
)  # fmt: skip
def add_escalation_policy(request: ApiRequest, body: EscalationPolicyIn) -> HttpResponse:
    """By an administrator; for incidents to come."""
    actor = request.auth
    may_add(actor, "an escalation policy")
    wanted = _plan(body.name, body.severities, body.repeats, body.repeat_after_seconds, body.reason,
                   tuple(_level(one, number) for number, one in enumerate(body.levels)))  # fmt: skip

    def effect() -> EscalationPolicyOut:
        matrix_services.create(actor, body.policy, wanted, reason=body.reason)
        return _one(actor, body.policy)

    target = f"escalation policy {body.policy}"
    return answer_once(request, effect, action="escalation.add", target=target, status=201)


@router.post(
    f"{ONE}/changes", response={200: EscalationPolicyOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Change severities, levels, targets, channels or times",
)  # fmt: skip
def change_escalation_policy(request: ApiRequest, policy: Slug, body: EscalationChangesIn) -> HttpResponse:
    """By an administrator; 409 when somebody changed it since it was read."""
    actor, found = request.auth, load_policy(request.auth, policy, Role.ADMIN)
    wanted = _changed(matrix_services.plan_of(found), body)

    def effect() -> EscalationPolicyOut:
        matrix_services.change(actor, found, wanted, shown=body.digest, reason=body.reason)
        return _one(actor, policy)

    return answer_once(request, effect, action="escalation.change", target=f"escalation policy {policy}")


def _changed(there: PolicyPlan, body: EscalationChangesIn) -> PolicyPlan:
    """What is there, and over it what is wanted. Raises ValidationError, naming fields."""
    given: dict[str, Any] = body.model_dump(exclude_none=True)
    levels = there.levels
    if body.levels is not None:
        levels = tuple(_level(one, number) for number, one in enumerate(body.levels))
    return _plan(
        given.get("name", there.name), given.get("severities", there.severities),
        given.get("repeats", there.repeats), given.get("repeat_after_seconds", there.repeat_after_seconds),
        body.reason, levels,
    )  # fmt: skip


def _plan(  # noqa: PLR0917 (the fields of one thing)
    name: str, severities: Sequence[str], repeats: int, repeat_after: int, reason: str, levels: tuple[LevelPlan, ...]
) -> PolicyPlan:
    """Checked by the form of the page. Raises ValidationError, naming fields."""
    form = PolicyFields({"name": name, "severities": list(severities), "repeats": repeats, "reason": reason,
                       "repeat_after": max(1, repeat_after // 60)})  # fmt: skip
    if not form.is_valid():
        raise refused(form, "body", "body")
    return PolicyPlan(form.cleaned_data["name"], tuple(sorted(set(severities))), repeats, repeat_after, levels)


def _level(level: PolicyLevelIn, number: int) -> LevelPlan:
    form = LevelForm({"role": level.role, "after": level.after_seconds // 60, "targets": ", ".join(level.targets),
                      "channels": ", ".join(level.channels)})  # fmt: skip
    if not form.is_valid():
        raise refused(form, "body", "body", "levels", str(number))
    return form.plan()
