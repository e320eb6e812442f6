"""The state machine of an operation, on one screen.

Every move is one function in `transitions.py`; nothing else writes `Operation.state`.

    awaiting_approval ──approved──▶ scheduled ──time──▶ queued ──claimed──▶ running ──▶ succeeded
        │ rejected, expired             │ cancelled       │ cancelled        │ ▲  └────▶ failed
        ▼ cancelled, stale              ▼ stale, expired  ▼ stale, expired   ▼ │
                                                                      needs_operator ──answered──▶ running, cancelling
                                                                             running ─▶ cancelling ─▶ cancelled
"""

from django.db.models import TextChoices


class State(TextChoices):
    AWAITING_APPROVAL = "awaiting_approval", "waits for approval"
    SCHEDULED = "scheduled", "scheduled"
    QUEUED = "queued", "queued"
    RUNNING = "running", "running"
    NEEDS_OPERATOR = "needs_operator", "needs an operator"
    CANCELLING = "cancelling", "stopping"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"
    REJECTED = "rejected", "rejected"
    EXPIRED = "expired", "expired"
    STALE = "stale", "stale"


S = State

# Groups with names: code asks "is it finished", never "is it one of these six".
BEFORE_START = frozenset({S.AWAITING_APPROVAL, S.SCHEDULED, S.QUEUED})
EXECUTING = frozenset({S.RUNNING, S.CANCELLING})  # a worker holds, or should hold, a lease
HOLDS_LOCKS = EXECUTING | {S.NEEDS_OPERATOR}
ACTIVE = BEFORE_START | HOLDS_LOCKS
FINISHED = frozenset(State) - ACTIVE

ALLOWED: dict[State, frozenset[State]] = {
    S.AWAITING_APPROVAL: frozenset({S.SCHEDULED, S.QUEUED, S.REJECTED, S.EXPIRED, S.CANCELLED, S.STALE}),
    S.SCHEDULED: frozenset({S.QUEUED, S.CANCELLED, S.STALE, S.EXPIRED}),
    S.QUEUED: frozenset({S.RUNNING, S.CANCELLED, S.STALE, S.EXPIRED}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.FAILED, S.NEEDS_OPERATOR, S.CANCELLING}),
    S.CANCELLING: frozenset({S.CANCELLED, S.SUCCEEDED, S.FAILED, S.NEEDS_OPERATOR}),
    S.NEEDS_OPERATOR: frozenset({S.RUNNING, S.CANCELLING}),
    **{state: frozenset() for state in FINISHED},
}


class StepState(TextChoices):
    PENDING = "pending", "to do"
    RUNNING = "running", "running"  # the intent is written, the effect may have happened
    SUCCEEDED = "succeeded", "done"
    FAILED = "failed", "failed"
    SKIPPED = "skipped", "skipped"
    UNKNOWN = "unknown", "unknown"  # a person must say what is true


STEP_FINISHED = frozenset({StepState.SUCCEEDED, StepState.SKIPPED})


class Answer(TextChoices):
    """What a person may say of a step whose end is not known."""

    RETRY = "retry", "try it again"
    SKIP = "skip", "leave it out and go on"
    DONE = "done", "it is done, go on"
    ROLL_BACK = "roll_back", "put back what was changed"
