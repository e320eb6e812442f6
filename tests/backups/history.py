"""Entries of the catalog without the work of a backup, for tests of what is made of them."""

from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from backups.models import Backup, Kind, Policy, WalRange, WalStream

_numbers = count(1)
MEBIBYTE = 1024 * 1024


def entry(policy: Policy, /, *, age: timedelta | None = None, **values: Any) -> Backup:
    """A backup of the policy that was taken so long ago (now, unless it says otherwise)."""
    backup = unsaved(policy, age=age, **values)
    backup.save()
    return backup


def entries(policy: Policy, number: int) -> None:
    """One a day, so many."""
    Backup.objects.bulk_create([unsaved(policy, age=timedelta(days=day)) for day in range(number)])


def unsaved(policy: Policy, /, *, age: timedelta | None = None, **values: Any) -> Backup:
    """The row of one."""
    at = timezone.now() - (age or timedelta())
    number = next(_numbers)
    key = f"{policy.prefix}{at:%Y-%m-%dT%H%M%SZ}-0-{number}/"
    manifest = {"key": key, "objects": [{"name": "main", "size": MEBIBYTE, "sha256": "a" * 64}], "facts": {}}
    given: dict[str, Any] = {
        "environment": policy.environment, "policy": policy, "policy_slug": policy.slug, "kind": policy.kind,
        "storage": policy.storage, "key": key, "as_of": at, "started_at": at, "finished_at": at, "seconds": 3.0,
        "size": MEBIBYTE, "source_bytes": 3 * MEBIBYTE, "sha256": "a" * 64, "manifest": manifest,
    }  # fmt: skip
    return Backup(**{**given, **values})


def proven(policy: Policy, /, *, age: timedelta | None = None, **values: Any) -> Backup:
    """One that a restore test has proven."""
    said = {"verdict": Backup.Verdict.PROVEN, "verdict_words": "all as it was", "restore_seconds": 9.0}
    return entry(policy, age=age, tested_at=timezone.now(), **{**said, **values})


def base(policy: Policy, *, age: timedelta, segment: int, **values: Any) -> Backup:
    """A base backup of a policy of kind pitr that begins and ends in the segment of this number."""
    assert policy.kind == Kind.PITR
    lsn = f"{segment // 256:X}/{segment % 256 * 0x1000000 + 40:X}"
    return entry(policy, age=age, timeline=1, wal_start=lsn, wal_end=lsn, **values)


def wal(policy: Policy, *stretches: tuple[int, int, datetime, datetime]) -> WalStream:
    """An archive that is being received, with segments from … to …, of these times."""
    now = timezone.now()
    stream = WalStream.objects.create(policy=policy, slot="s", seen_at=now, archived_until=now, timeline=1)
    for first, last, since, until in stretches:
        WalRange.objects.create(stream=stream, timeline=1, first=first, last=last, since=since, until=until)
    return stream
