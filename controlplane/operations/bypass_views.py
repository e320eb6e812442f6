"""The page of the rules that were set aside: those that wait for a review, and those that were reviewed."""

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.operations import bypasses
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.keyset import key_in
from controlplane.operations.models import Bypass, Operation


@dataclass(frozen=True)
class Waiting:
    """One that nobody has reviewed. operations: asked for or started meanwhile; there_are_more: than those.

    why_not: why this person cannot review it.
    """

    bypass: Bypass
    operations: list[Operation]
    there_are_more: bool
    why_not: str


@signed_in
@require_GET
def bypass_list(request: HttpRequest) -> HttpResponse:
    """Whatever waits for a review first, the oldest first, a page at a time; then what was reviewed last."""
    return _page(request, actor_of(request))


def _page(request: HttpRequest, actor: Actor, problem: str = "", status: int = 200) -> HttpResponse:
    after = key_in(request.GET.get("after", ""))
    rest = bypasses.unreviewed(actor).filter(pk__gt=after)
    waiting = list(rest[: bypasses.SHOWN])
    meanwhile, refused = bypasses.done_meanwhile(waiting, actor), bypasses.why_not(waiting, actor)
    context = {
        "waiting": [_waiting(one, meanwhile[one.pk], refused[one.pk]) for one in waiting],
        "after": after,
        "last": waiting[-1].pk if waiting else 0,
        "left": rest.count() - len(waiting),
        "reviewed": bypasses.visible(actor).exclude(reviewed_at=None).order_by("-reviewed_at")[: bypasses.SHOWN],
        "problem": problem,
    }
    return render(request, "operations/bypasses.html", context, status=status)


def _waiting(bypass: Bypass, done: list[Operation], why_not: str) -> Waiting:
    return Waiting(bypass, done[: bypasses.MEANWHILE], len(done) > bypasses.MEANWHILE, why_not)


@signed_in
@require_POST
def review(request: HttpRequest, pk: int) -> HttpResponse:
    """An approver who took no part says what to make of it."""
    actor = actor_of(request)
    bypass = get_object_or_404(bypasses.visible(actor), pk=pk)
    try:
        bypasses.review(actor, bypass.pk, request.POST.get("words", ""))
    except OperationError as error:
        status = status_of(error, actor, "bypass.review", f"bypass {pk}", bypass.scopes)
        return _page(request, actor, str(error), status)
    return redirect("bypasses")
