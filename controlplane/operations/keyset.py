"""Pages of a long list by the key of the rows at their edges: the millionth row costs what the first does."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet

DIGITS = 18  # of the greatest key that PostgreSQL's bigint surely holds
Row = TypeVar("Row", bound=Model)
SIZE = 50


def key_in(text: str) -> int:
    """The key somebody wrote in an address or a form; 0, which no row has, when it is none."""
    return int(text) if text.isdecimal() and len(text) <= DIGITS else 0


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, newest first. newer, older: the key to ask for the page beside it with (0: there is none)."""

    rows: list[Row]
    newer: int
    older: int


def page_of(rows: QuerySet[Row], before: int = 0, after: int = 0, size: int = SIZE) -> Page[Row]:
    """The page older than `before`, or newer than `after`, or the newest. Keys are primary keys; 0 is none."""
    if after:
        found = list(rows.filter(pk__gt=after).order_by("pk")[: size + 1])
        kept = found[:size][::-1]
        return Page(kept, kept[0].pk if len(found) > size else 0, kept[-1].pk if kept else 0)
    found = list((rows.filter(pk__lt=before) if before else rows).order_by("-pk")[: size + 1])
    kept = found[:size]
    return Page(kept, kept[0].pk if before and kept else 0, kept[-1].pk if len(found) > size else 0)
