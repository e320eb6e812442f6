"""The way to a failover, and home again: read how it stands and what would happen, say why, ask for it."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from backups.disaster import services
from backups.disaster.access import load_plan
from backups.disaster.forms import FailbackForm, FailoverForm, MoveForm
from backups.disaster.proposal import Proposal
from backups.models import Recovery, RecoveryPlan
from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError

LONGEST_KEY = 500


@signed_in
@require_http_methods(["GET", "POST"])
def failover(request: HttpRequest, slug: str) -> HttpResponse:
    """To the other side. `look` shows the plan from another restore point; 422 and 409 keep what was typed."""
    actor = actor_of(request)
    found = load_plan(actor, slug, Role.OPERATOR)
    if look := request.POST.get("look", ""):
        return _look(request, actor, found, look)
    form = FailoverForm(request.POST or None, name=found.serving.slug)
    status, problem = 200 if request.method == "GET" else 422, ""
    if form.is_valid():
        said = {name: form.cleaned_data[name] for name in ("point", "words", "reason", "incident")}
        try:
            return redirect("recovery-run", services.request_failover(actor, found, **said).pk)
        except OperationError as error:
            status, problem = _refused(error, actor, found, "failover"), str(error)
    point = (form["point"].value() or "") if form.is_bound else request.GET.get("point", "")
    proposal = Proposal(actor, found, Recovery.Kind.FAILOVER, str(point)[:LONGEST_KEY])
    if not form.is_bound and proposal.draft.point:
        form.initial["point"] = proposal.draft.point.key
    return _page(request, "failover", found, form, proposal, problem, status)


def _look(request: HttpRequest, actor: Actor, found: RecoveryPlan, point: str) -> HttpResponse:
    """The same page with another restore point; nothing is asked for, and nothing typed is lost."""
    proposal = Proposal(actor, found, Recovery.Kind.FAILOVER, point[:LONGEST_KEY])
    form = FailoverForm(name=found.serving.slug, initial={**request.POST.dict(), "point": point[:LONGEST_KEY]})
    return _page(request, "failover", found, form, proposal, "", 200)


@signed_in
@require_http_methods(["GET", "POST"])
def failback(request: HttpRequest, slug: str) -> HttpResponse:
    """Home, with everything that was made meanwhile."""
    actor = actor_of(request)
    found = load_plan(actor, slug, Role.OPERATOR)
    form = FailbackForm(request.POST or None, name=found.serving.slug)
    status, problem = 200 if request.method == "GET" else 422, ""
    if form.is_valid():
        said = {name: form.cleaned_data[name] for name in ("words", "reason")}
        try:
            return redirect("recovery-run", services.request_failback(actor, found, **said).pk)
        except OperationError as error:
            status, problem = _refused(error, actor, found, "failback"), str(error)
    return _page(request, "failback", found, form, Proposal(actor, found, Recovery.Kind.FAILBACK), problem, status)


def _refused(error: OperationError, actor: Actor, plan: RecoveryPlan, kind: str) -> int:
    return status_of(error, actor, f"{kind}.request", f"recovery plan {plan}", plan.scopes)


def _page(  # noqa: PLR0917 (one page, told whole)
    request: HttpRequest, kind: str, plan: RecoveryPlan, form: MoveForm, proposal: Proposal, problem: str, status: int
) -> HttpResponse:
    context: dict[str, Any] = {"plan": plan, "kind": kind, "form": form, "proposal": proposal, "problem": problem}
    return render(request, f"backups/disaster/{kind}.html", context, status=status)
