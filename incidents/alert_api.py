"""Alerts, silences, who is on call and the runbook for programs: the same functions as the pages call."""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import Http404, HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field, StringConstraints

from controlplane.accounts.access import require
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.api import ACTING, LARGEST
from controlplane.operations.errors import Invalid
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.keyset import page_of
from controlplane.web.bodies import Body, Reason, Slug
from controlplane.web.moments import Moment
from controlplane.web.problems import problems
from controlplane.web.queries import Number, Parameters
from environments.models import Environment
from incidents import silences
from incidents.access import load_alert, load_silence, visible_alerts, visible_silences
from incidents.api import NothingIn
from incidents.intake import hands
from incidents.intake.matchers import BadMatchers, parse, spell
from incidents.models import Alert, RunbookRun, Schedule, Silence
from incidents.oncall import access as oncall_access
from incidents.oncall.now import next_shifts
from incidents.runbook import services as runbook
from incidents.runbook.access import load_task, require_any_role

router = Router(tags=["incidents"])

AT_MOST = 100
SHIFTS_AT_MOST = 10
AlertState = Literal["firing", "resolved"]
AlertSeverityIs = Literal["critical", "warning", "info"]
SilenceKind = Literal["silence", "maintenance"]
RunState = Literal["open", "done", "missed", "late"]
Matchers = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Line = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
RunNumber = Annotated[int, Field(ge=1, le=LARGEST)]


class AlertQuery(Parameters):
    """Which alerts; "" leaves a filter out."""

    state: Literal["", "firing", "resolved"] = ""
    severity: Literal["", "critical", "warning", "info"] = ""
    before: Number = 0


class AlertOut(BaseModel):
    """One thing that is or was wrong, however often it was said. note: what a person knows of it."""

    id: int
    source: str
    name: str
    severity: AlertSeverityIs
    state: AlertState
    environment: str
    summary: str
    labels: dict[str, Any]
    started_at: datetime
    last_at: datetime
    ended_at: datetime | None
    count: int
    incident: int | None
    silence: int | None
    note: str


class NoteIn(Body):
    note: Line


class SilenceOut(BaseModel):
    """Alerts that match tell nobody meanwhile. matchers: as one writes them."""

    id: int
    kind: SilenceKind
    matchers: str
    environment: str
    starts_at: datetime
    ends_at: datetime
    reason: str
    author: str


class SilenceIn(Body):
    """matchers: alertname="HighErrorRate", service=~"api.*". environment "": all. starts_at null: now."""

    matchers: Matchers = ""
    environment: Annotated[str, StringConstraints(max_length=60, pattern=r"^[A-Za-z0-9_-]*$")] = ""
    kind: SilenceKind = "silence"
    starts_at: Moment | None = None
    ends_at: Moment
    reason: Reason


class ShiftOut(BaseModel):
    """Who is on call from when to when; person "": a gap."""

    person: str
    starts_at: datetime
    ends_at: datetime


class ScheduleOut(BaseModel):
    """A rotation: the shift that runs comes first."""

    schedule: str
    name: str
    time_zone: str
    shifts: list[ShiftOut]


class RunOut(BaseModel):
    """One time that a task of the runbook is to be done."""

    id: int
    task: str
    title: str
    state: RunState
    due_at: datetime
    owner: str
    done_by: str
    evidence: str


class TickIn(Body):
    """run: the number of the run. evidence: what shows that it was done."""

    run: RunNumber
    evidence: Reason


def alert_out(alert: Alert) -> AlertOut:
    """An alert as programs see it."""
    same = ("name", "severity", "state", "summary", "labels", "started_at", "last_at", "ended_at", "count", "note")
    return AlertOut(
        **{name: getattr(alert, name) for name in same},
        id=alert.pk, source=alert.source.slug, environment=alert.environment.slug if alert.environment else "",
        incident=alert.incident_id, silence=alert.silence_id,
    )  # fmt: skip


def silence_out(silence: Silence) -> SilenceOut:
    """A silence as programs see it."""
    kind: Any = silence.kind
    return SilenceOut(
        id=silence.pk, kind=kind, matchers=spell(silence.matchers), starts_at=silence.starts_at,
        environment=silence.environment.slug if silence.environment else "", ends_at=silence.ends_at,
        reason=silence.reason, author=silence.author_name,
    )  # fmt: skip


def run_out(run: RunbookRun) -> RunOut:
    """A run as programs see it."""
    state: Any = run.state
    return RunOut(
        id=run.pk, task=run.task.slug, title=run.task.title, state=state, due_at=run.due_at, owner=run.owner_name,
        done_by=run.done_by_name, evidence=run.evidence,
    )  # fmt: skip


# --- alerts -------------------------------------------------------------------------------------------


@router.get("/alerts", response={200: list[AlertOut], **problems(422)}, summary="Alerts, the newest first")
def alerts(request: ApiRequest, wanted: Annotated[AlertQuery, Query()]) -> list[AlertOut]:
    """The newest 100 that fit, with a number below `before`; ask again with the last number for more."""
    chosen = {name: value for name, value in wanted.model_dump(exclude={"before"}).items() if value}
    return [alert_out(one) for one in page_of(visible_alerts(request.auth).filter(**chosen), wanted.before,
                                              size=AT_MOST).rows]  # fmt: skip


