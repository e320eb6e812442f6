"""Incidents for programs: look, open, acknowledge, escalate, note, resolve. The same functions as the pages call."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import Http404, HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field, StringConstraints

from controlplane.accounts.access import require
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Person, Role
from controlplane.operations.api import ACTING, LARGEST
from controlplane.operations.errors import Invalid
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.keyset import page_of
from controlplane.web.bodies import Body, Reason, Slug, Words
from controlplane.web.problems import problems
from controlplane.web.queries import Number as Cursor
from controlplane.web.queries import Parameters
from environments.models import Environment
from incidents import lifecycle, notes
from incidents.access import load_incident, visible_incidents
from incidents.escalation import hand
from incidents.models import Grade, Incident, Level, Page, Phase, TimelineEntry
from incidents.procedure import severity_of

router = Router(tags=["incidents"])

AT_MOST = 100
ENTRIES_AT_MOST = 500
ONE = "/incidents/{int:incident_id}"
# Spelled out: in the description, enumerations of the same name would be one.
IncidentState = Literal["open", "acknowledged", "resolved"]
IncidentSeverity = Literal["P1", "P2", "P3", "P4"]
GradeIs = Literal["high", "medium", "low"]
PhaseIs = Literal["detection", "triage", "response", "resolution", "post-mortem"]
LevelState = Literal["pending", "fired", "passed", "skipped", "cancelled"]
PageState = Literal["queued", "accepted", "delivered", "seen", "failed", "cancelled"]
RoleIs = Literal["commander", "communications", "scribe"]
EntryKind = Literal[
    "alert", "state", "page", "operation", "change", "checklist", "note", "post-mortem", "edit", "pin", "hide"
]
Number = Annotated[int, Field(ge=1, le=LARGEST)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]
Username = Annotated[str, StringConstraints(min_length=1, max_length=150, pattern=r"^[^\x00]*$")]


class PageOut(BaseModel):
    """One person who was to be reached, and how far that went."""

    person: str
    state: PageState
    accepted_at: datetime | None
    delivered_at: datetime | None
    seen_at: datetime | None


class LevelOut(BaseModel):
    """One level of the escalation. due_at: absolute, counted from the opening."""

    id: int
    level: int
    role: str
    state: LevelState
    due_at: datetime
    words: str
    pages: list[PageOut]


class IncidentOut(BaseModel):
    """An incident. notified_at: when the first page was accepted; null: nobody has been notified."""

    id: int
    title: str
    severity: IncidentSeverity
    impact: GradeIs
    urgency: GradeIs
    state: IncidentState
    phase: PhaseIs
    environments: list[str]
    opened_at: datetime
    opened_by: str
    acknowledged_at: datetime | None
    acknowledged_by: str
    resolved_at: datetime | None
    resolved_by: str
    resolution: str
    alerts: int
    notified_at: datetime | None
    last_seq: int


class OneIncidentOut(IncidentOut):
    """The same with its escalation."""

    levels: list[LevelOut]


class EntryOut(BaseModel):
    """One entry of the timeline. seq: gapless from 1. hash: covers the entry and the hash before it."""

    seq: int
    at: datetime
    kind: EntryKind
    text: str
    actor: str
    hash: str


class OpenIn(Body):
    """What is wrong and where; severity is impact by urgency. No environments: the whole installation."""

    title: Title
    environments: Annotated[list[Slug], Field(max_length=50)] = []
    impact: GradeIs = "medium"
    urgency: GradeIs = "medium"
    reason: Words = ""


class ResolveIn(Body):
    resolution: Reason


class IncidentNoteIn(Body):
    text: Reason


class AssessIn(Body):
    impact: GradeIs
    urgency: GradeIs
    reason: Reason


class PhaseIn(Body):
    phase: PhaseIs


class LevelIn(Body):
    """level: the id of a pending level; without one, the next."""

    level: Number | None = None


class SkipIn(Body):
    level: Number
    reason: Reason


class RepeatIn(Body):
    level: Number


class HandOverIn(Body):
    person: Username
    reason: Reason


class RoleIn(Body):
    """person: a username; null: nobody any more."""

    role: RoleIs
    person: Username | None = None


class NothingIn(Body):
    """An empty object."""


class IncidentQuery(Parameters):
    """Which incidents; "" leaves a filter out."""

    state: Literal["", "open", "acknowledged", "resolved"] = ""
    severity: Literal["", "P1", "P2", "P3", "P4"] = ""
    before: Cursor = 0


def incident_out(incident: Incident) -> IncidentOut:
    """An incident as programs see it."""
    return IncidentOut(**_fields(incident))


def one_incident_out(incident: Incident) -> OneIncidentOut:
    """The same with its escalation: two queries more."""
    levels = Level.objects.filter(incident=incident).prefetch_related("pages")
    return OneIncidentOut(**_fields(incident), levels=[_level_out(level) for level in levels])


def _fields(incident: Incident) -> dict[str, Any]:
    same = ("title", "severity", "impact", "urgency", "state", "phase", "environments", "opened_at", "acknowledged_at",
            "resolved_at", "resolution", "notified_at", "last_seq")  # fmt: skip
    return {name: getattr(incident, name) for name in same} | {
        "id": incident.pk,
        "opened_by": incident.opened_by_name,
        "acknowledged_by": incident.acknowledged_by_name,
        "resolved_by": incident.resolved_by_name,
        "alerts": incident.alert_count,
    }


def _level_out(level: Level) -> LevelOut:
    state: Any = level.state
    return LevelOut(
        id=level.pk, level=level.number, role=level.role, state=state, due_at=level.due_at, words=level.words,
        pages=[_page_out(page) for page in level.pages.all()],
    )  # fmt: skip


def _page_out(page: Page) -> PageOut:
    state: Any = page.state
    return PageOut(
        person=page.person_name, state=state, accepted_at=page.accepted_at, delivered_at=page.delivered_at,
        seen_at=page.seen_at,
    )  # fmt: skip


# --- looking ------------------------------------------------------------------------------------------


@router.get("/incidents", response={200: list[IncidentOut], **problems(422)}, summary="Incidents, the newest first")
def incidents(request: ApiRequest, wanted: Annotated[IncidentQuery, Query()]) -> list[IncidentOut]:
    """The newest 100 that fit, with a number below `before`; ask again with the last number for more."""
    rows = visible_incidents(request.auth)
    chosen = {name: value for name, value in wanted.model_dump(exclude={"before"}).items() if value}
    return [incident_out(one) for one in page_of(rows.filter(**chosen), wanted.before, size=AT_MOST).rows]


@router.get(ONE, response={200: OneIncidentOut, **problems(403, 404)}, summary="One incident")
def incident(request: ApiRequest, incident_id: int) -> OneIncidentOut:
    """How it stands, and who is paged when."""
    return one_incident_out(load_incident(request.auth, incident_id))


@router.get(f"{ONE}/timeline", response={200: list[EntryOut], **problems(403, 404, 422)}, summary="Its timeline")
def incident_timeline(
    request: ApiRequest, incident_id: int, after: Annotated[int, Query(ge=0, le=LARGEST)] = 0
) -> list[EntryOut]:
    """At most 500 entries in the order in which they were recorded. after: the seq of the last one got."""
    found = load_incident(request.auth, incident_id)
    rows = TimelineEntry.objects.filter(incident=found, seq__gt=after).order_by("seq")[:ENTRIES_AT_MOST]
    return [_entry_out(entry) for entry in rows]


def _entry_out(entry: TimelineEntry) -> EntryOut:
    kind: Any = entry.kind
    return EntryOut(seq=entry.seq, at=entry.at, kind=kind, text=entry.text, actor=entry.actor, hash=entry.hash)


# --- acting -------------------------------------------------------------------------------------------

CHANGED: dict[str, Any] = {"response": {200: OneIncidentOut, **ACTING}, "openapi_extra": DESCRIPTION}


@router.post(
    "/incidents", response={201: OneIncidentOut, **ACTING}, openapi_extra=DESCRIPTION, summary="Open an incident"
)
def open_incident(request: ApiRequest, body: OpenIn) -> HttpResponse:
    """For what somebody noticed; alerts open theirs by rule. It is escalated at once by the matrix of its severity."""
    actor = request.auth
    require(actor, Role.OPERATOR, body.environments, "open an incident")
    known = set(Environment.objects.filter(slug__in=body.environments).values_list("slug", flat=True))
    if known != set(body.environments):
        raise Http404
    impact, urgency = Grade(body.impact), Grade(body.urgency)

    def effect() -> OneIncidentOut:
        made, _ = lifecycle.open_incident(
            actor.who, title=body.title, severity=severity_of(impact, urgency), environments=body.environments,
            reason=body.reason, impact=impact, urgency=urgency,
        )  # fmt: skip
        return one_incident_out(made)

    return answer_once(
        request, effect, action="incident.open", target="incidents", scopes=body.environments, status=201
    )


def _act(request: ApiRequest, incident_id: int, change: Callable[[], object], action: str) -> HttpResponse:
    found = load_incident(request.auth, incident_id, Role.OPERATOR)

    def effect() -> OneIncidentOut:
        change()
        return one_incident_out(Incident.objects.get(pk=incident_id))

    return answer_once(request, effect, action=action, target=str(found), scopes=found.environments)


@router.post(f"{ONE}/acknowledge", summary="Say that you have it", **CHANGED)
def acknowledge_incident(request: ApiRequest, incident_id: int, body: NothingIn) -> HttpResponse:
    """Nobody else is paged after this; 409 when somebody was first."""
    who = request.auth.who
    return _act(request, incident_id, lambda: lifecycle.acknowledge(incident_id, who), "incident.acknowledge")


@router.post(f"{ONE}/resolve", summary="Say that it is over", **CHANGED)
def resolve_incident(request: ApiRequest, incident_id: int, body: ResolveIn) -> HttpResponse:
    """With what resolved it; a draft of the post-mortem follows within seconds."""
    who = request.auth.who
    return _act(request, incident_id, lambda: lifecycle.resolve(incident_id, who, body.resolution), "incident.resolve")


@router.post(f"{ONE}/notes", summary="Add a note to the timeline", **CHANGED)
def note_incident(request: ApiRequest, incident_id: int, body: IncidentNoteIn) -> HttpResponse:
    """It cannot be taken back, only edited, with both versions kept."""
    who = request.auth.who
    return _act(request, incident_id, lambda: notes.add(incident_id, who, body.text), "incident.note")


@router.post(f"{ONE}/assessment", summary="Assess its severity", **CHANGED)
def assess_incident(request: ApiRequest, incident_id: int, body: AssessIn) -> HttpResponse:
    """Impact by urgency; a worse severity starts its own matrix."""
    who, impact, urgency = request.auth.who, Grade(body.impact), Grade(body.urgency)
    return _act(request, incident_id, lambda: lifecycle.assess(incident_id, who, impact, urgency, body.reason),
                "incident.assess")  # fmt: skip


@router.post(f"{ONE}/phase", summary="Go to another phase", **CHANGED)
def move_incident(request: ApiRequest, incident_id: int, body: PhaseIn) -> HttpResponse:
    """One of the five of the response procedure."""
    who = request.auth.who
    return _act(request, incident_id, lambda: lifecycle.move_to(incident_id, who, Phase(body.phase)), "incident.phase")


@router.post(f"{ONE}/escalation", summary="Page the next level now", **CHANGED)
def escalate_incident(request: ApiRequest, incident_id: int, body: LevelIn) -> HttpResponse:
    """Without waiting for its time."""
    who = request.auth.who
    return _act(request, incident_id, lambda: hand.escalate_now(incident_id, who, body.level), "incident.escalate")


@router.post(f"{ONE}/skipped-levels", summary="Leave a level out", **CHANGED)
def skip_level(request: ApiRequest, incident_id: int, body: SkipIn) -> HttpResponse:
    """One that is still pending."""
    who = request.auth.who
    return _act(request, incident_id, lambda: hand.skip(incident_id, who, body.level, body.reason), "incident.skip")


@router.post(f"{ONE}/repeated-levels", summary="Page a level once more", **CHANGED)
def repeat_level(request: ApiRequest, incident_id: int, body: RepeatIn) -> HttpResponse:
    """One that was paged already."""
    who = request.auth.who
    return _act(request, incident_id, lambda: hand.repeat(incident_id, who, body.level), "incident.repeat")


@router.post(f"{ONE}/hand-over", summary="Make somebody else the commander", **CHANGED)
def hand_over_incident(request: ApiRequest, incident_id: int, body: HandOverIn) -> HttpResponse:
    """They are paged at once, by every channel they have."""
    who = request.auth.who
    return _act(request, incident_id, lambda: hand.hand_over(incident_id, who, _person(body.person), body.reason),
                "incident.hand_over")  # fmt: skip


@router.post(f"{ONE}/roles", summary="Give a role", **CHANGED)
def give_incident_role(request: ApiRequest, incident_id: int, body: RoleIn) -> HttpResponse:
    """Commander, communications or scribe."""
    who = request.auth.who
    return _act(
        request, incident_id,
        lambda: lifecycle.give_role(incident_id, who, body.role, _person(body.person) if body.person else None),
        "incident.role",
    )  # fmt: skip


def _person(username: str) -> Person:
    person = Person.objects.filter(username__iexact=username, is_active=True).first()
    if person is None:
        raise Invalid(f"There is nobody active called {username}.")
    return person
