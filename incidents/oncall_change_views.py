"""What people do on the calendar of a schedule: stand in, swap, be away, bring a calendar in."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from incidents.models import Schedule
from incidents.oncall import bringing, services
from incidents.oncall.access import load_schedule
from incidents.oncall.calendar import page_of
from incidents.oncall.forms import AbsenceForm, ImportForm, OverrideForm, active_people
from incidents.oncall.importing import LARGEST
from incidents.oncall_views import calendar_page, swap_form


def _refused(
    request: HttpRequest, actor: Actor, found: Schedule, error: OperationError, action: str, **bound: object
) -> HttpResponse:
    status = status_of(error, actor, action, f"schedule {found.slug}", [])
    return calendar_page(request, actor, found, problem=str(error), status=status, **bound)


@signed_in
@require_POST
def override(request: HttpRequest, slug: str) -> HttpResponse:
    """Put somebody on call for a time."""
    actor = actor_of(request)
    found = load_schedule(actor, slug, Role.OPERATOR)
    form = OverrideForm(request.POST, zone=found.time_zone, people=active_people())
    if not form.is_valid():
        return calendar_page(request, actor, found, status=422, override_form=form)
    try:
        services.add_override(actor, found, form.span(), form.cleaned_data["reason"])
    except OperationError as error:
        return _refused(request, actor, found, error, "oncall.override", override_form=form)
    return redirect(found)


@signed_in
@require_POST
def cancel(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Take an override, or a swap, back."""
    actor = actor_of(request)
    found = load_schedule(actor, slug)
    try:
        services.cancel_override(actor, found, pk, request.POST.get("reason", ""))
    except OperationError as error:
        return _refused(request, actor, found, error, "oncall.cancel")
    return redirect(found)


@signed_in
@require_POST
def swap(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask for a swap; or, with the number of one, answer it."""
    actor = actor_of(request)
    found = load_schedule(actor, slug)
    if "swap" in request.POST:
        return _answer(request, actor, found)
    form = swap_form(page_of(found, actor.person, "", database_time()), actor, found, request.POST)
    if not form.is_valid():
        return calendar_page(request, actor, found, status=422, swap_form=form)
    try:
        services.ask_to_swap(actor, found, *form.spans(active_people()), form.cleaned_data["reason"])
    except OperationError as error:
        return _refused(request, actor, found, error, "oncall.swap", swap_form=form)
    messages.success(request, "Asked. Nothing changes until the answer is yes.")
    return redirect(found)


def _answer(request: HttpRequest, actor: Actor, found: Schedule) -> HttpResponse:
    text = request.POST["swap"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
    try:
        if request.POST.get("what") == "agree":
            services.agree_to_swap(actor, found, number)
        else:
            services.decline_swap(actor, found, number, request.POST.get("reason", ""))
    except OperationError as error:
        return _refused(request, actor, found, error, "oncall.swap")
    return redirect(found)


@signed_in
@require_POST
def absence(request: HttpRequest, slug: str) -> HttpResponse:
    """Be away for some days; or, with the number of an absence, be there after all."""
    actor = actor_of(request)
    found = load_schedule(actor, slug)
    if "absence" in request.POST:
        return _back(request, actor, found)
    people = active_people() if actor.may(Role.OPERATOR, []) else {}
    form = AbsenceForm(request.POST, people=people)
    if not form.is_valid():
        return calendar_page(request, actor, found, status=422, absence_form=form)
    said = form.cleaned_data
    try:
        services.add_absence(
            actor, said.get("person") or actor.person, said["starts_on"], said["ends_on"], said["reason"]
        )
    except OperationError as error:
        return _refused(request, actor, found, error, "oncall.absence", absence_form=form)
    return redirect(found)


def _back(request: HttpRequest, actor: Actor, found: Schedule) -> HttpResponse:
    text = request.POST["absence"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
    try:
        services.remove_absence(actor, number, request.POST.get("reason", ""))
    except OperationError as error:
        return _refused(request, actor, found, error, "oncall.absence")
    return redirect(found)


@signed_in
@require_POST
def bring_in(request: HttpRequest, slug: str) -> HttpResponse:
    """Import an iCalendar file."""
    actor = actor_of(request)
    found = load_schedule(actor, slug, Role.OPERATOR)
    form = ImportForm(request.POST, request.FILES)
    if not form.is_valid():
        return calendar_page(request, actor, found, status=422, import_form=form)
    body = form.cleaned_data["calendar"].read(LARGEST + 1)
    try:
        done = bringing.import_calendar(actor, found, body, form.cleaned_data["reason"])
    except OperationError as error:
        return _refused(request, actor, found, error, "oncall.import", import_form=form)
    messages.success(request, f"Imported: {done}.")
    return redirect(found)
