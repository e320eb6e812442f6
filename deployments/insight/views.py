"""The pages of what the history tells: promotion, numbers, the calendar."""

from collections.abc import Sequence

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.audit.record import record_denied
from deployments.insight.numbers import NumbersPage
from deployments.insight.promotion import PromotionPage
from deployments.listing import visible_services
from environments.access import visible_environments
from environments.models import Placement, Service


@signed_in
@require_GET
def promotions(request: HttpRequest) -> HttpResponse:
    """The first service's page, or words that there is none."""
    first = visible_services(actor_of(request)).order_by("slug").first()
    if first is not None:
        return redirect("promotion", first.slug)
    return render(request, "deployments/promotion.html", {"services": []})


@signed_in
@require_GET
def promotion(request: HttpRequest, slug: str) -> HttpResponse:
    """Versions by environments, and two environments beside each other."""
    actor = actor_of(request)
    services = list(visible_services(actor))
    service = load_service(actor, services, slug)
    page = PromotionPage(actor, service, request.GET.get("between", ""))
    context = {"page": page, "service": service, "services": services}
    return render(request, "deployments/promotion.html", context)


@signed_in
@require_GET
def numbers(request: HttpRequest) -> HttpResponse:
    """The four keys of one service in one environment, and how long its steps take."""
    places = places_of(actor_of(request))
    chosen = choose(places, request.GET.get("place", ""), request.GET.get("service", ""))
    page = NumbersPage(chosen.service, chosen.environment, request.GET.get("weeks", "")) if chosen else None
    context = {"page": page, "places": places, "service": chosen.service if chosen else None}
    return render(request, "deployments/numbers.html", context)


def places_of(actor: Actor) -> list[Placement]:
    """The places that a person may have numbers of."""
    seen = Placement.objects.filter(environment__in=visible_environments(actor))
    return list(seen.select_related("environment", "service"))


def choose(places: Sequence[Placement], named: str, service: str = "") -> Placement | None:
    """The one named as "service/environment", else the last, of the service, to which releases go on from another.

    Raises Http404 for a name that is none of them.
    """
    if named:
        found = next((one for one in places if f"{one.service.slug}/{one.environment.slug}" == named), None)
        if found is None:
            raise Http404("There is no such place.")
        return found
    of_service = [one for one in places if not service or one.service.slug == service] or list(places)
    return max(
        reversed(of_service), key=lambda one: (bool(one.version), bool(one.environment.promoted_from)), default=None
    )


def load_service(actor: Actor, services: list[Service], slug: str) -> Service:
    """The service, or Http404 for who sees no environment in which it has a place."""
    found = next((one for one in services if one.slug == slug), None)
    if found is not None:
        return found
    if Service.objects.filter(slug=slug).exists():
        words = "They see no environment in which it has a place."
        record_denied(actor.who, "access.denied", f"see service {slug}", reason=words)
    raise Http404("There is no such service.")
