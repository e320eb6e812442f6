"""How a worker comes to hold an operation: everything is checked again, in the claiming transaction.

1. A queued one starts, unless the world is stopped, when it is first in the queue of its locks (and, in the
   background, when its turn has come), its plan built afresh is the plan that was signed, the approvals and gates
   hold, and the locks are free. What moved makes it stale.
2. One that is executing and whose lease ran out is taken over under a higher fence; the earlier worker can
   write nothing any more.
"""

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Now

from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations import approvals
from controlplane.operations.deadlines import give_up, is_past_its_start
from controlplane.operations.doorbell import ring_workers
from controlplane.operations.errors import OperationError, StepError
from controlplane.operations.events import NewEvent, append, storable
from controlplane.operations.gates import failed_gates, pending_gates, set_aside_by
from controlplane.operations.models import Event, Halt, Operation, OperationLock
from controlplane.operations.plans import Plan
from controlplane.operations.queue import queue_before, turn_in_the_background
from controlplane.operations.registry import Demand, kind_of
from controlplane.operations.states import EXECUTING, State
from controlplane.operations.transitions import (
    locked,
    move,
    ring_the_background,
    ring_the_next,
)
from controlplane.operations.world import standing, words_of

logger = logging.getLogger(__name__)
# Whether one may start takes a moment to find out; whoever takes longer is stuck or dead, and holds nobody up.
LONGEST_TURN = timedelta(seconds=30)


@dataclass(frozen=True)
class Claim:
    """The right to execute an operation, as long as the lease is renewed.

    fence: greater than any before it. asked: the monotonic time before the lease was asked for, in seconds.
    """

    operation_id: int
    worker: str
    fence: int
    asked: float


def claim(operation_id: int, worker: str) -> Claim | None:
    """Take the operation if it is free to be run; None when it is not (held, finished, or still waiting)."""
    operation = Operation.objects.filter(pk=operation_id).first()
    if operation is None:
        return None
    if operation.state == State.QUEUED:
        return _start(operation, worker)
    if operation.state in EXECUTING:
        return _take_over(operation, worker)
    return None


def _take_over(operation: Operation, worker: str) -> Claim | None:
    asked = time.monotonic()
    with transaction.atomic():
        lost = Operation.objects.select_for_update(skip_locked=True, no_key=True).filter(
            pk=operation.pk, state__in=EXECUTING, lease_until__lt=Now()
        )
        current = lost.first()
        if current is None:
            return None
        fence = _next_fence()
        Operation.objects.filter(pk=current.pk).update(fence=fence, worker=worker, lease_until=_lease())
        if current.worker:
            append(current.pk, [NewEvent(Event.Kind.WARNING, f"worker {current.worker} was lost; {worker} goes on")])
        else:
            append(current.pk, [NewEvent(Event.Kind.LINE, f"worker {worker} goes on")])
    return Claim(current.pk, worker, fence, asked)


def _start(operation: Operation, worker: str) -> Claim | None:
    """Start it, or write down why it waits: also when what should say so is broken, or nobody would ever know."""
    try:
        return _start_if_it_may(operation, worker)
    except (OperationalError, InterfaceError):
        raise
    except (StepError, OperationError) as error:
        _waits(operation, f"waits: {error}")
        _pass_the_turn(operation)
    except Exception as error:
        logger.exception("operation %s cannot be started", operation.pk)
        _waits(operation, f"waits: it cannot be checked ({type(error).__name__}); the worker's log says more")
        _pass_the_turn(operation)
    return None


def _start_if_it_may(operation: Operation, worker: str) -> Claim | None:
    if _is_stopped(operation) or _is_behind_another(operation) or _is_held_up(operation):
        return None
    kind = kind_of(operation)
    if kind.background and not _has_its_turn(operation):
        return None
    looked_at = database_time()
    facts = kind.facts(operation)
    plan = kind.plan(operation, facts)
    asked = time.monotonic()
    with transaction.atomic():
        operation = locked(operation.pk)
        if operation.state != State.QUEUED or _is_stopped(operation) or _world_moved_since(operation, looked_at):
            return None
        if is_past_its_start(operation):
            give_up(operation)
            return None
        gates = kind.gates(operation, facts)
        refusals = [f"{gate.title}: {gate.reason}" for gate in failed_gates(gates)]
        if moved := _what_moved(operation, plan, kind.demand and kind.demand(operation), refusals):
            _make_stale(operation, moved)
            return None
        if pending := pending_gates(gates):
            _let_others_pass(operation)
            _waits(operation, f"waits: {pending[0].reason}")
            return None
        _is_checked(operation)
        if blocker := _take_locks(operation):
            _waits(operation, f"waits for operation {blocker.pk}: {blocker.title}")
            return None
        fence = _next_fence()
        move(
            operation, State.RUNNING, came_from=[State.QUEUED], who=SYSTEM(f"worker {worker}"),
            text=f"started by worker {worker}", data={"fence": fence, **set_aside_by(gates)},
            started_at=Now(), worker=worker, fence=fence, lease_until=_lease(), outcome="", gate_pending_since=None,
        )  # fmt: skip
        halt = _halt_of(operation)  # since a moment ago; whoever stops it from now on stops what has started
        transaction.set_rollback(halt is not None)
    if halt:
        _waits(operation, f"waits: {words_of(halt)}")
        return None
    return Claim(operation.pk, worker, fence, asked)


