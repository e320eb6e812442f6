"""The pages of the runbook and of the contacts."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from controlplane.accounts.access import Actor, actor_of, require, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.keyset import key_in
from incidents.models import Contact, RunbookTask
from incidents.runbook import services
from incidents.runbook.access import load_contact, load_task, may_see_evidence, require_any_role
from incidents.runbook.contacts import escalation, external
from incidents.runbook.forms import ContactForm, NewContactForm
from incidents.runbook.page import RunbookPage, TaskPage


@signed_in
@require_GET
def runbook(request: HttpRequest) -> HttpResponse:
    """What is to be done today, this week and this month."""
    actor = actor_of(request)
    require_any_role(actor, "open the runbook")
    return render(request, "incidents/runbook.html", {"page": RunbookPage(actor)})


@signed_in
@require_GET
def task(request: HttpRequest, slug: str) -> HttpResponse:
    """One task: how it is done, and how it went."""
    actor = actor_of(request)
    return _task(request, actor, load_task(actor, slug))


def _task(request: HttpRequest, actor: Actor, found: RunbookTask, problem: str = "", status: int = 200) -> HttpResponse:
    before, after = key_in(request.GET.get("before", "")), key_in(request.GET.get("after", ""))
    context = {"page": TaskPage(actor, found, before, after), "problem": problem, "said": request.POST}
    return render(request, "incidents/runbook_task.html", context, status=status)


@signed_in
@require_POST
def tick(request: HttpRequest, slug: str) -> HttpResponse:
    """It is done, with the evidence."""
    actor = actor_of(request)
    found = load_task(actor, slug, Role.OPERATOR)
    try:
        run = services.tick(actor, found, key_in(request.POST.get("run", "")), request.POST.get("evidence", ""))
    except OperationError as error:
        status = status_of(error, actor, "runbook.tick", found.slug, [])
        return _task(request, actor, found, str(error), status)
    messages.success(request, f"{found.title}: {run.get_state_display()}.")
    return redirect(found if request.POST.get("back") == "task" else "runbook")


@signed_in
@require_POST
def pause(request: HttpRequest, slug: str) -> HttpResponse:
    """Do not ask for it for a while, or ask again."""
    actor = actor_of(request)
    found = load_task(actor, slug, Role.ADMIN)
    try:
        services.pause(actor, found, request.POST.get("reason", ""), paused=request.POST.get("what") == "pause")
    except OperationError as error:
        return _task(request, actor, found, str(error), status_of(error, actor, "runbook.pause", found.slug, []))
    return redirect(found)


# --- Contacts -----------------------------------------------------------------------------------------


@signed_in
@require_GET
def contacts(request: HttpRequest) -> HttpResponse:
    """Whom one calls, outside and by the escalation."""
    actor = actor_of(request)
    require_any_role(actor, "open the contacts")
    sees = may_see_evidence(actor)
    context = {
        "external": external(), "levels": escalation() if sees else [], "sees": sees, "may_change": actor.is_admin,
    }  # fmt: skip
    return render(request, "incidents/contacts.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def contact_add(request: HttpRequest) -> HttpResponse:
    """One more contact."""
    actor = actor_of(request)
    require(actor, Role.ADMIN, [], "add a contact")
    return _contact(request, actor, NewContactForm(request.POST or None))


@signed_in
@require_http_methods(["GET", "POST"])
def contact_edit(request: HttpRequest, slug: str) -> HttpResponse:
    """Change a contact, or remove it."""
    actor = actor_of(request)
    found = load_contact(actor, slug)
    if request.method == "POST" and request.POST.get("what") == "remove":
        try:
            services.remove_contact(actor, found)
        except OperationError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{found.name} is no contact any more.")
        return redirect("contacts")
    return _contact(request, actor, ContactForm(request.POST or None, instance=found), found)


def _contact(request: HttpRequest, actor: Actor, form: ContactForm, found: Contact | None = None) -> HttpResponse:
    status = 200
    if request.method == "POST" and form.is_valid():
        try:
            (services.change_contact if found else services.add_contact)(actor, form.instance)
        except OperationError as error:
            form.add_error(None, str(error))
            status = status_of(error, actor, "contact.change", form.instance.slug, [])
        else:
            messages.success(request, f"{form.instance.name} is saved.")
            return redirect("contacts")
    elif request.method == "POST":
        status = 422
    return render(request, "incidents/contact.html", {"form": form, "contact": found}, status=status)
