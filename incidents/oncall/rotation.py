"""Who is on call when: pure functions over a rota, right through every change of the clocks.

1. Turns, windows and absences are written in local time and counted in it: the k-th turn of a layer begins k steps of
   the wall clock after the first. `first_instant` turns each local time into one instant, so nothing is counted twice.
2. A local time that the clocks skip begins at the first instant after the gap; one that comes twice begins the first
   time. So local times in their order are instants in their order, and neighbours always meet exactly.
3. Layers are painted over each other, the last one on top; overrides and swaps on top of all, the latest made last.
   What nobody painted is a gap, and says so.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
STEPS = {"hour": timedelta(hours=1), "day": DAY, "week": timedelta(weeks=1)}
# How far the local date of an instant can be from the day whose window it is in: over midnight, and a skipped day.
AROUND = 2


class Why(StrEnum):
    """What puts somebody on call, in words for people."""

    GAP = "nobody"
    LAYER = "by turn"
    COVER = "covers an absence"
    OVERRIDE = "stands in"
    SWAP = "swapped"


@dataclass(frozen=True)
class LayerRule:
    """People who take turns of `every` units; see `incidents.models.Layer` for the meaning of each.

    The last turn ends on `ends_on` at `handover`. A window belongs to the day on which it begins.
    """

    name: str
    people: tuple[str, ...]
    unit: str
    every: int
    starts_on: date
    handover: time
    ends_on: date | None = None
    days: frozenset[int] = frozenset()
    from_time: time | None = None
    until_time: time | None = None

    @property
    def step(self) -> timedelta:
        """The length of a turn, by the wall clock."""
        return self.every * STEPS[self.unit]

    @property
    def is_restricted(self) -> bool:
        """Whether it has somebody only on some days, or at some times."""
        return bool(self.days) or self.from_time is not None or self.until_time is not None


@dataclass(frozen=True)
class Stand:
    """Somebody takes a time whoever's turn it is. number: those made later go before those made earlier."""

    person: str
    starts_at: datetime
    ends_at: datetime
    number: int
    is_swap: bool = False
    words: str = ""


@dataclass(frozen=True)
class Away:
    """Days, the last one included, on which layers pass somebody over."""

    person: str
    starts_on: date
    ends_on: date


@dataclass(frozen=True)
class Rota:
    """All there is to know of a schedule. layers: the ground first. gone: people who can take no turn at all."""

    time_zone: str
    layers: tuple[LayerRule, ...] = ()
    stands: tuple[Stand, ...] = ()
    absences: tuple[Away, ...] = ()
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Shift:
    """A time with one person on call, or, without a person, a gap. key: of the turn, or of the override."""

    person: str
    starts_at: datetime
    ends_at: datetime
    why: Why
    words: str = ""
    key: int = 0

    @property
    def is_gap(self) -> bool:
        """Nobody would be paged."""
        return not self.person


# --- Local time ---------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def first_instant(zone: str, wall: datetime) -> datetime:
    """The first instant at which the clocks of a zone show this local time or a later one, in UTC."""
    tz = ZoneInfo(zone)
    high = wall.replace(tzinfo=tz).astimezone(UTC)
    if _local(tz, high) == wall:
        return high
    low = wall.replace(tzinfo=tz, fold=1).astimezone(UTC)  # before the gap, as `high` is after it
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=1) // 2)
        low, high = (middle, high) if _local(tz, middle) < wall else (low, middle)
    return high.replace(microsecond=0)


def _local(tz: ZoneInfo, at: datetime) -> datetime:
    return at.astimezone(tz).replace(tzinfo=None, fold=0)


def day_of(zone: str, at: datetime) -> date:
    """The local date of an instant."""
    return at.astimezone(ZoneInfo(zone)).date()


def midnight(zone: str, day: date) -> datetime:
    """The instant at which a local day begins."""
    return first_instant(zone, datetime.combine(day, time.min))


# --- One layer ----------------------------------------------------------------------------------------


def turn_start(layer: LayerRule, zone: str, number: int) -> datetime:
    """When a turn begins; the first one has the number 0."""
    return first_instant(zone, datetime.combine(layer.starts_on, layer.handover) + number * layer.step)


def turn_at(layer: LayerRule, zone: str, at: datetime) -> int:
    """The number of the turn that an instant falls into; negative before the first."""
    first = datetime.combine(layer.starts_on, layer.handover)
    number = (_local(ZoneInfo(zone), at) - first) // layer.step
    while turn_start(layer, zone, number + 1) <= at:  # when the clocks were put back, it began the first time
        number += 1
    return number


def _end(layer: LayerRule, zone: str) -> datetime | None:
    return first_instant(zone, datetime.combine(layer.ends_on, layer.handover)) if layer.ends_on else None


def _window(layer: LayerRule, zone: str, day: date) -> tuple[datetime, datetime] | None:
    """The time of a day in which the layer has somebody."""
    if layer.days and day.weekday() not in layer.days:
        return None
    begin, end = layer.from_time or time.min, layer.until_time or time.min
    last = day if end > begin else day + DAY
    return first_instant(zone, datetime.combine(day, begin)), first_instant(zone, datetime.combine(last, end))


