"""Who may do what about on-call: it is of the whole installation, so roles in one environment only let one look."""

from django.http import Http404
from django.shortcuts import get_object_or_404

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.audit.record import record_denied
from incidents.models import EscalationPolicy, Schedule


def look(actor: Actor, what: str) -> None:
    """Everybody with any role may look; Http404 for the others, which goes to the audit trail."""
    scopes = actor.scopes(Role.VIEWER)
    if scopes is not None and not scopes:
        record_denied(actor.who, "access.denied", what, reason="They have no role anywhere.")
        raise Http404


def load_schedule(actor: Actor, slug: str, role: Role = Role.VIEWER) -> Schedule:
    """The schedule, if the person may look, or has the role everywhere; Http404 or PermissionDenied otherwise."""
    look(actor, f"open the schedule {slug}")
    schedule = get_object_or_404(Schedule, slug=slug)
    if role != Role.VIEWER:
        require(actor, role, [], f"change the schedule {slug}")
    return schedule


def load_policy(actor: Actor, slug: str, role: Role = Role.VIEWER) -> EscalationPolicy:
    """The escalation policy with its levels; Http404 or PermissionDenied as for a schedule."""
    look(actor, f"open the escalation policy {slug}")
    policy = get_object_or_404(EscalationPolicy.objects.prefetch_related("levels"), slug=slug)
    if role != Role.VIEWER:
        require(actor, role, [], f"change the escalation policy {slug}")
    return policy


def may_add(actor: Actor, what: str) -> None:
    """Return for who may add a schedule or a policy; Http404 or PermissionDenied as above. what: in words."""
    look(actor, f"add {what}")
    require(actor, Role.ADMIN, [], f"add {what}")
