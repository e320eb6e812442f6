"""A task is open from the beginning of its day, week or month, as the clocks of its zone say it."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from incidents.models import RunbookTask
from incidents.runbook.times import opened, opens_at


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cadence", "zone", "due", "opens"),
    [
        ("daily", "UTC", "2026-11-24 10:00", "2026-11-24 00:00"),
        ("weekly", "UTC", "2026-11-27 16:00", "2026-11-23 00:00"),
        ("weekly", "UTC", "2026-11-23 09:00", "2026-11-23 00:00"),
        ("monthly", "UTC", "2026-11-20 16:00", "2026-11-01 00:00"),
        # Due at midnight closes the day, the week, the month before.
        ("daily", "UTC", "2026-11-24 00:00", "2026-11-23 00:00"),
        ("weekly", "UTC", "2026-11-30 00:00", "2026-11-23 00:00"),
        ("monthly", "UTC", "2026-12-01 00:00", "2026-11-01 00:00"),
        # The day of Berlin and of Los Angeles, not of UTC.
        ("daily", "Europe/Berlin", "2026-11-24 09:00", "2026-11-23 23:00"),
        ("daily", "America/Los_Angeles", "2026-11-24 18:00", "2026-11-24 08:00"),
        # Across a change of the clocks the day begins with the old offset.
        ("daily", "Europe/Berlin", "2026-03-29 08:00", "2026-03-28 23:00"),
        ("daily", "Europe/Berlin", "2026-10-25 09:00", "2026-10-24 22:00"),
        ("monthly", "Europe/Berlin", "2026-04-20 14:00", "2026-03-31 22:00"),
        # Midnight that does not exist: the day begins with the first moment there is.
        ("daily", "America/Santiago", "2026-09-06 13:00", "2026-09-06 04:00"),
    ],
)
def test_the_beginning_of_the_period(cadence: str, zone: str, due: str, opens: str) -> None:
    assert opens_at(cadence, zone, utc(due)) == utc(opens)


def task(due: str, cadence: str = "daily", zone: str = "UTC") -> RunbookTask:
    return RunbookTask(slug="x", title="x", cadence=cadence, due=due, time_zone=zone)


def test_only_what_has_begun_is_opened() -> None:
    now = utc("2026-11-24 05:00")
    found = list(opened(task("0 10 * * *"), utc("2026-11-22 10:00"), now))
    assert [due for _, due in found] == [utc("2026-11-23 10:00"), utc("2026-11-24 10:00")]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"])
@pytest.mark.parametrize(
    ("cadence", "due"), [("daily", "30 2 * * *"), ("weekly", "0 16 * * 5"), ("monthly", "0 9 28 * *")]
)
def test_through_two_years_each_period_has_its_run(zone: str, cadence: str, due: str) -> None:
    begin, end = utc("2026-01-01 12:00"), utc("2028-01-01 12:00")
    found = list(opened(task(due, cadence, zone), begin, end))
    assert len({opens for opens, _ in found}) == len(found)
    for opens, at in found:
        assert opens < at
        local = opens.astimezone(ZoneInfo(zone))
        assert (local.hour, local.minute) in ((0, 0), (1, 0))  # one, where midnight is left out
    days = {"daily": timedelta(days=1), "weekly": timedelta(days=7), "monthly": timedelta(days=31)}[cadence]
    gaps = [after - before for (_, before), (_, after) in pairwise(found)]
    assert max(gaps) <= days + timedelta(hours=1)
    assert len(found) in {"daily": (730, 731), "weekly": (104, 105), "monthly": (24, 25)}[cadence]
