"""Schedules of on-call and their layers for programs: as they are, as they would be, and their changes.

The same functions as the pages call: nothing becomes a schedule that was not previewed.
"""

from datetime import date, datetime, time
from typing import Annotated, Any, Literal

from django.http import HttpResponse
from ninja import Router
from pydantic import BaseModel, Field, StringConstraints

from backups.asking import refused
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.api import ACTING, Digest
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.web.bodies import Body, Slug
from controlplane.web.problems import problems
from incidents.models import Override, Schedule
from incidents.oncall import layers
from incidents.oncall.access import load_schedule, may_add
from incidents.oncall.calendar import preview_of
from incidents.oncall.layer_forms import LAYERS_AT_MOST, PEOPLE_AT_MOST, LayerForm, ScheduleForm
from incidents.oncall.layers import WEEKDAYS, Plan
from incidents.oncall.problems import AHEAD, Problem
from incidents.oncall.problems import problems as problems_of
from incidents.oncall.rotation import LayerRule, Rota, Shift
from incidents.oncall_api import AT_MOST, ONE, Day, OverrideOut, ShortReason, Username, override_out

router = Router(tags=["incidents"])

UnitIs = Literal["hour", "day", "week"]
DayIs = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ProblemKind = Literal["gap", "inactive", "unknown", "unreachable"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
Zone = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[^\x00]*$")]
Clock = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$")]
Every = Annotated[int, Field(ge=1, le=1000)]


class LayerFields(Body):
    """People who take turns of `every` units from starts_on, handing over at `handover`, by the schedule's clocks.

    ends_on: its last turn ends at the hand-over of this day. days: on which a window begins; none: every day.
    from_time, until_time: the window; until before from is over midnight.
    """

    name: Name
    people: Annotated[list[Username], Field(min_length=1, max_length=PEOPLE_AT_MOST)]
    unit: UnitIs = "week"
    every: Every = 1
    starts_on: Day
    handover: Clock = "09:00"
    ends_on: Day | None = None
    days: Annotated[list[DayIs], Field(max_length=7)] = []
    from_time: Clock | None = None
    until_time: Clock | None = None


Layers = Annotated[list[LayerFields], Field(max_length=LAYERS_AT_MOST)]


class LayerOut(BaseModel):
    """A layer, in the words in which it is sent."""

    name: str
    people: list[str]
    unit: UnitIs
    every: int
    starts_on: date
    handover: str
    ends_on: date | None
    days: list[DayIs]
    from_time: str | None
    until_time: str | None


class ProblemOut(BaseModel):
    """What is wrong, and when it begins to matter."""

    kind: ProblemKind
    words: str
    at: datetime
    person: str


class OneScheduleOut(BaseModel):
    """layers: the ground first. overrides: that hold, will, or wait, at most 100. problems: in the next week."""

    schedule: str
    name: str
    time_zone: str
    layers: list[LayerOut]
    overrides: list[OverrideOut]
    problems: list[ProblemOut]


class ScheduleFields(Body):
    """A schedule as it is to be. layers: all of them, the ground first; they replace those that there are."""

    name: Name
    time_zone: Zone
    layers: Layers


class ScheduleIn(ScheduleFields):
    """schedule: its short name, which the matrix names it by."""

    schedule: Slug
    reason: ShortReason


class ScheduleChangesIn(ScheduleFields):
    """digest: of the preview that was looked at; nothing else becomes the schedule."""

    digest: Digest
    reason: ShortReason


class PlannedShiftOut(BaseModel):
    """A shift of the preview. person: "" in a gap."""

    person: str
    starts_at: datetime
    ends_at: datetime


class PreviewOut(BaseModel):
    """The next four weeks, and what would be wrong in them. digest: send it to make the schedule so."""

    digest: str
    shifts: list[PlannedShiftOut]
    problems: list[ProblemOut]


def layer_out(rule: LayerRule) -> LayerOut:
    """A layer as programs see it."""
    unit: Any = rule.unit
    days: Any = [WEEKDAYS[day] for day in sorted(rule.days)]
    return LayerOut(
        name=rule.name, people=list(rule.people), unit=unit, every=rule.every, starts_on=rule.starts_on,
        handover=_clock(rule.handover), ends_on=rule.ends_on, days=days,
        from_time=_clock(rule.from_time) if rule.from_time else None,
        until_time=_clock(rule.until_time) if rule.until_time else None,
    )  # fmt: skip


def _clock(at: time) -> str:
    return at.isoformat() if at.second or at.microsecond else f"{at:%H:%M}"


def _problem_out(one: Problem) -> ProblemOut:
    kind: Any = one.kind
    return ProblemOut(kind=kind, words=one.words, at=one.at, person=one.person)


def schedule_out(schedule: Schedule) -> OneScheduleOut:
    """A schedule as programs see it."""
    now, plan = database_time(), layers.stored(schedule)
    above = Override.objects.filter(schedule=schedule, cancelled_at=None, ends_at__gt=now)[:AT_MOST]
    return OneScheduleOut(
        schedule=schedule.slug, name=plan.name, time_zone=plan.time_zone,
        layers=[layer_out(one) for one in plan.layers], overrides=[override_out(one) for one in above],
        problems=[_problem_out(one) for one in problems_of(schedule, now, now + AHEAD)],
    )  # fmt: skip


@router.get(ONE, response={200: OneScheduleOut, **problems(404)}, summary="One schedule")
def schedule_of_turns(request: ApiRequest, schedule: Slug) -> OneScheduleOut:
    """Its layers, what stands above them, and what is wrong. /on-call lists all, with their shifts."""
    return schedule_out(load_schedule(request.auth, schedule))


@router.post(
    "/schedules", response={201: OneScheduleOut, **ACTING}, openapi_extra=DESCRIPTION, summary="Add a schedule"
)
def add_schedule(request: ApiRequest, body: ScheduleIn) -> HttpResponse:
    """By an administrator. Nobody is paged by it until the matrix names it."""
    actor = request.auth
    may_add(actor, "a schedule")
    plan = _plan(body)
    return answer_once(request, lambda: schedule_out(layers.create(actor, body.schedule, plan, reason=body.reason)),
                       action="oncall.add", target=f"schedule {body.schedule}", status=201)  # fmt: skip


@router.post(f"{ONE}/preview", response={200: PreviewOut, **ACTING}, summary="How a schedule would be")
def preview_schedule(request: ApiRequest, schedule: Slug, body: ScheduleFields) -> PreviewOut:
    """Changes nothing."""
    found = load_schedule(request.auth, schedule, Role.ADMIN)
    plan = _plan(body)
    preview = preview_of(found, plan.name, Rota(plan.time_zone, plan.layers), database_time())
    return PreviewOut(
        digest=layers.digest_of(layers.stored(found), plan), shifts=[_shift_out(one.shift) for one in preview.lines],
        problems=[_problem_out(one) for one in preview.problems],
    )  # fmt: skip


def _shift_out(shift: Shift) -> PlannedShiftOut:
    return PlannedShiftOut(person=shift.person, starts_at=shift.starts_at, ends_at=shift.ends_at)


@router.post(
    f"{ONE}/changes", response={200: OneScheduleOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Add, change, reorder or end layers",
)  # fmt: skip
def change_schedule(request: ApiRequest, schedule: Slug, body: ScheduleChangesIn) -> HttpResponse:
    """As it was previewed; 409 when that is not what would be changed now. By an administrator."""
    actor, found, plan = request.auth, load_schedule(request.auth, schedule, Role.ADMIN), _plan(body)

    def effect() -> OneScheduleOut:
        layers.change(actor, found, plan, shown=body.digest, reason=body.reason)
        return schedule_out(load_schedule(actor, schedule))

    return answer_once(request, effect, action="oncall.change", target=f"schedule {schedule}")


def _plan(body: ScheduleFields) -> Plan:
    """Checked by the forms of the page. Raises ValidationError, naming fields."""
    form = ScheduleForm({"name": body.name, "time_zone": body.time_zone})
    if not form.is_valid():
        raise refused(form, "body", "body")
    rules = tuple(_rule(one, number) for number, one in enumerate(body.layers))
    return Plan(form.cleaned_data["name"], form.cleaned_data["time_zone"], rules)


def _rule(layer: LayerFields, number: int) -> LayerRule:
    days = [str(WEEKDAYS.index(day)) for day in layer.days]
    form = LayerForm({**layer.model_dump(), "people": ", ".join(layer.people), "days": days})
    if not form.is_valid():
        raise refused(form, "body", "body", "layers", str(number))
    return form.rule()
