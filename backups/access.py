"""Which backups a person sees, and the one they named: the object, or 404, or 403."""

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404

from backups.models import Backup, Policy, RestorePoint
from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role

# What lists do not show: a manifest may be long.
HEAVY = ("manifest", "search")


def visible_policies(actor: Actor) -> QuerySet[Policy]:
    """Those of environments the person may look at."""
    rows = Policy.objects.select_related("environment", "storage", "clock", "wal")
    scopes = actor.scopes(Role.VIEWER)
    return rows if scopes is None else rows.filter(environment__slug__in=scopes)


def visible_backups(actor: Actor) -> QuerySet[Backup]:
    """Those of environments the person may look at, with what a row of a list shows."""
    rows = Backup.objects.select_related("environment", "storage").defer(*HEAVY)
    scopes = actor.scopes(Role.VIEWER)
    return rows if scopes is None else rows.filter(environment__slug__in=scopes)


def load_policy(actor: Actor, environment: str, slug: str, role: Role = Role.VIEWER) -> Policy:
    """The policy, if the person has the role in its environment; Http404 or PermissionDenied otherwise."""
    rows = Policy.objects.select_related("environment", "storage", "clock", "wal")
    policy = get_object_or_404(rows, environment__slug=environment, slug=slug)
    require(actor, role, [environment], f"open the backup policy {policy}")
    return policy


def load_backup(actor: Actor, pk: int, role: Role = Role.VIEWER) -> Backup:
    """The backup with its manifest, if the person has the role in its environment; Http404 or PermissionDenied."""
    rows = Backup.objects.select_related("environment", "storage", "policy__environment", "policy__storage", "parent")
    backup = get_object_or_404(rows.defer("search"), pk=pk)
    require(actor, role, [backup.environment.slug], f"open backup {pk}")
    return backup


def load_point(actor: Actor, pk: int, role: Role = Role.VIEWER) -> RestorePoint:
    """The restore point, if the person has the role in its environment; Http404 or PermissionDenied otherwise."""
    point = get_object_or_404(RestorePoint.objects.select_related("environment", "operation"), pk=pk)
    require(actor, role, [point.environment.slug], f"open restore point {pk}")
    return point
