"""Deployments and freezes by the day: what was, what is under way, what is planned, and when nothing may be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.operations.states import ACTIVE, FINISHED, State
from controlplane.web.tones import Tone
from deployments.gates.times import window_of
from deployments.listing import visible_deployments
from deployments.models import Deployment, FreezeWindow
from environments.access import visible_environments
from environments.models import Environment

AT_MOST = 500  # deployments shown at once; a calendar with more is read by the day in the list
SHOWN = 4  # a day, in the view of a month
DAY = timedelta(days=1)
VIEWS = ("month", "week")
TONES = {State.SUCCEEDED: Tone.OK, State.FAILED: Tone.BAD, State.NEEDS_OPERATOR: Tone.WAIT, State.SCHEDULED: Tone.WAIT,
         State.AWAITING_APPROVAL: Tone.WAIT, State.RUNNING: Tone.BUSY, State.CANCELLING: Tone.BUSY}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One deployment in the calendar. at: when it ended, began, or is to begin. is_off: it ended, and never began."""

    at: datetime
    began: datetime
    until: datetime
    tone: Tone
    word: str
    title: str
    short: str  # for a narrow cell: "production 1.5.0"
    url: str
    environment: str
    operation: int
    is_off: bool
    reason: str


@dataclass(frozen=True)
class Freeze:
    """One occurrence of a freeze, from its beginning (included) to its end (not)."""

    began: datetime
    ended: datetime
    reason: str
    environment: Environment
    key: str


@dataclass
class Day:
    """One day. inside: of the month that is shown."""

    date: date
    inside: bool
    is_today: bool
    entries: list[Entry] = field(default_factory=list)
    freezes: list[Freeze] = field(default_factory=list)
    shown: int = SHOWN

    @property
    def first(self) -> list[Entry]:
        """Those shown."""
        return self.entries[: self.shown]

    @property
    def more(self) -> int:
        """How many are not."""
        return max(0, len(self.entries) - self.shown)


class CalendarPage:
    """A month or a week, in UTC, of the environments that the person sees. environment: the slug of one, "" for all."""

    def __init__(self, actor: Actor, view: str = "", day: str = "", environment: str = "") -> None:
        self._actor = actor
        self.view = view if view in VIEWS else VIEWS[0]
        self.today = timezone.now().date()
        self.day = _date(day) or self.today
        self.environment = environment

    @cached_property
    def environments(self) -> list[Environment]:
        """What may be chosen."""
        return list(visible_environments(self._actor))

    @cached_property
    def _chosen(self) -> list[Environment]:
        return [one for one in self.environments if self.environment in ("", one.slug)]

    @property
    def first(self) -> date:
        """The Monday that it begins with."""
        begin = self.day.replace(day=1) if self.view == "month" else self.day
        return begin - timedelta(days=begin.weekday())

    @property
    def last(self) -> date:
        """The day after the Sunday that it ends with."""
        if self.view == "week":
            return self.first + 7 * DAY
        end = _next_month(self.day)
        return end + timedelta(days=-end.weekday() % 7)

    @property
    def earlier(self) -> date:
        """A day of the month or week before."""
        return self.day.replace(day=1) - DAY if self.view == "month" else self.day - 7 * DAY

    @property
    def later(self) -> date:
        """A day of the one after."""
        return _next_month(self.day) if self.view == "month" else self.day + 7 * DAY

    @cached_property
    def weeks(self) -> list[list[Day]]:
        """Days, week by week."""
        count, shown = (self.last - self.first).days, SHOWN if self.view == "month" else AT_MOST
        dates = [self.first + number * DAY for number in range(count)]
        inside = [self.view == "week" or one.month == self.day.month for one in dates]
        days = {one: Day(one, here, one == self.today, shown=shown) for one, here in zip(dates, inside, strict=True)}
        for entry in self.entries:
            if (found := days.get(entry.at.astimezone(UTC).date())) is not None:
                found.entries.append(entry)
        for freeze in self.freezes:
            for one, found in days.items():
                if freeze.began < _midnight(one + DAY) and freeze.ended > _midnight(one):
                    found.freezes.append(freeze)
        rows = list(days.values())
        return [rows[start : start + 7] for start in range(0, count, 7)]

    @cached_property
    def entries(self) -> list[Entry]:
        """Deployments that ended, run or are planned in the time, the first first."""
        return entries_between(self._actor, self._chosen, _midnight(self.first), _midnight(self.last))

    @property
    def is_cut(self) -> bool:
        """There are more than are shown."""
        return len(self.entries) == AT_MOST

    @cached_property
    def freezes(self) -> list[Freeze]:
        """Occurrences of freezes that overlap the time."""
        return freezes_between(self._chosen, _midnight(self.first), _midnight(self.last))


