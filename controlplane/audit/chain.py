"""The hash chain: each entry's hash covers all of its fields and the hash of the entry before it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC

from controlplane.audit.models import Entry

GENESIS = "0" * 64


def digest(entry: Entry) -> str:
    """SHA-256, in hex, of the canonical JSON of everything but the hash itself."""
    fields = {
        "id": entry.pk,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "actor_id": entry.actor_id,
        "via": entry.via,
        "action": entry.action,
        "target": entry.target,
        "scopes": entry.scopes,
        "reason": entry.reason,
        "data": entry.data,
        "previous_hash": entry.previous_hash,
    }
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Broken(Exception):
    """The first entry that does not hold, and what is wrong with it, in words."""


@dataclass(frozen=True)
class Verified:
    """A chain that holds: how many entries, and the hash of the last one."""

    count: int
    head: str


def verify(entries: Iterable[Entry], expected: str = "") -> Verified:
    """Walk the chain from its first entry, in the order of ids, in constant memory.

    expected: the hash of the head at an earlier time. The chain must still hold that entry, which shows that nothing
    at its end was cut off and that it was not written anew as a whole. Raises Broken at the first entry that does
    not hold.
    """
    count, head, found = 0, GENESIS, expected in ("", GENESIS)
    for entry in entries:
        if entry.pk != count + 1:
            raise Broken(f"entry {count + 1} is missing: after entry {count} comes entry {entry.pk}")
        if entry.previous_hash != head:
            raise Broken(f"entry {entry.pk} has the wrong predecessor: it was not written after this entry {count}")
        if digest(entry) != entry.hash:
            raise Broken(f"entry {entry.pk} was changed: its fields do not give its hash")
        count, head = entry.pk, entry.hash
        found = found or head == expected
    if not found:
        raise Broken(
            f"entry {count + 1} is missing: the chain ends with entry {count}, and none has the hash {expected}"
        )
    return Verified(count, head)
