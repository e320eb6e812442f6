"""The addresses that the shell links to, each an empty page: the shell is tested without the pages."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def empty(_request: HttpRequest) -> HttpResponse:
    return HttpResponse()


NAMES = (
    "approvals", "deployments", "releases", "promotions", "backups", "recovery", "audit", "people", "tokens", "login",
    "logout", "nav-counts", "incidents", "incident-count", "alerts", "alert-rules", "silences", "on-call", "matrix",
    "messages", "action-items", "reports", "contacts", "auditor", "runbook", "world", "bypasses", "world-banner",
)  # fmt: skip

urlpatterns = [
    path("", empty, name="board"),
    *(path(name, empty, name=name) for name in NAMES),
    path("", include("controlplane.web.urls")),
]