def _windows(layer: LayerRule, zone: str, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Its windows within a span, in order; they may meet, and never overlap."""
    if not layer.is_restricted:
        yield since, until
        return
    day, last = day_of(zone, since) - AROUND * DAY, day_of(zone, until) + AROUND * DAY
    while day <= last:
        window = _window(layer, zone, day)
        if window is not None and max(window[0], since) < min(window[1], until):
            yield max(window[0], since), min(window[1], until)
        day += DAY


def _is_away(rota: Rota, person: str, at: datetime) -> bool:
    return person in rota.gone or any(
        midnight(rota.time_zone, one.starts_on) <= at < midnight(rota.time_zone, one.ends_on + DAY)
        for one in rota.absences
        if one.person == person
    )


def _taker(rota: Rota, layer: LayerRule, number: int, at: datetime) -> tuple[str, Why]:
    """Who takes a turn: whose it is, or else the next person of the layer who is there; "" when nobody is."""
    count = len(layer.people)
    for more in range(count):
        person = layer.people[(number + more) % count]
        if not _is_away(rota, person, at):
            return person, Why.COVER if more else Why.LAYER
    return "", Why.GAP


def _turns(rota: Rota, layer: LayerRule, since: datetime, until: datetime) -> Iterator[tuple[int, datetime, datetime]]:
    """(number, from, until) of each turn in a span, cut at its ends."""
    zone, end = rota.time_zone, _end(layer, rota.time_zone)
    last = min(until, end) if end else until
    number = max(turn_at(layer, zone, since), 0)
    begin = turn_start(layer, zone, number)
    while begin < last:
        end_of_turn = turn_start(layer, zone, number + 1)
        if max(begin, since) < min(end_of_turn, last):
            yield number, max(begin, since), min(end_of_turn, last)
        number, begin = number + 1, end_of_turn


def _of_layer(rota: Rota, layer: LayerRule, since: datetime, until: datetime) -> Iterator[Shift]:
    """What the layer says by itself, in order, without gaps."""
    if not layer.people:
        return
    edges = sorted(
        {
            midnight(rota.time_zone, day)
            for one in rota.absences
            if one.person in layer.people
            for day in (one.starts_on, one.ends_on + DAY)
        }
    )
    for number, begin, end in _turns(rota, layer, since, until):
        for opens, closes in _windows(layer, rota.time_zone, begin, end):
            cuts = [opens, *(edge for edge in edges if opens < edge < closes), closes]
            for left, right in pairwise(cuts):
                person, why = _taker(rota, layer, number, left)
                if person:
                    yield Shift(person, left, right, why, layer.name, number)


# --- The whole ----------------------------------------------------------------------------------------


def shifts(rota: Rota, since: datetime, until: datetime) -> list[Shift]:
    """The span, whole and in order: each shift begins where the one before it ends, gaps are shifts of nobody."""
    if since >= until:
        return []
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    found = [Shift("", since, until, Why.GAP)]
    for layer in rota.layers:
        found = _over(found, list(_of_layer(rota, layer, since, until)))
    for stand in sorted(rota.stands, key=lambda one: one.number):
        begin, end = max(stand.starts_at.astimezone(UTC), since), min(stand.ends_at.astimezone(UTC), until)
        if begin < end and stand.person not in rota.gone:
            why = Why.SWAP if stand.is_swap else Why.OVERRIDE
            found = _over(found, [Shift(stand.person, begin, end, why, stand.words, stand.number)])
    return _joined(found)


def who(rota: Rota, at: datetime) -> str:
    """Who is on call at an instant; "" for nobody. The same as the shift that it falls into, without drawing all."""
    covering = [one for one in rota.stands if one.starts_at <= at < one.ends_at and one.person not in rota.gone]
    if covering:
        return max(covering, key=lambda one: one.number).person
    for layer in reversed(rota.layers):
        if person := _by_layer(rota, layer, at):
            return person
    return ""


def _by_layer(rota: Rota, layer: LayerRule, at: datetime) -> str:
    zone = rota.time_zone
    number, end = turn_at(layer, zone, at), _end(layer, zone)
    if not layer.people or number < 0 or (end is not None and at >= end):
        return ""
    if layer.is_restricted:
        days = (day_of(zone, at) + more * DAY for more in range(-AROUND, AROUND + 1))
        if not any(window and window[0] <= at < window[1] for window in (_window(layer, zone, day) for day in days)):
            return ""
    return _taker(rota, layer, number, at)[0]


def _over(below: Sequence[Shift], above: Sequence[Shift]) -> list[Shift]:
    """Both in order; what is above hides what is below it."""
    if not above:
        return list(below)
    left: list[Shift] = []
    starts = [one.starts_at for one in above]
    for shift in below:
        at = shift.starts_at
        for one in above[max(bisect_right(starts, at) - 1, 0) :]:
            if one.starts_at >= shift.ends_at:
                break
            if one.ends_at <= at:
                continue
            if at < one.starts_at:
                left.append(replace(shift, starts_at=at, ends_at=one.starts_at))
            at = one.ends_at
        if at < shift.ends_at:
            left.append(replace(shift, starts_at=at))
    return sorted([*left, *above], key=lambda one: one.starts_at)


def _joined(found: Sequence[Shift]) -> list[Shift]:
    """Neighbours that are the same turn, or the same gap, as one."""
    joined: list[Shift] = []
    for shift in found:
        before = joined[-1] if joined else None
        if before is not None and replace(before, starts_at=shift.starts_at, ends_at=shift.ends_at) == shift:
            joined[-1] = replace(before, ends_at=shift.ends_at)
        else:
            joined.append(shift)
    return joined


def stretches(found: Sequence[Shift], *, apart: bool = False) -> list[Shift]:
    """Shifts as people feel them: turns of one person that meet are one, named after the first.

    apart: keep what puts them on call apart, so that it can be marked.
    """
    joined: list[Shift] = []
    for shift in found:
        if joined and joined[-1].person == shift.person and not (apart and joined[-1].why != shift.why):
            joined[-1] = replace(joined[-1], ends_at=shift.ends_at)
        else:
            joined.append(shift)
    return joined
