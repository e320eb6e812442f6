"""Standing in, swapping and being away for programs. The same functions as the pages call."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Router
from pydantic import BaseModel, Field, StringConstraints

from controlplane.accounts.access import Actor, require
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.api import ACTING
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.web.bodies import Body, Slug
from controlplane.web.moments import Moment
from controlplane.web.problems import problems
from incidents.api import NothingIn
from incidents.models import Absence, Override, Schedule
from incidents.oncall import services
from incidents.oncall.access import load_schedule, look
from incidents.oncall.services import REASON_LIMIT, Span, active_person

router = Router(tags=["incidents"])

AT_MOST = 100
ONE = "/schedules/{slug:schedule}"
Username = Annotated[str, StringConstraints(min_length=1, max_length=150, pattern=r"^[^\x00,]*$")]
ShortReason = Annotated[str, StringConstraints(min_length=1, max_length=REASON_LIMIT, pattern=r"^[^\x00]*$")]
AwayReason = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Day = Annotated[date, Field(strict=False)]


class OverrideOut(BaseModel):
    """Somebody stands in. swap: the number, of a half of one. awaiting: whose yes a swap waits for; "": it holds."""

    id: int
    person: str
    starts_at: datetime
    ends_at: datetime
    reason: str
    author: str
    swap: int | None
    awaiting: str
    cancelled_at: datetime | None


class SpanIn(Body):
    """A time of somebody."""

    person: Username
    starts_at: Moment
    ends_at: Moment


class OverrideIn(SpanIn):
    reason: ShortReason


class SwapIn(Body):
    """gives, takes: whole times of two people, as they are on call now."""

    gives: SpanIn
    takes: SpanIn
    reason: ShortReason


class SwapOut(BaseModel):
    """A swap, as who takes what. awaiting: whose yes it waits for; "": it waits for nobody."""

    schedule: str
    swap: int
    awaiting: str
    halves: list[OverrideOut]


class ShortReasonIn(Body):
    reason: ShortReason


class AbsenceIn(Body):
    """person: a username; null: oneself. ends_on: this day included."""

    person: Username | None = None
    starts_on: Day
    ends_on: Day
    reason: AwayReason


class AbsenceOut(BaseModel):
    """Days on which somebody cannot be on call, on all schedules."""

    id: int
    person: str
    starts_on: date
    ends_on: date
    reason: str


# --- overrides and swaps ------------------------------------------------------------------------------


def override_out(one: Override) -> OverrideOut:
    """An override as programs see it."""
    return OverrideOut(
        id=one.pk, person=one.person, starts_at=one.starts_at, ends_at=one.ends_at, reason=one.reason,
        author=one.author_name, swap=one.swap, awaiting=one.awaiting, cancelled_at=one.cancelled_at,
    )  # fmt: skip


@router.post(
    f"{ONE}/overrides", response={201: OverrideOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Put somebody on call for a time",
)  # fmt: skip
def add_override(request: ApiRequest, schedule: Slug, body: OverrideIn) -> HttpResponse:
    """By an operator; above all turns, and at once if it has begun."""
    actor, found = request.auth, load_schedule(request.auth, schedule, Role.OPERATOR)
    return answer_once(
        request, lambda: override_out(services.add_override(actor, found, _span(body), body.reason)),
        action="oncall.override", target=f"schedule {schedule}", status=201,
    )  # fmt: skip


def _span(span: SpanIn) -> Span:
    return Span(active_person(span.person), span.starts_at, span.ends_at)


@router.post(
    f"{ONE}/overrides/{{int:override_id}}/end", response={200: OverrideOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Take an override, or a swap, back",
)  # fmt: skip
def end_override(request: ApiRequest, schedule: Slug, override_id: int, body: ShortReasonIn) -> HttpResponse:
    """Both halves of a swap; what has run already stays. By an operator, or whom it puts on call."""
    actor, found = request.auth, load_schedule(request.auth, schedule)
    one = get_object_or_404(Override, schedule=found, pk=override_id)

    def effect() -> OverrideOut:
        services.cancel_override(actor, found, override_id, body.reason)
        one.refresh_from_db()
        return override_out(one)

    return answer_once(request, effect, action="oncall.cancel", target=f"schedule {schedule}")


SWAPPED: dict[str, Any] = {"response": {200: SwapOut, **ACTING}, "openapi_extra": DESCRIPTION}


@router.post(
    f"{ONE}/swaps", response={201: SwapOut, **ACTING}, openapi_extra=DESCRIPTION, summary="Ask to exchange two times"
)
def ask_to_swap(request: ApiRequest, schedule: Slug, body: SwapIn) -> HttpResponse:
    """Nothing changes until the other says yes. What one gives is one's own; an operator may ask for others."""
    actor, found = request.auth, load_schedule(request.auth, schedule)
    if body.gives.person.lower() != actor.person.username.lower():
        require(actor, Role.OPERATOR, [], f"swap for {body.gives.person} in {schedule}")

    def effect() -> SwapOut:
        number = services.ask_to_swap(actor, found, _span(body.gives), _span(body.takes), body.reason)
        return _swap_out(found, number)

    return answer_once(request, effect, action="oncall.swap", target=f"schedule {schedule}", status=201)


