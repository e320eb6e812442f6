"""What the on-call pages show, put together in a fixed number of queries."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.accounts.access import Actor
from controlplane.clock.database import database_time
from incidents.models import Override, Schedule
from incidents.oncall.problems import AHEAD, Facts, Problem, facts_for, names_in, problems_of
from incidents.oncall.rotation import Rota, day_of, shifts, stretches
from incidents.oncall.rows import rotas
from incidents.oncall.strip import WEEK, Line, Names, Week, lines, local, monday_of, weeks_from

WEEKS = 4
# A turn that began this long ago still shows its beginning.
BACK = timedelta(days=35)
FORTH = timedelta(days=63)
MINE_AT_MOST = 12


@dataclass(frozen=True)
class Standing:
    """One schedule: who has it now, until when, who is next. until: the end of the stretch, or None beyond sight."""

    schedule: Schedule
    rota: Rota
    now: Line | None
    until: datetime | None
    until_words: str
    next: Line | None
    weeks: list[Week]
    lines: list[Line]
    problems: list[Problem]


@dataclass(frozen=True)
class Turn:
    """A stretch of the reader's own."""

    schedule: Schedule
    line: Line


@dataclass(frozen=True)
class Question:
    """A swap that waits for the reader's yes."""

    schedule: Schedule
    number: int
    author: str
    reason: str
    words: str


@dataclass(frozen=True)
class OnCall:
    """The whole page."""

    standings: list[Standing]
    mine: list[Turn]
    questions: list[Question]


def overview(actor: Actor) -> OnCall:
    """Every schedule, and what concerns the reader."""
    now = database_time()
    schedules = list(Schedule.objects.all())
    found = rotas(schedules, now - BACK, now + FORTH)
    facts, names = people_in(found)
    wrong = problems_of(found, now, now + AHEAD, facts)
    standings = [standing(one, found[one.slug], names, wrong[one.slug], now) for one in schedules]
    return OnCall(standings, _mine(actor, standings, names, now), questions_for(actor, schedules, names))


def people_in(found: Mapping[str, Rota], *more: str) -> tuple[Facts, Names]:
    """Everybody whom these rotas name, and these others: what reaching them depends on, and how pages name them."""
    order = [name for rota in found.values() for layer in rota.layers for name in layer.people]
    wanted = {name for rota in found.values() for name in names_in(rota)} | set(more)
    facts = facts_for(wanted)
    titles = {name: person.title_name for name, person in facts.people.items()}
    return facts, Names(titles, [*order, *sorted(wanted - set(order))])


def standing(schedule: Schedule, rota: Rota, names: Names, wrong: list[Problem], now: datetime) -> Standing:
    """How one schedule stands, with a strip of four weeks."""
    zone = rota.time_zone
    felt = stretches(shifts(rota, now - BACK, now + FORTH))
    running = next(one for one in felt if one.starts_at <= now < one.ends_at)
    after = next((one for one in felt if one.starts_at >= running.ends_at), None)
    told = lines(zone, [running, *([after] if after else [])], names, now)
    seen = shifts(rota, now, now + WEEKS * WEEK)
    until = running.ends_at if after else None
    return Standing(
        schedule, rota, None if running.is_gap else told[0], until, local(zone, until) if until else "",
        told[1] if after else None, weeks_from(rota, monday_of(day_of(zone, now)), WEEKS, names, now),
        lines(zone, seen, names, now), wrong,
    )  # fmt: skip


def _mine(actor: Actor, standings: list[Standing], names: Names, now: datetime) -> list[Turn]:
    turns = []
    for one in standings:
        own = [
            shift for shift in stretches(shifts(one.rota, now - BACK, now + FORTH))
            if shift.person == actor.person.username and shift.ends_at > now
        ]  # fmt: skip
        turns += [Turn(one.schedule, line) for line in lines(one.rota.time_zone, own, names, now)]
    return sorted(turns, key=lambda turn: turn.line.shift.starts_at)[:MINE_AT_MOST]


def questions_for(actor: Actor, schedules: list[Schedule], names: Names) -> list[Question]:
    """Swaps that the reader is asked for. One query."""
    rows = Override.objects.filter(awaiting=actor.person.username, cancelled_at=None).order_by("pk")
    by_number: dict[tuple[int, int], list[Override]] = {}
    for row in rows:
        by_number.setdefault((row.schedule_id, row.swap or 0), []).append(row)
    known = {one.pk: one for one in schedules}
    return [
        Question(known[schedule_id], number, halves[0].author_name, halves[0].reason,
                 swap_words(known[schedule_id].time_zone, halves, names))
        for (schedule_id, number), halves in by_number.items()
        if schedule_id in known
    ]  # fmt: skip


def swap_words(zone: str, halves: list[Override], names: Names) -> str:
    """Who would take what."""
    return "; ".join(
        f"{names.title(one.person)} takes {local(zone, one.starts_at)} to {local(zone, one.ends_at)}" for one in halves
    )
