"""The audit trail as a file: read in pieces, sent as it is read, never more than AT_MOST entries."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from typing import Any

from asgiref.sync import sync_to_async

from controlplane.audit.listing import END, Listing
from controlplane.audit.models import Entry

AT_MOST = 100_000
PIECE = 2_000
FIELDS = (
    "id",
    "at",
    "actor",
    "actor_id",
    "via",
    "action",
    "target",
    "scopes",
    "reason",
    "data",
    "previous_hash",
    "hash",
)
# A cell that begins with one of these is a formula to a spreadsheet.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def as_json(listing: Listing) -> AsyncIterator[str]:
    """One array, an entry a line, newest first; the hash of each can be computed again from it."""
    first = True
    async for piece in _pieces(listing):
        lines = ",\n".join(json.dumps(_fields(entry), ensure_ascii=False) for entry in piece)
        yield ("[\n" if first else ",\n") + lines
        first = False
    yield "[]\n" if first else "\n]\n"


async def as_csv(listing: Listing) -> AsyncIterator[str]:
    """A table with a heading, newest first, safe to open in a spreadsheet."""
    yield _table([list(FIELDS)])
    async for piece in _pieces(listing):
        yield _table([_cells(entry) for entry in piece])


FORMATS: dict[str, tuple[str, Callable[[Listing], AsyncIterator[str]]]] = {
    "json": ("application/json", as_json),
    "csv": ("text/csv; charset=utf-8", as_csv),
}


async def _pieces(listing: Listing) -> AsyncIterator[list[Entry]]:
    """By key and not by an open cursor, which would hold a connection for as long as somebody downloads."""
    before, left = END, AT_MOST
    while left and (piece := await sync_to_async(listing.piece)(before, min(PIECE, left))):
        yield piece
        before, left = piece[-1].pk, left - len(piece)


def _fields(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in FIELDS} | {
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    }


def _cells(entry: Entry) -> list[str]:
    fields = _fields(entry) | {"scopes": " ".join(entry.scopes), "data": json.dumps(entry.data, ensure_ascii=False)}
    cells = ["" if fields[name] is None else str(fields[name]) for name in FIELDS]
    return [f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells]


def _table(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()
