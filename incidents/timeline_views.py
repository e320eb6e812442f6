"""One entry of a timeline: its versions, and the forms to edit, pin or hide it."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import Invalid, OperationError
from incidents import notes
from incidents.access import load_incident
from incidents.models import Incident, TimelineEntry
from incidents.page import ABOUT_OTHERS, line_of
from incidents.timeline import Kind


@signed_in
@require_GET
def entry(request: HttpRequest, pk: int, seq: int) -> HttpResponse:
    """What it says, what it said before, and its place in the chain."""
    actor = actor_of(request)
    return _page(request, actor, load_incident(actor, pk), seq)


def _page(  # noqa: PLR0917 (one page, told whole)
    request: HttpRequest, actor: Actor, incident: Incident, seq: int, problem: str = "", status: int = 200
) -> HttpResponse:
    rows = TimelineEntry.objects.filter(incident=incident).select_related("mark")
    found = get_object_or_404(rows, seq=seq)
    context = {
        "incident": incident,
        "line": line_of(found),
        "about": rows.filter(kind__in=ABOUT_OTHERS, data__of=seq).order_by("seq")[:100],
        "may_change": actor.may(Role.OPERATOR, incident.environments) and found.kind not in ABOUT_OTHERS,
        "is_note": found.kind == Kind.NOTE,
        "problem": problem,
        "said": request.POST,
    }
    return render(request, "incidents/entry.html", context, status=status)


@signed_in
@require_POST
def change(request: HttpRequest, pk: int, seq: int) -> HttpResponse:
    """Edit, pin, unpin, hide or show it; an entry of its own says so."""
    actor = actor_of(request)
    incident = load_incident(actor, pk, Role.OPERATOR)
    what, reason = request.POST.get("what", ""), request.POST.get("reason", "")
    try:
        if what == "edit":
            notes.edit(pk, actor.who, seq, request.POST.get("text", ""), reason)
        elif what in ("pin", "unpin"):
            notes.pin(pk, actor.who, seq, pinned=what == "pin")
        elif what in ("hide", "show"):
            notes.hide(pk, actor.who, seq, reason, hidden=what == "hide")
        else:
            raise Invalid("Choose what to do with it.")
    except OperationError as error:
        status = status_of(error, actor, f"timeline.{what}"[:60], str(incident), incident.environments)
        return _page(request, actor, incident, seq, str(error), status)
    return redirect(f"{reverse('incident', args=[pk])}#entry-{seq}")
