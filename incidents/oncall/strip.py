"""The calendar strip: weeks as rows of bars, in the local days of the schedule, and the same as words for a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from incidents.oncall.rotation import DAY, Rota, Shift, Why, day_of, midnight, shifts, stretches

WEEK = timedelta(weeks=1)
COLOURS = 8


# A bar narrower than this many percent has no room for a name, and more of them than this are too many to look at.
NARROW = 2.0
BARS_AT_MOST = 48
LINES_AT_MOST = 120


@dataclass(frozen=True)
class Bar:
    """A part of a shift within one week. left, width: percent of the week. look: classes of its colours.

    label, title: "" where there is no room for them.
    """

    left: str
    width: str
    label: str
    title: str
    look: str


@dataclass(frozen=True)
class Lane:
    """One line of bars: what holds in the end, or what one layer says by itself."""

    name: str
    bars: list[Bar]
    height: int


@dataclass(frozen=True)
class Day:
    """left, middle: percent, where its name stands."""

    left: str
    label: str
    is_today: bool
    is_outside: bool = False


@dataclass(frozen=True)
class Week:
    """A row of the strip. now: percent, when the week is this one. words: the row for who cannot see it."""

    days: list[Day]
    lanes: list[Lane]
    now: str
    words: str


@dataclass(frozen=True)
class Line:
    """One stretch as a row of the table; times are local."""

    shift: Shift
    name: str
    starts: str
    ends: str
    marked: str
    is_now: bool


class Names:
    """People as pages show them, and a colour for each that stays the same while the rota does."""

    def __init__(self, titles: Mapping[str, str], order: Sequence[str]) -> None:
        self.titles = titles
        self.colours = {name: number % COLOURS for number, name in enumerate(dict.fromkeys(order))}

    def title(self, username: str) -> str:
        """The whole name; "nobody" for a gap."""
        return self.titles.get(username, username) or "nobody"

    def short(self, username: str) -> str:
        """The first name: what fits a bar."""
        return self.title(username).split()[0]

    def look(self, shift: Shift) -> str:
        """The classes of a bar."""
        if shift.is_gap:
            return "gap"
        marked = " over" if shift.why in (Why.OVERRIDE, Why.SWAP) else " cover" if shift.why == Why.COVER else ""
        return f"p{self.colours.get(shift.person, 0)}{marked}"


def local(zone: str, at: datetime) -> str:
    """A local time for people: Mon 30 Nov 09:00."""
    here = at.astimezone(ZoneInfo(zone))
    return f"{here:%a} {here.day} {here:%b %H:%M}"


def lines(zone: str, found: Sequence[Shift], names: Names, now: datetime) -> list[Line]:
    """Shifts as rows of a table, the first ones of very many."""
    return [
        Line(one, names.title(one.person), local(zone, one.starts_at), local(zone, one.ends_at), _marked(one),
             one.starts_at <= now < one.ends_at)
        for one in found[:LINES_AT_MOST]
    ]  # fmt: skip


def _marked(shift: Shift) -> str:
    if shift.why == Why.LAYER:
        return shift.words
    return f"{shift.why}: {shift.words}" if shift.words else str(shift.why)


def monday_of(day: date) -> date:
    """The first day of its week."""
    return day - timedelta(days=day.weekday())


def weeks_from(
    rota: Rota, first: date, count: int, names: Names, now: datetime, *, month: int = 0, with_layers: bool = False
) -> list[Week]:
    """Rows of whole weeks from a Monday on. month: days of other months are pale. with_layers: each layer below."""
    zone = rota.time_zone
    since, until = midnight(zone, first), midnight(zone, first + count * WEEK)
    drawn: list[tuple[str, list[Shift], int]] = [("", stretches(shifts(rota, since, until), apart=True), 26)]
    if with_layers:
        for layer in reversed(rota.layers):
            alone = Rota(zone, (layer,), (), rota.absences, rota.gone)
            drawn.append((layer.name, [one for one in shifts(alone, since, until) if not one.is_gap], 14))
    return [_week(zone, first + number * WEEK, drawn, names, now, month) for number in range(count)]


def _week(  # noqa: PLR0917 (one row, told whole)
    zone: str, monday: date, drawn: list[tuple[str, list[Shift], int]], names: Names, now: datetime, month: int
) -> Week:
    edges = [midnight(zone, monday + number * DAY) for number in range(8)]
    since, until = edges[0], edges[-1]
    lanes = [
        Lane(name, _bars([one for one in found if _meets(one, since, until)], since, until, names, zone, name), height)
        for name, found, height in drawn
    ]
    days = [_day(monday + number * DAY, _percent(edges[number], since, until), zone, now, month) for number in range(7)]
    whole = [one for one in drawn[0][1] if _meets(one, since, until)]
    words = ", ".join(f"{names.title(one.person)} until {local(zone, one.ends_at)}" for one in stretches(whole))
    return Week(days, lanes, _percent(now, since, until) if since <= now < until else "", words)


def _meets(shift: Shift, since: datetime, until: datetime) -> bool:
    return shift.starts_at < until and shift.ends_at > since


def _bars(  # noqa: PLR0917 (one lane, told whole)
    found: list[Shift], since: datetime, until: datetime, names: Names, zone: str, layer: str
) -> list[Bar]:
    if layer and len(found) > BARS_AT_MOST:
        whole = Shift("", max(found[0].starts_at, since), min(found[-1].ends_at, until), Why.LAYER)
        left, width = _percent(whole.starts_at, since, until), (whole.ends_at - whole.starts_at) / (until - since)
        return [Bar(left, f"{100 * width:.2f}%", f"{layer}: {len(found)} turns", "", "many")]
    return [_bar(one, since, until, names, zone) for one in found]


def _bar(shift: Shift, since: datetime, until: datetime, names: Names, zone: str) -> Bar:
    begin, end = max(shift.starts_at, since), min(shift.ends_at, until)
    mark = "◆ " if shift.why in (Why.OVERRIDE, Why.SWAP) else "○ " if shift.why == Why.COVER else ""
    title = f"{names.title(shift.person)}, {local(zone, shift.starts_at)} to {local(zone, shift.ends_at)}"
    width = 100 * ((end - begin) / (until - since))
    has_room = width >= NARROW or shift.is_gap or bool(mark)
    return Bar(
        _percent(begin, since, until), f"{width:.2f}%",
        "nobody" if shift.is_gap else f"{mark}{names.short(shift.person)}" if has_room else "",
        f"{title}, {_marked(shift)}" if mark else title if has_room else "", names.look(shift),
    )  # fmt: skip


def _day(day: date, left: str, zone: str, now: datetime, month: int) -> Day:
    label = f"{day:%a} {day.day} {day:%b}" if day.day == 1 or day.weekday() == 0 else f"{day:%a} {day.day}"
    return Day(left, label, day == day_of(zone, now), bool(month) and day.month != month)


def _percent(at: datetime, since: datetime, until: datetime) -> str:
    return f"{100 * ((at - since) / (until - since)):.2f}%"
