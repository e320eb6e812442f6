"""What people do to a running escalation: escalate now, skip a level, repeat one, hand over."""

from typing import Any

from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Now

from controlplane.accounts.models import Person
from controlplane.audit.record import Who, record
from controlplane.clock.database import database_time
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.transitions import said
from controlplane.web.tones import Tone
from incidents import timeline
from incidents.escalation import clock, plan
from incidents.escalation.targets import WITHOUT_ADDRESS
from incidents.models import ChannelKind, Incident, Level
from incidents.timeline import Kind, NewEntry


def escalate_now(incident_id: int, who: Who, level_id: int | None = None) -> Level:
    """Page the next level, or this pending one, without waiting for its time. Raises Conflict when there is none."""
    with transaction.atomic():
        incident = _running(incident_id)
        pending = Level.objects.filter(plan.PENDING, incident=incident).order_by("due_at", "number")
        level = pending.filter(pk=level_id).first() if level_id else pending.first()
        if level is None:
            raise Conflict("No such level is pending any more; repeat one, or hand over to somebody.")
        clock.fire(incident, level, f"escalated by {who.name}")
        _record(incident, who, "incident.escalated", {"level": level.number})
    return level


def skip(incident_id: int, who: Who, level_id: int, reason: str) -> None:
    """Leave a pending level out. Raises Conflict when it is pending no more."""
    reason = said(reason, "Say why this level need not know.")
    with transaction.atomic():
        incident = _running(incident_id)
        rows = Level.objects.filter(plan.PENDING, incident=incident, pk=level_id)
        level = rows.first()
        if level is None or not rows.update(state=Level.State.SKIPPED, settled_at=Now(), words=reason[:300]):
            raise Conflict("This level is pending no more.")
        words = f"L{level.number} {level.role} skipped: {reason}"
        timeline.append(incident, who, NewEntry(Kind.PAGE, words, Tone.WAIT, data={"level": level.number}))
        _record(incident, who, "incident.level_skipped", {"level": level.number}, reason)


def repeat(incident_id: int, who: Who, level_id: int) -> Level:
    """Page a level once more, now. Raises Conflict when it was never paged."""
    with transaction.atomic():
        incident = _running(incident_id)
        before = Level.objects.filter(pk=level_id, incident=incident).exclude(plan.PENDING).first()
        if before is None:
            raise Conflict("This level has not been paged yet: escalate to it instead.")
        level = _extra(incident, before.number, before.role, before.targets, before.channels)
        clock.fire(incident, level, f"repeated by {who.name}")
        _record(incident, who, "incident.level_repeated", {"level": level.number})
    return level


def hand_over(incident_id: int, who: Who, person: Person, reason: str) -> None:
    """Make somebody else the commander and page them, also after the acknowledgement. Raises Invalid."""
    reason = said(reason, "Say what they need to know.")
    if not person.is_active:
        raise Invalid(f"{person.title_name} is not active any more; choose somebody else.")
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        if incident.is_resolved:
            raise Conflict("It is resolved already.")
        Incident.objects.filter(pk=incident.pk).update(commander=person)
        words = f"Handed over to {person.title_name}: {reason}"
        timeline.append(incident, who, NewEntry(Kind.STATE, words, Tone.WAIT, data={"person": person.pk}))
        # PagerDuty calls whom it pleases, and nobody anew for an incident that it knows: it comes last.
        channels = sorted(ChannelKind.values, key=lambda kind: kind in WITHOUT_ADDRESS)
        level = _extra(incident, 0, "handed over to", [{"person": person.username}], channels)
        clock.fire(incident, level, f"handed over by {who.name}: {reason}")
        _record(incident, who, "incident.handed_over", {"person": person.title_name}, reason)


def _running(incident_id: int) -> Incident:
    incident = timeline.locked(incident_id)
    if incident.state != Incident.State.OPEN:
        raise Conflict("The escalation has ended: somebody has it. Hand over instead.")
    return incident


def _extra(incident: Incident, number: int, role: str, targets: list[Any], channels: list[str]) -> Level:
    last = Level.objects.filter(incident=incident).aggregate(last=Max("round"))["last"] or 0
    return Level.objects.create(
        incident=incident, round=last + 1, number=number, role=role, targets=targets, channels=channels,
        due_at=database_time(),
    )  # fmt: skip


def _record(incident: Incident, who: Who, action: str, data: dict[str, Any], reason: str = "") -> None:
    record(who, action, str(incident), scopes=incident.environments, reason=reason, data=data)
