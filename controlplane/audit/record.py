"""Writing to the audit trail."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction

from controlplane.audit.chain import GENESIS, digest
from controlplane.audit.models import Entry

# Any number, the same in each process: entries are written one after the other.
CHAIN_LOCK = 4_857_110_032
# How the names of machines begin: people may not be called so.
MACHINE = "system: "
# Longer names would not fit into an index; nobody's name is.
NAME_LENGTH = 500

HEAD = """
    SELECT coalesce(last.id, 0), coalesce(last.hash, %s), greatest(clock_timestamp(), last.at)
    FROM (VALUES (1)) AS one
    LEFT JOIN (SELECT id, hash, at FROM audit_entry ORDER BY id DESC LIMIT 1) AS last ON true
"""


@dataclass(frozen=True)
class Who:
    """Who acted. name: as people read it. id: of the person, None for machines. via: "web", "api token NAME" …"""

    name: str
    id: int | None
    via: str


def SYSTEM(via: str) -> Who:  # noqa: N802 (read as a constant: the one actor that is nobody)
    """A machine: "clock", "worker w1", "manage.py"."""
    return Who(name=f"{MACHINE}{via}", id=None, via=via)


def record(
    who: Who,
    action: str,
    target: str,
    *,
    scopes: Sequence[str] = (),
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> Entry:
    """Write an entry in the caller's transaction: it is there if, and only if, what it tells of happened.

    1. Take the lock of the chain, held until the transaction ends, so call it last.
    2. Look at the head: its hash, its id, its time. A second statement, to see what was committed before the lock.
    3. Insert.
    """
    assert connection.in_atomic_block, "record() belongs into the transaction of what it tells of"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN_LOCK])
        cursor.execute(HEAD, [GENESIS])
        last, previous_hash, at = _head(cursor.fetchone())
    entry = Entry(
        id=last + 1,
        at=at,
        actor=_clean(who.name)[:NAME_LENGTH],
        actor_id=who.id,
        via=_clean(who.via)[:NAME_LENGTH],
        action=action,
        target=_clean(target)[:NAME_LENGTH],
        scopes=sorted(set(scopes)),
        reason=_clean(reason),
        data=_plain(data or {}),
        previous_hash=previous_hash,
    )
    entry.hash = digest(entry)
    entry.save(force_insert=True)
    return entry


def record_denied(who: Who, action: str, target: str, *, scopes: Sequence[str] = (), reason: str) -> Entry:
    """Write that somebody was refused, in a transaction of its own.

    Raises RuntimeError inside of a transaction: the refusal would roll it back, and the entry with it.
    """
    with transaction.atomic(durable=True):
        return record(who, action, target, scopes=scopes, reason=reason, data={"denied": True})


def _head(row: tuple[int, str, datetime] | None) -> tuple[int, str, datetime]:
    assert row is not None
    return row


def _clean(text: str) -> str:
    """What PostgreSQL cannot store (NUL, half a surrogate pair) must not keep an attempt out of the trail."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _plain(data: Mapping[str, Any]) -> Any:
    """Data as jsonb gives it back, so that its hash stays the same: 1.0 and 1e30 are stored as whole numbers."""
    text = json.dumps(data, cls=DjangoJSONEncoder, allow_nan=False, ensure_ascii=False)
    return json.loads(_clean(text).replace("\\u0000", "\\ufffd"), parse_float=_number)


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number
