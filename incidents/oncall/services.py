"""What people change about who is on call: stand in, swap, be away. Each is one transaction, with its audit entry."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import transaction
from django.db.models import Max

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Person, Role
from controlplane.audit.record import record
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid, Refused
from controlplane.operations.transitions import said
from incidents.models import Absence, Override, Schedule
from incidents.oncall.rotation import shifts
from incidents.oncall.rows import rota_of

LONGEST = timedelta(days=366)
REASON_LIMIT = 300
WHY = "Say why: the others read it beside the name, and it is kept for good."


@dataclass(frozen=True)
class Span:
    """A time of one person: what an override gives, and what a swap exchanges."""

    person: Person
    starts_at: datetime
    ends_at: datetime

    def __str__(self) -> str:
        return f"{self.person.title_name} {self.starts_at:%Y-%m-%d %H:%M} to {self.ends_at:%Y-%m-%d %H:%M %Z}"


def active_person(username: str) -> Person:
    """Somebody who can be on call. Raises Invalid."""
    person = Person.objects.filter(username__iexact=username.strip(), is_active=True).first()
    if person is None:
        raise Invalid(f"There is nobody active called {username.strip() or '(nothing)'}.")
    return person


def short_reason(words: str) -> str:
    """Why, in at most 300 characters. Raises Invalid."""
    words = said(words, WHY)
    if len(words) > REASON_LIMIT:
        raise Invalid(f"Say why in at most {REASON_LIMIT} characters; these are {len(words)}.")
    return words


def check_span(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    """Raises Invalid for a time that no override can have."""
    if ends_at <= starts_at:
        raise Invalid("It has to end after it begins.")
    if ends_at <= now:
        raise Invalid("This time is over; who was on call then cannot be changed any more.")
    if ends_at - starts_at > LONGEST or starts_at - now > 3 * LONGEST:
        raise Invalid("That is too long or too far ahead; at most a year, and within three years.")


def add_override(actor: Actor, schedule: Schedule, span: Span, reason: str) -> Override:
    """Put somebody on call for a time, above all turns; at once, if it has begun. Operators only. Raises Invalid."""
    require(actor, Role.OPERATOR, [], f"put somebody on call in {schedule.slug}")
    reason = short_reason(reason)
    now = database_time()
    check_span(span.starts_at, span.ends_at, now)
    if not span.person.is_active:
        raise Invalid(f"{span.person.title_name} is not active any more; choose somebody else.")
    with transaction.atomic():
        made = Override.objects.create(
            schedule=schedule, person=span.person.username, starts_at=max(span.starts_at, now),
            ends_at=span.ends_at, reason=reason, author_name=actor.who.name,
        )  # fmt: skip
        record_change(actor, "oncall.override_added", schedule, reason, {"override": made.pk, "what": str(span)})
    return made


def cancel_override(actor: Actor, schedule: Schedule, pk: int, reason: str) -> None:
    """Take an override back, or both halves of a swap; what has run already stays as it was.

    Operators, or the person whom it puts on call. Raises Invalid, Conflict when it is over.
    """
    reason = short_reason(reason)
    with transaction.atomic():
        one = Override.objects.select_for_update().filter(schedule=schedule, pk=pk).first()
        if one is None or one.cancelled_at is not None:
            raise Conflict("It is not there any more: somebody was first.")
        rows = Override.objects.filter(schedule=schedule, cancelled_at=None)
        rows = rows.filter(swap=one.swap) if one.swap else rows.filter(pk=one.pk)
        halves = list(rows.select_for_update().order_by("pk"))
        if actor.person.username not in {half.person for half in halves} and not actor.may(Role.OPERATOR, []):
            raise Refused("Only the people it is about, or an operator, can take it back.")
        now = database_time()
        if sum(end_now(half, now) for half in halves) == 0:
            raise Conflict("It is over already; who was on call then cannot be changed any more.")
        what = [
            f"{half.person} {half.starts_at:%Y-%m-%d %H:%M} to {half.ends_at:%Y-%m-%d %H:%M} UTC" for half in halves
        ]
        record_change(actor, "oncall.override_cancelled", schedule, reason, {"override": pk, "what": what})


def end_now(half: Override, now: datetime) -> bool:
    """Let it end now if it runs, take it away if it has not begun; whether there was anything to end."""
    if half.ends_at <= now:
        return False
    change = {"cancelled_at": now} if half.starts_at >= now or half.awaiting else {"ends_at": now}
    Override.objects.filter(pk=half.pk).update(**change)
    return True


# --- Swaps --------------------------------------------------------------------------------------------


def ask_to_swap(actor: Actor, schedule: Schedule, mine: Span, theirs: Span, reason: str) -> int:
    """Propose to exchange two times; nothing changes until the other says yes. Returns the number of the swap.

    mine: of the one who asks; an operator may ask for somebody else, and then the one who did not ask is asked.
    Raises Invalid, Conflict.
    """
    if mine.person != actor.person:
        require(actor, Role.OPERATOR, [], f"swap for {mine.person} in {schedule.slug}")
    reason = short_reason(reason)
    asked = mine.person if theirs.person == actor.person else theirs.person
    if mine.person == theirs.person:
        raise Invalid("A swap needs two people: choose a time of somebody else.")
    with transaction.atomic():
        Schedule.objects.select_for_update().get(pk=schedule.pk)
        now = database_time()
        for span in (mine, theirs):
            _must_hold(schedule, span, now)
        number = (Override.objects.filter(schedule=schedule).aggregate(last=Max("swap"))["last"] or 0) + 1
        for taker, span in ((theirs.person, mine), (mine.person, theirs)):
            Override.objects.create(
                schedule=schedule, kind=Override.Kind.SWAP, person=taker.username, starts_at=span.starts_at,
                ends_at=span.ends_at, reason=reason, swap=number, awaiting=asked.username,
                author_name=actor.who.name,
            )  # fmt: skip
        data = {"swap": number, "gives": str(mine), "for": str(theirs)}
        record_change(actor, "oncall.swap_asked", schedule, reason, data)
    return number


def agree_to_swap(actor: Actor, schedule: Schedule, number: int) -> None:
    """Say yes: the person who was asked, or an operator who did not ask. Raises Refused, Conflict."""
    with transaction.atomic():
        Schedule.objects.select_for_update().get(pk=schedule.pk)
        halves = _waiting(schedule, number)
        asked, author = halves[0].awaiting, halves[0].author_name
        if actor.person.username != asked:
            if not actor.may(Role.OPERATOR, []):
                raise Refused(f"Only {asked}, or an operator, can say yes to this swap.")
            if actor.who.name == author:
                raise Refused(f"You asked for it yourself: {asked} or another operator has to say yes.")
        people = {half.person: active_person(half.person) for half in halves}
        now = database_time()
        first, second = halves
        for half, holder in ((first, people[second.person]), (second, people[first.person])):
            _must_hold(schedule, Span(holder, half.starts_at, half.ends_at), now)
        Override.objects.filter(pk__in=[half.pk for half in halves]).update(awaiting="")
        record_change(actor, "oncall.swapped", schedule, first.reason, {"swap": number})


def decline_swap(actor: Actor, schedule: Schedule, number: int, reason: str) -> None:
    """Say no, or take the question back: anybody it is about, or an operator. Raises Refused, Conflict."""
    reason = short_reason(reason)
    with transaction.atomic():
        halves = _waiting(schedule, number)
        if actor.person.username not in {half.person for half in halves} and not actor.may(Role.OPERATOR, []):
            raise Refused("Only the people it is about, or an operator, can say no to this swap.")
        Override.objects.filter(pk__in=[half.pk for half in halves]).update(cancelled_at=database_time())
        record_change(actor, "oncall.swap_declined", schedule, reason, {"swap": number})


def _waiting(schedule: Schedule, number: int) -> list[Override]:
    rows = Override.objects.select_for_update().filter(schedule=schedule, swap=number, cancelled_at=None)
    halves = list(rows.exclude(awaiting="").order_by("pk"))
    if len(halves) != 2:
        raise Conflict("This swap waits for nobody any more: somebody was first.")
    return halves


def _must_hold(schedule: Schedule, span: Span, now: datetime) -> None:
    """Raises Conflict unless the person is on call for the whole of the span, and it is still to come."""
    check_span(span.starts_at, span.ends_at, now)
    if span.starts_at <= now:
        raise Conflict(f"{span} has begun already: what runs cannot be swapped, somebody can stand in.")
    rota = rota_of(schedule.slug, span.starts_at, span.ends_at)
    found = shifts(rota, span.starts_at, span.ends_at) if rota else []
    if {one.person for one in found} != {span.person.username}:
        raise Conflict(f"{span} is not as it was any more: look at the calendar again.")


# --- Absences -----------------------------------------------------------------------------------------


def add_absence(actor: Actor, person: Person, first: date, last: date, reason: str) -> Absence:
    """Somebody is away, on all schedules; for others than oneself operators only. Raises Invalid."""
    _own_or_operator(actor, person)
    reason = short_reason(reason)[:200]
    if last < first:
        raise Invalid("The last day is before the first.")
    if last - first > LONGEST or not 2000 <= first.year <= 2100:
        raise Invalid("That is too long; enter at most a year at a time.")
    with transaction.atomic():
        made = Absence.objects.create(person=person, starts_on=first, ends_on=last, reason=reason)
        data = {"absence": made.pk, "from": f"{first}", "until": f"{last}"}
        _recorded(actor, "oncall.absence_added", f"absence of {person.title_name}", reason, data)
    return made


def remove_absence(actor: Actor, pk: int, reason: str) -> None:
    """Somebody is there after all. Raises Conflict when it is not there any more."""
    reason = short_reason(reason)
    absence = Absence.objects.filter(pk=pk).select_related("person").first()
    if absence is None:
        raise Conflict("It is not there any more: somebody was first.")
    _own_or_operator(actor, absence.person)
    with transaction.atomic():
        if not Absence.objects.filter(pk=pk).delete()[0]:
            raise Conflict("It is not there any more: somebody was first.")
        data = {"from": f"{absence.starts_on}", "until": f"{absence.ends_on}"}
        _recorded(actor, "oncall.absence_removed", f"absence of {absence.person.title_name}", reason, data)


def _own_or_operator(actor: Actor, person: Person) -> None:
    if actor.person != person:
        require(actor, Role.OPERATOR, [], f"enter an absence of {person.title_name}")


def record_change(actor: Actor, action: str, schedule: Schedule, reason: str, data: Mapping[str, object]) -> None:
    """The audit entry of a change, and the ring; in the transaction of what it tells of."""
    _recorded(actor, action, f"schedule {schedule.slug}", reason, data)


def _recorded(actor: Actor, action: str, target: str, reason: str, data: Mapping[str, object]) -> None:
    transaction.on_commit(lambda: ring("news", "incidents"))
    record(actor.who, action, target, reason=reason, data=data)
