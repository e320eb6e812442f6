"""The rules of an environment: what a deployment has to fulfil, freezes, and the ticks of a checklist."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.access import load_operation
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.keyset import key_in
from controlplane.operations.states import BEFORE_START
from deployments.models import Deployment
from deployments.policies import end_freeze, freeze, policy_of, tick, ticks_of
from deployments.policy_forms import FreezeForm
from deployments.policy_page import PolicyPage
from environments.access import load_environment
from environments.models import Environment


@signed_in
@require_GET
def policy(request: HttpRequest, slug: str) -> HttpResponse:
    """The rules in words, what is closed when, and the form for another freeze."""
    return _page(request, load_environment(actor_of(request), slug), FreezeForm())


def _page(
    request: HttpRequest, environment: Environment, form: FreezeForm, problem: str = "", *, status: int = 200
) -> HttpResponse:
    context = {
        "environment": environment,
        "page": PolicyPage(environment),
        "form": form,
        "may_approve": actor_of(request).may(Role.APPROVER, [environment.slug]),
        "problem": problem,
    }
    return render(request, "deployments/policy.html", context, status=status)


@signed_in
@require_POST
def add_freeze(request: HttpRequest, slug: str) -> HttpResponse:
    """Close the environment for a time."""
    actor = actor_of(request)
    environment = load_environment(actor, slug, Role.APPROVER)
    form = FreezeForm(request.POST)
    if not form.is_valid():
        return _page(request, environment, form, status=422)
    given = {name: form.cleaned_data[name] for name in ("reason", "zone")} | {"rule": form.rule_of_both}
    return _done(
        request, actor, environment, form,
        lambda: freeze(actor, environment, starts=form.starts_on_the_wall, minutes=form.minutes, **given),
    )  # fmt: skip


@signed_in
@require_POST
def take_freeze_away(request: HttpRequest, slug: str) -> HttpResponse:
    """Open it again before its time."""
    actor = actor_of(request)
    environment = load_environment(actor, slug, Role.APPROVER)
    window, reason = key_in(request.POST.get("freeze", "")), request.POST.get("reason", "")
    return _done(
        request, actor, environment, FreezeForm(), lambda: end_freeze(actor, environment, window, reason)
    )  # fmt: skip


def _done(
    request: HttpRequest, actor: Actor, environment: Environment, form: FreezeForm, act: Callable[[], object]
) -> HttpResponse:
    try:
        act()
    except OperationError as error:
        status = status_of(error, actor, "environment.freeze", environment.slug, [environment.slug])
        return _page(request, environment, form, str(error), status=status)
    return redirect("policy", environment.slug)


@signed_in
@require_http_methods(["GET", "POST"])
def checklist(request: HttpRequest, pk: int) -> HttpResponse:
    """The items of a deployment's checklist, and who ticked them; operators tick them here."""
    actor = actor_of(request)
    operation = load_operation(actor, pk, Role.OPERATOR if request.method == "POST" else Role.VIEWER)
    deployment = get_object_or_404(Deployment.objects.select_related("environment"), operation=operation)
    problem, status = "", 200
    if request.method == "POST":
        try:
            tick(actor, operation.pk, request.POST.get("item", ""))
            return redirect("deployment-checklist", pk)
        except OperationError as error:
            problem = str(error)
            status = status_of(error, actor, "deployment.tick", f"operation {pk}", operation.scopes)
    context = {
        "operation": operation,
        "items": ticks_of(operation, policy_of(deployment.environment)),
        "may_tick": operation.state in BEFORE_START and actor.may(Role.OPERATOR, operation.scopes),
        "problem": problem,
    }
    return render(request, "deployments/checklist.html", context, status=status)
