"""How a worker comes to hold an operation: everything is checked again, in the claiming transaction.

1. A queued one starts when it is first in the queue of its locks, its plan built afresh is the plan that was
   signed, the approvals and gates hold, and the locks are free. What moved makes it stale.
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
from controlplane.operations.errors import OperationError, StepError
from controlplane.operations.events import NewEvent, append, storable
from controlplane.operations.gates import failed_gates, pending_gates
from controlplane.operations.models import Event, Operation, OperationLock
from controlplane.operations.queue import queue_before
from controlplane.operations.registry import background_kinds, kind_of
from controlplane.operations.states import EXECUTING, State
from controlplane.operations.transitions import locked, move, ring_the_next

logger = logging.getLogger(__name__)


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
        lost = Operation.objects.select_for_update(skip_locked=True).filter(
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
    except Exception as error:
        logger.exception("operation %s cannot be started", operation.pk)
        _waits(operation, f"waits: it cannot be checked ({type(error).__name__}); the worker's log says more")
    return None


def _start_if_it_may(operation: Operation, worker: str) -> Claim | None:
    if _is_behind_another(operation) or _is_held_up(operation):
        return None
    kind = kind_of(operation)
    if kind.background and _enough_in_the_background(operation):
        return None
    looked_at = database_time()
    facts = kind.facts(operation)
    plan = kind.plan(operation, facts)
    asked = time.monotonic()
    with transaction.atomic():
        operation = locked(operation.pk)
        if operation.state != State.QUEUED or _world_moved_since(operation, looked_at):
            return None
        gates = kind.gates(operation, facts)
        if moved := _what_moved(operation, plan.digest, [f"{g.title}: {g.reason}" for g in failed_gates(gates)]):
            _make_stale(operation, moved)
            return None
        if pending := pending_gates(gates):
            _let_others_pass(operation)
            _waits(operation, f"waits: {pending[0].reason}")
            return None
        Operation.objects.filter(pk=operation.pk).exclude(gate_pending_since=None).update(gate_pending_since=None)
        if blocker := _take_locks(operation):
            _waits(operation, f"waits for operation {blocker.pk}: {blocker.title}")
            return None
        fence = _next_fence()
        move(
            operation, State.RUNNING, came_from=[State.QUEUED], who=SYSTEM(f"worker {worker}"),
            text=f"started by worker {worker}", data={"fence": fence},
            started_at=Now(), worker=worker, fence=fence, lease_until=_lease(), outcome="", gate_pending_since=None,
        )  # fmt: skip
    return Claim(operation.pk, worker, fence, asked)


def _what_moved(operation: Operation, fresh_digest: str, failures: list[str]) -> str:
    if fresh_digest != operation.plan_digest:
        return (
            "what runs there is not what the plan was made for."
            " Ask for it again: the new plan will show the difference."
        )
    needed = operation.approvals_required
    if needed and len(approvals.valid_approvals(operation)) < needed:
        return "an approval it stood on is void: the person who gave it may not give it any more. Ask for it again."
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


def _is_held_up(operation: Operation) -> bool:
    """Somebody holds one of its locks: then what its start depends on need not be asked."""
    held = OperationLock.objects.filter(name__in=operation.lock_names).exclude(operation=operation)
    lock = held.select_related("operation").first()
    if lock is None:
        return False
    _waits(operation, f"waits for operation {lock.operation_id}: {lock.operation.title}")
    return True


def _enough_in_the_background(operation: Operation) -> bool:
    """So many run already. Two that look at once may both start: it keeps workers free, it guards nothing."""
    running = Operation.objects.filter(kind__in=background_kinds(), state__in=EXECUTING).count()
    if running < settings.BACKGROUND_OPERATIONS:
        return False
    _waits(operation, f"waits: {running} operations run in the background already, and others shall find a free worker")
    return True


def _is_behind_another(operation: Operation) -> bool:
    first = queue_before(operation).first()
    if first is None:
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
