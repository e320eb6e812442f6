"""What people may do with the rules of an environment: freezes, ticks of a checklist; and what the rules ask for."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.audit.record import Who, record
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.doorbell import ring_after_commit
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.events import NewEvent, append
from controlplane.operations.models import Event, Operation
from controlplane.operations.plans import StepSpec
from controlplane.operations.registry import Demand
from controlplane.operations.states import BEFORE_START, State
from controlplane.operations.transitions import locked, said
from deployments.gates.recurring import problem_with_rule
from deployments.gates.windows import LONGEST_MINUTES, problem_with_zone
from deployments.models import ApproverGroup, ChecklistTick, Deployment, FreezeWindow, Policy
from deployments.plans import BACKUP
from environments.locks import hold_still
from environments.models import Environment

BACKUP_SECONDS = 4 * 3600.0
LONGEST_REASON = 300
# A rule's occurrences are counted from its start, each time that somebody asks.
FARTHEST_START = timedelta(days=3653)


def policy_of(environment: Environment) -> Policy:
    """Its rules; one that asks for nothing where none were declared."""
    policy = Policy.objects.filter(environment=environment).first() or Policy()
    policy.environment = environment
    return policy


# --- what they ask for --------------------------------------------------------------------------------


def groups_of(policy: Policy) -> list[dict[str, Any]]:
    """Of whom some have to approve, as an operation keeps it. A group that is gone has nobody in it."""
    known = {group.slug: group for group in ApproverGroup.objects.filter(slug__in=policy.approvers)}
    return [
        {
            "name": known[slug].name if slug in known else slug,
            "people": list(known[slug].people) if slug in known else [],
            "count": count,
        }
        for slug, count in sorted(policy.approvers.items())
        if count
    ]


def demand_of(environment: Environment) -> Demand:
    """Who has to approve a change there."""
    policy = policy_of(environment)
    return Demand(policy.approvals_required, groups_of(policy))


def guarded_slugs() -> set[str]:
    """The environments in which a change has to be approved."""
    asking = {
        one.environment_id for one in Policy.objects.only("environment_id", "approvers") if any(one.approvers.values())
    }
    return {one.slug for one in Environment.objects.all() if one.approvals_required or one.pk in asking}


def first_steps(policy: Policy) -> tuple[StepSpec, ...]:
    """What comes before anything is touched: a verified backup, where the policy has one made."""
    if not policy.backup_minutes or policy.backup != Policy.Backup.MAKE:
        return ()
    arguments = {"environment": policy.environment.slug, "minutes": policy.backup_minutes}
    return tuple(
        StepSpec(f"backup/{key}", title, f"backup.{key}", arguments, BACKUP, BACKUP_SECONDS, safe_point=True,
                 interruptible=True)
        for key, title in (("before", "back up what is not backed up"), ("proven", "see it restored for a test"))
    )  # fmt: skip


# --- freezes ------------------------------------------------------------------------------------------


def freeze(
    actor: Actor, environment: Environment, *, reason: str, zone: str, starts: str, minutes: int, rule: str = ""
) -> FreezeWindow:
    """Close an environment for a time. starts: by the wall's clock in the zone.

    Raises Invalid, PermissionDenied, and Conflict for a freeze that is there already.
    """
    require(actor, Role.APPROVER, [environment.slug], f"freeze {environment.slug}")
    reason = said(reason, "Say why it is closed: whoever wants to deploy will read it.")
    if len(reason) > LONGEST_REASON:
        raise Invalid(f"Say why in at most {LONGEST_REASON} characters.")
    if wrong := problem_with_freeze(zone, starts, minutes, rule):
        raise Invalid(" ".join(f"{key.capitalize()} {words}." for key, words in wrong.items()))
    said_of_it = {"reason": reason, "zone": zone, "starts": starts, "minutes": minutes, "rule": rule}
    with transaction.atomic():
        hold_still([environment.slug])  # of two clicks one is the first
        if FreezeWindow.objects.filter(environment=environment, ended_at=None, **said_of_it).exists():
            raise Conflict("It is closed for this time and this reason already. Give another one, or leave it at that.")
        window = FreezeWindow.objects.create(environment=environment, author_name=actor.who.name, **said_of_it)
        note(actor.who, "environment.frozen", window, reason)
    return window


def end_freeze(actor: Actor, environment: Environment, window_id: int, reason: str) -> None:
    """Take a freeze away; it stays in the history. Raises Conflict when somebody was first, Invalid."""
    require(actor, Role.APPROVER, [environment.slug], f"end a freeze of {environment.slug}")
    reason = said(reason, "Say why it may be open again.")
    with transaction.atomic():
        rows = FreezeWindow.objects.filter(pk=window_id, environment=environment, ended_at=None)
        window = rows.first()
        if window is None or not rows.update(ended_at=Now(), ended_by_name=actor.who.name):
            raise Conflict("This freeze is over already.")
        _ring_who_waits(environment)
        note(actor.who, "environment.thawed", window, reason)


def problem_with_freeze(zone: str, starts: str, minutes: int, rule: str) -> dict[str, str]:
    """What is wrong with it, in words, by field; empty for nothing."""
    wrong = {"zone": problem_with_zone(zone)}
    begin = _wall(starts)
    if begin is None:
        wrong["starts"] = "has to be a day and a time of day, as in 2026-12-20T18:00"
    elif abs(begin - database_time().replace(tzinfo=None)) > FARTHEST_START:
        wrong["starts"] = "has to be within ten years of today"
    else:
        wrong["rule"] = problem_with_rule(rule, begin) if rule else ""
    if not 1 <= minutes <= LONGEST_MINUTES:
        wrong["minutes"] = f"has to be a number from 1 to {LONGEST_MINUTES}"
    return {key: words for key, words in wrong.items() if words}


def _wall(text: str) -> datetime | None:
    """What a clock on the wall shows, to the minute; None for what is no such time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is None and len(text) == len("2026-12-20T18:00") else None


