"""What time alone decides: approvals run out, a start comes too late, a planned time comes. The clock finds them."""

from django.db import transaction
from django.db.models.functions import Now

from controlplane.clock.database import database_time
from controlplane.operations import approvals
from controlplane.operations.doorbell import ring_after_commit
from controlplane.operations.models import Operation
from controlplane.operations.states import BEFORE_START, State
from controlplane.operations.transitions import CLOCK, locked, move


def expire(operation_id: int) -> None:
    """The time for approvals is over. Raises Conflict when somebody was first."""
    with transaction.atomic():
        operation = locked(operation_id)
        text = f"expired: {approvals.too_late(operation)} Ask for it again if it is still wanted."
        waits = frozenset({State.AWAITING_APPROVAL})
        move(operation, State.EXPIRED, came_from=waits, who=CLOCK, text=text, outcome=text)


def is_past_its_start(operation: Operation) -> bool:
    """Whether it is too late for it to start."""
    return operation.start_by is not None and operation.start_by <= database_time()


def give_up(operation: Operation) -> None:
    """It has not started by when it had to, and never will. Call it in a transaction. Raises Conflict."""
    by = f"{operation.start_by:%d %b %Y, %H:%M} UTC"
    text = f"expired: it had not started by {by}. Ask for it again if it is still wanted."
    move(operation, State.EXPIRED, came_from=BEFORE_START, who=CLOCK, text=text, outcome=text)


def expire_unstarted(operation_id: int) -> None:
    """The same, when the clock finds it. Raises Conflict when somebody was first."""
    with transaction.atomic():
        give_up(locked(operation_id))


def fall_due(operation_id: int) -> None:
    """Its planned time has come. Raises Conflict when somebody was first."""
    with transaction.atomic():
        operation = locked(operation_id)
        planned = frozenset({State.SCHEDULED})
        move(operation, State.QUEUED, came_from=planned, who=CLOCK, text="its time has come", queued_at=Now())
        ring_after_commit(operation_id)
