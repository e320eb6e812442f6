"""The doorbell: tells the workers that an operation may be worth a look.

It carries an id and no promise. A lost ring is rung again by the clock, a doubled one finds the lease taken,
so neither Redis nor Celery has to be trusted with anything.
"""

import logging

from celery import Celery
from django.db import transaction
from django.db.models.functions import Now

from controlplane.live.ring import redis_answers
from controlplane.operations.models import Operation

# A sender of its own: it names the task instead of importing it, since the task imports the engine, which rings.
_sender = Celery("doorbell", set_as_current=False)
_sender.config_from_object("django.conf:settings", namespace="CELERY")

logger = logging.getLogger(__name__)


def ring_workers(operation_id: int) -> None:
    """Ring now. Never raises, and takes a moment at most: when the broker is away, the clock rings again."""
    if not redis_answers():
        return  # Celery would try for many seconds, in the middle of somebody's request
    operation = Operation.objects.filter(pk=operation_id)
    try:
        # Noted before it is sent: a quick worker would find the row locked by the note, and leave it to the clock.
        operation.update(rung_at=Now())
        try:
            _sender.send_task("operations.run", args=[operation_id], retry=False, ignore_result=True)
        except Exception:
            operation.update(rung_at=None)
            raise
    except Exception as error:  # noqa: BLE001 - whatever a broker's library raises, nobody heard it
        logger.warning("nobody heard the ring for operation %s: %s", operation_id, error)


def ring_after_commit(operation_id: int) -> None:
    """Ring once the surrounding transaction is committed, never before."""
    transaction.on_commit(lambda: ring_workers(operation_id))
