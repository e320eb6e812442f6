"""What people do to alerts: write a note, and have a body handled again."""

from django.db import transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.audit.record import record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict
from controlplane.operations.transitions import said
from incidents import timeline
from incidents.models import Alert, RawAlert
from incidents.timeline import Kind, NewEntry


def write_note(actor: Actor, alert: Alert, text: str) -> None:
    """What a person knows of an alert; it stays however often the alert fires again. "" takes it away.

    While the alert is part of an incident that is not over, its timeline gets the note too. Raises Invalid.
    """
    text = said(text)
    with transaction.atomic():
        before = Alert.objects.select_for_update(of=("self",)).select_related("incident").get(pk=alert.pk)
        if before.note == text:
            return
        Alert.objects.filter(pk=alert.pk).update(note=text, note_by_name=actor.who.name if text else "")
        if text and before.incident is not None and not before.incident.is_resolved:
            incident = timeline.locked(before.incident.pk)
            words = f"On {alert.name}: {text}"
            timeline.append(incident, actor.who, NewEntry(Kind.NOTE, words, data={"alert": alert.pk}))
        transaction.on_commit(lambda: ring("news", "alerts"))
        record(actor.who, "alert.noted", f"alert {alert.pk}: {alert.name}",
               scopes=[alert.environment.slug] if alert.environment else [],
               data={"before": before.note, "after": text})  # fmt: skip


def handle_again(actor: Actor, raw: RawAlert) -> None:
    """Have a body read once more, now. Raises Conflict when it waits for that already, or was understood."""
    with transaction.atomic():
        rows = RawAlert.objects.filter(pk=raw.pk, state=RawAlert.State.FAILED)
        if not rows.update(state=RawAlert.State.STORED, attempts=0, next_at=Now(), error="", handled_at=None):
            raise Conflict("It is being handled again already, or was understood by now.")
        transaction.on_commit(lambda: ring("news", "alerts"))
        record(actor.who, "alert.body_again", f"body {raw.pk} of {raw.source}")
