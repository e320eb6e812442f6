"""Writing to an incident's timeline: append-only, each entry's hash covers it and the hash before it.

1. The incident's row is locked, so that numbers have no gaps and their order is the order of the commits.
2. The entry is inserted, and the incident's head moved, in the caller's transaction.
3. An edit, a pin, a hide is an entry of its own; the mark of the entry it names is brought up to date with it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction

from controlplane.audit.record import Who
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.errors import Invalid
from controlplane.operations.events import storable
from controlplane.web.tones import Tone
from incidents.models import Incident, TimelineEntry, TimelineMark

GENESIS = "0" * 64
HEADS = """
    UPDATE incidents_incident incident SET last_seq = head.seq, head_hash = head.hash
    FROM unnest(%s::bigint[], %s::integer[], %s::text[]) AS head (id, seq, hash) WHERE incident.id = head.id
"""
Kind = TimelineEntry.Kind


@dataclass(frozen=True)
class NewEntry:
    """One entry to write. at: when it happened; None for now."""

    kind: TimelineEntry.Kind
    text: str
    tone: Tone = Tone.IDLE
    at: datetime | None = None
    data: Mapping[str, Any] | None = None


def locked(incident_id: int) -> Incident:
    """The incident with its row locked until the end of the transaction. Raises Incident.DoesNotExist."""
    return Incident.objects.defer("search").select_for_update().get(pk=incident_id)


def append(incident: Incident, who: Who, *entries: NewEntry) -> list[TimelineEntry]:
    """Write entries, in the caller's transaction and with the incident locked by `locked`."""
    return append_all([(incident, who, new) for new in entries])


def append_all(lines: Sequence[tuple[Incident, Who, NewEntry]]) -> list[TimelineEntry]:
    """The same for many incidents at once, each locked, and one object however many lines it has."""
    assert connection.in_atomic_block, "append() belongs into the transaction of what it tells of"
    now = database_time()
    written = []
    for incident, who, new in lines:
        entry = TimelineEntry(
            incident=incident,
            seq=incident.last_seq + 1,
            at=new.at or now,
            recorded_at=now,
            kind=new.kind,
            tone=new.tone,
            text=storable(new.text),
            actor=storable(who.name)[:500],
            actor_id=who.id,
            data=plain(new.data or {}),
            previous_hash=incident.head_hash or GENESIS,
        )
        entry.hash = digest(fields_of(entry))
        incident.last_seq, incident.head_hash = entry.seq, entry.hash
        written.append(entry)
    TimelineEntry.objects.bulk_create(written)
    heads = {incident.pk: incident for incident, _, _ in lines}.values()
    with connection.cursor() as cursor:
        cursor.execute(HEADS, [[one.pk for one in heads], [one.last_seq for one in heads],
                               [one.head_hash for one in heads]])  # fmt: skip
    transaction.on_commit(lambda: ring("news", "incidents"))
    return written


def edit(incident: Incident, who: Who, seq: int, text: str, reason: str) -> None:
    """A new version of a note, with its reason; the old one stays. Raises Invalid."""
    entry = _entry(incident, seq)
    if entry.kind != Kind.NOTE:
        raise Invalid("Only notes can be edited; what the system wrote is as it happened. Add a note instead.")
    mark = _mark(incident, entry)
    data = {"of": seq, "reason": reason, "before": mark.text or entry.text, "after": text}
    append(incident, who, NewEntry(Kind.EDIT, f"edited note #{seq}: {reason}", data=data))
    TimelineMark.objects.filter(pk=mark.pk).update(text=text, edits=mark.edits + 1)


def pin(incident: Incident, who: Who, seq: int, *, pinned: bool) -> None:
    """Keep an entry in view, or no longer. Raises Invalid."""
    mark = _mark(incident, _entry(incident, seq))
    word = "pinned" if pinned else "unpinned"
    append(incident, who, NewEntry(Kind.PIN, f"{word} #{seq}", data={"of": seq, "pinned": pinned}))
    TimelineMark.objects.filter(pk=mark.pk).update(pinned=pinned)


def hide(incident: Incident, who: Who, seq: int, reason: str, *, hidden: bool) -> None:
    """Leave an entry out of the line, or show it again; it is folded away, never gone. Raises Invalid."""
    mark = _mark(incident, _entry(incident, seq))
    word = "hid" if hidden else "showed again"
    text = f"{word} #{seq}" + (f": {reason}" if reason else "")
    append(incident, who, NewEntry(Kind.HIDE, text, data={"of": seq, "hidden": hidden, "reason": reason}))
    TimelineMark.objects.filter(pk=mark.pk).update(hidden=hidden)


def _entry(incident: Incident, seq: int) -> TimelineEntry:
    entry = TimelineEntry.objects.filter(incident=incident, seq=seq).first()
    if entry is None or entry.kind in (Kind.EDIT, Kind.PIN, Kind.HIDE):
        raise Invalid(f"There is no entry #{seq} that this could be about.")
    return entry


def _mark(incident: Incident, entry: TimelineEntry) -> TimelineMark:
    return TimelineMark.objects.get_or_create(entry=entry, defaults={"incident": incident})[0]


# --- The chain ----------------------------------------------------------------------------------------


class Broken(Exception):
    """The first entry that does not hold, and what is wrong with it, in words."""


def plain(data: Mapping[str, Any]) -> Any:
    """Data as jsonb gives it back, so that its hash stays the same."""
    text = storable(json.dumps(data, cls=DjangoJSONEncoder, allow_nan=False, ensure_ascii=False))
    return json.loads(text.replace("\\u0000", "\\ufffd"), parse_float=_number)


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def fields_of(entry: TimelineEntry) -> dict[str, Any]:
    """Everything an entry says but its hash, as the export has it."""
    return {
        "incident": entry.incident_id,
        "seq": entry.seq,
        "at": _iso(entry.at),
        "recorded_at": _iso(entry.recorded_at),
        "kind": str(entry.kind),
        "tone": str(entry.tone),
        "text": entry.text,
        "actor": entry.actor,
        "actor_id": entry.actor_id,
        "data": entry.data,
        "previous_hash": entry.previous_hash,
    }


def digest(fields: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of the canonical JSON of these fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def verify(rows: Iterable[Mapping[str, Any]], head: str = "") -> int:
    """Walk exported entries (`fields_of` with their `hash`) from the first; returns how many there are.

    head: the hash the last one must have. Raises Broken at the first that does not hold.
    """
    count, before = 0, GENESIS
    for row in rows:
        if row["seq"] != count + 1:
            raise Broken(f"entry {count + 1} is missing: after {count} comes {row['seq']}")
        if row["previous_hash"] != before:
            raise Broken(f"entry {row['seq']} was not written after this entry {count}")
        if digest({name: value for name, value in row.items() if name != "hash"}) != row["hash"]:
            raise Broken(f"entry {row['seq']} was changed: its fields do not give its hash")
        count, before = row["seq"], row["hash"]
    if head and before != head:
        raise Broken(f"the line ends with entry {count}, and that is not the last one of the incident")
    return count


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
