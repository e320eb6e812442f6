"""When deployments are closed and when they open again, by the clock on the wall, over every change of it."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.gates import windows
from deployments.gates.recurring import occurrences
from deployments.gates.windows import DAYS, Hours, Window, absolute, closed_by, opening


def wall(text: str) -> datetime:
    """A time on the wall's clock."""
    return datetime.fromisoformat(text)


ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"])
MOMENTS = st.datetimes(wall("2020-01-01"), wall("2030-01-01")).map(lambda one: one.replace(tzinfo=UTC, microsecond=0))
OFFICE = st.builds(
    lambda zone, days, opens, length: Hours(zone, tuple(sorted(days)), time(opens), time(min(23, opens + length))),
    ZONES, st.sets(st.sampled_from(DAYS), min_size=1), st.integers(0, 20), st.integers(1, 12),
)  # fmt: skip


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)


def test_a_freeze_is_closed_from_its_first_minute_to_its_last() -> None:
    freeze = Window("year's end", "Europe/Berlin", wall("2026-12-20T18:00"), 60)
    assert freeze.covering(berlin("2026-12-20T17:59:59")) is None
    assert freeze.covering(berlin("2026-12-20T18:00")) == (berlin("2026-12-20T18:00"), berlin("2026-12-20T19:00"))
    assert freeze.covering(berlin("2026-12-20T18:59:59")) is not None
    assert freeze.covering(berlin("2026-12-20T19:00")) is None


def test_every_friday_is_every_friday() -> None:
    freeze = Window("weekend", "Europe/Berlin", wall("2026-01-02T15:00"), 60 * 63, "FREQ=WEEKLY;BYDAY=FR")
    assert freeze.covering(berlin("2026-11-29T12:00")) is not None, "a Sunday"
    assert freeze.covering(berlin("2026-11-30T06:00")) is None, "Monday at six it is over"
    assert opening([freeze], Hours(), berlin("2026-11-27T16:00")) == berlin("2026-11-30T06:00")


def test_a_night_in_which_the_clock_jumps_is_as_long_as_the_wall_says() -> None:
    freeze = Window("night", "Europe/Berlin", wall("2026-03-28T22:00"), 600)
    found = freeze.covering(berlin("2026-03-29T00:30"))
    assert found is not None
    assert found[1] == berlin("2026-03-29T08:00")
    assert found[1] - found[0] == timedelta(hours=9)


def test_an_hour_that_is_there_twice_is_closed_both_times() -> None:
    freeze = Window("change", "Europe/Berlin", wall("2026-10-25T02:00"), 59)
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert freeze.covering(first) is not None
    assert freeze.covering(first + timedelta(hours=1)) is not None


def test_a_time_that_is_not_there_is_the_moment_of_the_jump() -> None:
    assert absolute(wall("2026-03-29T02:30"), ZoneInfo("Europe/Berlin")) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert absolute(wall("2026-10-04T02:10"), ZoneInfo("Australia/Lord_Howe")) == datetime(
        2026, 10, 3, 15, 30, tzinfo=UTC
    )


def test_a_freeze_that_begins_in_the_hour_that_is_skipped_begins_at_the_jump() -> None:
    jump, half = datetime(2027, 3, 28, 1, tzinfo=UTC), timedelta(minutes=30)
    nights = Window("backup", "Europe/Berlin", wall("2027-01-01T02:30"), 60, "FREQ=DAILY")
    assert nights.covering(jump - timedelta(seconds=1)) is None
    assert nights.covering(jump) == (jump, jump + half), "as the wall's clock says: until 03:30"
    assert nights.covering(jump + half) is None
    longer = Window("backup", "Europe/Berlin", wall("2027-03-28T02:30"), 120)
    assert longer.covering(jump) == (jump, jump + 3 * half)


def test_what_the_clock_jumps_over_as_a_whole_closes_for_its_minutes_from_then_on() -> None:
    jump = datetime(2027, 3, 28, 1, tzinfo=UTC)
    nights = Window("backup", "Europe/Berlin", wall("2027-01-01T02:10"), 20, "FREQ=DAILY")
    assert nights.covering(jump) == (jump, jump + timedelta(minutes=20))


def test_freezes_one_after_the_other_open_after_the_last() -> None:
    freezes = [
        Window("a", "UTC", wall("2026-01-01"), 60),
        Window("b", "UTC", wall("2026-01-01T01:00"), 60),
        Window("c", "UTC", wall("2026-01-01T00:30"), 10),
    ]
    at = datetime(2026, 1, 1, 0, 35, tzinfo=UTC)
    assert opening(freezes, Hours(), at) == datetime(2026, 1, 1, 2, tzinfo=UTC)
    longest = closed_by(freezes, at)
    assert longest is not None
    assert longest.reason == "a"


