"""The page of reports."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from controlplane.accounts.access import actor_of, signed_in
from incidents.reports import Report


@signed_in
@require_GET
def reports(request: HttpRequest) -> HttpResponse:
    """How many incidents, how soon acknowledged and resolved, which are mostly noise: of those the person sees."""
    report = Report(actor_of(request), request.GET.get("days", ""))
    return render(request, "incidents/reports.html", {"report": report})
