"""An incident's timeline as a file."""

from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_GET

from controlplane.accounts.access import actor_of, signed_in
from incidents.access import load_incident
from incidents.export import FORMATS


@signed_in
@require_GET
def timeline(request: HttpRequest, pk: int, form: str) -> StreamingHttpResponse:
    """All of it, as Markdown or JSON."""
    if form not in FORMATS:
        raise Http404
    content_type, written = FORMATS[form]
    incident = load_incident(actor_of(request), pk)
    headers = {"Content-Disposition": f'attachment; filename="incident-{pk}-timeline.{form}"'}
    return StreamingHttpResponse(written(incident), content_type=content_type, headers=headers)
