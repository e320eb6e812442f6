"""The pages of incidents: the list, one incident, and what people do about it."""

from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from controlplane.accounts.access import Actor, actor_of, require, signed_in
from controlplane.accounts.models import Person, Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import Invalid, OperationError
from controlplane.operations.keyset import key_in
from environments.access import visible_environments
from environments.models import Environment
from incidents import demo, holds, lifecycle, notes
from incidents.access import load_incident
from incidents.escalation import hand
from incidents.forms import NoteForm, ReportForm
from incidents.listing import IncidentFilter, listing
from incidents.models import Grade, Incident, Phase
from incidents.page import IncidentPage
from incidents.procedure import severity_of

Act = Callable[[Actor, Incident, QueryDict], object]


@signed_in
@require_GET
def incidents(request: HttpRequest) -> HttpResponse:
    """What is not over first; searched and filtered by the address."""
    actor = actor_of(request)
    filters = IncidentFilter(request.GET)
    before, after = key_in(request.GET.get("before", "")), key_in(request.GET.get("after", ""))
    context = {
        "listing": listing(actor, filters.condition(), before, after),
        "filters": filters,
        "filtered": any(request.GET.get(name) for name in filters.fields),
        "environments": visible_environments(actor),
        "may_report": actor.scopes(Role.OPERATOR) != [],
        "breakable": demo.breakable() if actor.may(Role.OPERATOR, [demo.ENVIRONMENT]) else [],
    }
    return render(request, "incidents/incidents.html", context)


@signed_in
@require_GET
def count(request: HttpRequest) -> HttpResponse:
    """How many nobody has, for the navigation."""
    return render(request, "incidents/_count.html")


@signed_in
@require_http_methods(["GET", "POST"])
def report(request: HttpRequest) -> HttpResponse:
    """Open an incident for what somebody noticed."""
    actor = actor_of(request)
    form = ReportForm(actor, request.POST or None)
    if request.method != "POST" or not form.is_valid():
        status = 422 if request.method == "POST" else 200
        return render(request, "incidents/report.html", {"form": form}, status=status)
    said = form.cleaned_data
    require(actor, Role.OPERATOR, said["environments"], "open an incident")
    impact, urgency = Grade(said["impact"]), Grade(said["urgency"])
    made, _ = lifecycle.open_incident(
        actor.who, title=said["title"], severity=severity_of(impact, urgency), environments=said["environments"],
        reason=said["reason"], impact=impact, urgency=urgency,
    )  # fmt: skip
    return redirect(made)


@signed_in
@require_GET
def incident(request: HttpRequest, pk: int) -> HttpResponse:
    """How bad, who knows, what changed, what next."""
    actor = actor_of(request)
    return _page(request, actor, load_incident(actor, pk))


def _page(request: HttpRequest, actor: Actor, found: Incident, problem: str = "", status: int = 200) -> HttpResponse:
    kind, before = request.GET.get("kind", ""), key_in(request.GET.get("before", ""))
    context = {
        "incident": found,
        "page": IncidentPage(actor, found, kind, before),
        "problem": problem,
        "said": request.POST,
        "grades": Grade.choices,
    }
    return render(request, "incidents/incident.html", context, status=status)


@signed_in
@require_POST
def act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """One thing that a person does about it; see ACTS."""
    actor = actor_of(request)
    found = load_incident(actor, pk, Role.OPERATOR)
    if what not in ACTS:
        raise Http404
    try:
        ACTS[what](actor, found, request.POST)
    except OperationError as error:
        status = status_of(error, actor, f"incident.{what}", str(found), found.environments)
        return _page(request, actor, load_incident(actor, pk), str(error), status)
    return redirect(found)


# --- what one may do ----------------------------------------------------------------------------------


def _assess(actor: Actor, found: Incident, said: QueryDict) -> None:
    impact, urgency = (_chosen(Grade, said.get(name, "")) for name in ("impact", "urgency"))
    lifecycle.assess(found.pk, actor.who, impact, urgency, said.get("reason", ""))


def _give_role(actor: Actor, found: Incident, said: QueryDict) -> None:
    username = said.get("person", "")
    lifecycle.give_role(found.pk, actor.who, said.get("role", ""), _person(username) if username else None)


def _note(actor: Actor, found: Incident, said: QueryDict) -> None:
    form = NoteForm(said)
    if not form.is_valid():
        raise Invalid(" ".join(str(words) for errors in form.errors.values() for words in errors))
    notes.add(found.pk, actor.who, form.cleaned_data["text"], form.cleaned_data["at"])


def _hand_over(actor: Actor, found: Incident, said: QueryDict) -> None:
    hand.hand_over(found.pk, actor.who, _person(said.get("person", "")), said.get("reason", ""))


def _break_glass(actor: Actor, found: Incident, said: QueryDict) -> None:
    environment = get_object_or_404(Environment, slug=said.get("environment", ""), slug__in=found.environments)
    holds.ask(found.pk, actor, environment, said.get("reason", ""))


def _confirm_glass(actor: Actor, found: Incident, said: QueryDict) -> None:
    require(actor, Role.APPROVER, found.environments, f"confirm break-glass of {found}")
    holds.confirm(found.pk, actor, key_in(said.get("glass", "")))


def _person(username: str) -> Person:
    person = Person.objects.filter(username=username, is_active=True).first()
    if person is None:
        raise Invalid("Choose somebody who has an account here.")
    return person


def _chosen(choices: type[Grade], value: str) -> Grade:
    if value not in choices.values:
        raise Invalid(f"Choose one of {', '.join(choices.values)}.")
    return choices(value)


def _phase(value: str) -> Phase:
    if value not in Phase.values:
        raise Invalid(f"Choose one of {', '.join(Phase.values)}.")
    return Phase(value)


ACTS: dict[str, Act] = {
    "acknowledge": lambda actor, found, said: lifecycle.acknowledge(found.pk, actor.who),
    "resolve": lambda actor, found, said: lifecycle.resolve(found.pk, actor.who, said.get("resolution", "")),
    "assess": _assess,
    "phase": lambda actor, found, said: lifecycle.move_to(found.pk, actor.who, _phase(said.get("phase", ""))),
    "role": _give_role,
    "tick": lambda actor, found, said: lifecycle.tick(
        found.pk, actor.who, key_in(said.get("item", "")), said.get("note", "")
    ),
    "note": _note,
    "escalate": lambda actor, found, said: hand.escalate_now(
        found.pk, actor.who, key_in(said.get("level", "")) or None
    ),
    "skip": lambda actor, found, said: hand.skip(
        found.pk, actor.who, key_in(said.get("level", "")), said.get("reason", "")
    ),
    "repeat": lambda actor, found, said: hand.repeat(found.pk, actor.who, key_in(said.get("level", ""))),
    "hand-over": _hand_over,
    "break-glass": _break_glass,
    "confirm-glass": _confirm_glass,
}
