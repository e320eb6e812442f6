"""What the pages of deployments and releases list, for one person, in a fixed number of queries."""

from collections import defaultdict
from collections.abc import Iterable

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from deployments.models import Deployment, Release
from environments.access import visible_environments
from environments.models import Placement

HEAVY = ("operation__plan", "operation__gates", "operation__search")


def visible_deployments(actor: Actor) -> QuerySet[Deployment]:
    """The deployments to environments this person sees, with what a row of a list shows."""
    rows = Deployment.objects.select_related("operation", "environment", "release__service").defer(*HEAVY)
    scopes = actor.scopes(Role.VIEWER)
    return rows if scopes is None else rows.filter(environment__slug__in=scopes)


def visible_releases(actor: Actor) -> QuerySet[Release]:
    """The releases of services that have a place in an environment this person sees."""
    services = Placement.objects.filter(environment__in=visible_environments(actor)).values("service")
    return Release.objects.filter(service__in=services).select_related("service")


def load_release(actor: Actor, service: str, version: str) -> Release:
    """The release, or Http404 for who sees no environment of its service."""
    if actor.scopes(Role.VIEWER) == []:
        raise Http404("There is no such release.")
    return get_object_or_404(visible_releases(actor), service__slug=service, version=version)


def where_they_run(actor: Actor, releases: Iterable[Release]) -> dict[int, list[Placement]]:
    """By release: the places where the last deployment that succeeded left it."""
    placements = Placement.objects.filter(environment__in=visible_environments(actor)).select_related("environment")
    by_software: dict[tuple[int, str, str], list[Placement]] = defaultdict(list)
    for placement in placements:
        by_software[placement.service_id, placement.version, placement.digest].append(placement)
    return {release.pk: by_software[release.service_id, release.version, release.digest] for release in releases}
