"""Reading an iCalendar file: each event puts somebody on call for its time, the same file twice changes nothing.

1. The whole file is read and checked before anything is written; what is wrong with any event refuses it all.
2. Whom an event means: an attendee (by e-mail address, or by name), else its summary ("bob", "Bob Brandt",
   "Bob Brandt on call: Primary").
3. Repeats are unfolded here, daily and weekly ones only, a year ahead and 400 times at most: no calendar can make
   the reader count for ever. They are counted by the wall clock, as calendars do.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from hashlib import sha256
from itertools import islice
from typing import Any

from icalendar import Calendar, Component

from controlplane.accounts.models import Person
from controlplane.operations.errors import Invalid
from controlplane.operations.events import storable
from incidents.oncall.rotation import DAY, first_instant

LARGEST = 1_000_000
EVENTS_AT_MOST = 500
TIMES_AT_MOST = 400
LONGEST_UID = 150
OVERRIDES_AT_MOST = 2000
# Repeats are counted from their beginning; older ones would be counted for long.
BACK = timedelta(days=5 * 366)
AHEAD = timedelta(days=366)
LONGEST = timedelta(days=366)
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
PARTS = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "WKST"}
YEARS = range(2000, 2101)


@dataclass(frozen=True)
class Wanted:
    """One time to put somebody on call. uid: names it for good, also when the file comes again."""

    uid: str
    person: str
    starts_at: datetime
    ends_at: datetime
    words: str
    is_cancelled: bool = False


@dataclass(frozen=True)
class Contents:
    """A whole file. events: what every event of it is called, also of those whose times are all over."""

    events: frozenset[str]
    wanted: list[Wanted]


@dataclass(frozen=True)
class _Moment:
    """A time as the file has it: on the wall clock of a zone, so that repeats keep it. tz: of a zone without a name."""

    wall: datetime
    zone: str
    tz: tzinfo | None = None

    def instant(self, wall: datetime | None = None) -> datetime:
        wall = wall or self.wall
        return first_instant(self.zone, wall) if self.tz is None else wall.replace(tzinfo=self.tz).astimezone(UTC)


def read(body: bytes, zone: str, now: datetime) -> Contents:
    """All times of a file that are not over. zone: of times that name none. Raises Invalid, naming the event."""
    if len(body) > LARGEST:
        raise Invalid(f"The file has {len(body):,} bytes; at most {LARGEST:,} are read.")
    try:
        calendar = Calendar.from_ical(body)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise Invalid("This is not an iCalendar file (.ics) that can be read; nothing was changed.") from error
    if calendar.name != "VCALENDAR":
        raise Invalid("This is not one iCalendar file: it does not begin with BEGIN:VCALENDAR.")
    events = calendar.walk("VEVENT")
    if not events:
        raise Invalid("There is no event in this file.")
    if len(events) > EVENTS_AT_MOST:
        raise Invalid(f"There are {len(events)} events in this file; at most {EVENTS_AT_MOST} are read.")
    people = _People()
    found: list[Wanted] = []
    for number, event in enumerate(events, 1):
        found += islice(_of_event(event, number, zone, now, people), OVERRIDES_AT_MOST + 1 - len(found))
    if len(found) > OVERRIDES_AT_MOST:
        raise Invalid(f"With its repeats the file has more than {OVERRIDES_AT_MOST} times; import a shorter one.")
    twice = [uid for uid, count in Counter(one.uid for one in found).items() if count > 1]
    if twice:
        raise Invalid(f"The file has the UID {twice[0]} twice; each event needs its own.")
    return Contents(frozenset(key_of(event) for event in events), found)


def _of_event(event: Component, number: int, zone: str, now: datetime, people: "_People") -> Iterator[Wanted]:
    what = f"Event {number} (“{storable(str(event.get('SUMMARY', '')))[:60]}”)"
    broken = [name for name, _ in event.errors if name]
    if broken:
        raise Invalid(f"{what}: {broken[0]} cannot be read.")
    key = key_of(event)
    if not key:
        raise Invalid(f"{what} has no UID, so that the same file again could not be told from another one.")
    for name in ("RECURRENCE-ID", "RDATE", "EXRULE"):
        if name in event:
            raise Invalid(f"{what} has {name}, which is not understood here; export single events instead.")
    begin = _moment(event, "DTSTART", zone, what)
    length = _length(event, begin, zone, what)
    if length <= timedelta(0) or length > LONGEST:
        raise Invalid(f"{what} has to end after it begins, and within a year.")
    is_cancelled = str(event.get("STATUS", "")).upper() == "CANCELLED"
    person = "" if is_cancelled else people.of(event, what)
    for index, wall in enumerate(_times(event, begin, length, now, what)):
        starts_at = begin.instant(wall)
        ends_at = begin.instant(wall + length)
        if ends_at > max(now, starts_at):  # a time that the clocks skip is none
            mark = f"{key}#{wall:%Y%m%dT%H%M%S}" if "RRULE" in event else key
            yield Wanted(mark, person, starts_at, ends_at, str(event.get("SUMMARY", ""))[:200], is_cancelled)
        if index >= TIMES_AT_MOST:
            raise Invalid(f"{what} repeats more than {TIMES_AT_MOST} times within a year.")


def key_of(event: Component) -> str:
    """What an event is called for good; its repeats are called so too, with their time behind a #."""
    uid = storable(str(event.get("UID", ""))).strip()
    return uid if len(uid) <= LONGEST_UID else f"sha256:{sha256(uid.encode()).hexdigest()}"


