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
    """The page older than `before`, or newer than `after`, or the newest. Keys are primary keys; 0 is none.

    The keys are asked for first and the rows by their keys: with the joins in the same query, PostgreSQL may
    choose to walk a joined table from its end, which costs the more the deeper the page lies.
    """
    if after:
        keys = list(rows.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[: size + 1])
        kept = keys[:size][::-1]
        newer, older = (kept[0] if len(keys) > size else 0), (kept[-1] if kept else 0)
    else:
        older_than = rows.filter(pk__lt=before) if before else rows
        keys = list(older_than.order_by("-pk").values_list("pk", flat=True)[: size + 1])
        kept = keys[:size]
        newer, older = (kept[0] if before and kept else 0), (kept[-1] if len(keys) > size else 0)
    found = list(rows.filter(pk__in=kept).order_by("-pk")) if kept else []
    return Page(found, newer, older)
