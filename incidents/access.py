"""Which incidents a person sees, and the one they named: the object, or 404, or 403."""

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from incidents.models import Alert, Incident, RawAlert, Silence

# What lists do not show.
HEAVY = ("policy", "search")


def visible_incidents(actor: Actor, role: Role = Role.VIEWER) -> QuerySet[Incident]:
    """Those all of whose environments the person may look at; those of the whole installation need it everywhere."""
    rows = Incident.objects.defer(*HEAVY)
    scopes = actor.scopes(role)
    return rows if scopes is None else rows.filter(environments__contained_by=scopes).exclude(environments=[])


def load_incident(actor: Actor, pk: int, role: Role = Role.VIEWER) -> Incident:
    """The incident, if the person has the role in all its environments; Http404 or PermissionDenied otherwise."""
    incident = get_object_or_404(Incident.objects.defer("search"), pk=pk)
    require(actor, role, incident.environments, f"open incident {pk}")
    return incident


def visible_alerts(actor: Actor) -> QuerySet[Alert]:
    """Those of environments the person may look at; those of none need it everywhere."""
    rows = Alert.objects.select_related("environment", "source")
    scopes = actor.scopes(Role.VIEWER)
    return rows if scopes is None else rows.filter(environment__slug__in=scopes)


def load_alert(actor: Actor, pk: int, role: Role = Role.VIEWER) -> Alert:
    """The alert, if the person has the role in its environment; Http404 or PermissionDenied otherwise."""
    alert = get_object_or_404(Alert.objects.select_related("environment", "source", "silence"), pk=pk)
    require(actor, role, [alert.environment.slug] if alert.environment else [], f"open alert {pk}")
    return alert


def visible_silences(actor: Actor) -> QuerySet[Silence]:
    """Those of environments the person may look at; those of all environments need it everywhere."""
    rows = Silence.objects.select_related("environment")
    scopes = actor.scopes(Role.VIEWER)
    return rows if scopes is None else rows.filter(environment__slug__in=scopes)


def load_silence(actor: Actor, pk: int, role: Role = Role.VIEWER) -> Silence:
    """The silence, if the person has the role where it holds; Http404 or PermissionDenied otherwise."""
    silence = get_object_or_404(Silence.objects.select_related("environment"), pk=pk)
    require(actor, role, [silence.environment.slug] if silence.environment else [], f"open silence {pk}")
    return silence


def load_bodies(actor: Actor) -> QuerySet[RawAlert]:
    """What sources sent, if the person is an operator everywhere: nobody knows yet where a body belongs."""
    require(actor, Role.OPERATOR, [], "open the bodies of alerts")
    return RawAlert.objects.select_related("source")


def load_body(actor: Actor, pk: int) -> RawAlert:
    """One of them, under the same condition."""
    return get_object_or_404(load_bodies(actor), pk=pk)
