"""Approvals: a person's signature on the digest of a plan.

The requester never approves (four eyes); N different people, each once, each with the role; a deadline; void
when the plan is not the one that was signed.
"""

from django.conf import settings

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.errors import Conflict, Refused
from controlplane.operations.models import Approval, Operation
from controlplane.operations.states import State


def too_late(operation: Operation) -> str:
    """Why nobody can approve it any more, in words; empty while its time has not come."""
    now = database_time()
    if operation.scheduled_for and operation.scheduled_for <= now:
        return "It was not approved before its planned start."
    if operation.approval_deadline and operation.approval_deadline <= now:
        return f"It was not approved within {settings.APPROVAL_LIFETIME_HOURS} h."
    return ""


def why_not(operation: Operation, actor: Actor) -> str:
    """Why this person cannot approve it, in words that say who can; empty when they can."""
    if operation.requested_by_id == actor.person.pk:
        return "You asked for it: somebody else has to approve it."
    role = Role(operation.approver_role)
    if not actor.may(role, operation.scopes):
        return f"Only people with the role {role.label} for {', '.join(operation.scopes)} can approve it."
    if operation.state != State.AWAITING_APPROVAL:
        return f"It does not wait for an approval: it is {operation.get_state_display()}."
    if late := too_late(operation):
        return late
    if operation.approvals.filter(person=actor.person).exists():
        return "You have given your word on it already."
    return ""


def check(operation: Operation, actor: Actor, plan_digest: str) -> None:
    """Raise unless this person may decide on this very plan. The operation's row is locked by the caller.

    Refused: never this person. Conflict: not any more, not twice, or not the plan that was read.
    """
    words = why_not(operation, actor)
    forbidden = operation.requested_by_id == actor.person.pk or not actor.may(
        Role(operation.approver_role), operation.scopes
    )
    if forbidden:
        raise Refused(words)
    if words:
        raise Conflict(words)
    if plan_digest != operation.plan_digest:
        raise Conflict("The plan you read is not the plan that would run. Read it again, then decide.")


def valid_approvals(operation: Operation) -> list[Approval]:
    """Those that count today: right digest, approved, by somebody who still may and is not the requester."""
    given = operation.approvals.filter(decision=Approval.Decision.APPROVED, plan_digest=operation.plan_digest)
    others = given.exclude(person_id=operation.requested_by_id or 0).select_related("person")
    role = Role(operation.approver_role)
    return [one for one in others if one.person is not None and Actor(one.person).may(role, operation.scopes)]


def requester_may(operation: Operation) -> bool:
    """Whether the person who asked for it could ask today. Machines, and people who were deleted, have no role."""
    person = operation.requested_by
    return person is None or Actor(person).may(Role.OPERATOR, operation.scopes)
