"""Restore points: everything of an environment at one moment, made together and restored together."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from backups import services
from backups.access import load_point
from backups.forms import AskForm
from backups.models import RestorePoint
from backups.page import database_of
from backups.plans import steps_by_service
from backups.restore_services import plan_of_point, request_point_restore
from controlplane.accounts.access import actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.planned import Planned
from environments.access import load_environment


@signed_in
@require_POST
def make(request: HttpRequest, slug: str) -> HttpResponse:
    """Back up every kind for one moment."""
    actor = actor_of(request)
    environment = load_environment(actor, slug, Role.OPERATOR)
    name, reason = request.POST.get("name", ""), request.POST.get("reason", "")
    try:
        return redirect(services.request_restore_point(actor, environment, name=name, reason=reason))
    except OperationError as error:
        status = status_of(error, actor, "restore_point.request", slug, [slug])
        context = {"environment": environment, "problem": str(error), "said": request.POST}
        return render(request, "backups/make_point.html", context, status=status)


@signed_in
@require_http_methods(["GET", "POST"])
def point(request: HttpRequest, pk: int) -> HttpResponse:
    """What belongs to it, and the way to restore all of it."""
    actor = actor_of(request)
    found = load_point(actor, pk, Role.VIEWER if request.method == "GET" else Role.OPERATOR)
    slug = found.environment.slug
    form = AskForm(request.POST or None, name=slug)
    status, problem = 200 if request.method == "GET" else 422, ""
    database = database_of(found)
    if form.is_valid():
        try:
            said = {name: form.cleaned_data[name] for name in ("reason", "plan_digest")}
            return redirect(request_point_restore(actor, found, database=database, **said))
        except OperationError as error:
            status, problem = status_of(error, actor, "restore.request", f"restore point {pk}", [slug]), str(error)
    context = {"point": found, "form": form, "problem": problem, "may_operate": actor.may(Role.OPERATOR, [slug])}
    context["parts"] = list(found.backups.order_by("kind"))
    return render(request, "backups/point.html", context | _planned(found, database, form), status=status)


def _planned(found: RestorePoint, database: str, form: AskForm) -> dict[str, object]:
    """The plan with what it does about the software that ran, or why there is none."""
    try:
        plan = plan_of_point(found, database)
    except OperationError as error:
        return {"cannot": str(error), "software": [(one, "ran then") for one in found.software]}
    form.initial["plan_digest"] = plan.digest
    left = {row["what"]: row["to"] for row in plan.changes}
    words = left | dict.fromkeys(steps_by_service(plan.as_json()), "comes back with it")
    software = [(one, words.get(one["service"], "ran then")) for one in found.software]
    return {"plan": plan, "planned": Planned(plan.as_json()), "software": software}
