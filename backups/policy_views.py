"""The page of a policy: how it stands, what comes next, what its retention would do, and what one may change."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from backups import services
from backups.access import load_policy
from backups.forms import PolicyForm
from backups.models import Policy
from backups.page import PolicyPage
from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError


@signed_in
@require_GET
def policy(request: HttpRequest, environment: str, slug: str) -> HttpResponse:
    """How one policy stands."""
    actor = actor_of(request)
    return _page(request, actor, load_policy(actor, environment, slug))


def _page(
    request: HttpRequest,
    actor: Actor,
    found: Policy,
    *,
    problem: str = "",
    status: int = 200,
    form: PolicyForm | None = None,
) -> HttpResponse:
    scopes = [found.environment.slug]
    context = {
        "policy": found,
        "page": PolicyPage(actor, found),
        "form": form or PolicyForm(instance=found),
        "changing": form is not None,
        "may_operate": actor.may(Role.OPERATOR, scopes),
        "may_change": actor.may(Role.ADMIN, scopes),
        "problem": problem,
        "said": request.POST,
    }
    return render(request, "backups/policy.html", context, status=status)


def _refused(  # noqa: PLR0917 (one refusal, told whole)
    request: HttpRequest,
    actor: Actor,
    found: Policy,
    error: OperationError,
    action: str,
    form: PolicyForm | None = None,
) -> HttpResponse:
    status = status_of(error, actor, action, f"policy {found}", [found.environment.slug])
    return _page(request, actor, found, problem=str(error), status=status, form=form)


@signed_in
@require_POST
def run(request: HttpRequest, environment: str, slug: str) -> HttpResponse:
    """Make a backup now."""
    actor = actor_of(request)
    found = load_policy(actor, environment, slug, Role.OPERATOR)
    reason = request.POST.get("reason", "") or "asked for from the page of its policy"
    try:
        return redirect(services.request_backup(actor, found, reason=reason))
    except OperationError as error:
        return _refused(request, actor, found, error, "backup.request")


@signed_in
@require_POST
def pause(request: HttpRequest, environment: str, slug: str) -> HttpResponse:
    """Stop making backups by schedule, or go on."""
    actor = actor_of(request)
    found = load_policy(actor, environment, slug, Role.OPERATOR)
    try:
        services.pause(actor, found, request.POST.get("reason", ""), paused=request.POST.get("what") == "pause")
    except OperationError as error:
        return _refused(request, actor, found, error, "backup.pause")
    return redirect(found)


@signed_in
@require_POST
def change(request: HttpRequest, environment: str, slug: str) -> HttpResponse:
    """Another schedule, other rules."""
    actor = actor_of(request)
    found = load_policy(actor, environment, slug, Role.ADMIN)
    form = PolicyForm(request.POST, instance=load_policy(actor, environment, slug, Role.ADMIN))
    if not form.is_valid():
        return _page(request, actor, found, form=form, status=422)
    try:
        services.change_policy(actor, found, form.changed_values(), form.cleaned_data["reason"])
    except OperationError as error:
        return _refused(request, actor, found, error, "backup.change", form)
    return redirect(found)


@signed_in
@require_POST
def clean(request: HttpRequest, environment: str, slug: str) -> HttpResponse:
    """Delete now what retention lets go, and nothing else than the page has shown."""
    actor = actor_of(request)
    found = load_policy(actor, environment, slug, Role.OPERATOR)
    said = {name: request.POST.get(name, "") for name in ("shown", "reason")}
    try:
        return redirect(services.request_shown_cleanup(actor, found, **said))
    except OperationError as error:
        return _refused(request, actor, found, error, "backup.clean")
