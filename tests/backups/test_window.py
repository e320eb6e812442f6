"""The recoverable window: exactly the moments to which a base and a log without a gap lead."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.models import Backup, Kind, Policy, Storage, WalRange, WalStream
from backups.wal_segments import Segment, lsn, position
from backups.window import Base, Range, Window, gaps, merged, nearest, recoverable, windows
from environments.models import Environment

START = datetime(2026, 11, 24, tzinfo=UTC)
MB16 = 16 * 1024 * 1024
HOURS = 40


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def ranges_of(archived: set[int]) -> list[Range]:
    """One segment an hour on one timeline; segment n holds what was written from n to n + 1."""
    found: list[Range] = []
    for number in sorted(archived):
        if found and found[-1].last == number - 1:
            found[-1] = Range(1, found[-1].first, number, found[-1].since, at(number + 1))
        else:
            found.append(Range(1, number, number, at(number), at(number + 1)))
    return found


@given(
    st.sets(st.integers(0, HOURS)), st.lists(st.tuples(st.integers(0, HOURS), st.integers(0, 3)), max_size=6),
    st.integers(0, 2 * HOURS + 8),
)  # fmt: skip
def test_a_moment_is_in_a_window_if_and_only_if_no_segment_up_to_it_is_missing(
    archived: set[int], made: list[tuple[int, int]], half_hours: int
) -> None:
    bases = [Base(index, at(first + length), 1, first) for index, (first, length) in enumerate(made)]
    found = windows(bases, ranges_of(archived))
    hour = half_hours / 2
    # Brute force: recovery reads each segment from the one the base ends in up to the moment.
    needed = {
        base.backup: set(range(base.first, int(hour) + 1 if hour % 1 else int(hour)))
        for base in bases
        if base.at <= at(hour)
    }
    possible = {backup for backup, segments in needed.items()
                if segments <= archived and bases[backup].first in archived}  # fmt: skip
    assert {one.backup for one in found if one.since <= at(hour) <= one.until} == possible
    before, after = nearest(found, at(hour))
    assert (before == after == at(hour)) == bool(possible)
    assert any(first <= at(hour) <= last for first, last in merged(found)) == bool(possible)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=6), st.integers(0, 45))
def test_the_nearest_are_those_a_search_finds(made: list[tuple[int, int]], hour: int) -> None:
    found = [Window(at(first), at(first + length), number) for number, (first, length) in enumerate(made)]
    inside = [one for one in range(50) if any(w.since <= at(one) <= w.until for w in found)]
    before, after = nearest(found, at(hour))
    assert before == max((at(one) for one in inside if one <= hour), default=None)
    assert after == min((at(one) for one in inside if one >= hour), default=None)
    stretches = merged(found)
    assert all(a[1] < b[0] for a, b in pairwise(stretches))


def test_a_gap_is_where_segments_are_missing() -> None:
    ranges = [Range(1, 0, 5, at(0), at(6)), Range(1, 8, 9, at(8), at(10)), Range(2, 9, 12, at(10), at(13))]
    assert gaps(ranges) == [(at(6), at(8))]
    assert gaps(ranges[:1]) == []


def test_a_promoted_standby_goes_on() -> None:
    ranges = [Range(1, 0, 5, at(0), at(6)), Range(2, 5, 9, at(6), at(10))]
    assert windows([Base(1, at(2), 1, 1)], ranges) == [Window(at(2), at(10), 1)]


def test_a_promoted_standby_after_a_gap_does_not() -> None:
    ranges = [Range(1, 0, 5, at(0), at(6)), Range(2, 7, 9, at(7), at(10))]
    assert windows([Base(1, at(2), 1, 1)], ranges) == [Window(at(2), at(6), 1)]


def test_a_branch_from_before_the_base_is_not_its_future() -> None:
    ranges = [Range(1, 0, 5, at(0), at(6)), Range(2, 1, 9, at(6), at(10))]
    assert windows([Base(1, at(4), 1, 3)], ranges) == [Window(at(4), at(6), 1)]


def test_a_backup_that_ended_after_the_log_reaches_nothing() -> None:
    assert windows([Base(1, at(7), 1, 3)], [Range(1, 0, 5, at(0), at(6))]) == []


@pytest.fixture
def policy(db: None) -> Policy:
    environment = Environment.objects.create(slug="place", name="Place", position=900)
    storage = Storage.objects.create(slug="disk", kind="folder", settings={"path": "kept"})
    return Policy.objects.create(
        environment=environment, slug="pitr", kind=Kind.PITR, storage=storage, schedule="0 2 * * *"
    )


def backup(policy: Policy, hour: int, parent: Backup | None = None, **values: object) -> Backup:
    return Backup.objects.create(
        environment=policy.environment, policy=policy, policy_slug=policy.slug, kind=policy.kind, parent=parent,
        level="incremental" if parent else "full", storage=policy.storage, key=f"{policy.prefix}{hour}/",
        as_of=at(hour), started_at=at(hour), finished_at=at(hour), seconds=1, size=1, source_bytes=1, timeline=1,
        wal_end=lsn(hour * MB16 + 40), manifest={"facts": {"segment_bytes": MB16}}, **values,
    )  # fmt: skip


def test_a_policy_is_recoverable_from_what_is_whole(policy: Policy) -> None:
    full = backup(policy, 1)
    lost = backup(policy, 2, full, state=Backup.State.DAMAGED)
    backup(policy, 3, lost)
    failed = backup(policy, 4, full, verdict=Backup.Verdict.FAILED)
    good = backup(policy, 5, full)
    backup(policy, 6, failed)
    backup(policy, 12)  # after the log ended
    stream = WalStream.objects.create(policy=policy, slot="s")
    WalRange.objects.create(stream=stream, timeline=1, first=1, last=8, since=at(0), until=at(9))
    WalRange.objects.create(stream=stream, timeline=1, first=20, last=22, since=at(20), until=at(23))
    assert recoverable(policy) == [Window(at(1), at(9), full.pk), Window(at(5), at(9), good.pk)]
    assert nearest(recoverable(policy), at(21)) == (at(9), None)


@pytest.mark.parametrize("size", [2**20, MB16, 2**30])
def test_names_and_positions_go_there_and_back(size: int) -> None:
    for number in (0, 1, 255, 256, 4095, 4096, 2**33 // size):
        segment = Segment(3, number)
        assert Segment.named(segment.name(size), size) == segment
        assert position(lsn(number * size + 8)) == number * size + 8
    assert Segment(1, 0x0A00000000 // MB16 + 0xFE).name(MB16) == "000000010000000A000000FE"
