"""When the tasks of the runbook fall due, and from when on they can be done: right through every change of the clocks.

The due times are cron text in the task's time zone (`backups/schedules.py`). A task can be done from the beginning of
the day, the week (Monday) or the month in which it is due, as the clocks of that zone say it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from backups.schedules import runs
from incidents.models import RunbookTask

Cadence = RunbookTask.Cadence
INSTANT = timedelta(microseconds=1)
# What a clock that was away writes down at once; the rest follows with the next look.
AT_ONCE = 60


def opens_at(cadence: str, zone: str, due: datetime) -> datetime:
    """The beginning of the period that ends with this due time, in UTC. Due at midnight is the day before."""
    local = (due - INSTANT).astimezone(ZoneInfo(zone))
    first = local.date()
    if cadence == Cadence.WEEKLY:
        first -= timedelta(days=first.weekday())
    elif cadence == Cadence.MONTHLY:
        first = first.replace(day=1)
    return datetime.combine(first, time(), ZoneInfo(zone)).astimezone(UTC)


def opened(task: RunbookTask, after: datetime, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The runs due after a moment that can be done by now: when each opens, and when it is due."""
    both = ((opens_at(task.cadence, task.time_zone, due), due) for due in runs(task.due, task.time_zone, after))
    return takewhile(lambda one: one[0] <= now, both)
