"""Which WAL is kept: from the segment on in which the recovery of the oldest kept base begins."""

from collections.abc import Iterator
from datetime import datetime

from django.db import transaction

from backups.models import Backup, Policy, WalRange, WalStream
from backups.storage.base import Store
from backups.wal import slot_of
from backups.wal_segments import HISTORY, Segment, position, stored_file
from backups.window import DEFAULT_SEGMENT_BYTES


def first_needed(policy: Policy) -> tuple[int, int] | None:
    """The number of that segment, and a segment's size in bytes; None while there is no base, then all is kept.

    Positions go on over a change of the timeline, so one number holds for all timelines.
    """
    bases = Backup.objects.filter(policy=policy).exclude(state=Backup.State.DELETED).exclude(wal_start="")
    needed = []
    for start, size in bases.values_list("wal_start", "manifest__facts__segment_bytes"):
        segment_bytes = int(size or DEFAULT_SEGMENT_BYTES)
        needed.append((position(start) // segment_bytes, segment_bytes))
    return min(needed, default=None)


def trim_wal(policy: Policy, store: Store) -> list[str]:
    """Take what lies before it out of the recoverable ranges; returns the keys that may go. Timeline histories stay."""
    needed = first_needed(policy)
    if needed is None:
        return []
    first, size = needed
    with transaction.atomic():
        ranges = WalRange.objects.select_for_update().filter(stream__policy=policy, first__lt=first)
        ranges.filter(last__lt=first).delete()
        ranges.update(first=first)
    gone = []
    for entry in store.list(f"{policy.prefix}wal/"):
        file = stored_file(entry.key, policy.prefix)
        if file and not HISTORY.fullmatch(file.name) and Segment.named(file.name, size).number < first:
            gone.append(entry.key)
    return gone


def rebuild_ranges(policy: Policy, store: Store) -> int:
    """Write down which WAL stands in the storage, where nothing is known of it; returns the number of ranges.

    The times are those at which the storage got the objects: what is in them is not newer.
    """
    stream, _ = WalStream.objects.get_or_create(policy=policy, defaults={"slot": slot_of(policy)})
    if stream.ranges.exists():
        return 0
    needed = first_needed(policy)
    size = needed[1] if needed else DEFAULT_SEGMENT_BYTES
    ranges: list[WalRange] = []
    for timeline, number, at, stored in sorted(_segments(policy, store, size)):
        last = ranges[-1] if ranges else None
        if last is None or (last.timeline, last.last + 1) < (timeline, number):
            ranges.append(WalRange(stream=stream, timeline=timeline, first=number, last=number, since=at, until=at,
                                   size=stored))  # fmt: skip
        else:
            last.last, last.until, last.size = number, max(at, last.until), last.size + stored
    WalRange.objects.bulk_create(ranges)
    return len(ranges)


def _segments(policy: Policy, store: Store, size: int) -> Iterator[tuple[int, int, datetime, int]]:
    """Timeline, number, time in the storage and bytes of each file that is there, beginnings too."""
    for entry in store.list(f"{policy.prefix}wal/"):
        file = stored_file(entry.key, policy.prefix)
        if file and not HISTORY.fullmatch(file.name):
            segment = Segment.named(file.name, size)
            yield segment.timeline, segment.number, entry.modified, entry.size
