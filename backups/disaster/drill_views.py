"""Rehearsals: starting one, and how they went over time."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from backups.disaster import services
from backups.disaster.access import load_plan
from backups.disaster.forms import DrillForm
from backups.disaster.plan_page import DrillsPage
from backups.disaster.views import plan_page
from controlplane.accounts.access import actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.keyset import key_in


@signed_in
@require_POST
def drill(request: HttpRequest, slug: str) -> HttpResponse:
    """Start one now: it touches nothing that serves people, so nobody has to approve it."""
    actor = actor_of(request)
    found = load_plan(actor, slug, Role.OPERATOR)
    form = DrillForm(request.POST)
    if not form.is_valid():
        return plan_page(request, actor, found, status=422, drill_form=form, drilling=True)
    try:
        made = services.request_drill(actor, found, **form.cleaned_data)
    except OperationError as error:
        status = status_of(error, actor, "drill.request", f"recovery plan {found}", found.scopes)
        return plan_page(request, actor, found, status=status, drill_form=form, drilling=True, problem=str(error))
    return redirect("recovery-run", made.pk)


@signed_in
@require_GET
def drills(request: HttpRequest, slug: str) -> HttpResponse:
    """What was predicted and what it took, over time."""
    actor = actor_of(request)
    found = load_plan(actor, slug)
    before, after = (key_in(request.GET.get(name, "")) for name in ("before", "after"))
    return render(request, "backups/disaster/drills.html", {"plan": found, "page": DrillsPage(found, before, after)})
