"""The chart of the demo's customers by itself, which renews itself every two seconds."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from backups.disaster.access import load_plan
from backups.disaster.pulse import TEMPLATE, pulse_of
from controlplane.accounts.access import actor_of, signed_in


@signed_in
@require_GET
def pulse(request: HttpRequest, slug: str) -> HttpResponse:
    """The partial for one plan; 404 where there are no customers."""
    found = pulse_of(load_plan(actor_of(request), slug))
    if found is None:
        raise Http404("This plan has no customers to watch.")
    return render(request, TEMPLATE, {"panel": found})
