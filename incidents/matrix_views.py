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
from incidents.oncall.access import look


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
    look(actor, f"open the escalation policy {slug}")
    policy = get_object_or_404(EscalationPolicy.objects.prefetch_related("levels"), slug=slug)
    require(actor, Role.ADMIN, [], f"change the escalation policy {slug}")
    digest = matrix_services.digest_of(policy)
    editing = PolicyEditing(policy, digest, request.POST if request.method == "POST" else None)
    if request.method == "GET":
        return _changing(request, editing)
    if not editing.is_valid():
        return _changing(request, editing, status=422)
    said = {name: editing.form.cleaned_data[name] for name in ("shown", "reason")}
    try:
        matrix_services.change(actor, policy, editing.plan(), **said)
    except OperationError as error:
        status = status_of(error, actor, "escalation.change", f"escalation policy {slug}", [])
        return _changing(request, editing, problem=str(error), status=status)
    return redirect(f"{reverse('matrix')}#{slug}")


def _changing(request: HttpRequest, editing: PolicyEditing, *, problem: str = "", status: int = 200) -> HttpResponse:
    context = {"editing": editing, "policy": editing.policy, "problem": problem}
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
