"""Writing to the audit trail: in the transaction of the change itself, so that neither stands without the other."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction

from controlplane.audit.models import Entry

GENESIS = "0" * 64
# One chain, one writer at a time: taken until the end of the transaction that records.
CHAIN_LOCK = 0x0A0D17


@dataclass(frozen=True)
class Who:
    """Who did it, by name, and by which way (the web, a token, a command, a machine)."""

    name: str
    id: int | None
    via: str


def SYSTEM(via: str) -> Who:  # noqa: N802 - reads as the constant it nearly is
    """A machine of ours."""
    return Who(f"system: {via}", None, via)


def record(
    who: Who,
    action: str,
    target: str,
    *,
    scopes: Sequence[str] = (),
    reason: str = "",
    data: dict[str, Any] | None = None,
) -> Entry:
    """Add an entry. Call it last in the transaction of the change: the chain is locked until the commit."""
    if not connection.in_atomic_block:
        raise RuntimeError("an audit entry stands or falls with its change: record it in a transaction")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN_LOCK])
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    previous = Entry.objects.order_by("-id").values_list("hash", flat=True).first() or GENESIS
    entry = Entry(
        at=now, actor=who.name, actor_id=who.id, via=who.via, action=action, target=target, scopes=sorted(scopes),
        reason=reason, data=data or {}, previous_hash=previous,
    )  # fmt: skip
    entry.hash = hash_of(entry)
    entry.save(force_insert=True)
    return entry


def record_denied(who: Who, action: str, target: str, *, scopes: Sequence[str] = (), reason: str) -> Entry:
    """Keep an attempt that was refused, in a transaction of its own."""
    with transaction.atomic():
        return record(who, f"denied: {action}", target, scopes=scopes, reason=reason)


def hash_of(entry: Entry) -> str:
    """SHA-256 of the canonical form of all that the entry says, and of the hash before it."""
    said = {
        "at": entry.at.astimezone(UTC).isoformat(),
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
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
