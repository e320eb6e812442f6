"""The pages of alerts: what fires, one alert, and the bodies that nobody understood."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.keyset import key_in, page_of
from environments.access import visible_environments
from incidents.access import load_alert, load_bodies, load_body, visible_alerts
from incidents.alert_forms import AlertFilter
from incidents.alert_page import AlertPage, excerpt
from incidents.intake import hands
from incidents.intake.matchers import spell
from incidents.models import Alert, RawAlert

LATELY = 10


@signed_in
@require_GET
def alerts(request: HttpRequest) -> HttpResponse:
    """What fires, and what did lately; searched and filtered by the address."""
    actor = actor_of(request)
    filters = AlertFilter(request.GET)
    now = database_time()
    before, after = key_in(request.GET.get("before", "")), key_in(request.GET.get("after", ""))
    rows = visible_alerts(actor).select_related("incident", "silence").defer(
        "labels", "annotations", "incident__policy", "incident__search", "incident__unsaid"
    )  # fmt: skip
    page = page_of(rows.filter(filters.condition(now)), before, after)
    lately = filters.is_plain and not (before or after)
    context = {
        "page": page,
        "filters": filters,
        "environments": visible_environments(actor),
        "now": now,
        "lately": rows.filter(state=Alert.State.RESOLVED).order_by("-pk")[:LATELY] if lately else [],
        "may_open_bodies": actor.may(Role.OPERATOR, []),
        "not_understood": actor.may(Role.OPERATOR, []) and _not_understood(),
    }
    return render(request, "incidents/alerts.html", context)


def _not_understood() -> bool:
    return RawAlert.objects.filter(state=RawAlert.State.FAILED).exists()


@signed_in
@require_GET
def alert(request: HttpRequest, pk: int) -> HttpResponse:
    """One alert: what it says, how it stands, which incident has it, what people know of it."""
    actor = actor_of(request)
    return _page(request, actor, load_alert(actor, pk))


def _page(request: HttpRequest, actor: Actor, found: Alert, problem: str = "", status: int = 200) -> HttpResponse:
    place = found.environment.slug if found.environment else ""
    known = [{"label": "alertname", "op": "=", "value": found.name}]
    query = urlencode({"matchers": spell(known), "environment": place})
    context = {
        "alert": found,
        "page": AlertPage(actor, found, database_time()),
        "may_operate": actor.may(Role.OPERATOR, [place] if place else []),
        "silence_url": f"{reverse('silences')}?{query}#add",
        "problem": problem,
        "said": request.POST,
    }
    return render(request, "incidents/alert.html", context, status=status)


@signed_in
@require_POST
def note(request: HttpRequest, pk: int) -> HttpResponse:
    """Write down what one knows of it."""
    actor = actor_of(request)
    found = load_alert(actor, pk, Role.OPERATOR)
    try:
        hands.write_note(actor, found, request.POST.get("note", ""))
    except OperationError as error:
        scopes = [found.environment.slug] if found.environment else []
        status = status_of(error, actor, "alert.note", f"alert {pk}", scopes)
        return _page(request, actor, found, str(error), status)
    return redirect("alert", pk)


@signed_in
@require_GET
def bodies(request: HttpRequest) -> HttpResponse:
    """What was stored and not understood, with the reason."""
    return _bodies(request, actor_of(request))


def _bodies(request: HttpRequest, actor: Actor, problem: str = "", status: int = 200) -> HttpResponse:
    failed = load_bodies(actor).filter(state=RawAlert.State.FAILED)
    before, after = key_in(request.GET.get("before", "")), key_in(request.GET.get("after", ""))
    page = page_of(failed, before, after, size=20)
    context = {"page": page, "bodies": [(one, excerpt(one)) for one in page.rows], "problem": problem}
    return render(request, "incidents/alert_bodies.html", context, status=status)


@signed_in
@require_POST
def again(request: HttpRequest, pk: int) -> HttpResponse:
    """Have a body handled once more."""
    actor = actor_of(request)
    raw = load_body(actor, pk)
    try:
        hands.handle_again(actor, raw)
    except OperationError as error:
        return _bodies(request, actor, str(error), status_of(error, actor, "alert.body_again", f"body {pk}", []))
    return redirect("alert-bodies")
