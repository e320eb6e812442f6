"""What one reader sees of the audit trail, page by page, at the price of the rows shown."""

from dataclasses import dataclass
from typing import Protocol

from django.db import connection
from django.db.models import QuerySet

from controlplane.audit.models import Entry

SIZE = 50

# The distinct actions by walking the index from one to the next: as many steps as there are actions.
ACTIONS = """
    WITH RECURSIVE known AS (
        (SELECT action FROM audit_entry ORDER BY action LIMIT 1)
        UNION ALL
        SELECT (SELECT action FROM audit_entry WHERE action > known.action ORDER BY action LIMIT 1)
        FROM known WHERE known.action IS NOT NULL
    )
    SELECT action FROM known WHERE action IS NOT NULL
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


def visible_entries(reader: Reader) -> QuerySet[Entry]:
    """The entries all of whose environments the reader may see; those without any are for administrators."""
    if reader.audit_whole:
        return Entry.objects.all()
    scopes = reader.audit_scopes
    if scopes is None:
        return Entry.objects.exclude(scopes=[])
    # Overlapping says nothing more, but the index can answer it.
    return Entry.objects.filter(scopes__overlap=scopes, scopes__contained_by=scopes)


@dataclass(frozen=True)
class Page:
    """Entries, newest first, and the keys for the pages beside this one (0: there is none)."""

    rows: list[Entry]
    newer: int
    older: int


def page_of(entries: QuerySet[Entry], before: int = 0, after: int = 0) -> Page:
    """The page older than `before`, or newer than `after`, or the newest."""
    if after:
        found = list(entries.filter(pk__gt=after).order_by("pk")[: SIZE + 1])
        kept = found[:SIZE][::-1]
        return Page(kept, kept[0].pk if len(found) > SIZE else 0, kept[-1].pk if kept else 0)
    found = list((entries.filter(pk__lt=before) if before else entries).order_by("-pk")[: SIZE + 1])
    kept = found[:SIZE]
    return Page(kept, kept[0].pk if before and kept else 0, kept[-1].pk if len(found) > SIZE else 0)


def known_actions() -> list[str]:
    """Every action that was ever recorded, sorted."""
    with connection.cursor() as cursor:
        cursor.execute(ACTIONS)
        return [action for (action,) in cursor.fetchall()]
