"""The page of one schedule: a month, its layers, what stands above them, and who is away."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from controlplane.accounts.models import Person
from incidents.models import Absence, EscalationLevel, Override, Schedule
from incidents.oncall.overview import (
    BACK,
    FORTH,
    WEEKS,
    Question,
    Standing,
    people_in,
    standing,
    swap_words,
)
from incidents.oncall.problems import AHEAD, Problem, problems_of
from incidents.oncall.rotation import Rota, Shift, day_of, midnight, shifts
from incidents.oncall.rows import rotas, with_layers
from incidents.oncall.strip import WEEK, Line, Names, Week, lines, local, monday_of, weeks_from

SHOWN_AT_MOST = 25
SWAPPED_AT_MOST = 50


@dataclass(frozen=True)
class Above:
    """An override as the page shows it."""

    override: Override
    name: str
    starts: str
    ends: str
    is_mine: bool


@dataclass(frozen=True)
class Month:
    """A month of the calendar, in whole weeks."""

    title: str
    before: str
    after: str
    weeks: list[Week]
    lines: list[Line]


@dataclass(frozen=True)
class CalendarPage:
    """Everything the page shows."""

    standing: Standing
    names: Names
    month: Month
    above: list[Above]
    waiting: list[Question]
    absences: list[Absence]
    to_come: list[Shift]
    levels: list[EscalationLevel]


def first_of(text: str, today: date) -> date:
    """The month of an address, as in 2026-12; this one when it is none."""
    try:
        asked = date.fromisoformat(f"{text}-01")
    except ValueError:
        return today.replace(day=1)
    return asked if 2000 <= asked.year <= 2100 else today.replace(day=1)


def month_after(first: date) -> date:
    """The first day of the next month."""
    return (first + timedelta(days=31)).replace(day=1)


def month_of(rota: Rota, first: date, names: Names, now: datetime) -> Month:
    """A month, with each layer below what holds in the end."""
    last = month_after(first)
    monday = monday_of(first)
    count = -(-(last - monday).days // 7)
    zone = rota.time_zone
    drawn = shifts(rota, midnight(zone, first), midnight(zone, last))
    before = (first - timedelta(days=1)).replace(day=1)
    return Month(
        f"{first:%B %Y}", f"{before:%Y-%m}", f"{last:%Y-%m}",
        weeks_from(rota, monday, count, names, now, month=first.month, with_layers=True),
        lines(zone, drawn, names, now),
    )  # fmt: skip


def page_of(schedule: Schedule, reader: Person, month: str, now: datetime) -> CalendarPage:
    """The page, in a fixed number of queries. month: of the address."""
    first = first_of(month, day_of(schedule.time_zone, now))
    since = min(now - BACK, midnight(schedule.time_zone, first) - WEEK)
    until = max(now + FORTH, midnight(schedule.time_zone, month_after(first)) + WEEK)
    rota = rotas([schedule], since, until)[schedule.slug]
    from_then = max(now, midnight(schedule.time_zone, first))
    rows = list(Override.objects.filter(schedule=schedule, cancelled_at=None, ends_at__gt=from_then)[:SHOWN_AT_MOST])
    more = [name for one in rows for name in (one.person, one.awaiting) if name]
    facts, names = people_in({schedule.slug: rota}, *more)
    wrong = problems_of({schedule.slug: rota}, now, now + AHEAD, facts)[schedule.slug]
    members = {name for layer in rota.layers for name in layer.people}
    away = Absence.objects.filter(ends_on__gte=now.date() - timedelta(days=1)).select_related("person")
    return CalendarPage(
        standing(schedule, rota, names, wrong, now), names, month_of(rota, first, names, now),
        [_above(one, names, schedule.time_zone, reader) for one in rows if not one.awaiting],
        _waiting(schedule, rows, names),
        list(away.filter(person__username__in=[*members, reader.username])[:SHOWN_AT_MOST]),
        _whole(shifts(rota, now - BACK, now + FORTH), now)[:SWAPPED_AT_MOST],
        list(EscalationLevel.objects.filter(targets__contains=[{"schedule": schedule.slug}]).select_related("policy")),
    )  # fmt: skip


def _whole(found: list[Shift], now: datetime) -> list[Shift]:
    """Shifts that have not begun and whose end is in sight: those that can be exchanged."""
    return [one for one in found if not one.is_gap and one.starts_at > now and one.ends_at < now + FORTH]


def _above(one: Override, names: Names, zone: str, reader: Person) -> Above:
    return Above(one, names.title(one.person), local(zone, one.starts_at), local(zone, one.ends_at),
                 one.person == reader.username)  # fmt: skip


def _waiting(schedule: Schedule, rows: list[Override], names: Names) -> list[Question]:
    numbers = dict.fromkeys(one.swap or 0 for one in rows if one.awaiting)
    found = []
    for number in numbers:
        halves = [one for one in rows if one.swap == number]
        asked = f"waits for {names.title(halves[0].awaiting)}"
        words = f"{swap_words(schedule.time_zone, halves, names)} ({asked})"
        found.append(Question(schedule, number, halves[0].author_name, halves[0].reason, words))
    return found


@dataclass(frozen=True)
class Preview:
    """How the next four weeks would be."""

    weeks: list[Week]
    lines: list[Line]
    problems: list[Problem]


def preview_of(schedule: Schedule, name: str, rota: Rota, now: datetime) -> Preview:
    """Four weeks of a rota that is only proposed, with what would be wrong with it. name: of the schedule then."""
    proposed = with_layers(schedule, rota, now - BACK, now + FORTH)
    facts, names = people_in({name: proposed})
    until = now + WEEKS * WEEK
    return Preview(
        weeks_from(proposed, monday_of(day_of(proposed.time_zone, now)), WEEKS, names, now, with_layers=True),
        lines(proposed.time_zone, shifts(proposed, now, until), names, now),
        problems_of({schedule.slug: proposed}, now, until, facts)[schedule.slug],
    )  # fmt: skip