# --- Times --------------------------------------------------------------------------------------------


def _moment(event: Component, name: str, zone: str, what: str) -> _Moment:
    found = event.get(name)
    value = getattr(found, "dt", None)
    if isinstance(value, date) and value.year not in YEARS:
        raise Invalid(f"{what}: {name} is in the year {value.year}; that is too far away.")
    if isinstance(value, datetime):
        named = str(getattr(found, "params", {}).get("TZID", ""))
        if value.tzinfo is None and named:
            raise Invalid(f"{what}: the time zone {named} of {name} is not known; name one as in Europe/Berlin.")
        wall, key = value.replace(tzinfo=None, fold=0), getattr(value.tzinfo, "key", "")
        return _Moment(wall, key or zone, None if key else value.tzinfo)
    if isinstance(value, date):
        return _Moment(datetime.combine(value, time.min), zone)
    raise Invalid(f"{what} has no {name} that can be read.")


def _length(event: Component, begin: _Moment, zone: str, what: str) -> timedelta:
    """By the wall clock where there is one, so that a night shift stays from evening to morning."""
    if "DTEND" in event:
        end = _moment(event, "DTEND", zone, what)
        if (begin.zone, begin.tz) == (end.zone, end.tz):
            return end.wall - begin.wall
        return end.instant() - begin.instant()
    length = getattr(event.get("DURATION"), "dt", None)
    if isinstance(length, timedelta):
        return length
    is_day = not isinstance(getattr(event.get("DTSTART"), "dt", None), datetime)
    return DAY if is_day else timedelta(0)


def _times(event: Component, begin: _Moment, length: timedelta, now: datetime, what: str) -> Iterator[datetime]:
    rule = event.get("RRULE")
    if rule is None:
        yield begin.wall
        return
    if isinstance(rule, list):
        raise Invalid(f"{what} has more than one RRULE.")
    parts = {str(name).upper(): value for name, value in rule.items()}
    _check_rule(parts, what)
    left_out = {one.dt for found in _several(event.get("EXDATE")) for one in getattr(found, "dts", [])}
    if begin.instant() < now - BACK:
        raise Invalid(f"{what} repeats since more than five years ago; export it from this year on.")
    for wall in _unfold(parts, begin, now + AHEAD):
        if not _is_left_out(begin, wall, left_out) and begin.instant(wall) + length + DAY > now:
            yield wall


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_left_out(begin: _Moment, wall: datetime, left_out: set[Any]) -> bool:
    return any(
        (one == wall.date())
        if not isinstance(one, datetime)
        else (one == wall if one.tzinfo is None else one == begin.instant(wall))
        for one in left_out
    )


