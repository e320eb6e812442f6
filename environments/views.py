"""The board, and the page of one environment."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.keyset import key_in
from environments.access import load_environment
from environments.board import board as board_of
from environments.locks import release as release_lock
from environments.locks import take as take_lock
from environments.models import Environment
from environments.page import EnvironmentPage


@signed_in
@require_GET
def board(request: HttpRequest) -> HttpResponse:
    """What runs where, what is happening, who must act."""
    template = "environments/_board.html" if request.htmx else "environments/board.html"  # type: ignore[attr-defined]
    shown = board_of(actor_of(request))
    # It knows already what the banner of every page would ask.
    return render(request, template, {"board": shown, "halt": {"now": shown.halt}})


@signed_in
@require_GET
def environment(request: HttpRequest, slug: str) -> HttpResponse:
    """One environment: what runs on each instance, how well, configured how, locked by whom."""
    actor = actor_of(request)
    return _page(request, actor, load_environment(actor, slug))


def _page(request: HttpRequest, actor: Actor, place: Environment, problem: str = "", status: int = 200) -> HttpResponse:
    context = {
        "environment": place,
        "page": EnvironmentPage(actor, place, request.GET.get("hours", "")),
        "may_operate": actor.may(Role.OPERATOR, [place.slug]),
        "problem": problem,
        "said": request.POST,
    }
    return render(request, "environments/environment.html", context, status=status)


@signed_in
@require_POST
def lock(request: HttpRequest, slug: str) -> HttpResponse:
    """Say that nothing may change here for now, and why."""
    actor = actor_of(request)
    place = load_environment(actor, slug, Role.OPERATOR)
    try:
        take_lock(actor, place, request.POST.get("reason", ""))
    except OperationError as error:
        status = status_of(error, actor, "environment.lock", slug, [slug])
        return _page(request, actor, place, str(error), status)
    return redirect(place)


@signed_in
@require_POST
def unlock(request: HttpRequest, slug: str) -> HttpResponse:
    """Let changes happen again."""
    actor = actor_of(request)
    place = load_environment(actor, slug, Role.OPERATOR)
    try:
        release_lock(actor, place, key_in(request.POST.get("lock", "")))
    except OperationError as error:
        status = status_of(error, actor, "environment.unlock", slug, [slug])
        return _page(request, actor, place, str(error), status)
    return redirect(place)
