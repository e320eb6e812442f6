"""The page of the one switch, and the banner that every page shows while everything is stopped."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from controlplane.accounts.access import Actor, actor_of, require, signed_in
from controlplane.accounts.models import Role
from controlplane.operations import world
from controlplane.operations.access import visible_operations
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.models import Halt
from controlplane.operations.registry import labels_that_take_away
from controlplane.operations.states import EXECUTING, State

SHOWN = 50


@signed_in
@require_GET
def switch(request: HttpRequest) -> HttpResponse:
    """Whether everything is stopped, what stands still where, and who stopped it before."""
    return _page(request)


def _page(request: HttpRequest, problem: str = "", status: int = 200) -> HttpResponse:
    operations = visible_operations(actor_of(request))
    context = {
        "executing": operations.filter(state__in=EXECUTING).order_by("pk")[:SHOWN],
        "queued": operations.filter(state=State.QUEUED).order_by("queued_at", "pk")[:SHOWN],
        "not_held": labels_that_take_away(),
        "before": Halt.objects.exclude(released_at=None).order_by("-pk")[:10],
        "problem": problem,
        "said": request.POST,
    }
    template = "operations/_world.html" if request.htmx else "operations/world.html"  # type: ignore[attr-defined]
    return render(request, template, context, status=status)


@signed_in
@require_GET
def banner(request: HttpRequest) -> HttpResponse:
    """What every page says at its top, fetched again on news of the world."""
    return render(request, "operations/_halt.html")


def _act(request: HttpRequest, action: str, act: Callable[[Actor, str], object]) -> HttpResponse:
    actor = actor_of(request)
    require(actor, Role.ADMIN, [], world.TARGET)
    try:
        act(actor, request.POST.get("reason", ""))
    except OperationError as error:
        return _page(request, str(error), status_of(error, actor, action, world.TARGET, []))
    return redirect("world")


@signed_in
@require_POST
def stop(request: HttpRequest) -> HttpResponse:
    """Hold every queue."""
    return _act(request, "world.stop", world.stop)


@signed_in
@require_POST
def release(request: HttpRequest) -> HttpResponse:
    """Let everything go on."""
    return _act(request, "world.release", world.release)
