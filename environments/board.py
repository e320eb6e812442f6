"""What the board says, for one person, in a fixed number of queries however much there is."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, Subquery, Window, prefetch_related_objects
from django.db.models.functions import Now, RowNumber
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.clock.models import Beat
from controlplane.operations import attached
from controlplane.operations.access import HEAVY, noteworthy, visible_operations
from controlplane.operations.inbox import keep_count, waiting_for
from controlplane.operations.models import Halt, Operation
from controlplane.operations.presentation import Status
from controlplane.operations.states import EXECUTING, HOLDS_LOCKS, State
from controlplane.operations.world import standing
from controlplane.web.tones import Tone
from environments.access import visible_environments
from environments.cards import Card, Contribution, LineCell, contributions
from environments.drift import Standing, standing_of, with_drift
from environments.models import Environment, EnvironmentLock, Placement, Service
from environments.samples import Health, health_of

LATELY = 10
AT_MOST = 6
ACTIVE_AT_MOST = 50
MOVING = HOLDS_LOCKS | {State.QUEUED, State.SCHEDULED}
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
    drift: Standing = field(default_factory=Standing)


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
    halt: Halt | None


def board(actor: Actor) -> Board:
    """The board of this person: what needs somebody, what runs where, what happened."""
    held = attached.rows(EnvironmentLock.objects.filter(environment=OuterRef("pk"), released_at=None))
    environments: list[Environment] = list(visible_environments(actor).annotate(held=held))
    columns = {one.slug: Column(one, attached.made_of(EnvironmentLock, vars(one)["held"])) for one in environments}
    active, lately = _active_and_lately(actor)
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
    added = contributions(actor, environments)
    rows = _rows(actor, columns)
    seen = _seen()
    return Board(
        _cards(actor, active, list(columns.values()), added, _silence(active, seen), _drifted(rows)),
        list(columns.values()),
        rows,
        [(one, [one.cells.get(slug) for slug in columns]) for one in added if one.cells],
        lately,
        seen["halt"],
    )


def _active_and_lately(actor: Actor) -> tuple[list[Status], list[Operation]]:
    """What moves or waits to, and the newest that are worth a line, the newest first: two queries."""
    visible = visible_operations(actor)
    moving = visible.filter(state__in=MOVING).order_by("queued_at", "pk")[:ACTIVE_AT_MOST]
    newest = noteworthy(visible).order_by("-pk")[:LATELY]
    both = visible.filter(Q(pk__in=moving.values("pk")) | Q(pk__in=newest.values("pk")))
    found = list(both.defer("gates", "search").order_by("queued_at", "pk"))
    active = [one for one in found if one.state in MOVING][:ACTIVE_AT_MOST]
    prefetch_related_objects(active, "steps")
    # What moves is worth a line too, so the newest of all that was found are the newest that are.
    lately = sorted(found, key=lambda one: -one.pk)[:LATELY]
    return [Status(one) for one in active], sorted(lately, key=_when, reverse=True)


def _when(operation: Operation) -> datetime:
    """When it last went on: what was filled in later is not newer for that."""
    return operation.finished_at or operation.started_at or operation.requested_at


def _rows(actor: Actor, columns: dict[str, Column]) -> list[tuple[Service, list[Cell]]]:
    environments = [column.environment for column in columns.values()]
    here = Placement.objects.filter(environment__in=environments).select_related("environment", "service")
    placements = list(with_drift(here))
    health = health_of(placements)
    by_service: dict[Service, dict[str, Cell]] = defaultdict(dict)
    for placement in placements:
        slug = placement.environment.slug
        may = actor.may(Role.OPERATOR, [slug])
        by_service[placement.service][slug] = Cell(
            placement, health[placement.pk], columns[slug].moving, may, standing_of(placement)
        )
    nothing = Cell(None)
    return [
        (service, [cells.get(slug, nothing) for slug in columns])
        for service, cells in sorted(by_service.items(), key=lambda item: item[0].slug)
    ]


# --- The now-strip: what needs a person first ---------------------------------------------------------


def _cards(
    actor: Actor, active: list[Status], columns: list[Column], added: list[Contribution], *found: list[Card]
) -> list[Card]:
    """found: of silence and of drift."""
    silence, drifted = found
    approvals = _approvals(actor)
    return [
        *_doubts(active),
        *approvals[0],
        *silence,
        *[card for one in added for card in one.cards],
        *drifted,
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
    total = Window(Count("pk"), partition_by="mine")
    found = list(waiting.annotate(rank=rank, total=total).filter(rank__lte=AT_MOST).order_by("rank"))
    keep_count(actor, next((vars(one)["total"] for one in found if vars(one)["mine"]), 0))
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


def _seen() -> dict[str, Any]:
    """Whether a clock beats, what nobody takes up, and whether everything is stopped: one query."""
    unheard = Q(state=State.QUEUED, queued_at__lt=Now() - SILENT_WORKER, outcome="")
    lost = Q(state__in=EXECUTING, lease_until__lt=Now() - SILENT_WORKER)
    at_work = Operation.objects.filter(state__in=EXECUTING, lease_until__gt=Now())
    stuck = Operation.objects.filter(lost | unheard & ~Exists(at_work)).order_by("pk")
    beats = Beat.objects.filter(beat_at__gt=Now() - SILENT_CLOCK)
    row = Environment.objects.order_by("pk").values(
        clock=Exists(beats),
        stuck=Subquery(stuck.values("pk")[:1]),
        stopped=attached.rows(Halt.objects.filter(released_at=None)),
    )
    seen = row.first()
    if seen is None:
        return {"clock": 1, "stuck": 0, "halt": standing()}
    return {**seen, "halt": next(iter(attached.made_of(Halt, seen["stopped"])), None)}


def _silence(active: list[Status], seen: Mapping[str, Any]) -> list[Card]:
    """Nobody does the work: the page says which process is missing, not only that nothing moves."""
    cards = []
    if seen["stuck"]:
        shown = next((one.operation for one in active if one.operation.pk == seen["stuck"]), None)
        which, url = (f"operation {shown.pk}", shown.get_absolute_url()) if shown else ("what waits", reverse("board"))
        text = f"Nobody takes up {which}. See that a worker process runs."
        cards.append(Card(Tone.BAD, "No worker answers", text, url))
    if not seen["clock"]:
        text = "Nobody probes, keeps schedules or looks after lost workers. See that a clock process runs."
        cards.append(Card(Tone.BAD, "The clock stands still", text, reverse("board")))
    return cards


def _drifted(rows: list[tuple[Service, list[Cell]]]) -> list[Card]:
    """What runs otherwise than it was deployed, a card a place; not while an operation changes it."""
    cells = [cell for _, each in rows for cell in each if cell.placement and cell.drift.differences and not cell.moving]
    cards = []
    for cell in cells[:AT_MOST]:
        first, place = cell.drift.differences[0], cell.placement
        if place is None:
            continue
        more = f", and {len(cell.drift.differences) - 1} more" if len(cell.drift.differences) > 1 else ""
        title = f"{place} differs from what was deployed"
        text = f"{first.subject}: {first.found_shortly}{more}"
        url = f"{place.environment.get_absolute_url()}#drift-{place.pk}"
        cards.append(Card(Tone.WAIT, title, text, url, since=cell.drift.since))
    return cards


def _running(active: list[Status]) -> list[Card]:
    moving = [status for status in active if status.operation.state in EXECUTING]
    return [
        Card(
            one.tone, one.operation.title, one.word if one.stands_still else one.where or one.word,
            one.operation.get_absolute_url(), one.percent, None if one.stands_still else one.operation.started_at,
            one.operation.expected_seconds,
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
