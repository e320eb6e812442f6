"""The page of silences and maintenance windows."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from controlplane.accounts.access import Actor, actor_of, require, signed_in
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from incidents import silences
from incidents.access import load_silence, visible_silences
from incidents.intake.matchers import spell
from incidents.silence_forms import SilenceForm


@signed_in
@require_GET
def show(request: HttpRequest) -> HttpResponse:
    """What is silenced now, what will be, what was; `?matchers=` fills in the form."""
    actor = actor_of(request)
    given = {name: request.GET[name] for name in ("matchers", "environment", "kind") if request.GET.get(name)}
    return _page(request, actor, SilenceForm(actor, initial=given), adding=bool(given))


def _page(
    request: HttpRequest, actor: Actor, form: SilenceForm, problem: str = "", status: int = 200, *, adding: bool = False
) -> HttpResponse:
    found = silences.overview(visible_silences(actor))
    operates = {one.pk: actor.may(Role.OPERATOR, [one.environment.slug] if one.environment else [])
                for one in [*found.active, *found.coming]}  # fmt: skip
    context = {
        "groups": [
            ("Now", "wait", "silent", [(one, spell(one.matchers), operates[one.pk]) for one in found.active]),
            ("To come", "idle", "planned", [(one, spell(one.matchers), operates[one.pk]) for one in found.coming]),
            ("Over", "idle", "over", [(one, spell(one.matchers), False) for one in found.over]),
        ],
        "form": form,
        "adding": adding,
        "problem": problem,
        "may_add": actor.scopes(Role.OPERATOR) != [],
    }
    return render(request, "incidents/silences.html", context, status=status)


@signed_in
@require_POST
def add(request: HttpRequest) -> HttpResponse:
    """Silence something."""
    actor = actor_of(request)
    form = SilenceForm(actor, request.POST)
    if not form.is_valid():
        return _page(request, actor, form, status=422, adding=True)
    environment = form.cleaned_data["environment"]
    scopes = [environment.slug] if environment else []
    require(actor, Role.OPERATOR, scopes, "silence alerts")
    try:
        silences.add(actor, **form.values(database_time()))
    except OperationError as error:
        status = status_of(error, actor, "silence.add", "silences", scopes)
        return _page(request, actor, form, str(error), status, adding=True)
    return redirect("silences")


@signed_in
@require_POST
def end(request: HttpRequest, pk: int) -> HttpResponse:
    """End one before its time."""
    actor = actor_of(request)
    silence = load_silence(actor, pk, Role.OPERATOR)
    try:
        silences.end(actor, silence)
    except OperationError as error:
        scopes = [silence.environment.slug] if silence.environment else []
        status = status_of(error, actor, "silence.end", f"silence {pk}", scopes)
        return _page(request, actor, SilenceForm(actor), str(error), status)
    return redirect("silences")