def test_what_is_always_closed_never_opens() -> None:
    freeze = Window("for ever", "UTC", wall("2020-01-01"), 60 * 24, "FREQ=DAILY")
    assert opening([freeze], Hours(), datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_a_rule_is_walked_once_however_often_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[str] = []

    def read(rule: str, starts: datetime) -> Any:
        walks.append(rule)
        return occurrences(rule, starts)

    monkeypatch.setattr(windows, "occurrences", read)
    nights = Window("night", "UTC", wall("2020-01-01T12:00"), 60 * 23, "FREQ=DAILY")
    assert opening([nights], Hours("UTC", ("mon",), time(12), time(13)), datetime(2026, 1, 1, tzinfo=UTC)) is None
    assert len(walks) == 1


@given(OFFICE, MOMENTS)
def test_hours_are_open_when_they_say_they_open(hours: Hours, at: datetime) -> None:
    opens = hours.next_open(at)
    assert opens >= at
    assert hours.are_open(opens)
    if opens > at:
        assert not hours.are_open(at)
        assert not hours.are_open(opens - timedelta(seconds=1))
        assert opens - at <= timedelta(days=8)


@given(
    ZONES, st.datetimes(wall("2020-01-01"), wall("2029-01-01")), st.integers(1, 60 * 24 * 6),
    st.sampled_from(["", "FREQ=DAILY;INTERVAL=9", "FREQ=WEEKLY", "FREQ=MONTHLY", "FREQ=YEARLY"]), MOMENTS,
)  # fmt: skip
def test_it_opens_right_at_the_end_of_what_closes_it(
    zone: str, starts: datetime, minutes: int, rule: str, at: datetime
) -> None:
    freeze = Window("why", zone, starts.replace(second=0, microsecond=0), minutes, rule)
    found = freeze.covering(at)
    opens = opening([freeze], Hours(), at)
    assert opens is not None
    assert freeze.covering(opens) is None
    if found is None:
        assert opens == at
    else:
        assert found[0] <= at < found[1] <= opens
        assert found in freeze.between(at - timedelta(days=1), at + timedelta(days=1))


JUMPS = [
    ("Europe/Berlin", "2027-03-28"), ("America/New_York", "2027-03-14"), ("Australia/Lord_Howe", "2027-10-03"),
    ("Africa/Casablanca", "2027-03-14"), ("America/Santiago", "2027-09-05"), ("Pacific/Apia", "2011-12-30"),
]  # fmt: skip


@given(st.sampled_from(JUMPS), st.integers(-2 * 1440, 2 * 1440), st.integers(1, 3 * 60))
def test_around_a_jump_it_begins_when_the_wall_says_or_right_at_the_jump(
    jump: tuple[str, str], ahead: int, minutes: int
) -> None:
    zone, starts = ZoneInfo(jump[0]), wall(jump[1]) + timedelta(minutes=ahead)
    window = Window("why", jump[0], starts, minutes)
    about = starts.replace(tzinfo=zone).astimezone(UTC)
    [(begin, end)] = window.between(about - timedelta(days=3), about + timedelta(days=3))
    assert begin < end
    assert window.covering(begin) == (begin, end)
    shown = begin.astimezone(zone).replace(tzinfo=None)
    before = (begin - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
    assert shown == starts or before < starts < shown
    last = end.astimezone(zone).replace(tzinfo=None)
    assert last >= starts + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("until", "last"), [("20261231", 31), ("20261231T180000", 31), ("20261231T175959", 30), ("20261231T000000", 30)]
)
def test_until_a_day_includes_the_whole_of_it(until: str, last: int) -> None:
    nights = Window("fair", "Europe/Berlin", wall("2026-12-01T18:00"), 60, f"freq=daily;until={until}")
    spans = nights.between(berlin("2026-12-01T00:00"), berlin("2027-02-01T00:00"))
    assert spans[-1][0] == berlin(f"2026-12-{last}T18:00")


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (("mon", "tue", "wed", "thu", "fri"), "Mon to Fri"),
        (("fri", "mon", "tue"), "Mon, Tue, Fri"),
        (("sun", "sat", "tue", "wed", "thu"), "Tue to Thu, Sat, Sun"),
        (DAYS, "Mon to Sun"),
    ],
)
def test_days_that_follow_each_other_are_said_as_one_span(days: tuple[str, ...], words: str) -> None:
    assert str(Hours("Europe/Berlin", days, time(9), time(17))) == f"{words} 09:00 to 17:00 (Europe/Berlin)"


def test_no_days_are_always() -> None:
    assert str(Hours()) == "always"
