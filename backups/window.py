"""From when to when a database can be restored, moment by moment.

A base backup reaches every moment from its own end on, for as long as the log goes on without a gap. It holds the
log of its own time itself, so the segment in which that ends is the first it needs. A timeline that branches off (a
standby was promoted) continues the one before it, where no segment is missing between the two.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F
from django.db.models.fields.json import KeyTransform

from backups.models import Backup, Policy, WalRange
from backups.wal_segments import last_segment

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Base:
    """A base backup that is there with all it is built on. at: its end. first: the segment it ends in."""

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
    return max((one.until for one in continued(base, ranges)), default=None)


def continued(base: Base, ranges: Sequence[Range]) -> list[Range]:
    """The range in which a base ends, and those of later timelines that go on from it."""
    path = [one for one in ranges if one.timeline == base.timeline and one.first <= base.first <= one.last][:1]
    for one in sorted(ranges, key=lambda one: (one.timeline, one.first)):
        if path and one.timeline > path[-1].timeline and base.first <= one.first <= path[-1].last + 1:
            path.append(one)
    return path


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
    return recoverable_of([policy]).get(policy.pk, [])


def recoverable_of(policies: Sequence[Policy]) -> dict[int, list[Window]]:
    """The same of many policies, by number, in two queries."""
    numbers = [policy.pk for policy in policies]
    ranges = ranges_of(numbers)
    return {number: windows(bases, ranges.get(number, [])) for number, bases in bases_of(numbers).items()}


def ranges_of(policies: Iterable[int]) -> dict[int, list[Range]]:
    """What there is of the log of each policy, by number."""
    found: dict[int, list[Range]] = defaultdict(list)
    rows = WalRange.objects.filter(stream__policy__in=policies)
    for row in rows.annotate(policy=F("stream__policy")):
        found[row.policy].append(Range(row.timeline, row.first, row.last, row.since, row.until))
    return found


def bases_of(policies: Iterable[int]) -> dict[int, list[Base]]:
    """The base backups of each policy that are whole: there, not known to fail, and so is all they are built on."""
    rows = Backup.objects.filter(policy__in=policies, state=Backup.State.AVAILABLE, timeline__isnull=False)
    rows = rows.exclude(wal_end="").exclude(verdict=Backup.Verdict.FAILED)
    size = KeyTransform("segment_bytes", KeyTransform("facts", "manifest"))
    known = list(rows.values_list("policy", "pk", "parent_id", "as_of", "timeline", "wal_end", size))
    parents = {row[1]: row[2] for row in known}
    found: dict[int, list[Base]] = defaultdict(list)
    for policy, pk, _, at, timeline, end, segment_bytes in known:
        if _is_whole(pk, parents):
            number = last_segment(end, int(segment_bytes or DEFAULT_SEGMENT_BYTES))
            found[policy or 0].append(Base(pk, at, int(timeline or 0), number))
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
