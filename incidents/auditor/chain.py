"""The hashes of timelines, worked out a second time, from what docs/incidents.md says of them.

Each entry once: an auditor remembers how far it has read. When it starts, it takes the last entries of each incident
that is not over.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg import Connection

FIRST_LOOK = 200  # entries of each incident
AT_ONCE = 5000  # entries a look
GENESIS = "0" * 64

GOING: LiteralString = "SELECT id, last_seq FROM incidents_incident WHERE state <> 'resolved' ORDER BY id"
ENTRIES: LiteralString = """
    SELECT incident_id, seq, at, recorded_at, kind, tone, text, actor, actor_id, data::text, previous_hash, hash
    FROM incidents_timelineentry WHERE incident_id = %s AND seq >= %s ORDER BY seq LIMIT %s
"""
FIELDS = ("incident", "seq", "at", "recorded_at", "kind", "tone", "text", "actor", "actor_id", "data", "previous_hash")


class Chains:
    """What one auditor has read of the timelines, and which of them were found broken."""

    def __init__(self) -> None:
        self._read: dict[int, tuple[int, str]] = {}  # incident: the last entry that holds, and its hash
        self._broken: dict[int, str] = {}

    def look(self, connection: Connection[Any]) -> list[tuple[str, str]]:
        """Read what is new; returns the broken timelines of incidents that are not over, as (which, words)."""
        going = dict(connection.execute(GOING).fetchall())
        self._read = {pk: read for pk, read in self._read.items() if pk in going}
        self._broken = {pk: words for pk, words in self._broken.items() if pk in going}
        left = AT_ONCE
        for pk, last_seq in going.items():
            seq, _ = self._read.get(pk, (0, ""))
            if seq < last_seq and pk not in self._broken and left > 0:
                left -= self._follow(connection, pk, last_seq, left)
        return [(str(pk), words) for pk, words in self._broken.items()]

    def _follow(self, connection: Connection[Any], pk: int, last_seq: int, at_most: int) -> int:
        known = self._read.get(pk)
        start = max(1, last_seq - FIRST_LOOK) if known is None else known[0] + 1
        if known is None and start == 1:
            known = (0, GENESIS)
        rows = connection.execute(ENTRIES, [pk, start, at_most]).fetchall()
        for row in rows:
            *values, stored = row
            fields = dict(zip(FIELDS, values, strict=True))
            fields["data"] = json.loads(fields["data"])
            if known is not None and (fields["seq"], fields["previous_hash"]) != (known[0] + 1, known[1]):
                self._broken[pk] = f"Entry {fields['seq']} of incident {pk} does not follow on entry {known[0]}"
                break
            if digest(fields) != stored:
                self._broken[pk] = f"Entry {fields['seq']} of incident {pk} was changed: its hash is another"
                break
            known = (fields["seq"], stored)
        if known is not None:
            self._read[pk] = known
        return len(rows)


def digest(fields: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of an entry."""
    times = {name: value.astimezone(UTC).isoformat(timespec="microseconds")
             for name, value in fields.items() if isinstance(value, datetime)}  # fmt: skip
    return hashlib.sha256(json.dumps(fields | times, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
