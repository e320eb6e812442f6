"""Which recovery plans a person sees, and the one they named: the object, or 404, or 403."""

from django.db.models import F, QuerySet
from django.shortcuts import get_object_or_404

from backups.models import Recovery, RecoveryPlan
from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role

RELATED = ("primary", "standby", "kit_storage")


def visible_plans(actor: Actor) -> QuerySet[RecoveryPlan]:
    """Those of which the person may look at both sides."""
    rows = RecoveryPlan.objects.select_related(*RELATED)
    scopes = actor.scopes(Role.VIEWER)
    return rows if scopes is None else rows.filter(primary__slug__in=scopes, standby__slug__in=scopes)


def visible_recoveries(actor: Actor) -> QuerySet[Recovery]:
    """What was done by these plans, the latest first."""
    rows = Recovery.objects.select_related("operation", "plan", "source", "target")
    return rows.filter(plan__in=visible_plans(actor)).order_by(F("operation_id").desc())


def load_plan(actor: Actor, slug: str, role: Role = Role.VIEWER) -> RecoveryPlan:
    """The plan, if the person has the role on both sides; Http404 or PermissionDenied otherwise."""
    plan = get_object_or_404(RecoveryPlan.objects.select_related(*RELATED), slug=slug)
    require(actor, role, plan.scopes, f"open the recovery plan {plan}")
    return plan


def load_recovery(actor: Actor, operation_id: int, role: Role = Role.VIEWER) -> Recovery:
    """A failover, failback or drill by its operation's number, under the same conditions."""
    rows = Recovery.objects.select_related("operation", "plan__primary", "plan__standby", "source", "target")
    recovery = get_object_or_404(rows, operation_id=operation_id)
    require(actor, role, recovery.plan.scopes, f"open recovery {operation_id}")
    return recovery
