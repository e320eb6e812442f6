"""The section `schedules` of the configuration file: who takes turns, and when."""

from collections.abc import Iterator
from datetime import date, time
from functools import partial

from controlplane.accounts.models import Person
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, lines_of
from incidents.models import Layer, Schedule
from incidents.oncall.layers import NOTHING, WEEKDAYS, Plan, difference, problem_with_zone, stored, write
from incidents.oncall.rotation import LayerRule

UNITS = dict(zip(("hours", "days", "weeks"), Layer.Unit.values, strict=True))
MOST = 1000


def known_people(file: Table) -> dict[str, str]:
    """Everybody in the file and in the database: the name in small letters → as it is spelled."""
    names = [*file.document.get("people", {}), *Person.objects.values_list("username", flat=True)]
    return {name.lower(): name for name in names}


def read(file: Table) -> dict[str, Plan]:
    """The schedules by slug."""
    people = known_people(file)
    found = {}
    for slug, table in file.tables("schedules"):
        name = table.text("name", slug, limit=100)
        zone = table.checked("time_zone", problem_with_zone, "UTC")
        layers = tuple(_layer(one, people) for one in table.list_of_tables("layers"))
        table.end()
        found[slug] = Plan(name, zone, layers)
    return found


def _layer(table: Table, people: dict[str, str]) -> LayerRule:
    names = table.texts("people")
    if not names:
        table.wrong("people", 'is missing; write who takes turns, as in ["alice", "bob"].')
    for name in names:
        if name.lower() not in people:
            table.wrong("people", f"there is nobody called {name}; declare [people.{name}] in this file.")
    days = table.texts("days")
    for day in days:
        if day not in WEEKDAYS:
            table.wrong("days", f"“{day}” is no day; write: {', '.join(WEEKDAYS)}.")
    rule = LayerRule(
        name=table.text("name", limit=100),
        people=tuple(people.get(name.lower(), name) for name in names),
        unit=UNITS.get(table.choice("unit", UNITS, "weeks"), Layer.Unit.WEEK.value),
        every=table.number("every", 1, most=MOST) or 1,
        starts_on=_date(table, "starts_on") or date(2026, 1, 1),
        handover=_time(table, "handover", "09:00") or time(9),
        ends_on=_date(table, "ends_on", ""),
        days=frozenset(WEEKDAYS.index(day) for day in days if day in WEEKDAYS),
        from_time=_time(table, "from", ""),
        until_time=_time(table, "until", ""),
    )
    if rule.ends_on and rule.ends_on <= rule.starts_on:
        table.wrong("ends_on", "has to be after starts_on.")
    table.end()
    return rule


def _date(table: Table, name: str, default: str | None = None) -> date | None:
    text = table.checked(name, _problem_with_date, default)
    return date.fromisoformat(text) if text and not _problem_with_date(text) else None


def _problem_with_date(text: str) -> str:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return "is no day; write one as in 2026-01-05"
    return "" if 2000 <= found.year <= 2100 else "is too far away"


def _time(table: Table, name: str, default: str | None = None) -> time | None:
    text = table.checked(name, _problem_with_time, default)
    return time.fromisoformat(text) if text and not _problem_with_time(text) else None


def _problem_with_time(text: str) -> str:
    try:
        found = time.fromisoformat(text)
    except ValueError:
        return "is no time of day; write one as in 09:00"
    return "is a time with a zone; the zone is the schedule's" if found.tzinfo else ""


def changes(declared: dict[str, Plan]) -> Iterator[Change]:
    """Schedules that come or become different."""
    there = {one.slug: one for one in Schedule.objects.all()}
    for slug, plan in declared.items():
        schedule = there.get(slug)
        found = difference(stored(schedule) if schedule else NOTHING, plan)
        if found:
            trace = Trace("oncall.declared", f"schedule {slug}", data={"changes": found})
            yield Change(
                "~" if schedule else "+", f"schedules.{slug}", lines_of(found), partial(_make, slug, plan), trace
            )


def _make(slug: str, plan: Plan) -> None:
    schedule, _ = Schedule.objects.get_or_create(slug=slug, defaults={"name": plan.name, "time_zone": plan.time_zone})
    write(schedule, plan)


def left_alone(declared: dict[str, Plan]) -> list[str]:
    """Schedules that exist and are not in the file."""
    return [f"schedule {slug}" for slug in Schedule.objects.exclude(slug__in=declared).values_list("slug", flat=True)]


SCHEDULES = Section("schedules", read, changes, left_alone)
