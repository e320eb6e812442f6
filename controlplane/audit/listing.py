"""What one reader sees of the audit trail, page by page, at the price of the rows shown.

However many entries there are and wherever in the trail the wanted ones lie, an index leads to the next fifty:

* Without a filter that is the primary key. With one it is an index of the filter's column and then the id,
  *negated*: in that order the primary key is of no use, so PostgreSQL cannot choose to walk the whole trail in the
  hope of meeting a match soon.
* Environments are sets, and few different sets are ever recorded. Those that this reader may see are found by
  walking an index from one set to the next; each is then read like a filter, and the pieces are merged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.db import connection
from django.db.models import F, Q, QuerySet

from controlplane.audit.models import Entry

SIZE = 50
FIRST, END = 0, 2**62

PLACE = F("id") * -1

# The distinct values of a column by walking its index from one to the next: as many steps as there are values.
DISTINCT = """
    WITH RECURSIVE known AS (
        (SELECT {column} AS value FROM audit_entry ORDER BY {column} LIMIT 1)
        UNION ALL
        SELECT (SELECT {column} FROM audit_entry WHERE {column} > known.value ORDER BY {column} LIMIT 1)
        FROM known WHERE known.value IS NOT NULL
    )
    SELECT value FROM known WHERE value IS NOT NULL
"""


class Reader(Protocol):
    """What the audit trail asks of the person who reads it (AUTH_USER_MODEL has it)."""

    @property
    def audit_scopes(self) -> list[str] | None:
        """The environments whose entries they may read; None for all."""

    @property
    def audit_whole(self) -> bool:
        """Whether they may read the entries about the installation itself."""

    @property
    def audit_choices(self) -> list[str]:
        """The environments to choose from when filtering."""


@dataclass(frozen=True)
class Wanted:
    """What a reader asked for. first, end: the ids, end excluded. scope: one that must be among an entry's."""

    condition: Q = field(default_factory=Q)
    first: int = FIRST
    end: int = END
    scope: str = ""


@dataclass(frozen=True)
class Page:
    """Entries, newest first, and the keys for the pages beside this one (0: there is none)."""

    rows: list[Entry]
    newer: int
    older: int


class Listing:
    """The entries that a reader wants and may see: those all of whose environments they see.

    Those without any environment are about the installation itself, and for administrators.
    """

    def __init__(self, reader: Reader, wanted: Wanted) -> None:
        self._wanted = wanted
        self._sets = None if reader.audit_whole and not wanted.scope else _visible_sets(reader, wanted.scope)

    def page(self, before: int = 0, after: int = 0) -> Page:
        """The page older than `before`, or newer than `after`, or the newest."""
        if after:
            keys = self._keys(max(self._wanted.first, after + 1), self._wanted.end, SIZE + 1, oldest=True)
            kept = keys[:SIZE]
            return Page(_rows(kept), kept[-1] if len(keys) > SIZE else 0, kept[0] if kept else 0)
        keys = self._keys(self._wanted.first, min(self._wanted.end, before or END), SIZE + 1)
        kept = keys[:SIZE]
        return Page(_rows(kept), kept[0] if before and kept else 0, kept[-1] if len(keys) > SIZE else 0)

    def piece(self, before: int, size: int) -> list[Entry]:
        """The newest so many that are older than the key."""
        return _rows(self._keys(self._wanted.first, min(self._wanted.end, before), size))

    def _keys(self, first: int, end: int, size: int, *, oldest: bool = False) -> list[int]:
        """The ids from `first`, before `end`: the newest, newest first, or the oldest, oldest first."""
        entries = Entry.objects.filter(self._wanted.condition)
        if self._sets is not None:
            parts = [_ordered(entries.filter(scopes=one), first, end, oldest=oldest)[:size] for one in self._sets]
        elif self._wanted.condition:
            parts = [_ordered(entries, first, end, oldest=oldest)[:size]]
        else:
            there = entries.filter(pk__gte=first, pk__lt=end).order_by("pk" if oldest else "-pk")
            parts = [there.values_list("pk", flat=True)[:size]]
        if not parts:
            return []
        found = parts[0].union(*parts[1:], all=True) if len(parts) > 1 else parts[0]
        return sorted(found, reverse=not oldest)[:size]


def known_actions() -> list[str]:
    """Every action that was ever recorded, sorted."""
    return _distinct("action")


def _visible_sets(reader: Reader, scope: str) -> list[list[str]]:
    sets: list[list[str]] = _distinct("scopes")
    visible = reader.audit_scopes
    return [
        one
        for one in sets
        if (one or reader.audit_whole) and (visible is None or set(one) <= set(visible)) and (not scope or scope in one)
    ]


def _distinct(column: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(DISTINCT.format(column=column))
        return [value for (value,) in cursor.fetchall()]


def _ordered(entries: QuerySet[Entry], first: int, end: int, *, oldest: bool) -> QuerySet[Entry, int]:
    """Ids by their place in the index of a filter."""
    placed = entries.annotate(place=PLACE).filter(place__lte=-first, place__gt=-end)
    return placed.order_by("-place" if oldest else "place").values_list("pk", flat=True)


def _rows(keys: Sequence[int]) -> list[Entry]:
    return list(Entry.objects.filter(pk__in=keys).order_by("-pk")) if keys else []
