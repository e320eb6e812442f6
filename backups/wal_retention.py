"""How far back the WAL is kept: to the segment in which the recovery of the oldest kept base begins."""

from django.db import transaction

from backups.models import Backup, Policy, WalRange
from backups.storage.base import Store
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
