"""What a person may do to a message that has failed."""

from django.db import transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.audit.record import record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict
from incidents import timeline
from incidents.models import Delivery, Incident


def try_again(actor: Actor, delivery: Delivery) -> None:
    """Send one that failed once more, under the same key. Raises Conflict when it has not failed, or comes too late."""
    with transaction.atomic():
        incident = timeline.locked(delivery.incident_id) if delivery.incident_id else None
        if incident is not None and delivery.purpose == Delivery.Purpose.PAGE and _is_answered(incident, delivery):
            raise Conflict("Somebody has the incident: no page leaves for it any more. Hand over instead.")
        failed = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.FAILED)
        if not failed.update(state=Delivery.State.QUEUED, next_at=Now(), error="", permanent=False):
            raise Conflict("It has not failed, or somebody was first.")
        transaction.on_commit(lambda: ring("news", "incidents"))
        record(actor.who, "message.retried", f"message {delivery.pk}",
               scopes=incident.environments if incident else [], data={"key": delivery.key})  # fmt: skip


def _is_answered(incident: Incident, delivery: Delivery) -> bool:
    """Whether this page is one of those that the acknowledgement has ended; those of a hand-over come after it."""
    if incident.is_resolved:
        return True
    return incident.acknowledged_at is not None and delivery.queued_at <= incident.acknowledged_at