def _halt_of(operation: Operation) -> Halt | None:
    """The stop of the world that holds it; whatever only takes away is held by none."""
    return None if kind_of(operation).takes_away else standing()


def _is_stopped(operation: Operation) -> bool:
    halt = _halt_of(operation)
    if halt is not None:
        _waits(operation, f"waits: {words_of(halt)}")
    return halt is not None


def _what_moved(operation: Operation, fresh: Plan, demand: Demand | None, failures: list[str]) -> str:
    if fresh.digest != operation.plan_digest:
        why = kind_of(operation).moved(operation, fresh) or "what runs there is not what the plan was made for"
        return f"{why}. Ask for it again: the new plan will show the difference."
    if not approvals.enough(operation, approvals.demand_of(operation)):
        return "an approval it stood on is void: the person who gave it may not give it any more. Ask for it again."
    if demand and not approvals.enough(operation, demand):
        return "who has to approve it was changed while it waited, and its approvals are not enough. Ask for it again."
    if not approvals.requester_may(operation):
        return (
            f"{operation.requested_by_name}, who asked for it, may not change {', '.join(operation.scopes)} any more."
        )
    return " ".join(failures)


def _make_stale(operation: Operation, moved: str) -> None:
    text = f"not started: {moved}"
    move(operation, State.STALE, came_from=[State.QUEUED], who=SYSTEM("worker"), text=text, outcome=text)


def _waits(operation: Operation, words: str) -> None:
    words = storable(words)
    if Operation.objects.filter(pk=operation.pk, state=State.QUEUED).exclude(outcome=words).update(outcome=words):
        transaction.on_commit(lambda: ring(f"operations/{operation.pk}"))


def _let_others_pass(operation: Operation) -> None:
    if Operation.objects.filter(pk=operation.pk, gate_pending_since=None).update(gate_pending_since=Now()):
        ring_the_next(operation)
        ring_the_background(operation)


def _is_checked(operation: Operation) -> None:
    """It waits for no gate any more, and should a lock keep it all the same, it has a whole turn after that."""
    waited = Operation.objects.filter(pk=operation.pk).exclude(gate_pending_since=None, turn_until=None)
    waited.update(gate_pending_since=None, turn_until=None)


def _is_held_up(operation: Operation) -> bool:
    """Somebody holds one of its locks: then what its start depends on need not be asked."""
    held = OperationLock.objects.filter(name__in=operation.lock_names).exclude(operation=operation)
    lock = held.select_related("operation").first()
    if lock is None:
        return False
    _waits(operation, f"waits for operation {lock.operation_id}: {lock.operation.title}")
    return True


def _has_its_turn(operation: Operation) -> bool:
    """A place in the background is free, and nobody was queued for it before.

    Two that look at once may both start where one lets others pass: it keeps workers free, it guards nothing.
    """
    turn = turn_in_the_background()
    if operation in turn:
        Operation.objects.filter(pk=operation.pk, turn_until=None).update(turn_until=Now() + LONGEST_TURN)
        return True
    if turn:
        first = turn[-1]
        _waits(operation, f"waits for a place in the background behind operation {first.pk}: {first.title}")
        ring_workers(first.pk)  # its own ring may be lost
    else:
        places = settings.BACKGROUND_OPERATIONS
        words = f"waits: {places} operations run in the background already, and others shall find a free worker"
        _waits(operation, words)
    return False


def _pass_the_turn(operation: Operation) -> None:
    """It cannot be checked: others in the background start before it until it can."""
    if Operation.objects.filter(pk=operation.pk, state=State.QUEUED, turn_until__gt=Now()).update(turn_until=Now()):
        ring_the_background(operation)


def _is_behind_another(operation: Operation) -> bool:
    first = queue_before(operation).first()
    # What is held by the stop of the world holds up nobody whom that lets pass.
    if first is None or (kind_of(operation).takes_away and standing()):
        return False
    _waits(operation, f"waits behind operation {first.pk}: {first.title}")
    return True


def _world_moved_since(operation: Operation, looked_at: datetime) -> bool:
    """Another operation ended here after we looked: what we saw may be old, so look again."""
    return (
        Operation.objects.filter(lock_names__overlap=operation.lock_names, finished_at__gte=looked_at)
        .exclude(pk=operation.pk)
        .exclude(started_at=None)
        .exists()
    )


def _take_locks(operation: Operation) -> Operation | None:
    """Take all its locks, in sorted order, or none; returns who holds one of them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO operations_operationlock (name, operation_id)"
            " SELECT name, %s FROM unnest(%s::text[]) AS name ORDER BY name ON CONFLICT (name) DO NOTHING",
            [operation.pk, operation.lock_names],
        )
        if cursor.rowcount == len(operation.lock_names):
            return None
    held = OperationLock.objects.filter(name__in=operation.lock_names)
    other = held.exclude(operation=operation).select_related("operation").first()
    held.filter(operation=operation).delete()
    return other.operation if other else operation


def _next_fence() -> int:
    """One sequence for the whole installation: a later claim of anything has the greater fence."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('operations_fence')")
        return int(cursor.fetchone()[0])


def _lease() -> object:
    return Now() + timedelta(seconds=settings.OPERATION_LEASE_SECONDS)
