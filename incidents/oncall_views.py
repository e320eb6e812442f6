"""The pages of on-call: who has it now, the calendar of a schedule, and the same as an iCalendar file."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from controlplane.accounts import tokens
from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Person, Role
from controlplane.clock.database import database_time
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from incidents.models import Schedule
from incidents.oncall import export, layers
from incidents.oncall.access import load_schedule, look, may_add
from incidents.oncall.calendar import CalendarPage, page_of, preview_of
from incidents.oncall.forms import AbsenceForm, ImportForm, OverrideForm, SwapForm, active_people
from incidents.oncall.layer_forms import Editing
from incidents.oncall.layers import Plan
from incidents.oncall.overview import overview
from incidents.oncall.problems import names_in
from incidents.oncall.rotation import Rota
from incidents.oncall.rows import rota_of


@signed_in
@require_GET
def on_call(request: HttpRequest) -> HttpResponse:
    """Who is on call now, until when, who is next; and the reader's own shifts."""
    actor = actor_of(request)
    look(actor, "open on-call")
    context = {"page": overview(actor), "may_change": actor.may(Role.ADMIN, [])}
    return render(request, "incidents/on_call.html", context)


@signed_in
@require_GET
def schedule(request: HttpRequest, slug: str) -> HttpResponse:
    """The calendar of one schedule."""
    actor = actor_of(request)
    return calendar_page(request, actor, load_schedule(actor, slug))


def calendar_page(
    request: HttpRequest,
    actor: Actor,
    found: Schedule,
    *,
    problem: str = "",
    status: int = 200,
    **bound: object,
) -> HttpResponse:
    """The page, also to show a form again with what is wrong in it. bound: forms by name."""
    page = page_of(found, actor.person, request.GET.get("month", ""), database_time())
    may_operate = actor.may(Role.OPERATOR, [])
    people = active_people() if may_operate else {}
    calendar = reverse("on-call-ics", args=[found.slug])
    context = {
        "schedule": found,
        "page": page,
        "problem": problem,
        "may_operate": may_operate,
        "may_change": actor.may(Role.ADMIN, []),
        "override_form": OverrideForm(zone=found.time_zone, people=people),
        "swap_form": swap_form(page, actor, found),
        "absence_form": AbsenceForm(people=people),
        "import_form": ImportForm(),
        "open": next(iter(bound), ""),
        "address": request.build_absolute_uri(f"{calendar}?key={export.key_for(actor.person, found)}"),
        **bound,
    }
    return render(request, "incidents/schedule.html", context, status=status)


def swap_form(page: CalendarPage, actor: Actor, found: Schedule, data: object = None) -> SwapForm:
    """The shifts that this person may exchange."""
    mine = "" if actor.may(Role.OPERATOR, []) else actor.person.username
    return SwapForm(data, found=page.to_come, names=page.names, zone=found.time_zone, mine=mine)


@require_GET
def ics(request: HttpRequest, slug: str) -> HttpResponse:
    """The schedule for calendar programs: by a key in the address, by an API token, or for who is signed in.

    ?only=USERNAME: the shifts of one person.
    """
    found = get_object_or_404(Schedule, slug=slug)
    actor = _reader(request, found)
    if actor is None:
        words = "Copy the address of this calendar again from the page of its schedule, or send an API token.\n"
        return HttpResponse(words, status=401, content_type="text/plain", headers={"WWW-Authenticate": "Bearer"})
    look(actor, f"read the calendar {slug}")
    now = database_time()
    rota = rota_of(slug, now - export.BACK, now + export.FORTH) or Rota(found.time_zone)
    people = {one.username: one for one in Person.objects.filter(username__in=names_in(rota))}
    body = export.calendar_of(found, rota, people, now, only=request.GET.get("only", ""))
    disposition = {"Content-Disposition": f'inline; filename="{slug}.ics"'}
    return HttpResponse(body, content_type="text/calendar; charset=utf-8", headers=disposition)


def _reader(request: HttpRequest, found: Schedule) -> Actor | None:
    if key := request.GET.get("key", ""):
        person = export.holder_of(key, found)
        return Actor(person, Role.VIEWER, "calendar") if person else None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return tokens.authenticate(token.strip())
    return actor_of(request) if request.user.is_authenticated else None


@signed_in
@require_http_methods(["GET", "POST"])
def edit_layers(request: HttpRequest, slug: str) -> HttpResponse:
    """The layers of a schedule: a preview of four weeks with what is wrong in them, and only then saving."""
    actor = actor_of(request)
    return _edit(request, actor, load_schedule(actor, slug, Role.ADMIN))


@signed_in
@require_http_methods(["GET", "POST"])
def add_schedule(request: HttpRequest) -> HttpResponse:
    """One more schedule, previewed like the layers of any other."""
    actor = actor_of(request)
    may_add(actor, "a schedule")
    return _edit(request, actor, None)


def _edit(request: HttpRequest, actor: Actor, found: Schedule | None) -> HttpResponse:
    before = layers.stored(found) if found else layers.NOTHING
    editing = Editing(found, before, request.POST if request.method == "POST" else None)
    context: dict[str, object] = {"schedule": found, "editing": editing}
    if request.method == "GET":
        return render(request, "incidents/schedule_layers.html", context)
    if not editing.is_valid():
        return render(request, "incidents/schedule_layers.html", context, status=422)
    status, plan, slug = 200, editing.plan(), found.slug if found else editing.form.cleaned_data["slug"]
    if request.POST.get("what") == "save":
        try:
            return redirect(_saved(request, actor, found, slug, plan))
        except OperationError as error:
            status = status_of(error, actor, "oncall.change", f"schedule {slug}", [])
            context["problem"] = str(error)
    proposed = found or Schedule(slug=slug)
    context["preview"] = preview_of(proposed, plan.name, Rota(plan.time_zone, plan.layers), database_time())
    context["shown"] = layers.digest_of(before, plan)
    return render(request, "incidents/schedule_layers.html", context, status=status)


def _saved(request: HttpRequest, actor: Actor, found: Schedule | None, slug: str, plan: Plan) -> Schedule:
    said = {name: request.POST.get(name, "") for name in ("shown", "reason")}
    if found is None:
        return layers.create(actor, slug, plan, **said)
    layers.change(actor, found, plan, **said)
    return found
