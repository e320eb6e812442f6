"""What the board says, for one person, in a fixed number of queries however much there is."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import Exists, OuterRef, Q, Subquery, Window
from django.db.models.functions import Now, RowNumber
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.clock.models import Beat
from controlplane.operations.access import HEAVY, noteworthy, visible_operations
from controlplane.operations.inbox import waiting_for
from controlplane.operations.models import Operation
from controlplane.operations.presentation import Status
from controlplane.operations.states import EXECUTING, HOLDS_LOCKS, State
from controlplane.web.tones import Tone
from environments.access import visible_environments
from environments.cards import Card, Contribution, LineCell, contributions
from environments.models import Environment, EnvironmentLock, Placement, Service
from environments.samples import Health, health_of

LATELY = 10
AT_MOST = 6
# A worker takes what is queued within a second or two, and a clock beats every second: later than this is news.
SILENT_WORKER = timedelta(seconds=20)
SILENT_CLOCK = timedelta(seconds=15)


@dataclass(frozen=True)
class Cell:
    """One service in one environment. placement None: it has no place there."""

    placement: Placement | None
    health: Health | None = None
    moving: Status | None = None
    may_operate: bool = False


@dataclass
class Column:
    """One environment, and who holds it."""

    environment: Environment
    locks: list[EnvironmentLock] = field(default_factory=list)
    moving: Status | None = None
    queued: int = 0


@dataclass(frozen=True)
class Board:
    """Everything on the page."""

    cards: list[Card]
    columns: list[Column]
    rows: list[tuple[Service, list[Cell]]]
    lines: list[tuple[Contribution, list[LineCell | None]]]
    lately: list[Operation]


def board(actor: Actor) -> Board:
    """The board of this person: what needs somebody, what runs where, what happened."""
    environments = list(visible_environments(actor))
    columns = {environment.slug: Column(environment) for environment in environments}
    for lock in EnvironmentLock.objects.filter(environment__in=environments, released_at=None):
        next(c for c in columns.values() if c.environment.pk == lock.environment_id).locks.append(lock)
    active = _active(actor)
    for status in active:
        for scope in status.operation.scopes:
            if (column := columns.get(scope)) is None:
                continue
            if scope not in status.operation.lock_names:
                continue  # it changes nothing there
            if status.operation.state in HOLDS_LOCKS:
                column.moving = status
            else:
                column.queued += 1
    lately = noteworthy(visible_operations(actor)).defer(*HEAVY).order_by("-pk")[:LATELY]
    added = contributions(actor, environments)
    return Board(
        _cards(actor, active, list(columns.values()), added),
        list(columns.values()),
        _rows(actor, columns),
        [(one, [one.cells.get(slug) for slug in columns]) for one in added if one.cells],
        list(lately),
    )


def _active(actor: Actor) -> list[Status]:
    shown = visible_operations(actor).filter(state__in=HOLDS_LOCKS | {State.QUEUED, State.SCHEDULED})
    return [Status(operation) for operation in shown.prefetch_related("steps").order_by("queued_at", "pk")[:50]]


def _rows(actor: Actor, columns: dict[str, Column]) -> list[tuple[Service, list[Cell]]]:
    environments = [column.environment for column in columns.values()]
    placements = list(Placement.objects.filter(environment__in=environments).select_related("environment", "service"))
    health = health_of(placements)
    by_service: dict[Service, dict[str, Cell]] = defaultdict(dict)
    for placement in placements:
        slug = placement.environment.slug
        may = actor.may(Role.OPERATOR, [slug])
        by_service[placement.service][slug] = Cell(placement, health[placement.pk], columns[slug].moving, may)
    nothing = Cell(None)
    return [
        (service, [cells.get(slug, nothing) for slug in columns])
        for service, cells in sorted(by_service.items(), key=lambda item: item[0].slug)
    ]


# --- The now-strip: what needs a person first ---------------------------------------------------------


def _cards(actor: Actor, active: list[Status], columns: list[Column], added: list[Contribution]) -> list[Card]:
    approvals = _approvals(actor)
    return [
        *_doubts(active),
        *approvals[0],
        *_silence(actor),
        *[card for one in added for card in one.cards],
        *_running(active),
        *approvals[1],
        *[_locked(column, lock) for column in columns for lock in column.locks],
        *_queue(active),
    ]


def _doubts(active: list[Status]) -> list[Card]:
    open_ones = [status.operation for status in active if status.operation.state == State.NEEDS_OPERATOR]
    return [Card(Tone.WAIT, f"{one.title} needs an operator", one.outcome, one.get_absolute_url()) for one in open_ones]


def _approvals(actor: Actor) -> tuple[list[Card], list[Card]]:
    """What waits for this person's word; and for others', as whoever asked wants to know that it is still missing."""
    mine = Exists(waiting_for(actor).filter(pk=OuterRef("pk")))
    waiting = visible_operations(actor).filter(state=State.AWAITING_APPROVAL).defer(*HEAVY).annotate(mine=mine)
    rank = Window(RowNumber(), partition_by="mine", order_by=["approval_deadline", "pk"])
    found = list(waiting.annotate(rank=rank).filter(rank__lte=AT_MOST).order_by("rank"))
    return (
        _one_or_many(Tone.WAIT, [one for one in found if one.mine], "your approval"),
        _one_or_many(Tone.IDLE, [one for one in found if not one.mine], "an approval"),
    )


def _one_or_many(tone: Tone, waiting: list[Operation], what: str) -> list[Card]:
    if not waiting:
        return []
    if len(waiting) == 1:
        one = waiting[0]
        text = f"asked by {one.requested_by_name}: “{one.reason}”"
        return [Card(tone, f"{one.title} waits for {what}", text, one.get_absolute_url())]
    count = f"{AT_MOST} or more" if len(waiting) == AT_MOST else str(len(waiting))
    text = " · ".join(f"{one.title}, by {one.requested_by_name}" for one in waiting[:2])
    return [Card(tone, f"{count} operations wait for {what}", text, reverse("approvals"))]


def _silence(actor: Actor) -> list[Card]:
    """Nobody does the work: the page says which process is missing, not only that nothing moves."""
    cards = []
    unheard = Q(state=State.QUEUED, queued_at__lt=Now() - SILENT_WORKER, outcome="")
    lost = Q(state__in=EXECUTING, lease_until__lt=Now() - SILENT_WORKER)
    at_work = Operation.objects.filter(state__in=EXECUTING, lease_until__gt=Now())
    stuck = Operation.objects.filter(lost | unheard & ~Exists(at_work)).order_by("pk")
    beats = Beat.objects.filter(beat_at__gt=Now() - SILENT_CLOCK)
    one_row = Environment.objects.order_by("pk")[:1]
    (seen,) = one_row.values(clock=Exists(beats), stuck=Subquery(stuck.values("pk")[:1])) or [{"clock": 1, "stuck": 0}]
    if seen["stuck"]:
        shown = visible_operations(actor).filter(pk=seen["stuck"]).first()
        which, url = (f"operation {shown.pk}", shown.get_absolute_url()) if shown else ("what waits", reverse("board"))
        text = f"Nobody takes up {which}. See that a worker process runs."
        cards.append(Card(Tone.BAD, "No worker answers", text, url))
    if not seen["clock"]:
        text = "Nobody probes, keeps schedules or looks after lost workers. See that a clock process runs."
        cards.append(Card(Tone.BAD, "The clock stands still", text, reverse("board")))
    return cards


def _running(active: list[Status]) -> list[Card]:
    moving = [status for status in active if status.operation.state in EXECUTING]
    return [
        Card(
            Tone.BUSY, one.operation.title, one.where or one.word, one.operation.get_absolute_url(),
            one.percent, one.operation.started_at, one.operation.expected_seconds,
        )
        for one in moving[:AT_MOST]
    ]  # fmt: skip


def _locked(column: Column, lock: EnvironmentLock) -> Card:
    environment = column.environment
    text = f"by {lock.author_name}: {lock.reason}"
    return Card(Tone.WAIT, f"{environment.name} is locked", text, environment.get_absolute_url())


def _queue(active: list[Status]) -> list[Card]:
    waiting = [status.operation for status in active if status.operation.state in (State.QUEUED, State.SCHEDULED)]
    if not waiting:
        return []
    first = waiting[0]
    if len(waiting) > 1:
        titles = ", ".join(one.title for one in waiting[:2])
        return [Card(Tone.IDLE, f"{len(waiting)} operations wait in the queue", titles, first.get_absolute_url())]
    planned = first.scheduled_for if first.state == State.SCHEDULED else None
    words = f"starts {planned:%-d %b %H:%M} UTC" if planned else "waits for a worker"
    return [Card(Tone.IDLE, first.title, first.outcome or words, first.get_absolute_url())]
