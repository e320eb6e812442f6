"""Approvals: a person's signature on the digest of a plan.

The requester never approves (four eyes); N different people, each once, each with the role; a deadline; void
when the plan is not the one that was signed.
"""

from collections import Counter
from collections.abc import Sequence

from django.conf import settings

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.errors import Conflict, Refused
from controlplane.operations.models import Approval, Operation
from controlplane.operations.registry import Demand
from controlplane.operations.states import State


def too_late(operation: Operation) -> str:
    """Why nobody can approve it any more, in words; empty while its time has not come."""
    now = database_time()
    if operation.scheduled_for and operation.scheduled_for <= now:
        return "It was not approved before its planned start."
    if operation.start_by and operation.start_by <= now:
        return "It was not approved before it had to start."
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


def demand_of(operation: Operation) -> Demand:
    """Who had to approve it when it was asked for."""
    return Demand(operation.approvals_required, operation.approver_groups)


def enough(operation: Operation, demand: Demand) -> bool:
    """Whether as many as are needed approved it, and of each group as many as that asks for."""
    given = valid_approvals(operation) if demand.count or demand.groups else []
    return len(given) >= demand.count and not missing_groups(demand, given)


def missing_groups(demand: Demand, given: Sequence[Approval]) -> list[str]:
    """Of which groups somebody has to approve yet: "1 of SRE". One person stands for one group only."""
    names = [one.person.username for one in given if one.person is not None]
    groups = [(group["name"], set(group["people"])) for group in demand.groups for _ in range(group["count"])]
    standing: dict[str, int] = {}  # who stands for which place
    for place in range(len(groups)):
        _seat(place, groups, names, standing, set())
    filled = set(standing.values())
    left = Counter(name for place, (name, _) in enumerate(groups) if place not in filled)
    return [f"{count} of {name}" for name, count in left.items()]


def _seat(
    place: int, groups: Sequence[tuple[str, set[str]]], names: Sequence[str], standing: dict[str, int], tried: set[str]
) -> bool:
    """Find somebody for a place, moving others where they can stand elsewhere (a matching, by augmenting paths)."""
    for name in names:
        if name in groups[place][1] and name not in tried:
            tried.add(name)
            if name not in standing or _seat(standing[name], groups, names, standing, tried):
                standing[name] = place
                return True
    return False


def requester_may(operation: Operation) -> bool:
    """Whether who asked for it could ask today. Machines need no role, and who was deleted has none any more."""
    person = operation.requested_by
    return operation.is_by_machine if person is None else Actor(person).may(Role.OPERATOR, operation.scopes)
