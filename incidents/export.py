"""A timeline as a file: Markdown to read, JSON to prove. Read in pieces and sent as it is read.

JSON: {"incident": 12, "title": …, "head": {"seq": 87, "hash": …}, "entries": [one a line]}. Each entry has all that its
hash covers, so `manage.py verify_timeline FILE` needs no database. What is written meanwhile is left out: the file ends
with the head that it names.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from asgiref.sync import sync_to_async
from django.db.models import Q, QuerySet

from controlplane.web.templatetags.ui import duration
from incidents.models import Incident, TimelineEntry
from incidents.page import ABOUT_OTHERS, Line, line_of
from incidents.timeline import Broken, fields_of, verify

PIECE = 1_000
FIELDS = frozenset(
    ("incident", "seq", "at", "recorded_at", "kind", "tone", "text", "actor", "actor_id", "data", "previous_hash")
)


# --- JSON ---------------------------------------------------------------------------------------------


async def as_json(incident: Incident) -> AsyncIterator[str]:
    """All entries in the order in which they were written, with the head they lead to."""
    told = {
        "incident": incident.pk,
        "title": incident.title,
        "severity": incident.severity,
        "environments": incident.environments,
        "opened_at": _iso(incident.opened_at),
        "acknowledged_at": _iso(incident.acknowledged_at),
        "resolved_at": _iso(incident.resolved_at),
        "head": {"seq": incident.last_seq, "hash": incident.head_hash},
    }
    yield f'{json.dumps(told, ensure_ascii=False)[:-1]}, "entries": [\n'
    first, after = True, 0
    while piece := await sync_to_async(_written)(incident, after):
        lines = ",\n".join(json.dumps(fields_of(one) | {"hash": one.hash}, ensure_ascii=False) for one in piece)
        yield lines if first else f",\n{lines}"
        first, after = False, piece[-1].seq
    yield "\n]}\n"


def _written(incident: Incident, after: int) -> list[TimelineEntry]:
    """By key and not by an open cursor, which would hold a connection for as long as somebody downloads."""
    rows = TimelineEntry.objects.filter(incident=incident, seq__gt=after, seq__lte=incident.last_seq)
    return list(rows.order_by("seq")[:PIECE])


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="microseconds") if at else None


def check(file: TextIO, expect: str = "") -> tuple[int, str]:
    """Verify a JSON file by itself: how many entries hold, and the hash of the last one.

    expect: a head that was kept elsewhere; whoever changes a file can compute all hashes anew, but not that one.
    Raises Broken, in words, at the first thing that is wrong.
    """
    try:
        told = json.load(file)
    except (ValueError, RecursionError) as error:
        raise Broken(f"this is not the JSON of a timeline: {error}") from error
    if not isinstance(told, dict) or not isinstance(told.get("entries"), list):
        raise Broken("this is not the JSON of a timeline: it has no entries")
    head = told.get("head")
    if not isinstance(head, dict) or not isinstance(head.get("hash"), str):
        raise Broken("the file names no head, so that entries at its end may be missing")
    count = verify(_rows(told["entries"], told.get("incident")), head["hash"])
    if count != head.get("seq"):
        raise Broken(f"{count} entries are there, and the head is said to be number {head.get('seq')}")
    if expect and expect != head["hash"]:
        raise Broken("it is sound in itself, but its last entry is not the one that was expected")
    return count, head["hash"]


def _rows(rows: list[Any], incident: Any) -> Iterator[Mapping[str, Any]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or set(row) != FIELDS | {"hash"}:
            raise Broken(f"entry {number} does not have the fields of an entry")
        if row["incident"] != incident:
            raise Broken(f"entry {number} is of incident {row['incident']}, not of {incident}")
        yield row


# --- Markdown -----------------------------------------------------------------------------------------


async def as_markdown(incident: Incident) -> AsyncIterator[str]:
    """As people read it: in the order in which things happened, notes as they are now, hidden entries left out."""
    yield "\n".join(_heading(incident))
    edge, day = None, ""
    while piece := await sync_to_async(_happened)(incident, edge):
        told, day = _told(piece, day)
        yield told
        edge = (piece[-1].at, piece[-1].seq)
    yield f"\nEntry {incident.last_seq} is the last one. Its hash: `{incident.head_hash}`\n"


def _happened(incident: Incident, edge: tuple[datetime, int] | None) -> list[TimelineEntry]:
    rows: QuerySet[TimelineEntry] = TimelineEntry.objects.filter(incident=incident, seq__lte=incident.last_seq)
    if edge:
        rows = rows.filter(Q(at__gt=edge[0]) | Q(at=edge[0], seq__gt=edge[1]))
    return list(rows.exclude(kind__in=ABOUT_OTHERS).select_related("mark").order_by("at", "seq")[:PIECE])


def _heading(incident: Incident) -> Iterable[str]:
    yield f"# {incident.severity} · {escaped(incident.title)}\n"
    yield f"- Environments: {', '.join(incident.environments) or 'the whole installation'}"
    yield f"- Opened {_time(incident.opened_at)} by {escaped(incident.opened_by_name)}"
    for word, at, by in (
        ("Acknowledged", incident.acknowledged_at, incident.acknowledged_by_name),
        ("Resolved", incident.resolved_at, incident.resolved_by_name),
    ):
        if at:
            yield f"- {word} {_time(at)} by {escaped(by)}, after {duration(at - incident.opened_at)}"
    if incident.resolution:
        yield f"- Resolution: {escaped(incident.resolution)}"
    yield "\nAll times UTC.\n"


def _told(piece: list[TimelineEntry], day: str) -> tuple[str, str]:
    lines = []
    for entry in piece:
        line = line_of(entry)
        if line.hidden:
            continue
        begun = f"{entry.at.astimezone(UTC):%Y-%m-%d}"
        if begun != day:
            lines.append(f"\n## {begun}\n")
            day = begun
        lines.append(_line(line))
    return "".join(f"{line}\n" for line in lines), day


def _line(line: Line) -> str:
    aside = [line.entry.kind, line.by] + ([f"edited {line.edits}×"] if line.edits else [])
    aside += [f"filled in {_time(line.entry.recorded_at)}"] if line.late else []
    said = ", ".join(escaped(one) for one in aside if one)
    pin = "**pinned** " if line.pinned else ""
    return f"- `{line.entry.at.astimezone(UTC):%H:%M:%S}` {pin}{escaped(line.text)} ({said}) #{line.entry.seq}"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def escaped(text: str) -> str:
    """Text of people as Markdown shows it: nothing in it is markup, and it stays in its line."""
    return " ".join(re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", text).split())


FORMATS: dict[str, tuple[str, Callable[[Incident], AsyncIterator[str]]]] = {
    "json": ("application/json", as_json),
    "md": ("text/markdown; charset=utf-8", as_markdown),
}
