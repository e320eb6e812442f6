"""The page on which somebody adopts what runs."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from controlplane.accounts.access import actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError, StepError
from controlplane.operations.planned import Planned
from deployments.adoption import Adoption, look_at, request_adoption
from deployments.forms import AdoptionForm
from deployments.policies import policy_of
from environments.access import load_environment
from environments.drift import standings_of
from environments.models import Placement


@signed_in
@require_http_methods(["GET", "POST"])
def adopt(request: HttpRequest, slug: str, service: str) -> HttpResponse:
    """What runs, what was deployed, and the form that makes the one the other."""
    actor = actor_of(request)
    environment = load_environment(actor, slug, Role.OPERATOR)
    places = Placement.objects.select_related("environment", "service")
    placement = get_object_or_404(places, environment=environment, service__slug=service)
    approvals = policy_of(environment).approvals_required
    form = AdoptionForm(request.POST or None, environment=environment, approvals=approvals)
    status, problem = 200 if request.method == "GET" else 422, ""
    if form.is_valid():
        said = {name: form.cleaned_data[name] for name in ("reason", "plan_digest")}
        try:
            return redirect(request_adoption(actor, placement, **said))
        except OperationError as error:
            status, problem = status_of(error, actor, "adoption.request", f"{placement}", [slug]), str(error)
        except StepError as error:
            status, problem = 409, str(error)
    found, cannot = _looked_at(placement)
    context = {"environment": environment, "placement": placement, "form": form, "problem": problem}
    context["approvals"] = approvals
    context |= {"drift": standings_of([placement])[placement.pk], "found": found, "cannot": cannot}
    context |= {"planned": Planned(found.plan.as_json())} if found else {}
    return render(request, "deployments/adopt.html", context, status=status)


def _looked_at(placement: Placement) -> tuple[Adoption | None, str]:
    try:
        return look_at(placement), ""
    except (OperationError, StepError) as error:
        return None, str(error)
