"""Who may see and touch an operation: loaders that return it or raise."""

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.audit.record import MACHINE
from controlplane.operations.models import Operation
from controlplane.operations.states import State

# What lists do not show: a plan may be long.
HEAVY = ("plan", "gates", "search")


def visible_operations(actor: Actor, role: Role = Role.VIEWER) -> QuerySet[Operation]:
    """The operations of which this person has the role in every scope."""
    scopes = actor.scopes(role)
    if scopes is None:
        return Operation.objects.all()
    return Operation.objects.filter(scopes__contained_by=scopes)


def noteworthy(operations: QuerySet[Operation]) -> QuerySet[Operation]:
    """Without what machines asked for and what went well: of a backup every hour only trouble is news."""
    return operations.exclude(state=State.SUCCEEDED, requested_by=None, requested_by_name__startswith=MACHINE)


def load_operation(actor: Actor, pk: int, role: Role = Role.VIEWER) -> Operation:
    """The operation, for somebody with the role in all its scopes.

    Raises Http404 when there is none or this person sees none of its scopes, and PermissionDenied, in words
    that say who can, when only the role is missing.
    """
    operation = get_object_or_404(Operation, pk=pk)
    verb = "see" if role == Role.VIEWER else "change"
    require(actor, role, operation.scopes, f"{verb} operation {pk}")
    return operation


def roles_from(role: Role) -> list[Role]:
    """The role and those that include it."""
    roles = list(Role)
    return roles[roles.index(role) :]
