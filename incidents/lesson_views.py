"""The pages of lessons: the post-mortem of an incident, its editor, its reviews, and action items."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Person, Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import Conflict, Invalid, OperationError
from controlplane.operations.keyset import key_in
from incidents.access import load_incident
from incidents.lessons import action_items, documents
from incidents.lessons.forms import ItemForm, TextForm
from incidents.lessons.page import ItemsPage, PostmortemPage, rendered
from incidents.models import ActionItem, Incident, Postmortem


@signed_in
@require_GET
def postmortem(request: HttpRequest, pk: int) -> HttpResponse:
    """The post-mortem of an incident, or what comes before it."""
    actor = actor_of(request)
    return _page(request, actor, load_incident(actor, pk))


def _page(  # noqa: PLR0917 (one page, told whole)
    request: HttpRequest,
    actor: Actor,
    incident: Incident,
    problem: str = "",
    status: int = 200,
    item_form: ItemForm | None = None,
) -> HttpResponse:
    page = PostmortemPage(actor, incident, request.GET.get("version", ""))
    form = item_form or (ItemForm(incident=incident) if page.may_write else None)
    context = {"incident": incident, "page": page, "problem": problem, "said": request.POST, "item_form": form}
    return render(request, "incidents/postmortem.html", context, status=status)


def _refused(
    request: HttpRequest, actor: Actor, incident: Incident, error: OperationError, action: str
) -> HttpResponse:
    status = status_of(error, actor, action, f"post-mortem of incident {incident.pk}", incident.environments)
    return _page(request, actor, load_incident(actor, incident.pk), str(error), status)


@signed_in
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Write the next version; a preview needs no script, and nothing that was typed is ever lost."""
    actor = actor_of(request)
    incident = load_incident(actor, pk, Role.OPERATOR)
    found = get_object_or_404(Postmortem, incident=incident)
    if request.method == "GET":
        last = found.versions.get(number=found.version)
        return _editor(request, incident, TextForm(initial={"version": last.number, "body": last.body}))
    form = TextForm(request.POST)
    if not form.is_valid():
        return _editor(request, incident, form, status=422)
    if request.POST.get("what") == "preview":
        return _editor(request, incident, form, preview=True)
    try:
        documents.save(incident.pk, actor, form.cleaned_data["body"], form.cleaned_data["version"])
    except OperationError as error:
        status = status_of(error, actor, "postmortem.save", str(found), incident.environments)
        return _editor(request, incident, form, str(error), status, conflict=isinstance(error, Conflict))
    return redirect(found)


def _editor(
    request: HttpRequest,
    incident: Incident,
    form: TextForm,
    problem: str = "",
    status: int = 200,
    *,
    preview: bool = False,
    conflict: bool = False,
) -> HttpResponse:
    found = Postmortem.objects.get(incident=incident)
    theirs = found.versions.get(number=found.version) if conflict else None
    if theirs is not None:
        # What was typed stays in the box, now on top of the version that was in the way, which stands beside it.
        form = TextForm({"version": theirs.number, "body": form.cleaned_data["body"]})
    html = rendered(incident, form.cleaned_data["body"]) if preview else ""
    context = {
        "incident": incident, "postmortem": found, "form": form, "problem": problem, "preview": html, "theirs": theirs,
    }  # fmt: skip
    return render(request, "incidents/postmortem_edit.html", context, status=status)


@signed_in
@require_POST
def state(request: HttpRequest, pk: int) -> HttpResponse:
    """Draft it now, hand it in, publish it, take it back."""
    actor = actor_of(request)
    incident = load_incident(actor, pk, Role.OPERATOR)
    wanted = request.POST.get("state", "")
    try:
        if wanted == "new":
            documents.draft_now(incident.pk, actor.who)
        else:
            documents.to_state(incident.pk, actor, wanted)
    except OperationError as error:
        return _refused(request, actor, incident, error, "postmortem.state")
    return redirect("postmortem", incident.pk)


@signed_in
@require_POST
def review(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask somebody to read it, or say one's word on it."""
    actor = actor_of(request)
    incident = load_incident(actor, pk, Role.OPERATOR)
    what = request.POST.get("what", "")
    try:
        if what == "ask":
            documents.ask(incident.pk, actor, _reviewer(request, incident))
        else:
            version = key_in(request.POST.get("version", ""))
            documents.review(incident.pk, actor, what, request.POST.get("comment", ""), version)
    except OperationError as error:
        return _refused(request, actor, incident, error, "postmortem.review")
    return redirect("postmortem", incident.pk)


def _reviewer(request: HttpRequest, incident: Incident) -> Person:
    """Somebody who may write there. Raises Invalid."""
    name = request.POST.get("person", "")[:150].replace("\0", "")
    person = Person.objects.filter(username=name, is_active=True).first()
    if person is None or not Actor(person).may(Role.OPERATOR, incident.environments):
        raise Invalid("Choose somebody who is operator in all environments of the incident.")
    return person


# --- Action items -------------------------------------------------------------------------------------


@signed_in
@require_GET
def items(request: HttpRequest) -> HttpResponse:
    """All action items, overdue ones first."""
    page = ItemsPage(actor_of(request), key_in(request.GET.get("before", "")))
    return render(request, "incidents/action_items.html", {"page": page})


@signed_in
@require_POST
def item_add(request: HttpRequest, pk: int) -> HttpResponse:
    """Another action item of an incident."""
    actor = actor_of(request)
    incident = load_incident(actor, pk, Role.OPERATOR)
    form = ItemForm(request.POST, incident=incident)
    if not form.is_valid():
        return _page(request, actor, incident, status=422, item_form=form)
    try:
        item = action_items.add(incident.pk, actor, **form.cleaned_data)
    except OperationError as error:
        return _page(request, actor, incident, str(error), 422, form)
    return redirect(f"{reverse('postmortem', args=[incident.pk])}#item-{item.pk}")


MOVES: dict[str, tuple[str, Callable[[int, Actor, str], ActionItem]]] = {
    "done": ("is done; somebody else has to verify it", action_items.done),
    "verify": ("is verified", action_items.verify),
    "drop": ("is dropped", action_items.drop),
    "reopen": ("is open again", action_items.reopen),
}


@signed_in
@require_POST
def item(request: HttpRequest, pk: int) -> HttpResponse:
    """Say that it is done, verify it, drop it, or open it again."""
    actor = actor_of(request)
    found = get_object_or_404(ActionItem, pk=pk)
    incident = load_incident(actor, found.incident_id, Role.OPERATOR)
    words, move = MOVES.get(request.POST.get("what", ""), ("", None))
    try:
        if move is None:
            raise Invalid(f"One can say of it: {', '.join(MOVES)}.")
        move(found.pk, actor, request.POST.get("words", ""))
    except OperationError as error:
        return _refused(request, actor, incident, error, "action_item.change")
    messages.success(request, f"“{found.title}” {words}.")
    back = request.POST.get("back", "")
    return redirect("action-items" if back == "list" else f"{reverse('postmortem', args=[incident.pk])}#item-{pk}")
