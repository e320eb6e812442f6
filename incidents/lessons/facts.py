"""What is known of an incident that is over, gathered for its draft: bounded, however long its timeline is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Q

from controlplane.operations.models import Operation
from controlplane.operations.presentation import word_of
from controlplane.operations.states import State
from deployments.models import Deployment
from incidents.models import Incident, Level, Page, TimelineEntry

Kind = TimelineEntry.Kind

# How many entries of each kind a draft looks at; people read the rest on the incident's page.
AT_MOST: dict[Kind, int] = {
    Kind.STATE: 60, Kind.PAGE: 40, Kind.OPERATION: 30, Kind.CHANGE: 30, Kind.CHECKLIST: 30, Kind.NOTE: 60,
    Kind.ALERT: 5,
}  # fmt: skip
# Deployments that ended in so long before the opening are said to be before it.
BEFORE = timedelta(hours=24)
DEPLOYMENTS = 5


@dataclass(frozen=True)
class Line:
    """One entry as it is shown now: a note with its last edit."""

    seq: int
    at: datetime
    kind: str
    tone: str
    text: str
    actor: str
    data: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Before:
    """A deployment or rollback that ended before the incident was opened."""

    operation: int
    title: str
    word: str
    ended_at: datetime
    who: str


@dataclass(frozen=True)
class Facts:
    """Everything a draft is made of. lines: in the order in which things happened."""

    incident: Incident
    lines: Sequence[Line]
    before: Sequence[Before]
    levels: Sequence[Level]  # those that were paged
    pages: Sequence[Page]

    def of(self, kind: Kind) -> list[Line]:
        """The lines of one kind."""
        return [line for line in self.lines if line.kind == kind]

    @property
    def to_acknowledge(self) -> timedelta | None:
        """From the opening; None when nobody acknowledged it before it was resolved."""
        at = self.incident.acknowledged_at
        return at - self.incident.opened_at if at else None

    @property
    def to_resolve(self) -> timedelta:
        """From the opening."""
        assert self.incident.resolved_at is not None
        return self.incident.resolved_at - self.incident.opened_at

    @property
    def opening(self) -> int:
        """The number of the entry that opened it: the first there is."""
        return min((line.seq for line in self.lines), default=1)

    def state_entry(self, words: str) -> int:
        """The number of the last change of state that begins so; of the opening when there is none."""
        found = [line.seq for line in self.of(Kind.STATE) if line.text.startswith(words)]
        return found[-1] if found else self.opening


def gather(incident: Incident) -> Facts:
    """The facts of a resolved incident, in a fixed number of queries."""
    entries: dict[int, Line] = {}
    for kind, limit in AT_MOST.items():
        entries |= {line.seq: line for line in _lines(incident, kind, limit)}
    paged = Level.objects.filter(incident=incident, state=Level.State.FIRED).order_by("due_at", "number")
    return Facts(
        incident,
        sorted(entries.values(), key=lambda line: (line.at, line.seq)),
        _before(incident),
        list(paged[:50]),
        list(Page.objects.filter(incident=incident).order_by("pk")[:50]),
    )


def _lines(incident: Incident, kind: Kind, limit: int) -> list[Line]:
    """The first ones, and the very last: hidden ones are left out, as on the page."""
    rows = TimelineEntry.objects.filter(incident=incident, kind=kind).exclude(mark__hidden=True)
    rows = rows.select_related("mark")
    found = list(rows.order_by("at", "seq")[:limit])
    if len(found) == limit:
        found += list(rows.order_by("-at", "-seq")[:1])
    return [_line(entry) for entry in found]


def _line(entry: TimelineEntry) -> Line:
    mark = getattr(entry, "mark", None)
    text = mark.text if mark is not None and mark.text else entry.text
    return Line(entry.seq, entry.at, entry.kind, entry.tone, text, entry.actor, entry.data)


def _before(incident: Incident) -> list[Before]:
    """Deployments to its environments that ended shortly before it, the last one first."""
    opened = incident.opened_at
    ended = Q(operation__finished_at__gt=opened - BEFORE, operation__finished_at__lte=opened)
    ran = Q(operation__state__in=[State.SUCCEEDED, State.FAILED])
    rows = Deployment.objects.filter(ended & ran).select_related("operation")
    if incident.environments:
        rows = rows.filter(environment__slug__in=incident.environments)
    last = rows.defer("operation__plan", "operation__gates", "operation__search")
    return [_ended(one.operation) for one in last.order_by("-operation__finished_at")[:DEPLOYMENTS]]


def _ended(operation: Operation) -> Before:
    assert operation.finished_at is not None
    who = operation.requested_by_name
    return Before(operation.pk, operation.title, word_of(operation), operation.finished_at, who)
