"""What the clock does for the runbook: opens runs, finds the missed ones, and looks where it can look by itself.

Every step may be done by any number of clocks: a run is unique by its due time, a state moves by compare-and-set, and
a look is claimed before it begins. Nothing is missed quietly: what fell due while no clock ran is missed too.
"""

import logging
from datetime import datetime, timedelta
from itertools import islice

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Subquery
from django.db.models.functions import Now

from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM, record
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from incidents.intake.own import OwnAlert, firing_of, say_news
from incidents.models import RunbookRun, RunbookTask
from incidents.oncall.now import on_call
from incidents.runbook.checks import CHECKS, Seen
from incidents.runbook.times import AT_ONCE, opened

logger = logging.getLogger(__name__)
CLOCK = SYSTEM("clock")
MACHINE = "the control plane"
SCHEDULE = "schedule:"
MISSED = "RunbookTaskMissed"
LOOK_EVERY = timedelta(minutes=5)
State = RunbookRun.State

# Of each task the newest run: what was missed before it was opened is history, and no look of today is about it.
CLAIM = """
    UPDATE incidents_runbookrun SET seen_at = now() WHERE id IN (
        SELECT run.id FROM incidents_runbookrun AS run JOIN incidents_runbooktask AS task ON task.id = run.task_id
        WHERE run.state IN ('open', 'missed') AND task.check_key <> '' AND NOT task.paused
            AND (run.seen_at IS NULL OR run.seen_at <= now() - make_interval(secs => %s))
            AND NOT EXISTS (
                SELECT FROM incidents_runbookrun AS later
                WHERE later.task_id = run.task_id AND later.due_at > run.due_at
            )
        ORDER BY run.due_at LIMIT 50 FOR UPDATE OF run SKIP LOCKED
    ) RETURNING id
"""


# --- Opening ------------------------------------------------------------------------------------------


def open_due() -> int:
    """Open the runs whose day, week or month has begun; returns how many."""
    now = database_time()
    last = RunbookRun.objects.filter(task=OuterRef("pk")).order_by("-due_at").values("due_at")[:1]
    tasks = RunbookTask.objects.filter(paused=False).annotate(last_due=Subquery(last))
    made = sum(_open(task, now) for task in tasks)
    _give_owners()
    if made:
        ring("news", "runbook")
    return made


def _open(task: RunbookTask, now: datetime) -> int:
    last: datetime | None = vars(task)["last_due"]
    after = max(last, task.since) if last else task.since
    rows = [
        RunbookRun(task=task, opens_at=opens, due_at=due, owner_name=owner_of(task, due))
        for opens, due in islice(opened(task, after, now), AT_ONCE)
    ]
    # Another clock may have been first: its rows are the same.
    RunbookRun.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def owner_of(task: RunbookTask, at: datetime) -> str:
    """Who has to see to it then: a person, whoever is on call, or "" for nobody."""
    if task.owner.startswith(SCHEDULE):
        people = on_call(task.owner.removeprefix(SCHEDULE), at)
    else:
        people = list(Person.objects.filter(username=task.owner, is_active=True)) if task.owner else []
    return people[0].title_name if people else ""


def _give_owners() -> None:
    """A gap in a rotation may have been filled since."""
    without = RunbookRun.objects.filter(state=State.OPEN, owner_name="").exclude(task__owner="")
    for run in without.select_related("task")[:AT_ONCE]:
        if name := owner_of(run.task, run.due_at):
            RunbookRun.objects.filter(pk=run.pk, owner_name="").update(owner_name=name)


# --- Missing ------------------------------------------------------------------------------------------


def miss_due() -> int:
    """Mark what was not done in time, by the database's clock, and raise or end the alerts; returns how many."""
    over = RunbookRun.objects.filter(state=State.OPEN, due_at__lte=Now()).order_by("due_at").select_related("task")
    missed = sum(_miss(run) for run in over[:500])
    say_missed()
    return missed


def _miss(run: RunbookRun) -> bool:
    with transaction.atomic():
        if not RunbookRun.objects.filter(pk=run.pk, state=State.OPEN).update(state=State.MISSED):
            return False
        transaction.on_commit(lambda: ring("news", "runbook"))
        record(CLOCK, "runbook.missed", f"{run.task}, due {run.due_at:%Y-%m-%d %H:%M} UTC",
               data={"owner": run.owner_name, "due": run.due_at, "seen": run.seen})  # fmt: skip
    return True


def say_missed() -> int:
    """An alert for each task that was missed last and has not been done since; over once it is, or its next one is."""
    later = RunbookRun.objects.filter(task=OuterRef("task"), due_at__gt=OuterRef("due_at")).exclude(state=State.OPEN)
    rows = RunbookRun.objects.filter(state=State.MISSED).exclude(Exists(later)).select_related("task")
    found = [_alert(run) for run in rows.exclude(task__paused=True)]
    return say_news(found, firing_of("runbook:"))


def _alert(run: RunbookRun) -> OwnAlert:
    owner = f"; {run.owner_name} was to do it" if run.owner_name else "; nobody was to do it"
    return OwnAlert(
        name=MISSED,
        severity="warning",
        summary=f"{run.task.title} was not done by {run.due_at:%-d %b %H:%M} UTC{owner}",
        firing=True,
        started_at=run.due_at,
        labels={"task": run.task.slug, "cadence": run.task.cadence},
        annotations={"owner": run.owner_name, "seen": run.seen},
        url=settings.SITE_URL + run.task.get_absolute_url(),
        mark=f"runbook:{run.task_id}",
    )


# --- Looking by itself --------------------------------------------------------------------------------


def look() -> int:
    """Look at what the system can see for itself, each thing once; tick what holds. Returns how many runs."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [LOOK_EVERY.total_seconds()])
        claimed = [row[0] for row in cursor.fetchall()]
    found: dict[str, Seen] = {}
    for run in RunbookRun.objects.filter(pk__in=claimed).select_related("task"):
        key = run.task.check_key
        if key not in found:
            found[key] = _look(key)
        write(run, found[key])
    return len(claimed)


def _look(key: str) -> Seen:
    """What a check sees; one that breaks must not keep the others from looking."""
    if key not in CHECKS:
        return Seen(False, f"There is no check named {key}; a person has to look.")
    try:
        return CHECKS[key]()
    except Exception:
        logger.exception("the check %s of the runbook broke", key)
        return Seen(False, "The check itself broke (the log of the clock says how); a person has to look.")


def write(run: RunbookRun, seen: Seen) -> None:
    """Keep what was seen; tick the run when it holds, unless somebody was first."""
    with transaction.atomic():
        rows = RunbookRun.objects.filter(pk=run.pk)
        if not seen.ok:
            still = rows.filter(state__in=[State.OPEN, State.MISSED])
            changed = still.exclude(seen=seen.words).update(seen=seen.words)
        else:
            kept = {"seen": seen.words, "evidence": seen.words, "evidence_url": seen.url, "done_at": Now(),
                    "done_by_name": MACHINE}  # fmt: skip
            changed = rows.filter(state=State.OPEN).update(state=State.DONE, **kept)
            changed = changed or rows.filter(state=State.MISSED).update(state=State.LATE, **kept)
        if not changed:
            return
        transaction.on_commit(lambda: ring("news", "runbook"))
        if seen.ok:
            record(CLOCK, "runbook.ticked", f"{run.task}, due {run.due_at:%Y-%m-%d %H:%M} UTC",
                   data={"evidence": seen.words, "proof": seen.url})  # fmt: skip