def note(who: Who, action: str, window: FreezeWindow, reason: str) -> None:
    """In the audit trail, and to whoever looks; in the caller's transaction, last."""
    transaction.on_commit(lambda: ring("news", "environments"))
    data = {"zone": window.zone, "starts": window.starts, "minutes": window.minutes, "rule": window.rule}
    scopes = [window.environment.slug]
    record(who, action, f"environment {scopes[0]}", scopes=scopes, reason=reason, data=data)


def _ring_who_waits(environment: Environment) -> None:
    waiting = Deployment.objects.filter(environment=environment, operation__state=State.QUEUED)
    for operation_id in waiting.values_list("operation_id", flat=True)[:100]:
        ring_after_commit(operation_id)


# --- the checklist ------------------------------------------------------------------------------------


def tick(actor: Actor, operation_id: int, item: str) -> None:
    """Say that an item of the checklist is looked after. Raises Invalid for none of its items, Conflict, Refused."""
    with transaction.atomic():
        operation = locked(operation_id)
        deployment = Deployment.objects.select_related("environment").get(operation=operation)
        environment = deployment.environment
        require(actor, Role.OPERATOR, [environment.slug], f"tick the checklist of {environment.slug}")
        if item not in policy_of(environment).checklist:
            raise Invalid("There is no such item on the checklist. Read the page again.")
        if operation.state not in BEFORE_START:
            raise Conflict(f"It is {operation.get_state_display()}: nothing is to be ticked any more.")
        _, new = ChecklistTick.objects.get_or_create(
            operation=operation, item=item, defaults={"by_name": actor.who.name}
        )
        if not new:
            raise Conflict("It is ticked already.")
        append(operation.pk, [NewEvent(Event.Kind.STATE, f"{actor.who.name} ticks: {item}")])
        if operation.state == State.QUEUED:
            ring_after_commit(operation.pk)
        record(
            actor.who, "deployment.ticked", f"operation {operation.pk}", scopes=operation.scopes, data={"item": item}
        )


def ticks_of(operation: Operation, policy: Policy) -> list[Mapping[str, Any]]:
    """The items with who ticked each and when; None for nobody yet."""
    ticked = {one.item: one for one in ChecklistTick.objects.filter(operation=operation)}
    return [{"item": item, "tick": ticked.get(item)} for item in policy.checklist]
