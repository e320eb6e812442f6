"""From when to when a database can be restored, moment by moment.

A base backup reaches every moment from its own end on, for as long as the log goes on without a gap from the
segment it begins in. A timeline that branches off (a standby was promoted) continues the one before it, where no
segment is missing between the two.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models.fields.json import KeyTransform

from backups.models import Backup, Policy, WalRange
from backups.wal_segments import position

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Base:
    """A base backup that is there with all it is built on. at: its end. first: the segment its recovery begins in."""

    backup: int
    at: datetime
    timeline: int
    first: int


@dataclass(frozen=True)
class Range:
    """Segments without a gap; see `models.WalRange`."""

    timeline: int
    first: int
    last: int
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Window:
    """Every moment from `since` to `until`, both included, can be restored from the base backup."""

    since: datetime
    until: datetime
    backup: int


def windows(bases: Iterable[Base], ranges: Sequence[Range]) -> list[Window]:
    """One for each base that the log goes on from, in order of time; they may overlap."""
    reached = ((base, reach(base, ranges)) for base in bases)
    found = [Window(base.at, until, base.backup) for base, until in reached if until is not None and until >= base.at]
    return sorted(found, key=lambda window: (window.since, window.until, window.backup))


def reach(base: Base, ranges: Sequence[Range]) -> datetime | None:
    """The last moment that the log leads to from a base; None when it does not have its beginning."""
    begun = [one for one in ranges if one.timeline == base.timeline and one.first <= base.first <= one.last]
    if not begun:
        return None
    current = begun[0]
    until = current.until
    for one in sorted(ranges, key=lambda one: (one.timeline, one.first)):
        if one.timeline > current.timeline and base.first <= one.first <= current.last + 1:
            current = one
            until = max(until, one.until)
    return until


def gaps(ranges: Iterable[Range]) -> list[tuple[datetime, datetime]]:
    """From when to when the log is missing, in order: no base from before such a time leads past it."""
    found = []
    before: Range | None = None
    for one in sorted(ranges, key=lambda one: (one.timeline, one.first)):
        if before is not None and (one.timeline == before.timeline or one.first > before.last + 1):
            found.append((before.until, max(before.until, one.since)))
        before = one
    return found


def nearest(found: Iterable[Window], moment: datetime) -> tuple[datetime | None, datetime | None]:
    """The recoverable moments closest to it: the last before and the first after; itself twice when it is one."""
    before: datetime | None = None
    after: datetime | None = None
    for window in found:
        if window.since <= moment:
            last = min(window.until, moment)
            before = last if before is None else max(before, last)
        if window.until >= moment:
            first = max(window.since, moment)
            after = first if after is None else min(after, first)
    return before, after


def merged(found: Iterable[Window]) -> list[tuple[datetime, datetime]]:
    """The stretches of time that are recoverable, in order, none of which touches another; for a bar."""
    stretches: list[tuple[datetime, datetime]] = []
    for window in sorted(found, key=lambda window: window.since):
        if stretches and window.since <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], window.until))
        else:
            stretches.append((window.since, window.until))
    return stretches


def recoverable(policy: Policy) -> list[Window]:
    """The windows of a policy, of what the catalog knows."""
    return windows(bases_of(policy), ranges_of(policy))


def ranges_of(policy: Policy) -> list[Range]:
    """What there is of a policy's log."""
    rows = WalRange.objects.filter(stream__policy=policy)
    return [Range(one.timeline, one.first, one.last, one.since, one.until) for one in rows]


def bases_of(policy: Policy) -> list[Base]:
    """The base backups of a policy that are whole: there, not known to fail, and so is all they are built on."""
    rows = Backup.objects.filter(policy=policy, state=Backup.State.AVAILABLE, timeline__isnull=False)
    rows = rows.exclude(wal_start="").exclude(verdict=Backup.Verdict.FAILED)
    size = KeyTransform("segment_bytes", KeyTransform("facts", "manifest"))
    known = {row[0]: row for row in rows.values_list("pk", "parent_id", "as_of", "timeline", "wal_start", size)}
    parents = {number: row[1] for number, row in known.items()}
    found = []
    for pk, _, at, timeline, start, segment_bytes in known.values():
        if _is_whole(pk, parents):
            number = position(start) // int(segment_bytes or DEFAULT_SEGMENT_BYTES)
            found.append(Base(pk, at, int(timeline or 0), number))
    return found


def _is_whole(backup: int, parents: dict[int, int | None]) -> bool:
    seen: set[int] = set()
    current: int | None = backup
    while current is not None:
        if current not in parents or current in seen:
            return False
        seen.add(current)
        current = parents[current]
    return True
