"""What people write into a timeline and change of it, each with its audit entry; nothing is ever taken back."""

from datetime import datetime

from django.db import transaction

from controlplane.audit.record import Who, record
from controlplane.operations.transitions import said
from incidents import timeline
from incidents.timeline import Kind, NewEntry


def add(incident_id: int, who: Who, text: str, at: datetime | None = None) -> int:
    """A note, now or filled in for a time before; returns its number. Raises Invalid."""
    text = said(text, "Write what others should know.")
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        data = {"filled in": True} if at else {}
        (entry,) = timeline.append(incident, who, NewEntry(Kind.NOTE, text, at=at, data=data))
        record(who, "incident.noted", str(incident), scopes=incident.environments, data={"entry": entry.seq})
    return entry.seq


def edit(incident_id: int, who: Who, seq: int, text: str, reason: str) -> None:
    """Another version of a note, with its reason; the old one stays. Raises Invalid."""
    text, reason = said(text, "Write what it should say."), said(reason, "Say why: both versions stay visible.")
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        timeline.edit(incident, who, seq, text, reason)
        record(who, "incident.note_edited", str(incident), scopes=incident.environments, reason=reason,
               data={"entry": seq})  # fmt: skip


def pin(incident_id: int, who: Who, seq: int, *, pinned: bool) -> None:
    """Keep an entry in view, or no longer. Raises Invalid."""
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        timeline.pin(incident, who, seq, pinned=pinned)
        record(who, "incident.entry_pinned", str(incident), scopes=incident.environments,
               data={"entry": seq, "pinned": pinned})  # fmt: skip


def hide(incident_id: int, who: Who, seq: int, reason: str, *, hidden: bool) -> None:
    """Fold an entry away, with the reason, or show it again. Raises Invalid."""
    reason = said(reason, "Say why others need not see it." if hidden else "")
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        timeline.hide(incident, who, seq, reason, hidden=hidden)
        record(who, "incident.entry_hidden", str(incident), scopes=incident.environments, reason=reason,
               data={"entry": seq, "hidden": hidden})  # fmt: skip
