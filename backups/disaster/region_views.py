"""The page of what is in the other region, and the button that compares and mends."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from backups.disaster.access import load_plan
from backups.disaster.region_mends import request_mend
from backups.disaster.region_page import RegionPage
from backups.models import RecoveryPlan
from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError


@signed_in
@require_GET
def regions(request: HttpRequest, slug: str) -> HttpResponse:
    """Both sides beside each other."""
    actor = actor_of(request)
    return _page(request, actor, load_plan(actor, slug))


@signed_in
@require_POST
def mend(request: HttpRequest, slug: str) -> HttpResponse:
    """Compare now, and bring over what is missing."""
    actor = actor_of(request)
    found = load_plan(actor, slug, Role.OPERATOR)
    try:
        operation = request_mend(actor, found, reason=request.POST.get("reason", ""))
    except OperationError as error:
        status = status_of(error, actor, "region_mend.request", f"recovery plan {found}", found.scopes)
        return _page(request, actor, found, status=status, problem=str(error), reason=request.POST.get("reason", ""))
    return redirect("operation", operation.pk)


def _page(request: HttpRequest, actor: Actor, found: RecoveryPlan, *, status: int = 200, **shown: str) -> HttpResponse:
    """shown: problem, and the reason that was typed."""
    may_operate = actor.may(Role.OPERATOR, found.scopes)
    context = {"plan": found, "page": RegionPage(found), "may_operate": may_operate, **shown}
    return render(request, "backups/disaster/regions.html", context, status=status)
