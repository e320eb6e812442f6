"""The review page of an incident."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from controlplane.accounts.access import actor_of, signed_in
from controlplane.operations.keyset import key_in
from incidents.access import load_incident
from incidents.review import ReviewPage


@signed_in
@require_GET
def review(request: HttpRequest, pk: int) -> HttpResponse:
    """What happened, what was measured and what changed, for a meeting."""
    actor = actor_of(request)
    incident = load_incident(actor, pk)
    page = ReviewPage(actor, incident, key_in(request.GET.get("from", "")))
    return render(request, "incidents/review.html", {"incident": incident, "page": page})
