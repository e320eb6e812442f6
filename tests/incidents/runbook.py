"""Tasks and runs of the runbook, for the tests of what is made of them."""

from datetime import datetime, timedelta

from controlplane.clock.database import database_time
from incidents.models import RunbookRun, RunbookTask

_LONG_AGO = timedelta(days=400)


def task(slug: str = "backups", **values: object) -> RunbookTask:
    """A daily one, due at ten, that has counted for long."""
    given: dict[str, object] = {
        "title": slug.title(), "cadence": "daily", "due": "0 10 * * *", "since": database_time() - _LONG_AGO, **values,
    }  # fmt: skip
    return RunbookTask.objects.create(slug=slug, **given)


def run(of: RunbookTask, *, left: timedelta = timedelta(hours=2), **values: object) -> RunbookRun:
    """A run that opened half a day before it is due; `left` until then, less than nothing when it is over."""
    due: datetime = database_time() + left
    return RunbookRun.objects.create(task=of, opens_at=due - timedelta(hours=12), due_at=due, **values)
