"""The pages of alert rules: how each stands in each environment, what it says in words, and changing it."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from controlplane.accounts.access import Actor, actor_of, require, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from incidents.models import AlertRule
from incidents.rules import changing
from incidents.rules.access import load_rule
from incidents.rules.conditions import ConditionError
from incidents.rules.export import FORMATS, exported
from incidents.rules.forms import RuleForm
from incidents.rules.page import RulePage, RulesPage

FILES = {"prometheus": "controlplane-rules.yml", "alertmanager": "alertmanager.yml"}


@signed_in
@require_GET
def rules(request: HttpRequest) -> HttpResponse:
    """Every rule in every environment."""
    return _list(request, actor_of(request))


def _list(request: HttpRequest, actor: Actor, problem: str = "") -> HttpResponse:
    context = {"page": RulesPage(actor), "may_export": actor.may(Role.VIEWER, []), "problem": problem}
    return render(request, "incidents/rules.html", context, status=422 if problem else 200)


@signed_in
@require_GET
def rule(request: HttpRequest, slug: str) -> HttpResponse:
    """One rule."""
    actor = actor_of(request)
    return _page(request, actor, load_rule(actor, slug))


def _page(
    request: HttpRequest,
    actor: Actor,
    found: AlertRule,
    *,
    problem: str = "",
    status: int = 200,
    form: RuleForm | None = None,
) -> HttpResponse:
    context = {
        "rule": found,
        "page": RulePage(actor, found),
        "form": form or RuleForm(instance=found),
        "changing": form is not None,
        "may_change": actor.may(Role.ADMIN, found.environments),
        "problem": problem,
    }
    return render(request, "incidents/rule.html", context, status=status)


def _refused(
    request: HttpRequest, actor: Actor, found: AlertRule, error: OperationError, form: RuleForm | None = None
) -> HttpResponse:
    status = status_of(error, actor, "alert_rule.change", f"alert rule {found.name}", found.environments)
    return _page(request, actor, found, problem=str(error), status=status, form=form)


@signed_in
@require_POST
def change(request: HttpRequest, slug: str) -> HttpResponse:
    """Another condition, duration, severity; other people to notify."""
    actor = actor_of(request)
    found = load_rule(actor, slug, Role.ADMIN)
    form = RuleForm(request.POST, instance=load_rule(actor, slug, Role.ADMIN))
    if not form.is_valid():
        return _page(request, actor, found, form=form, status=422)
    try:
        changing.change(actor, found, form.changed_values(), form.cleaned_data["reason"])
    except OperationError as error:
        return _refused(request, actor, found, error, form)
    return redirect("alert-rule", slug)


@signed_in
@require_POST
def pause(request: HttpRequest, slug: str) -> HttpResponse:
    """Stop evaluating it, or go on."""
    actor = actor_of(request)
    found = load_rule(actor, slug, Role.ADMIN)
    try:
        changing.pause(actor, found, request.POST.get("reason", ""), paused=request.POST.get("what") == "pause")
    except OperationError as error:
        return _refused(request, actor, found, error)
    return redirect("alert-rule", slug)


@signed_in
@require_GET
def export(request: HttpRequest, form: str) -> HttpResponse:
    """The rules as a file for Prometheus, or the configuration for Alertmanager."""
    if form not in FORMATS:
        raise Http404
    actor = actor_of(request)
    require(actor, Role.VIEWER, [], "export the alert rules")
    try:
        text = exported(form)
    except ConditionError as error:
        return _list(request, actor, str(error))
    headers = {"Content-Disposition": f'attachment; filename="{FILES[form]}"'}
    return HttpResponse(text, content_type="application/yaml", headers=headers)
