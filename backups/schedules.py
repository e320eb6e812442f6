"""When a policy is due: cron text in a named time zone, right through every change of the clocks (cronsim)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError


def problem_with_schedule(schedule: str) -> str:
    """What is wrong with cron text, in words that go on from the text; "" when nothing is."""
    try:
        CronSim(schedule, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        return f'is no schedule ({error}); write cron text such as "0 2 * * *" for every day at 02:00'
    if next_run(schedule, "UTC", datetime(2026, 1, 1, tzinfo=UTC)) is None:
        return "never comes due; give a day that exists"
    return ""


def problem_with_zone(name: str) -> str:
    """What is wrong with the name of a time zone; "" when nothing is."""
    if name in available_timezones():
        return ""
    return 'is no time zone; write a name such as "Europe/Berlin" or "UTC"'


def runs(schedule: str, zone: str, after: datetime) -> Iterator[datetime]:
    """The times it is due after a moment, in UTC; none at all for a schedule that never comes due again."""
    for at in CronSim(schedule, after.astimezone(ZoneInfo(zone))):
        yield at.astimezone(UTC)


def next_run(schedule: str, zone: str, after: datetime) -> datetime | None:
    """The first of them."""
    return next(runs(schedule, zone, after), None)


def next_runs(schedule: str, zone: str, after: datetime, count: int) -> list[datetime]:
    """The first few of them."""
    return list(islice(runs(schedule, zone, after), count))


def missed(schedule: str, zone: str, due: datetime, now: datetime, *, at_most: int = 1000) -> int:
    """How many times it was due after `due` and until `now`: those that nobody started in time."""
    count = 0
    for at in islice(runs(schedule, zone, due), at_most):
        if at > now:
            break
        count += 1
    return count
