"""The pages of the matrix: who is paged when, changing it, and how people are reached."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from controlplane.accounts.access import Actor, actor_of, require, signed_in
from controlplane.accounts.models import Person, Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from incidents import matrix_reach, matrix_services
from incidents.matrix import matrix
from incidents.matrix_forms import PolicyEditing, ReachForm
from incidents.models import EscalationPolicy
from incidents.oncall.access import load_policy, look, may_add


@signed_in
@require_GET
def show(request: HttpRequest) -> HttpResponse:
    """The matrix, with who holds each level right now."""
    actor = actor_of(request)
    look(actor, "open the escalation matrix")
    context = {"page": matrix(), "may_change": actor.may(Role.ADMIN, [])}
    return render(request, "incidents/matrix.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def change(request: HttpRequest, slug: str) -> HttpResponse:
    """Another matrix for incidents to come."""
    actor = actor_of(request)
    policy = load_policy(actor, slug, Role.ADMIN)
    digest = matrix_services.digest_of(policy)
    editing = PolicyEditing(policy, digest, request.POST if request.method == "POST" else None)
    if request.method == "GET":
        return _changing(request, policy, editing)
    if not editing.is_valid():
        return _changing(request, policy, editing, status=422)
    said = {name: editing.form.cleaned_data[name] for name in ("shown", "reason")}
    try:
        matrix_services.change(actor, policy, editing.plan(), **said)
    except OperationError as error:
        status = status_of(error, actor, "escalation.change", f"escalation policy {slug}", [])
        return _changing(request, policy, editing, problem=str(error), status=status)
    return redirect(f"{reverse('matrix')}#{slug}")


@signed_in
@require_http_methods(["GET", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """One more matrix, for incidents to come."""
    actor = actor_of(request)
    may_add(actor, "an escalation policy")
    editing = PolicyEditing(None, data=request.POST if request.method == "POST" else None)
    if request.method == "GET":
        return _changing(request, None, editing)
    if not editing.is_valid():
        return _changing(request, None, editing, status=422)
    said = editing.form.cleaned_data
    try:
        matrix_services.create(actor, said["slug"], editing.plan(), reason=said["reason"])
    except OperationError as error:
        status = status_of(error, actor, "escalation.add", f"escalation policy {said['slug']}", [])
        return _changing(request, None, editing, problem=str(error), status=status)
    return redirect(f"{reverse('matrix')}#{said['slug']}")


def _changing(
    request: HttpRequest,
    policy: EscalationPolicy | None,
    editing: PolicyEditing,
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {"editing": editing, "policy": policy, "problem": problem}
    return render(request, "incidents/matrix_change.html", context, status=status)


@signed_in
@require_http_methods(["GET", "POST"])
def reach(request: HttpRequest) -> HttpResponse:
    """How everybody is reached; and the form of one person: oneself, or with ?person= for admins."""
    actor = actor_of(request)
    look(actor, "open how people are reached")
    asked = request.POST.get("person") or request.GET.get("person") or actor.person.username
    person = get_object_or_404(Person, username=asked, is_active=True)
    if person != actor.person:
        require(actor, Role.ADMIN, [], f"change how {person.title_name} is reached")
    if request.method == "GET":
        return _reach(request, actor, person, ReachForm(initial=matrix_reach.addresses_of(person)))
    form = ReachForm(request.POST)
    if not form.is_valid():
        return _reach(request, actor, person, form, status=422)
    try:
        matrix_reach.change(actor, person, form.addresses(), form.cleaned_data["reason"])
    except OperationError as error:
        status = status_of(error, actor, "reach.change", f"contact methods of {person.title_name}", [])
        return _reach(request, actor, person, form, problem=str(error), status=status)
    return redirect("reach")


def _reach(  # noqa: PLR0917 (one page)
    request: HttpRequest, actor: Actor, person: Person, form: ReachForm, problem: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "everybody": matrix_reach.everybody(actor),
        "person": person,
        "form": form,
        "problem": problem,
        "in_full": actor.may(Role.OPERATOR, []),
    }
    return render(request, "incidents/matrix_reach.html", context, status=status)
