"""Acknowledging by the signed link of a message: no sign-in, one large button, for the worst night of the year.

Looking changes nothing, so that whatever opens links by itself acknowledges nothing; only the button does, and its
form carries a CSRF token like every other.
"""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from controlplane.audit.record import Who
from controlplane.operations.errors import Conflict
from incidents import lifecycle, links, receipts
from incidents.models import Page

VIA = "by a signed link"


@require_http_methods(["GET", "HEAD", "POST"])
def acknowledge_by_link(request: HttpRequest, token: str) -> HttpResponse:
    """What is wrong, how bad, since when; and the button."""
    try:
        page = _page(token)
    except links.BadLink as error:
        return render(request, "incidents/ack.html", {"problem": str(error)}, status=404)
    context = {"page": page, "incident": page.incident, "problem": ""}
    if request.method != "POST":
        return render(request, "incidents/ack.html", context)
    who = Who(page.person_name, page.person_id, VIA)
    try:
        lifecycle.acknowledge(page.incident_id, who, via=VIA, page_id=page.pk)
    except Conflict as error:
        receipts.seen(page)
        page.incident.refresh_from_db()
        return render(request, "incidents/ack.html", context | {"problem": str(error)}, status=409)
    page.incident.refresh_from_db()
    return render(request, "incidents/ack.html", context | {"done": True})


def _page(token: str) -> Page:
    page = Page.objects.select_related("incident", "level", "person").filter(pk=links.page_of(token)).first()
    if page is None:
        raise links.BadLink("This link is about a page that is not there any more.")
    if page.person is not None and not page.person.is_active:
        raise links.BadLink("The person of this link has no account any more.")
    return page
