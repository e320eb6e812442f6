"""The page of the audit trail, and the same as a file."""

from typing import cast

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from controlplane.audit.export import FORMATS
from controlplane.audit.forms import EntryFilter
from controlplane.audit.listing import Listing, Reader, known_actions
from controlplane.audit.models import in_words

DIGITS = 18  # of the greatest key that PostgreSQL's bigint surely holds


@login_required
@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    """What happened, newest first, filtered by the page's address."""
    reader = cast(Reader, request.user)
    filters = EntryFilter(request.GET)
    page = Listing(reader, filters.wanted()).page(_key(request, "before"), _key(request, "after"))
    context = {
        "page": page,
        "filters": filters,
        "actions": [(action, in_words(action)) for action in known_actions()],
        "scopes": reader.audit_choices,
    }
    return render(request, "audit/audit.html", context)


@login_required
@require_GET
def download(request: HttpRequest, form: str) -> StreamingHttpResponse:
    """What the page shows, all of it up to a bound, as a file."""
    if form not in FORMATS:
        raise Http404
    content_type, written = FORMATS[form]
    listing = Listing(cast(Reader, request.user), EntryFilter(request.GET).wanted())
    headers = {"Content-Disposition": f'attachment; filename="audit.{form}"'}
    return StreamingHttpResponse(written(listing), content_type=content_type, headers=headers)


def _key(request: HttpRequest, name: str) -> int:
    text = request.GET.get(name, "")
    return int(text) if text.isdecimal() and len(text) <= DIGITS else 0
