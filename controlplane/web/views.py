from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from controlplane.web.returning import go_back
from controlplane.web.themes import Theme, remember_theme


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Keep the reader's choice of colours and go back to the page it was made on."""
    choice = request.POST.get("theme", "")
    if choice not in set(Theme):
        return HttpResponseBadRequest(f"There is no theme “{choice}”: choose auto, light or dark.")
    response = go_back(request, reverse("board"))
    remember_theme(response, Theme(choice))
    return response


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """For load balancers and supervisors: 200 while the database answers, 503 when it does not. Says nothing else."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return HttpResponse("the database does not answer\n", status=503, content_type="text/plain")
    return HttpResponse("ok\n", content_type="text/plain")
