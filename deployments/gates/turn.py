"""Nobody has said that it must not change, and nobody else is changing it."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.models import OperationLock
from environments.models import Environment, EnvironmentLock


@dataclass(frozen=True)
class Held:
    """Who is changing an environment."""

    operation_id: int
    title: str


def locks_of(environment: Environment) -> list[EnvironmentLock]:
    """Those that hold, the newest first."""
    return list(EnvironmentLock.objects.filter(environment=environment, released_at=None))


def held_by(environment: Environment, operation_id: int | None) -> Held | None:
    """The operation that is changing it, if it is another one."""
    held = OperationLock.objects.filter(name=environment.slug).exclude(operation_id=operation_id or 0)
    lock = held.select_related("operation").first()
    return Held(lock.operation_id, lock.operation.title) if lock else None


def not_locked(environment: Environment, locks: Sequence[EnvironmentLock], *, rollback: bool = False) -> Gate:
    """Nobody has said that nothing may change here. What an incident locks is still open for the way back."""
    if rollback:
        locks = [one for one in locks if one.against != EnvironmentLock.Against.DEPLOYMENTS]
    if not locks:
        return Gate("lock", "No lock", Outcome.PASSED, f"{environment.slug} is not locked")
    lock = locks[0]
    words = f"locked by {lock.author_name}: {lock.reason}. It can be released on the page of {environment.slug}."
    return Gate("lock", "No lock", Outcome.FAILED, words)


def nobody_else(environment: Environment, held: Held | None) -> Gate:
    """One change at a time: the next one waits in the queue."""
    title = "Nobody else is changing it"
    if held is None:
        return Gate("busy", title, Outcome.PASSED, f"nothing else is under way in {environment.slug}")
    words = f"operation {held.operation_id} is under way ({held.title}); this one waits in the queue"
    return Gate("busy", title, Outcome.PENDING, words, turn=True)
