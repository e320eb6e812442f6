"""Uploads: what is new goes to the storage once, and each backup has an index of every file of its moment.

1. The files of the source and those of the last backup's index are gone through side by side, both in order.
2. A file that shows what it showed then, and whose content is in the storage in its full size, is not read again,
   except that every so many days all are.
3. Any other is read, and its content put into the storage under its SHA-256, unless it is there.
4. The index and the list of contents it needs are written last.

What was deleted from the source stays in the indexes before, and so do the contents that only they name.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from backups.engines.base import Hand, Job, Taken
from backups.engines.beneath import Vanished, shown
from backups.engines.contents import REFERENCES, Contents, Differs, Lines, unreferenced
from backups.engines.crew import crew
from backups.engines.file_index import INDEX, SECOND, Indexed, IndexWriter, read_index
from backups.engines.sources import Found, LeftOut, Source, check_source, source_of
from controlplane.operations.errors import StepError

__all__ = ["UploadsEngine", "unreferenced"]

FOLDER = "files/"
RECHECK_DAYS = 7
TRIES = 4
# A file of this size is read once, into memory; a larger one once for its digest and once for the storage.
SMALL = 4 * 1024 * 1024
# Younger than this, a file may change once more without its times showing it.
SETTLED_SECONDS = 2
NAMED = 20
TELL_SECONDS = 1.0
SETTINGS = {"source", "recheck_every_days", "allow_empty"}


@dataclass(frozen=True)
class Kept:
    """What became of one file. one: its line in the index, None when it is left out. stored: bytes newly written."""

    one: Indexed | None
    read: int = 0
    stored: int | None = None
    reused: bool = False
    warning: str = ""


@dataclass
class Sums:
    """What is known at the end."""

    files: int = 0
    bytes: int = 0
    new_files: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    reused: int = 0
    deleted: int = 0
    read: int = 0
    warnings: dict[str, int] = field(default_factory=dict)

    def add(self, kept: Kept) -> None:
        """Count one file in."""
        self.read += kept.read
        if kept.one is None:
            return
        self.files += 1
        self.bytes += kept.one.size
        self.reused += kept.reused
        if kept.stored is not None:
            self.new_files += 1
            self.new_bytes += kept.one.size
            self.stored_bytes += kept.stored


class UploadsEngine:
    """See `base.Engine`. settings: source, recheck_every_days (7), allow_empty (false)."""

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """See `base.Engine`."""
        wrong = {key: f"is no setting of uploads; there are {', '.join(sorted(SETTINGS))}"
                 for key in settings.keys() - SETTINGS}  # fmt: skip
        wrong |= check_source(settings.get("source"))
        days = settings.get("recheck_every_days", RECHECK_DAYS)
        if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 366:
            wrong["recheck_every_days"] = "has to be a number of days from 1 to 366"
        if not isinstance(settings.get("allow_empty", False), bool):
            wrong["allow_empty"] = "has to be true or false"
        return wrong

    def look(self, job: Job, hand: Hand) -> None:
        """The source is there and can be listed."""
        with source_of(job.settings) as source:
            next(iter(source.files(LeftOut())), None)

    def take(self, job: Job, hand: Hand) -> Taken:
        """See `base.Engine`."""
        with source_of(job.settings) as source:
            return _Run(job, hand, source).taken()


class _Run:
    def __init__(self, job: Job, hand: Hand, source: Source) -> None:
        self.job, self.hand, self.source = job, hand, source
        self.began = timezone.now()
        self.facts: Mapping[str, Any] = job.parent["facts"] if job.parent else {}
        self.checked_at = self._checked_at()
        # The last backup's index says what was sealed how long; contents encrypted to another key are others.
        self.same_key = job.parent is not None and job.parent["key_id"] == job.sealer.key_id
        self.contents = Contents(job.store, job.prefix, FOLDER, job.sealer)
        self.sums = Sums()
        self.check: Callable[[], None] = hand.check
        self.told = 0.0

    def _checked_at(self) -> datetime:
        """When all files were read the last time: now, if it is time for it again."""
        last = parse_datetime(str(self.facts.get("checked_at", "")))
        days = self.job.settings.get("recheck_every_days", RECHECK_DAYS)
        return last if last and last <= self.began < last + timedelta(days=days) else self.began

    def taken(self) -> Taken:
        left_out = LeftOut()
        with Lines() as index, Lines() as needed:
            self._files(left_out, IndexWriter(index, self.job.sealer.key_id), needed)
            self._not_suddenly_empty()
            job, check = self.job, self.hand.check
            stored = job.store.put(job.key + INDEX + job.sealer.suffix, job.sealer.seal(index.chunks()), check=check)
            names = job.store.put(job.key + REFERENCES, needed.chunks(), check=check)
        if left_out.count:
            more = f" and {left_out.count - len(left_out.names)} more" if left_out.count > len(left_out.names) else ""
            self._warn("left out", f"left out, since they are no files: {', '.join(left_out.names)}{more}")
        sums = self.sums
        self.hand.log(f"{sums.files} files, {sums.bytes} bytes: {sums.new_files} new in the storage "
                      f"({sums.new_bytes} bytes), {sums.reused} unchanged, {sums.deleted} deleted")  # fmt: skip
        facts = {
            "files": sums.files, "bytes": sums.bytes, "new_files": sums.new_files, "new_bytes": sums.new_bytes,
            "stored_bytes": sums.stored_bytes, "deleted": sums.deleted, "reused": sums.reused,
            "left_out": left_out.count, "checked_at": self.checked_at.isoformat(),
            "unsteady": sum(sums.warnings.get(kind, 0) for kind in ("vanished", "changing")),
        }  # fmt: skip
        return Taken((stored, names), self.began, sums.read, facts)

    def _files(self, left_out: LeftOut, index: IndexWriter, needed: Lines) -> None:
        total = self.facts.get("files") or sum(1 for _ in self.source.files(LeftOut()))
        with crew(self.hand.check) as workers:
            self.check = workers.check
            there = self._counting(side_by_side(self.source.files(left_out), self._before()))
            for kept in workers.each(self._kept, there):
                self.sums.add(kept)
                if kept.warning:
                    self._warn(*kept.warning.split(": ", 1))
                if kept.one:
                    index.add(kept.one)
                    needed.add(self.contents.name(kept.one.sha256))
                if time.monotonic() - self.told >= TELL_SECONDS:
                    self.told = time.monotonic()
                    self.hand.progress(self.sums.files, max(total, self.sums.files), "files")
        index.end()
        self.hand.progress(self.sums.files, self.sums.files, "files")
        for kind, count in self.sums.warnings.items():
            if count > NAMED:
                self.hand.log(f"{kind}: {count - NAMED} more", level="warning")

    def _before(self) -> Iterator[Indexed]:
        """The files of the last backup. Without them all are read, which takes longer and loses nothing."""
        if self.job.parent is None:
            return
        try:
            yield from read_index(self.job.store, self.job.parent, self.job.sealer)
        except StepError as error:
            words = f"The index of the backup before cannot be used, so all files are read: {error}"
            self.hand.log(words, level="warning")

    def _counting(self, pairs: Iterable[tuple[Found | None, Indexed | None]]) -> Iterator[tuple[Found, Indexed | None]]:
        for found, before in pairs:
            if found is None:
                self.sums.deleted += 1
            else:
                yield found, before

    def _not_suddenly_empty(self) -> None:
        """A volume that is not mounted looks like a folder from which everything was deleted."""
        if self.sums.files or not self.facts.get("files") or self.job.settings.get("allow_empty"):
            return
        raise StepError(
            f"The source is empty, but the backup before has {self.facts['files']} files. Is the volume mounted? If "
            "everything was deleted on purpose, set allow_empty in the policy's settings.",
            permanent=True,
        )

    def _warn(self, kind: str, words: str) -> None:
        count = self.sums.warnings[kind] = self.sums.warnings.get(kind, 0) + 1
        if count <= NAMED:
            self.hand.log(words, level="warning")

    # --- by the threads of the crew ---

    def _kept(self, pair: tuple[Found, Indexed | None]) -> Kept:
        found, before = pair
        alike = before and before.mark == found.mark != "" and before.size == found.size
        if before and alike and self.checked_at != self.began:
            there = self._stored(before.sha256, before.size, before)
            if there is not None:
                return Kept(_renewed(before, found, there), reused=True)
        try:
            return self._read(found, before)
        except Vanished:
            name = shown(found.name)
            return Kept(None, warning=f"vanished: {name} vanished while the backup was made, so it is left out")

    def _stored(self, digest: str, size: int, before: Indexed | None) -> int | None:
        """How many bytes the storage has of a content; None when it has to be written."""
        known = before.stored if before and before.sha256 == digest and self.same_key else None
        return self.contents.there(digest, size, known)

    def _read(self, found: Found, before: Indexed | None) -> Kept:
        """Until it has not changed while it was read; a small one is taken as it was read in the end."""
        read = 0
        for attempt in range(1, TRIES + 1):
            digest, data, size = self._digest(found)
            read += size
            now = self.source.again(found.name)
            steady = now.mark == found.mark and size == found.size
            if steady or (attempt == TRIES and data is not None):
                one = self._put(found, size, digest, data, before)
                if one is not None:
                    words = f"{shown(found.name)} changed each time it was read; it may hold parts of two moments"
                    return Kept(one[0], read, one[1], warning="" if steady else f"changing: {words}")
            found = now
        name = shown(found.name)
        there = self._stored(before.sha256, before.size, before) if before else None
        if before and there is not None:
            words = f"{name} changed each time it was read; it is kept as the backup before has it"
            return Kept(replace(before, mark="", stored=there), read, warning=f"changing: {words}")
        return Kept(None, read, warning=f"changing: {name} changed each time it was read, so it is left out")

    def _digest(self, found: Found) -> tuple[str, bytes | None, int]:
        """SHA-256, the content itself if it is small, and how much was there."""
        seen, size, parts = hashlib.sha256(), 0, []
        for chunk in self.source.read(found):
            self.check()
            seen.update(chunk)
            size += len(chunk)
            if found.size <= SMALL:
                parts.append(chunk)
        return seen.hexdigest(), b"".join(parts) if found.size <= SMALL else None, size

    def _put(
        self, found: Found, size: int, digest: str, data: bytes | None, before: Indexed | None
    ) -> tuple[Indexed, int | None] | None:
        """Its line, and how much was written for it, None for nothing. None as a whole when it changed once more."""
        written = None
        there = self._stored(digest, size, before)
        if there is None:
            try:
                chunks = [data] if data is not None else self.source.read(found)
                there = written = self.contents.put(digest, chunks, self.check).size
            except Differs:
                return None
        young = found.timed and self.began.timestamp() - SETTLED_SECONDS < found.modified_ns / SECOND
        mark = "" if young or size != found.size else found.mark
        return Indexed(found.name, size, digest, found.modified_ns, found.mode, mark, there), written


def _renewed(before: Indexed, found: Found, stored: int) -> Indexed:
    """The content of the last backup with what the source shows now."""
    return replace(before, modified_ns=found.modified_ns, mode=found.mode, mark=found.mark, stored=stored)


def side_by_side(found: Iterator[Found], before: Iterator[Indexed]) -> Iterator[tuple[Found | None, Indexed | None]]:
    """Both in order, with what has the same name in one pair."""
    here, there = next(found, None), next(before, None)
    while here or there:
        if there is None or (here and here.name < there.name):
            yield here, None
            here = next(found, None)
        elif here is None or there.name < here.name:
            yield None, there
            there = next(before, None)
        else:
            yield here, there
            here, there = next(found, None), next(before, None)
