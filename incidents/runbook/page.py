"""What the pages of the runbook show, in a fixed number of queries however long the history is."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from django.db.models.functions import Now

from backups.schedules import next_run
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.operations.keyset import Page, page_of
from controlplane.web.tones import Tone
from incidents.models import RunbookRun, RunbookTask
from incidents.runbook.access import may_see_evidence
from incidents.runbook.checks import CHECKS

State = RunbookRun.State
STRIP = 14
# When so little is left of its time, what is still to be done is orange before it is red.
NEARLY = 0.25
TITLES = {"daily": "Today", "weekly": "This week", "monthly": "This month"}

LATEST = """
    SELECT run.* FROM unnest(%s::bigint[]) AS wanted (task_id)
    CROSS JOIN LATERAL (
        SELECT * FROM incidents_runbookrun WHERE task_id = wanted.task_id ORDER BY due_at DESC LIMIT %s
    ) AS run
"""


@dataclass(frozen=True)
class RunView:
    """One run as it is shown now."""

    run: RunbookRun
    now: datetime

    @property
    def is_over(self) -> bool:
        """Its time has passed and nobody has done it, also before a clock has marked it."""
        return self.run.state == State.MISSED or (self.run.state == State.OPEN and self.run.due_at <= self.now)

    @property
    def is_open(self) -> bool:
        """It can still be ticked, be it late."""
        return self.run.state in (State.OPEN, State.MISSED)

    @property
    def tone(self) -> Tone:
        """Red when missed, orange when its time runs out or what was seen does not hold."""
        if self.is_over:
            return Tone.BAD
        if not self.is_open:
            return Tone.OK
        whole = self.run.due_at - self.run.opens_at
        return Tone.WAIT if self.run.due_at - self.now < NEARLY * whole or self.run.seen else Tone.IDLE

    @property
    def word(self) -> str:
        """The same in words."""
        return "missed" if self.is_over else str(self.run.get_state_display())


@dataclass
class TaskView:
    """One task: its newest run, the ones before, and when it is due next."""

    task: RunbookTask
    now: datetime
    runs: list[RunView] = field(default_factory=list)  # the newest first

    @property
    def current(self) -> RunView | None:
        """The newest run."""
        return self.runs[0] if self.runs else None

    @property
    def strip(self) -> list[RunView]:
        """The last ones, the oldest first."""
        return self.runs[::-1]

    @property
    def next_due(self) -> datetime | None:
        """The due time after the newest run."""
        if self.task.paused:
            return None
        after = max(self.now, self.current.run.due_at) if self.current else self.now
        return next_run(self.task.due, self.task.time_zone, after)

    @property
    def checks_itself(self) -> bool:
        """The system can look at it."""
        return self.task.check_key in CHECKS

    @property
    def order(self) -> tuple[int, datetime, int]:
        """Overdue first, then by due time, then what is done."""
        if self.current is None:
            return 3, self.now + timedelta(days=400), self.task.position
        rank = 0 if self.current.is_over else 1 if self.current.is_open else 2
        return rank, self.current.run.due_at, self.task.position


def views_of(tasks: Iterable[RunbookTask], count: int = STRIP) -> list[TaskView]:
    """The tasks with their last runs: one query for all of them. Each task has `asked_at`, the database's time."""
    views = {task.pk: TaskView(task, vars(task)["asked_at"]) for task in tasks}
    for run in RunbookRun.objects.raw(LATEST, [list(views), count]):
        view = views[run.task_id]
        run.task = view.task
        view.runs.append(RunView(run, view.now))
    for view in views.values():
        view.runs.sort(key=lambda one: one.run.due_at, reverse=True)
    return list(views.values())


@dataclass(frozen=True)
class Group:
    """The tasks of one cadence."""

    title: str
    cadence: str
    views: list[TaskView]

    @property
    def done(self) -> int:
        """How many are done this time."""
        return sum(1 for view in self.views if view.current and not view.current.is_open)

    @property
    def missed(self) -> int:
        """How many were missed and still are."""
        return sum(1 for view in self.views if view.current and view.current.is_over)


class RunbookPage:
    """Today, this week, this month."""

    def __init__(self, actor: Actor) -> None:
        self.may_see = may_see_evidence(actor)
        self.may_tick = actor.may(Role.OPERATOR, [])
        self._views = views_of(RunbookTask.objects.annotate(asked_at=Now()))

    @cached_property
    def groups(self) -> list[Group]:
        """One of each cadence that has tasks."""
        by_cadence: dict[str, list[TaskView]] = defaultdict(list)
        for view in self._views:
            by_cadence[view.task.cadence].append(view)
        return [
            Group(title, cadence, sorted(by_cadence[cadence], key=lambda one: one.order))
            for cadence, title in TITLES.items()
            if by_cadence[cadence]
        ]


class TaskPage:
    """One task with its whole history, page by page."""

    def __init__(self, actor: Actor, task: RunbookTask, before: int = 0, after: int = 0) -> None:
        self.may_see = may_see_evidence(actor)
        self.may_tick = actor.may(Role.OPERATOR, [])
        self.may_pause = actor.is_admin
        (self.view,) = views_of(RunbookTask.objects.filter(pk=task.pk).annotate(asked_at=Now()))
        self._page: Page[RunbookRun] = page_of(RunbookRun.objects.filter(task=task), before, after, 30)
        self.newer, self.older = self._page.newer, self._page.older

    @property
    def history(self) -> list[RunView]:
        """A page of its runs, the newest first."""
        return [RunView(run, self.view.now) for run in self._page.rows]