def _check_rule(parts: Mapping[str, Any], what: str) -> None:
    frequency = str(next(iter(_several(parts.get("FREQ"))), "")).upper()
    days = [str(day).upper() for day in _several(parts.get("BYDAY"))]
    unknown = sorted(set(parts) - PARTS)
    if frequency not in ("DAILY", "WEEKLY") or unknown or any(day not in WEEKDAYS for day in days):
        why = f"with {', '.join(unknown)}" if unknown else f"{frequency.lower() or 'in no rhythm'}"
        raise Invalid(
            f"{what} repeats {why}; daily and weekly repeats are understood (INTERVAL, COUNT, UNTIL, BYDAY). "
            "Export single events instead."
        )


def _unfold(parts: Mapping[str, Any], begin: _Moment, horizon: datetime) -> Iterator[datetime]:
    """Each time of a daily or weekly rule until it ends, or until the horizon."""
    weekly = str(_several(parts["FREQ"])[0]).upper() == "WEEKLY"
    every = max(int(next(iter(_several(parts.get("INTERVAL"))), 1)), 1)
    count = next(iter(_several(parts.get("COUNT"))), None)
    until = next(iter(_several(parts.get("UNTIL"))), None)
    days = {WEEKDAYS.index(str(day).upper()) for day in _several(parts.get("BYDAY"))}
    first_day = str(next(iter(_several(parts.get("WKST"))), "MO")).upper()
    opens = WEEKDAYS.index(first_day) if first_day in WEEKDAYS else 0
    days = days or ({begin.wall.weekday()} if weekly else set(range(7)))
    week_start = begin.wall.date() - ((begin.wall.weekday() - opens) % 7) * DAY
    wall, given = begin.wall, 0
    while (
        (count is None or given < int(count)) and begin.instant(wall) <= horizon and not _is_after(begin, wall, until)
    ):
        passed = (wall.date() - week_start).days // 7 if weekly else (wall - begin.wall).days
        if passed % every == 0 and wall.weekday() in days:
            given += 1
            yield wall
        wall += DAY


def _is_after(begin: _Moment, wall: datetime, until: Any) -> bool:
    if until is None:
        return False
    if not isinstance(until, datetime):
        return bool(wall.date() > until)
    return bool(wall > until if until.tzinfo is None else begin.instant(wall) > until)


# --- People -------------------------------------------------------------------------------------------


class _People:
    """The active people, by everything a calendar may call them."""

    def __init__(self) -> None:
        self.known: dict[str, set[str]] = {}
        for person in Person.objects.filter(is_active=True):
            for key in (person.username, person.title_name, person.email):
                if key:
                    self.known.setdefault(key.casefold(), set()).add(person.username)

    def of(self, event: Component, what: str) -> str:
        """Whom an event means. Raises Invalid."""
        tried = []
        for attendee in _several(event.get("ATTENDEE")):
            address = str(attendee)
            tried += [address.removeprefix("mailto:").removeprefix("MAILTO:"), str(attendee.params.get("CN", ""))]
        summary = str(event.get("SUMMARY", "")).strip()
        tried += [summary, summary.partition(" on call")[0], summary.partition(":")[0]]
        for words in tried:
            found = self.known.get(words.strip().casefold(), set())
            if len(found) > 1:
                raise Invalid(f"{what}: {words} could be {' or '.join(sorted(found))}; name one by username.")
            if found:
                return next(iter(found))
        raise Invalid(
            f"{what} names nobody who is known and active here: {', '.join(filter(None, tried)) or 'nothing'}."
        )
