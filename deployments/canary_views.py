"""The page of a canary: two lines, and the verdict in words."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from controlplane.accounts.access import actor_of, signed_in
from controlplane.operations.access import load_operation
from deployments.models import Deployment
from deployments.strategies.page import CanaryPage
from deployments.strategies.settings import CANARY


@signed_in
@require_GET
def canary(request: HttpRequest, pk: int) -> HttpResponse:
    """For whoever may see the operation; 404 for one that is no canary."""
    operation = load_operation(actor_of(request), pk)
    if not Deployment.objects.filter(operation=operation, strategy=CANARY).exists():
        raise Http404("This operation is no canary.")
    return render(request, "deployments/canary.html", {"page": CanaryPage(operation), "operation": operation})