@router.post(f"{ONE}/swaps/{{int:swap}}/agreement", summary="Say yes to a swap", **SWAPPED)
def agree_to_swap(request: ApiRequest, schedule: Slug, swap: int, body: NothingIn) -> HttpResponse:
    """By who was asked, or by an operator who did not ask."""
    actor = request.auth
    return _answer_swap(request, schedule, swap, lambda found: services.agree_to_swap(actor, found, swap))


@router.post(f"{ONE}/swaps/{{int:swap}}/refusal", summary="Say no to a swap, or take the question back", **SWAPPED)
def decline_swap(request: ApiRequest, schedule: Slug, swap: int, body: ShortReasonIn) -> HttpResponse:
    """By anybody it is about, or by an operator."""
    actor, reason = request.auth, body.reason
    return _answer_swap(request, schedule, swap, lambda found: services.decline_swap(actor, found, swap, reason))


def _answer_swap(request: ApiRequest, slug: str, swap: int, answer: Callable[[Schedule], None]) -> HttpResponse:
    found = load_schedule(request.auth, slug)
    _swap_out(found, swap)

    def effect() -> SwapOut:
        answer(found)
        return _swap_out(found, swap)

    return answer_once(request, effect, action="oncall.swap", target=f"schedule {slug}")


def _swap_out(schedule: Schedule, number: int) -> SwapOut:
    """Raises Http404 when there is no such swap."""
    halves = list(Override.objects.filter(schedule=schedule, swap=number).order_by("pk"))
    if not halves:
        raise Http404
    waits = next((one.awaiting for one in halves if one.cancelled_at is None), "")
    return SwapOut(schedule=schedule.slug, swap=number, awaiting=waits, halves=[override_out(one) for one in halves])


# --- absences -----------------------------------------------------------------------------------------


def absence_out(absence: Absence) -> AbsenceOut:
    """An absence as programs see it."""
    return AbsenceOut(
        id=absence.pk, person=absence.person.username, starts_on=absence.starts_on, ends_on=absence.ends_on,
        reason=absence.reason,
    )  # fmt: skip


@router.get("/absences", response={200: list[AbsenceOut], **problems(404)}, summary="Who is away, and will be")
def absences(request: ApiRequest) -> list[AbsenceOut]:
    """The first 100 that are not over."""
    look(request.auth, "read who is away")
    rows = Absence.objects.filter(ends_on__gte=database_time().date()).select_related("person")
    return [absence_out(one) for one in rows.order_by("starts_on", "pk")[:AT_MOST]]


@router.post("/absences", response={201: AbsenceOut, **ACTING}, openapi_extra=DESCRIPTION, summary="Be away")
def add_absence(request: ApiRequest, body: AbsenceIn) -> HttpResponse:
    """Oneself, or anybody by an operator: the layers give the turns to the next person."""
    actor = request.auth
    look(actor, "enter an absence")
    name = body.person or actor.person.username
    _own_or_operator(actor, name)

    def effect() -> AbsenceOut:
        person = active_person(name)
        return absence_out(services.add_absence(actor, person, body.starts_on, body.ends_on, body.reason))

    return answer_once(request, effect, action="oncall.absence", target=f"absence of {name}", status=201)


@router.post(
    "/absences/{int:absence_id}/removal", response={200: AbsenceOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Be there after all",
)  # fmt: skip
def remove_absence(request: ApiRequest, absence_id: int, body: ShortReasonIn) -> HttpResponse:
    """One's own, or anybody's by an operator. The answer is the absence as it was."""
    actor = request.auth
    look(actor, f"remove absence {absence_id}")
    found = Absence.objects.filter(pk=absence_id).select_related("person").first()
    if found is not None:
        _own_or_operator(actor, found.person.username)

    def effect() -> AbsenceOut:
        if found is None:
            raise Http404
        was = absence_out(found)
        services.remove_absence(actor, absence_id, body.reason)
        return was

    return answer_once(request, effect, action="oncall.absence", target=f"absence {absence_id}")


def _own_or_operator(actor: Actor, username: str) -> None:
    if username.lower() != actor.person.username.lower():
        require(actor, Role.OPERATOR, [], f"enter an absence of {username}")
