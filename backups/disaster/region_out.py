"""What is in the other region, for programs: the facts of the page, without its colours."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from backups.disaster.overview import Looked
from backups.disaster.region_page import Both, RegionPage

Outcome = Literal["ready", "unknown", "not ready"]


class FoundOut(BaseModel):
    """One thing that was looked at; what is not well comes first in each list."""

    title: str
    outcome: Outcome
    words: str


class BothOut(BaseModel):
    """One thing on both sides: a service's image, or a variable that is a secret (its name, never a value)."""

    name: str
    source: FoundOut
    target: FoundOut


class SeenPointOut(BaseModel):
    """Something that the database could come back from. behind: seconds, when it was looked at."""

    title: str
    as_of: datetime
    behind: float


class UploadsOut(BaseModel):
    """The last comparison of all files that came to its end. late: of the missing, what should be there by now."""

    compared_at: datetime | None
    source_count: int
    target_count: int
    missing: int
    missing_bytes: int
    late: int


class RegionsOut(BaseModel):
    """What the clock heard last. at is null, and the lists empty, before anybody looked; stale: too long ago.

    uploads: null where the plan names none, or both sides were never compared. kit: null where none is wanted.
    """

    source: str
    target: str
    at: datetime | None
    stale: bool
    word: str
    uploads: UploadsOut | None
    replication: list[FoundOut]
    database: list[FoundOut]
    points: list[SeenPointOut]
    images: list[BothOut]
    secrets: list[BothOut]
    kit: FoundOut | None


def regions_out(page: RegionPage) -> RegionsOut:
    """The page of one plan as plain data."""
    return RegionsOut(
        source=page.source.slug,
        target=page.target.slug,
        at=page.look.at if page.look else None,
        stale=page.is_stale,
        word=page.word,
        uploads=_uploads(page),
        replication=_all(page.uploads),
        database=_all(page.database),
        points=[SeenPointOut(title=one.title, as_of=one.as_of, behind=one.behind) for one in page.points],
        images=_both(page.images),
        secrets=_both(page.secrets),
        kit=None if page.kit.word == "none" else _found(page.kit),
    )


def _uploads(page: RegionPage) -> UploadsOut | None:
    if page.totals is None or page.comparison is None:
        return None
    totals = page.totals
    return UploadsOut(
        compared_at=page.comparison.finished_at, source_count=totals.source_count, target_count=totals.target_count,
        missing=page.missing, missing_bytes=page.missing_bytes, late=totals.late,
    )  # fmt: skip


def _found(one: Looked) -> FoundOut:
    return FoundOut.model_validate({"title": one.title, "outcome": one.word, "words": one.words})


def _all(found: Sequence[Looked]) -> list[FoundOut]:
    return [_found(one) for one in found]


def _both(rows: Sequence[Both]) -> list[BothOut]:
    return [BothOut(name=one.name, source=_found(one.source), target=_found(one.target)) for one in rows]
