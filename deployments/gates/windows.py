"""Times in which deployments are open or closed, by the clock on the wall of a named zone. Pure.

A wall's clock shows some minutes twice a year twice, and some never: what begins or ends at a time that is not there
does so in the moment in which the clock jumps over it, and what is there twice begins the first time and ends the
second. What the clock jumps over as a whole closes for its minutes from then on.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from deployments.gates.recurring import occurrences

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ONE_DAY = timedelta(days=1)
# What is closed for longer than that is closed for good, as far as anybody wants to know.
FAR = timedelta(days=400)
LONGEST_MINUTES = 60 * 24 * 92


@dataclass(frozen=True)
class Window:
    """Closed from `starts` (wall clock of `zone`, no zone of its own) for `minutes`; again and again by `rule`."""

    reason: str
    zone: str
    starts: datetime
    minutes: int
    rule: str = ""

    def covering(self, at: datetime) -> tuple[datetime, datetime] | None:
        """The occurrence that an absolute moment lies in: its beginning (included) and end (not), in UTC."""
        zone = ZoneInfo(self.zone)
        length = timedelta(minutes=self.minutes)
        wall = at.astimezone(zone).replace(tzinfo=None)
        for first, last in self._spans(wall - length - ONE_DAY, wall + ONE_DAY):
            if first <= at < last:
                return first, last
        return None

    def between(self, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
        """Its occurrences that overlap a time, for a calendar; at most some hundred."""
        zone = ZoneInfo(self.zone)
        length = timedelta(minutes=self.minutes)
        first, last = (one.astimezone(zone).replace(tzinfo=None) for one in (since, until))
        spans = self._spans(first - length - ONE_DAY, last + ONE_DAY)
        return [(begin, end) for begin, end in spans if begin < until and end > since]

    def _spans(self, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The occurrences that begin from one time to another, both by the wall's clock."""
        zone, length = ZoneInfo(self.zone), timedelta(minutes=self.minutes)
        for wall in self._begins(first, last):
            begin, end = absolute(wall, zone), absolute(wall + length, zone, last=True)
            yield begin, end if end > begin else begin + length

    def _begins(self, first: datetime, last: datetime) -> list[datetime]:
        if not self.rule:
            return [self.starts] if first <= self.starts <= last else []
        found: list[datetime] = occurrences(self.rule, self.starts).between(first, last, inc=True)
        return found


@dataclass(frozen=True)
class Hours:
    """Open on some days from one time of day to another, in a zone. Without days: always."""

    zone: str = "UTC"
    days: tuple[str, ...] = ()
    opens: time = time(0)
    closes: time = time(0)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Hours":
        """As a policy keeps them."""
        if not values:
            return cls()
        opens, closes = (time.fromisoformat(values[key]) for key in ("from", "to"))
        return cls(values["zone"], tuple(values["days"]), opens, closes)

    def are_open(self, at: datetime) -> bool:
        """At an absolute moment."""
        if not self.days:
            return True
        wall = at.astimezone(ZoneInfo(self.zone))
        return DAYS[wall.weekday()] in self.days and self.opens <= wall.time() < self.closes

    def next_open(self, at: datetime) -> datetime:
        """The first moment from `at` on at which they are open, in UTC."""
        if self.are_open(at):
            return at
        zone = ZoneInfo(self.zone)
        today = at.astimezone(zone).date()
        for day in (today + timedelta(days=number) for number in range(15)):
            if DAYS[day.weekday()] in self.days:
                opening = absolute(datetime.combine(day, self.opens), zone)
                if opening >= at and self.are_open(opening):
                    return opening
        return at + FAR

    def __str__(self) -> str:
        if not self.days:
            return "always"
        return f"{_in_words(self.days)} {self.opens:%H:%M} to {self.closes:%H:%M} ({self.zone})"


def _in_words(days: Iterable[str]) -> str:
    """ "Mon to Fri", "Mon, Wed": three or more that follow each other are one span."""
    spans: list[list[int]] = []
    for number in sorted(map(DAYS.index, days)):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    names = [day.capitalize() for day in DAYS]
    told = [
        f"{names[span[0]]} to {names[span[-1]]}" if len(span) > 2 else ", ".join(names[number] for number in span)
        for span in spans
    ]
    return ", ".join(told)


def absolute(wall: datetime, zone: ZoneInfo, *, last: bool = False) -> datetime:
    """The moment at which a clock on the wall shows a time, in UTC; last: the second one, where there are two.

    Where the clock jumps over that time, the moment of the jump.
    """
    moment = wall.replace(tzinfo=zone, fold=int(last)).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    # It is not there: read by the offset of after the jump it lies before it, and the other way round.
    before, after = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    offset = before.astimezone(zone).utcoffset()
    seconds = range(int((after - before).total_seconds()))
    return before + timedelta(seconds=bisect_left(
        seconds, True, key=lambda one: (before + timedelta(seconds=one)).astimezone(zone).utcoffset() != offset
    ))  # fmt: skip


def closed_by(windows: Iterable[Window], at: datetime) -> Window | None:
    """The window that closes it longest from that moment on."""
    covering = [(found[1], window) for window in windows if (found := window.covering(at))]
    return max(covering, key=lambda one: one[0])[1] if covering else None


def opening(windows: Iterable[Window], hours: Hours, at: datetime) -> datetime | None:
    """The first moment from `at` on at which nothing closes it; None when there is none for a long time."""
    # Each window is walked once, from its first occurrence on, and not once more for each time that it closes.
    spans = [span for window in windows for span in window.between(at, at + FAR)]
    moment = at
    while moment < at + FAR:
        ends = [end for begin, end in spans if begin <= moment < end]
        later = hours.next_open(max(ends, default=moment))
        if later == moment:
            return moment
        moment = later
    return None


def problem_with_zone(zone: str) -> str:
    """What is wrong with a time zone's name, in words; "" for nothing."""
    return "" if zone in available_timezones() else "is no time zone; write it as in Europe/Berlin or UTC"
