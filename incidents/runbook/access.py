"""Who looks at the runbook and the contacts: everybody with a role somewhere. They are of the whole installation."""

from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.audit.record import record_denied
from incidents.models import Contact, RunbookTask

NOBODY = "You have no role in any environment yet. An administrator gives roles."


def require_any_role(actor: Actor, what: str) -> None:
    """Return for who may look at any environment at all; PermissionDenied, which is recorded, for others."""
    if actor.scopes(Role.VIEWER) == []:
        record_denied(actor.who, "access.denied", what, reason=NOBODY)
        raise PermissionDenied(NOBODY)


def may_see_evidence(actor: Actor) -> bool:
    """Evidence may name any environment, so it is for who may look at all of them."""
    return actor.may(Role.VIEWER, [])


def load_task(actor: Actor, slug: str, role: Role = Role.VIEWER) -> RunbookTask:
    """The task; Http404 when there is none, PermissionDenied without the role everywhere (a look needs any role)."""
    if role == Role.VIEWER:
        require_any_role(actor, f"open runbook task {slug}")
    else:
        require(actor, role, [], f"tick runbook task {slug}")
    return get_object_or_404(RunbookTask, slug=slug)


def load_contact(actor: Actor, slug: str) -> Contact:
    """The contact, for an administrator of everything; PermissionDenied, or Http404."""
    require(actor, Role.ADMIN, [], f"change contact {slug}")
    return get_object_or_404(Contact, slug=slug)
