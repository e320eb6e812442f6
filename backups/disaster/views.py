"""The pages of recovery plans: all of them, one of them, one run of one, and its evidence."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from backups.disaster import services
from backups.disaster.access import load_plan, load_recovery
from backups.disaster.forms import DrillForm, PlanForm
from backups.disaster.overview import overview as all_plans
from backups.disaster.page import RunPage
from backups.disaster.plan_page import PlanPage
from backups.disaster.report import Report
from backups.models import RecoveryPlan
from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.planned import Planned


@signed_in
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """Could we move now, how long would it take, and what would be lost?"""
    actor = actor_of(request)
    views = all_plans(actor)
    may_operate = {view.plan.slug for view in views if actor.may(Role.OPERATOR, view.plan.scopes)}
    context = {"views": views, "may_operate": may_operate, "drill_form": DrillForm()}
    return render(request, "backups/disaster/overview.html", context)


@signed_in
@require_GET
def plan(request: HttpRequest, slug: str) -> HttpResponse:
    """One plan: how it stands, what it is made of, what was done by it."""
    actor = actor_of(request)
    return plan_page(request, actor, load_plan(actor, slug))


def plan_page(
    request: HttpRequest, actor: Actor, found: RecoveryPlan, *, status: int = 200, **shown: Any
) -> HttpResponse:
    """The page, perhaps with what went wrong. shown: problem, form and drill_form, instead of new ones."""
    context = {
        "plan": found,
        "page": PlanPage(actor, found),
        "may_operate": actor.may(Role.OPERATOR, found.scopes),
        "may_change": actor.may(Role.ADMIN, found.scopes),
        "drill_form": DrillForm(),
        "form": PlanForm(plan=found),
        **shown,
    }
    return render(request, "backups/disaster/plan.html", context, status=status)


@signed_in
@require_POST
def change(request: HttpRequest, slug: str) -> HttpResponse:
    """Other promises, other settings; what is on its way by the old plan becomes stale."""
    actor = actor_of(request)
    found = load_plan(actor, slug, Role.ADMIN)
    form = PlanForm(request.POST, plan=load_plan(actor, slug, Role.ADMIN))
    if not form.is_valid():
        return plan_page(request, actor, found, status=422, form=form, changing=True)
    try:
        services.change_plan(actor, found, form.changed_values(), form.cleaned_data["reason"])
    except OperationError as error:
        status = status_of(error, actor, "recovery_plan.change", f"recovery plan {found}", found.scopes)
        return plan_page(request, actor, found, status=status, form=form, changing=True, problem=str(error))
    return redirect(found)


@signed_in
@require_GET
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """A failover, failback or drill while it goes on, and after."""
    actor = actor_of(request)
    recovery = load_recovery(actor, pk)
    context = {
        "recovery": recovery,
        "operation": recovery.operation,
        "page": RunPage(actor, recovery),
        "planned": Planned(recovery.operation.plan),
    }
    return render(request, "backups/disaster/run.html", context)


@signed_in
@require_GET
def report(request: HttpRequest, pk: int) -> HttpResponse:
    """Its evidence, to be printed."""
    actor = actor_of(request)
    recovery = load_recovery(actor, pk)
    context = {"recovery": recovery, "operation": recovery.operation, "report": Report(actor, recovery)}
    return render(request, "backups/disaster/report.html", context)
