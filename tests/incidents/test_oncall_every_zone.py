"""On call in every time zone there is, over 50 years: never two people, never a seam, and the wall clock is kept."""

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from incidents.oncall.rotation import (
    Away,
    LayerRule,
    Rota,
    Shift,
    Stand,
    Why,
    first_instant,
    midnight,
    shifts,
    who,
)

ZONES = sorted(available_timezones() - {"localtime"})
FIRST, LAST = date(1990, 1, 1), date(2040, 1, 1)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
PEOPLE = ("alice", "bob", "carol", "dana")
times = st.times(min_value=time(0), max_value=time(23, 59)).map(lambda one: one.replace(second=0, microsecond=0))
days = st.dates(min_value=FIRST, max_value=LAST)
groups = st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4)


def local(zone: str, at: datetime) -> datetime:
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def changes_of(zone: str, since: datetime, until: datetime) -> list[datetime]:
    """The instants at which the offset of a zone changes, to the second."""
    tz, found = ZoneInfo(zone), []
    step = timedelta(days=14)
    at = since
    while at < until:
        if at.astimezone(tz).utcoffset() != (at + step).astimezone(tz).utcoffset():
            low, high = at, at + step
            while high - low > SECOND:
                middle = low + ((high - low) // SECOND // 2) * SECOND
                same = middle.astimezone(tz).utcoffset() == low.astimezone(tz).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(high)
        at += step
    return found


@st.composite
def layers(draw: st.DrawFn, near: date) -> LayerRule:
    restricted = draw(st.booleans())
    starts_on = near - timedelta(days=draw(st.integers(-20, 60)))
    return LayerRule(
        name=draw(st.sampled_from(["days", "nights"])),
        people=tuple(draw(groups)),
        unit=draw(st.sampled_from(["hour", "day", "week"])),
        every=draw(st.integers(1, 12)),
        starts_on=starts_on,
        handover=draw(times),
        ends_on=draw(st.none() | st.integers(1, 90).map(lambda more: starts_on + timedelta(days=more))),
        days=draw(st.frozensets(st.integers(0, 6))) if restricted else frozenset(),
        from_time=draw(st.none() | times) if restricted else None,
        until_time=draw(st.none() | times) if restricted else None,
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Rota, datetime, datetime]:
    """A rota and a span about a change of the clocks, or about any day."""
    zone = draw(st.sampled_from(ZONES))
    near = draw(days)
    since = datetime(near.year, near.month, near.day, tzinfo=UTC) + draw(st.integers(0, 86400)) * SECOND
    if draw(st.booleans()):
        changes = changes_of(zone, since, since + timedelta(days=366))
        since = changes[0] - draw(st.integers(0, 3 * 86400)) * SECOND if changes else since
    near = since.date()
    until = since + draw(st.integers(1, 9 * 86400)) * SECOND
    moments = st.integers(-86400, 10 * 86400).map(lambda more: since + more * SECOND)
    stands = [
        Stand(draw(st.sampled_from(PEOPLE)), begin, begin + draw(st.integers(1, 200000)) * SECOND, number,
              is_swap=draw(st.booleans()))
        for number, begin in enumerate(draw(st.lists(moments, max_size=3)))
    ]  # fmt: skip
    away = [
        Away(draw(st.sampled_from(PEOPLE)), near + begin * DAY, near + (begin + draw(st.integers(0, 4))) * DAY)
        for begin in draw(st.lists(st.integers(-3, 9), max_size=3))
    ]
    gone = draw(st.frozensets(st.sampled_from(PEOPLE), max_size=1))
    rules = draw(st.lists(layers(near), max_size=3))
    return Rota(zone, tuple(rules), tuple(stands), tuple(away), gone), since, until


def assert_whole(found: list[Shift], since: datetime, until: datetime) -> None:
    """From end to end, each shift begins exactly where the one before it ends."""
    assert found[0].starts_at == since and found[-1].ends_at == until
    assert all(one.starts_at < one.ends_at for one in found)
    assert all(before.ends_at == after.starts_at for before, after in pairwise(found))


@given(cases(), st.data())
@settings(max_examples=250)
def test_at_every_instant_there_is_one_person_or_a_gap(
    case: tuple[Rota, datetime, datetime], data: st.DataObject
) -> None:
    rota, since, until = case
    found = shifts(rota, since, until)
    assert_whole(found, since, until)
    for shift in found:
        for at in (shift.starts_at, shift.ends_at - timedelta(microseconds=1)):
            assert who(rota, at) == shift.person
    at = since + data.draw(st.integers(0, int((until - since) / SECOND) - 1)) * SECOND
    assert [who(rota, at)] == [one.person for one in found if one.starts_at <= at < one.ends_at]


@given(cases())
@settings(max_examples=150)
def test_nobody_takes_a_turn_while_away_or_gone(case: tuple[Rota, datetime, datetime]) -> None:
    rota, since, until = case
    for shift in shifts(rota, since, until):
        assert shift.person not in rota.gone
        if shift.why in (Why.LAYER, Why.COVER):
            for one in rota.absences:
                begin, end = midnight(rota.time_zone, one.starts_on), midnight(rota.time_zone, one.ends_on + DAY)
                assert one.person != shift.person or shift.ends_at <= begin or end <= shift.starts_at


@given(cases(), st.integers(1, 86400))
@settings(max_examples=100)
def test_a_part_of_a_span_says_the_same_as_the_whole(case: tuple[Rota, datetime, datetime], cut: int) -> None:
    rota, since, until = case
    middle = min(since + cut * SECOND, until - SECOND)
    assume(since < middle)
    whole = [(one.person, max(one.starts_at, middle), one.ends_at) for one in shifts(rota, since, until)
             if one.ends_at > middle]  # fmt: skip
    assert [(one.person, one.starts_at, one.ends_at) for one in shifts(rota, middle, until)] == whole


@given(st.sampled_from(ZONES), days, times)
@settings(max_examples=300)
@example("Pacific/Apia", date(2011, 12, 30), time(9))  # a day that never was
@example("Europe/Berlin", date(2026, 3, 29), time(2, 30))
@example("Europe/Berlin", date(2026, 10, 25), time(2, 30))
@example("America/Havana", date(2026, 3, 8), time(0))  # a day without its midnight
@example("Africa/Monrovia", date(1990, 1, 1), time(0))
def test_a_local_time_begins_once_and_as_early_as_it_can(zone: str, day: date, at: time) -> None:
    wall = datetime.combine(day, at)
    begins = first_instant(zone, wall)
    assert local(zone, begins) >= wall
    assert local(zone, begins - SECOND) < wall
    if local(zone, begins) != wall:  # the clocks skipped it: the first instant after the gap
        tz = ZoneInfo(zone)
        assert begins.astimezone(tz).utcoffset() != (begins - SECOND).astimezone(tz).utcoffset()
    assert all(local(zone, begins - more * HOUR) < wall for more in range(1, 4))  # the first time of two


@given(st.sampled_from(ZONES), days, times, st.sampled_from(["day", "week"]), st.integers(1, 3), st.integers(2, 4))
@settings(max_examples=60)
def test_turns_are_equal_in_local_days_and_hand_over_at_the_same_wall_time(  # noqa: PLR0917 (hypothesis gives them)
    zone: str, day: date, handover: time, unit: str, every: int, count: int
) -> None:
    layer = LayerRule("turns", PEOPLE[:count], unit, every, day, handover)
    length = timedelta(days=every * (7 if unit == "week" else 1))
    seams = [datetime.combine(day, handover) + number * length for number in range(6 * count + 1)]
    assume(all(local(zone, first_instant(zone, wall)) - wall < 3 * HOUR for wall in seams))  # no day that never was
    found = shifts(Rota(zone, (layer,)), first_instant(zone, seams[0]), first_instant(zone, seams[-1]))
    assert [one.starts_at for one in found] == [first_instant(zone, wall) for wall in seams[:-1]]
    assert [one.person for one in found] == [PEOPLE[number % count] for number in range(6 * count)]
    total: Counter[str] = Counter()
    for shift in found:
        total[shift.person] += round((local(zone, shift.ends_at) - local(zone, shift.starts_at)) / DAY)
    assert total == Counter(dict.fromkeys(PEOPLE[:count], 6 * (length // DAY)))


@pytest.mark.slow
def test_every_change_of_the_clocks_in_every_zone_for_50_years() -> None:
    """Exhaustive: a daily hand-over right in the middle of each change, another at its first local second."""
    since, until = datetime(1990, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
    seen: set[tuple[tuple[datetime, timedelta | None], ...]] = set()
    checked = 0
    for zone in ZONES:
        tz = ZoneInfo(zone)
        changes = changes_of(zone, since, until)
        rules = tuple((at, at.astimezone(tz).utcoffset()) for at in changes)
        if not changes or rules in seen:
            continue  # another name of a zone that was looked at
        seen.add(rules)
        for change in changes:
            before, after = local(zone, change - SECOND), local(zone, change)
            for wall in (before + (after - before) / 2, after, before):
                checked += 1
                handover = wall.replace(microsecond=0)
                layer = LayerRule("daily", ("alice", "bob"), "day", 1, handover.date() - DAY, handover.time())
                rota = Rota(zone, (layer,))
                found = shifts(rota, change - 40 * HOUR, change + 40 * HOUR)
                assert_whole(found, change - 40 * HOUR, change + 40 * HOUR)
                seam = first_instant(zone, handover)
                assert seam in {one.starts_at for one in found}
                assert seam == change or local(zone, seam) == handover
                assert all(who(rota, one.starts_at) == one.person == who(rota, one.ends_at - SECOND) for one in found)
    assert checked > 10000
