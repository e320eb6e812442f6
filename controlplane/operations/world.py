"""Stop the world: one switch that holds every queue.

1. While it is stopped nothing starts: `claims.py` looks before and in the claiming transaction. Only a kind that does
   nothing but take away (`Kind.takes_away`: a late fence) starts and goes on, or two sides could serve people.
2. What runs stands still at its next safe point: there the engine gives up its lease and no worker holds it, so nothing
   is lost when workers die meanwhile. What cannot stand still goes on to where it can; the way back is never held.
3. Released, whatever stands still is taken over as if its worker had been lost, and goes on from what is written.

The one row of `Halt` that is not released is the switch. Who pauses locks it, and so does who releases: an operation
is either seen by the release or does not pause any more.
"""

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.audit.record import record
from controlplane.live.ring import ring
from controlplane.operations.doorbell import ring_after_commit
from controlplane.operations.errors import Conflict
from controlplane.operations.events import NewEvent, append
from controlplane.operations.models import Event, Halt, Operation
from controlplane.operations.states import EXECUTING, State
from controlplane.operations.transitions import said

RUNG_AT_ONCE = 20  # of those that wait in the queue; the clock rings for the rest
TARGET = "the world"


def standing() -> Halt | None:
    """The halt that holds now; None while the world turns."""
    return Halt.objects.filter(released_at=None).first()


def words_of(halt: Halt) -> str:
    """Who stopped the world and why."""
    return f"{halt.by_name} has stopped everything: {halt.reason}"


def stop(actor: Actor, reason: str) -> Halt:
    """Hold every queue. The caller has checked the role. Raises Invalid without a reason, Conflict when it is held."""
    reason = said(reason, "Say why: everybody who waits will read it.")
    with transaction.atomic():
        try:
            with transaction.atomic():
                halt = Halt.objects.create(reason=reason, by_name=actor.who.name)
        except IntegrityError as error:
            raise Conflict("Everything is stopped already.") from error
        _tell()
        record(actor.who, "world.stopped", TARGET, reason=reason)
    return halt


def release(actor: Actor, reason: str = "") -> None:
    """Let everything go on. The caller has checked the role. Raises Conflict when nothing is stopped."""
    reason = said(reason)
    with transaction.atomic():
        halt = Halt.objects.select_for_update().filter(released_at=None).first()
        if halt is None:
            raise Conflict("Nothing is stopped: somebody was first.")
        Halt.objects.filter(pk=halt.pk).update(released_at=Now(), released_by_name=actor.who.name)
        paused = Operation.objects.filter(state__in=EXECUTING, paused_at__isnull=False)
        stood = list(paused.values_list("pk", flat=True))
        paused.update(paused_at=None, lease_until=Now(), worker="", outcome="")
        for operation_id in stood:
            append(operation_id, [NewEvent(Event.Kind.STATE, f"{actor.who.name} lets everything go on")])
        queued = Operation.objects.filter(state=State.QUEUED).order_by("queued_at", "pk").values_list("pk", flat=True)
        for operation_id in [*stood, *queued[:RUNG_AT_ONCE]]:
            ring_after_commit(operation_id)
        _tell()
        data = {"stopped by": halt.by_name, "stopped at": halt.at, "because": halt.reason, "stood still": stood}
        record(actor.who, "world.released", TARGET, reason=reason, data=data)


def pause(operation_id: int, fence: int, where: str) -> bool:
    """Stand still before `where`, as its lease holder; False when there is a reason to go on after all.

    Raises LeaseLost when the fence is old, and writes nothing then.
    """
    with transaction.atomic():
        halt = Halt.objects.select_for_update(no_key=True).filter(released_at=None).first()
        if halt is None:
            return False
        words = f"stands still before {where}: {words_of(halt)}"
        append(operation_id, [NewEvent(Event.Kind.STATE, words)], fence=fence)
        # Somebody who asked to stop it a moment ago is heard first.
        mine = Operation.objects.filter(pk=operation_id, state=State.RUNNING)
        if not mine.update(paused_at=Now(), lease_until=None, worker="", outcome=words):
            transaction.set_rollback(True)
            return False
        transaction.on_commit(lambda: ring("news", "operations"))
    return True


def _tell() -> None:
    transaction.on_commit(lambda: ring("news", "world operations"))
