"""Gates: what must hold before an operation may start, with the reason in words."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    PASSED = "passed"
    PENDING = "pending"  # may pass later by itself: it waits in the queue
    FAILED = "failed"


@dataclass(frozen=True)
class Gate:
    """One gate and how it stands. reason: why, and for a failed one what would change it."""

    key: str
    title: str
    outcome: Outcome
    reason: str
    # It only waits for its turn, to which the queue sees; whatever else is pending lets others pass meanwhile.
    turn: bool = False
    # It passes only because people have set its rule aside; the reason says who and why.
    set_aside: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain data, as kept with the request."""
        return asdict(self)


def failed_gates(gates: list[Gate]) -> list[Gate]:
    """Those that forbid it."""
    return [gate for gate in gates if gate.outcome is Outcome.FAILED]


def set_aside_by(gates: list[Gate]) -> dict[str, list[str]]:
    """What the audit trail says of those that people have set aside; nothing where there are none."""
    titles = [gate.title for gate in gates if gate.set_aside]
    return {"set aside": titles} if titles else {}


def pending_gates(gates: list[Gate]) -> list[Gate]:
    """Those it has to wait for, besides its turn."""
    return [gate for gate in gates if gate.outcome is Outcome.PENDING and not gate.turn]
