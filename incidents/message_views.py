"""What left for people, and what became of it; in the demo the page stands for their telephones."""

from django.conf import settings
from django.contrib import messages as notices
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from controlplane.accounts.access import Actor, actor_of, require, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.errors import OperationError
from controlplane.operations.keyset import key_in, page_of
from incidents import messages as message_service
from incidents.models import ChannelKind, Delivery

STATES = Delivery.State.choices


def visible_deliveries(actor: Actor) -> QuerySet[Delivery]:
    """Those of incidents that the person may look at; those of none need the role everywhere."""
    rows = Delivery.objects.select_related("incident", "page")
    scopes = actor.scopes(Role.VIEWER)
    if scopes is None:
        return rows
    return rows.filter(incident__environments__contained_by=scopes).exclude(incident__environments=[])


@signed_in
@require_GET
def messages(request: HttpRequest) -> HttpResponse:
    """Newest first, filtered by the page's address."""
    actor = actor_of(request)
    wanted = Q()
    chosen = {name: request.GET.get(name, "") for name in ("channel", "state", "incident")}
    if chosen["channel"] in ChannelKind.values:
        wanted &= Q(channel=chosen["channel"])
    if chosen["state"] in Delivery.State.values:
        wanted &= Q(state=chosen["state"])
    if number := key_in(chosen["incident"]):
        wanted &= Q(incident=number)
    before, after = key_in(request.GET.get("before", "")), key_in(request.GET.get("after", ""))
    context = {
        "page": page_of(visible_deliveries(actor).filter(wanted), before, after),
        "chosen": chosen,
        "channels": ChannelKind.choices,
        "states": STATES,
        "recorded": settings.RECORDING_PROVIDER,
        "may_operate": actor.scopes(Role.OPERATOR) != [],
    }
    return render(request, "incidents/messages.html", context)


@signed_in
@require_POST
def try_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Send one that failed once more, under the same key."""
    actor = actor_of(request)
    delivery = get_object_or_404(Delivery.objects.select_related("incident"), pk=pk)
    scopes = delivery.incident.environments if delivery.incident else []
    require(actor, Role.OPERATOR, scopes, f"send message {pk} again")
    try:
        message_service.try_again(actor, delivery)
    except OperationError as error:
        notices.error(request, str(error))
    return redirect("messages")