@router.get("/alerts/{int:alert_id}", response={200: AlertOut, **problems(403, 404)}, summary="One alert")
def alert(request: ApiRequest, alert_id: int) -> AlertOut:
    """What it says, how often it was said, which incident has it."""
    return alert_out(load_alert(request.auth, alert_id))


@router.post(
    "/alerts/{int:alert_id}/note", response={200: AlertOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Write down what one knows of it",
)  # fmt: skip
def note_alert(request: ApiRequest, alert_id: int, body: NoteIn) -> HttpResponse:
    """No later firing touches it; "" takes it back."""
    actor, found = request.auth, load_alert(request.auth, alert_id, Role.OPERATOR)

    def effect() -> AlertOut:
        hands.write_note(actor, found, body.note)
        return alert_out(load_alert(actor, alert_id))

    scopes = [found.environment.slug] if found.environment else []
    return answer_once(request, effect, action="alert.note", target=f"alert {alert_id}", scopes=scopes)


# --- silences -----------------------------------------------------------------------------------------


@router.get("/silences", response={200: list[SilenceOut], **problems()}, summary="Silences that hold or will")
def silences_that_hold(request: ApiRequest) -> list[SilenceOut]:
    """Also maintenance windows; at most 100, the first to end first."""
    rows = visible_silences(request.auth).filter(ends_at__gt=database_time()).order_by("ends_at", "pk")[:AT_MOST]
    return [silence_out(one) for one in rows]


@router.post("/silences", response={201: SilenceOut, **ACTING}, openapi_extra=DESCRIPTION, summary="Silence alerts")
def silence_alerts(request: ApiRequest, body: SilenceIn) -> HttpResponse:
    """They are kept, and open nothing meanwhile."""
    actor, scopes = request.auth, [body.environment] if body.environment else []
    require(actor, Role.OPERATOR, scopes, "silence alerts")
    environment = Environment.objects.filter(slug=body.environment).first()
    if body.environment and environment is None:
        raise Http404

    def effect() -> SilenceOut:
        try:
            matchers = parse(body.matchers)
        except BadMatchers as error:
            raise Invalid(str(error)) from error
        return silence_out(silences.add(
            actor, matchers=matchers, environment=environment, kind=Silence.Kind(body.kind), reason=body.reason,
            starts_at=body.starts_at, ends_at=body.ends_at,
        ))  # fmt: skip

    return answer_once(request, effect, action="silence.add", target="silences", scopes=scopes, status=201)


@router.post(
    "/silences/{int:silence_id}/end", response={200: SilenceOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="End a silence before its time",
)  # fmt: skip
def end_silence(request: ApiRequest, silence_id: int, body: NothingIn) -> HttpResponse:
    """What still fires is taken up at once."""
    actor, found = request.auth, load_silence(request.auth, silence_id, Role.OPERATOR)

    def effect() -> SilenceOut:
        silences.end(actor, found)
        return silence_out(load_silence(actor, silence_id))

    scopes = [found.environment.slug] if found.environment else []
    return answer_once(request, effect, action="silence.end", target=f"silence {silence_id}", scopes=scopes)


# --- on call, runbook ---------------------------------------------------------------------------------


@router.get("/on-call", response={200: list[ScheduleOut], **problems(403)}, summary="Who is on call, and who is next")
def who_is_on_call(request: ApiRequest) -> list[ScheduleOut]:
    """Each schedule with its next ten shifts, gaps too."""
    oncall_access.look(request.auth, "look who is on call")
    now = database_time()
    return [_schedule_out(one, now) for one in Schedule.objects.all()[:AT_MOST]]


def _schedule_out(schedule: Schedule, now: datetime) -> ScheduleOut:
    found = next_shifts(schedule.slug, now)[:SHIFTS_AT_MOST]
    return ScheduleOut(
        schedule=schedule.slug, name=schedule.name, time_zone=schedule.time_zone,
        shifts=[ShiftOut(person=one.person, starts_at=one.starts_at, ends_at=one.ends_at) for one in found],
    )  # fmt: skip


@router.get(
    "/runbook", response={200: list[RunOut], **problems(403)}, summary="What is to be done, and what was missed"
)
def what_is_to_be_done(request: ApiRequest) -> list[RunOut]:
    """At most 100, the first to be due first."""
    require_any_role(request.auth, "look at the runbook")
    waiting = RunbookRun.objects.filter(state__in=[RunbookRun.State.OPEN, RunbookRun.State.MISSED])
    return [run_out(one) for one in waiting.select_related("task").order_by("due_at", "pk")[:AT_MOST]]


@router.post(
    "/runbook/{slug:task}/ticks", response={200: RunOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Say that a task was done",
)  # fmt: skip
def tick_task(request: ApiRequest, task: Slug, body: TickIn) -> HttpResponse:
    """With the evidence; one that was missed is done late."""
    actor, found = request.auth, load_task(request.auth, task, Role.OPERATOR)
    return answer_once(request, lambda: run_out(runbook.tick(actor, found, body.run, body.evidence)),
                       action="runbook.tick", target=f"runbook {task}")  # fmt: skip
