"""What waits for an approval, and whose."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.operations.access import visible_operations
from controlplane.operations.models import Approval, Operation
from controlplane.operations.states import State

AT_MOST = 50
RECENT = 10
KEPT = "operations that wait"


def waiting_for(actor: Actor) -> QuerySet[Operation]:
    """Those that this very person could decide on now; the rule is `approvals.why_not`, asked of the database."""
    may = Q(pk__in=[])
    for role in Role:
        scopes = actor.scopes(role)
        may |= Q(approver_role=role) if scopes is None else Q(approver_role=role, scopes__contained_by=scopes)
    signed = Approval.objects.filter(operation=OuterRef("pk"), person=actor.person)
    return _awaiting(actor).filter(may, ~Exists(signed)).exclude(requested_by=actor.person)


def waiting_count(actor: Actor) -> int:
    """How many those are."""
    known: int | None = vars(actor).get(KEPT)
    return waiting_for(actor).count() if known is None else known


def keep_count(actor: Actor, count: int) -> None:
    """Somebody has counted them already: the navigation need not. An Actor lives for one request."""
    vars(actor)[KEPT] = count


def _awaiting(actor: Actor) -> QuerySet[Operation]:
    return visible_operations(actor).filter(state=State.AWAITING_APPROVAL)


@dataclass(frozen=True)
class Inbox:
    """What the page of approvals shows, the most pressing first, and the latest decisions."""

    mine: Sequence[Operation]
    others: Sequence[Operation]
    decided: Sequence[Approval]


def inbox(actor: Actor) -> Inbox:
    """The inbox of this person: four queries, however much waits."""
    approved = Count("approvals", filter=Q(approvals__decision=Approval.Decision.APPROVED))
    waiting = _awaiting(actor).defer("plan").annotate(approved=approved).order_by("approval_deadline", "pk")
    mine = list(waiting.filter(pk__in=waiting_for(actor).values("pk"))[:AT_MOST])
    others = list(waiting.exclude(pk__in=waiting_for(actor).values("pk"))[:AT_MOST])
    decided = Approval.objects.filter(operation__in=visible_operations(actor)).select_related("operation")
    return Inbox(mine, others, list(decided.defer("operation__plan").order_by("-at")[:RECENT]))
