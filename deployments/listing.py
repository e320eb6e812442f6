"""What the pages of deployments and releases list, for one person, in a fixed number of queries."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.audit.record import record_denied
from deployments.models import Deployment, Release
from environments.access import visible_environments
from environments.models import Placement, Service

HEAVY = ("operation__plan", "operation__gates", "operation__search")


def visible_deployments(actor: Actor) -> QuerySet[Deployment]:
    """The deployments to environments this person sees, with what a row of a list shows."""
    rows = Deployment.objects.select_related("operation", "environment", "release__service").defer(*HEAVY)
    scopes = actor.scopes(Role.VIEWER)
    return rows if scopes is None else rows.filter(environment__slug__in=scopes)


def visible_services(actor: Actor) -> QuerySet[Service]:
    """The services that have a place in an environment this person sees."""
    return Service.objects.filter(placements__environment__in=visible_environments(actor)).distinct()


def visible_releases(actor: Actor) -> QuerySet[Release]:
    """The releases of services that have a place in an environment this person sees."""
    return Release.objects.filter(service__in=visible_services(actor)).select_related("service")


def load_release(actor: Actor, service: str, version: str) -> Release:
    """The release, or Http404 for who sees no environment of its service."""
    found = get_object_or_404(
        Release.objects.select_related("service", "report__pipeline"), service__slug=service, version=version
    )
    if not visible_releases(actor).filter(pk=found.pk).exists():
        words = "They see no environment in which its service has a place."
        record_denied(actor.who, "access.denied", f"see release {found}", reason=words)
        raise Http404("There is no such release.")
    return found


def where_they_run(actor: Actor, releases: Iterable[Release]) -> dict[int, list[Placement]]:
    """By release: the places where the last deployment that succeeded left it."""
    placements = Placement.objects.filter(environment__in=visible_environments(actor)).select_related("environment")
    by_software: dict[tuple[int, str, str], list[Placement]] = defaultdict(list)
    for placement in placements:
        by_software[placement.service_id, placement.version, placement.digest].append(placement)
    return {release.pk: by_software[release.service_id, release.version, release.digest] for release in releases}


def images_deployed(placements: Sequence[Placement]) -> dict[int, str]:
    """By placement: the image of the release that was deployed there, where it is known; one query."""
    known = Release.objects.filter(digest__in={one.digest for one in placements if one.digest})
    images: dict[tuple[int | str, ...], str] = {}
    for row in known.only("service_id", "version", "digest", "image").order_by("pk"):
        # Of that very version; else of the newest with the digest.
        images |= dict.fromkeys([(row.service_id, row.digest, row.version), (row.service_id, row.digest)], row.image)
    found = {
        one.pk: images.get((one.service_id, one.digest, one.version)) or images.get((one.service_id, one.digest), "")
        for one in placements
    }
    return {key: image for key, image in found.items() if image}
