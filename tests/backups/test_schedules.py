"""Schedules are cron text in a time zone, and hold through every change of the clocks."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.schedules import missed, next_run, next_runs, problem_with_schedule, problem_with_zone

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_next_runs_in_a_zone() -> None:
    assert next_runs("0 2 * * *", "Europe/Berlin", at("2026-11-24T12:00"), 2) == [
        at("2026-11-25T01:00"),
        at("2026-11-26T01:00"),
    ]


def test_an_hour_that_the_clocks_leave_out_is_made_up_for() -> None:
    """02:30 does not exist in Berlin on 29 March 2026: the run comes right after."""
    assert next_run("30 2 * * *", "Europe/Berlin", at("2026-03-28T12:00")) == at("2026-03-29T01:00")


def test_an_hour_that_comes_twice_is_run_once() -> None:
    assert next_runs("30 2 * * *", "Europe/Berlin", at("2026-10-24T12:00"), 2) == [
        at("2026-10-25T00:30"),
        at("2026-10-26T01:30"),
    ]


@pytest.mark.parametrize("text", ["", "hourly", "61 * * * *", "* * * *", "0 0 30 2 *", "0 2 * * *; rm"])
def test_text_that_is_no_schedule(text: str) -> None:
    assert problem_with_schedule(text)


@pytest.mark.parametrize("text", ["0 2 * * *", "*/5 * * * *", "0 4 * * 0", "15 3 1,15 * *"])
def test_text_that_is_one(text: str) -> None:
    assert problem_with_schedule(text) == ""


def test_zones() -> None:
    assert problem_with_zone("Europe/Berlin") == ""
    assert "no time zone" in problem_with_zone("Europe/Bonn")


def test_missed_counts_what_came_due_meanwhile() -> None:
    assert missed("0 * * * *", "UTC", at("2026-11-24T02:00"), at("2026-11-24T05:10")) == 3
    assert missed("0 * * * *", "UTC", at("2026-11-24T02:00"), at("2026-11-24T02:10")) == 0


@settings(max_examples=150)
@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2049, 12, 31)),  # noqa: DTZ001
    st.sampled_from(ZONES),
    st.integers(0, 59),
    st.integers(0, 23),
)
def test_daily_runs_are_a_day_apart_in_every_zone(after: datetime, zone: str, minute: int, hour: int) -> None:
    start = after.replace(tzinfo=UTC)
    times = next_runs(f"{minute} {hour} * * *", zone, start, 4)
    assert times == sorted(set(times)) and times[0] > start
    days = [time.astimezone(ZoneInfo(zone)).date() for time in times]
    gaps = {(b - a).days for a, b in pairwise(days)}
    assert gaps <= {1, 2}, "never twice on a day; Apia left one day out altogether"
    assert gaps == {1} or zone == "Pacific/Apia"
    assert times[0] - start <= timedelta(hours=50)