def entries_between(actor: Actor, environments: Sequence[Environment], since: datetime, until: datetime) -> list[Entry]:
    """Two queries, each of `AT_MOST` rows: the newest that ended in the time, and those that have not ended.

    Both go by an index of operations (when they ended; which are active), so old ones cost nothing.
    """
    here = visible_deployments(actor).filter(environment__in=environments)
    ended = here.filter(operation__finished_at__gte=since, operation__finished_at__lt=until)
    active = here.filter(operation__state__in=sorted(ACTIVE)).order_by("-pk")[:AT_MOST]
    rows = [*ended.order_by("-operation__finished_at")[:AT_MOST], *active]
    found = [_entry(one, timezone.now()) for one in rows]
    inside = [one for one in found if since <= one.at < until]
    return sorted(inside, key=lambda one: (one.at, one.operation))[-AT_MOST:]


def _entry(deployment: Deployment, now: datetime) -> Entry:
    operation = deployment.operation
    state = State(operation.state)
    at = operation.scheduled_for if state in (State.SCHEDULED, State.AWAITING_APPROVAL) else operation.started_at
    at = at or operation.finished_at or operation.requested_at  # what never ran took no time
    back = deployment.kind == Deployment.Kind.ROLLBACK
    until = operation.finished_at or max(now, at)
    return Entry(
        at=(operation.finished_at or at) if state in FINISHED else at,
        began=at,
        until=until if state in FINISHED else at + timedelta(seconds=operation.expected_seconds or 900),
        tone=TONES.get(state, Tone.IDLE),
        word=operation.get_state_display(),
        title=operation.title,
        short=f"{deployment.environment.slug} {deployment.release.version}{' again' if back else ''}",
        url=operation.get_absolute_url(),
        environment=deployment.environment.slug,
        operation=operation.pk,
        is_off=state in FINISHED and operation.started_at is None,
        reason=operation.reason,
    )


def freezes_between(environments: Sequence[Environment], since: datetime, until: datetime) -> list[Freeze]:
    """One query; occurrences, the first first. What was closed before a freeze was taken away was closed."""
    by_key = {one.pk: one for one in environments}
    rows = FreezeWindow.objects.filter(environment__in=environments).exclude(ended_at__lt=since)
    return sorted(
        (
            Freeze(began, ended, row.reason, by_key[row.environment_id], f"freeze-{row.pk}")
            for row in rows
            for began, ended in _held(row, since, until)
        ),
        key=lambda one: (one.began, one.key),
    )


def _held(row: FreezeWindow, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """When it closed or will close the environment: not before somebody made it, nor after somebody took it away."""
    for began, ended in window_of(row).between(since, until):
        span = max(began, row.made_at), min(ended, row.ended_at or ended)
        if span[0] < span[1]:
            yield span


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _next_month(day: date) -> date:
    return (day.replace(day=28) + 4 * DAY).replace(day=1)


def _date(text: str) -> date | None:
    """A day as an address has it; None for what is no day, or one that nobody looks for."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if 2000 <= found.year <= 2200 else None
