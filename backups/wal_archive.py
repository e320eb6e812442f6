"""The segments of one archive in the storage, and the rows that say what there is.

1. An object is written whole before the rows speak of it; so what the rows promise is there.
2. The rows change in one transaction that names the fence: who lost the stream to another receiver changes nothing.
3. What was written but not yet spoken of is met again after a crash, and not written a second time.
4. While one segment is on its way, the next one is compressed.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import zstandard
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

from backups.models import WalRange, WalStream
from backups.sealing import Sealer
from backups.storage.base import Store
from backups.wal_segments import Segment, key_of, lsn, stored_file
from controlplane.operations.errors import LeaseLost, StepError

COMPRESSION = zstandard.ZstdCompressionParameters.from_level(1, window_log=20, hash_log=15, write_checksum=True)
READ_BYTES = 1024 * 1024
FRAME_BYTES = 16 * 1024 * 1024  # a segment, unless the server was made with larger ones
LARGEST_AHEAD = 64 * 1024 * 1024  # a segment that is compressed ahead is in memory


@dataclass(frozen=True)
class Arrived:
    """Up to where the log is in the storage. until: the server's time up to which that is all there was, if known."""

    segment: Segment
    end: int
    until: datetime | None
    size: int


class Archive:
    """The storage's side of one stream, as long as its fence is the present one.

    check: raises LeaseLost when this receiver may no longer write. segment_bytes: of a segment.
    """

    def __init__(
        self, stream: WalStream, store: Store, sealer: Sealer, *, segment_bytes: int, check: Callable[[], None]
    ) -> None:
        self.stream_id = stream.pk
        self.fence = stream.fence
        self.prefix = stream.policy.prefix
        self.store = store
        self.sealer = sealer
        self.segment_bytes = segment_bytes
        self.check = check
        self._beginnings: list[str] = []
        self._workshop = ThreadPoolExecutor(1, "wal compression")
        self._ahead: dict[Path, Future[list[bytes]]] = {}
        self._goes_on = False  # the first object may be there already: its writer was killed before it said so

    def close(self) -> None:
        """Let go of what was compressed in vain."""
        self._workshop.shutdown(cancel_futures=True)

    def put_segment(self, path: Path, segment: Segment, following: Path | None = None) -> int:
        """Write a whole segment, unless it is there; its bytes in the storage. following: what will come next."""
        packed = self._ahead.pop(path, None)
        if following is not None and self.segment_bytes <= LARGEST_AHEAD:
            self._ahead = {following: self._workshop.submit(lambda: list(_compressed(following, None)))}
        key = key_of(self.prefix, segment.name(self.segment_bytes), self.sealer.suffix)
        size = None if self._goes_on else self._size_if_there(key, path)
        if size is None:
            chunks = _compressed(path, None) if packed is None else packed.result()
            size = self.store.put(key, self.sealer.seal(chunks), check=self.check).size
        self._goes_on = True
        return size

    def put_beginning(self, path: Path, segment: Segment, length: int) -> int:
        """Write the first bytes of a segment that is still growing; their bytes in the storage."""
        key = key_of(self.prefix, segment.name(self.segment_bytes), self.sealer.suffix, length)
        size = self.store.put(key, self._sealed(path, length), check=self.check).size
        self._beginnings.append(key)
        return size

    def put_history(self, path: Path) -> None:
        """Write where a timeline branched off. It is small, and says the same each time."""
        self.store.put(key_of(self.prefix, path.name, self.sealer.suffix), self._sealed(path, None), check=self.check)

    def find_beginnings(self, segment: Segment) -> None:
        """Take note of what an earlier receiver left of a segment, so that it is removed in the end."""
        name = segment.name(self.segment_bytes)
        listed = self.store.list(key_of(self.prefix, name, "").removesuffix("zst"))
        found = [stored_file(entry.key, self.prefix) for entry in listed]
        self._beginnings += [one.key for one in found if one is not None and one.length is not None]

    def remove_beginnings(self, *, but_last: bool) -> None:
        """Remove those that a longer one, or the whole segment, has replaced."""
        gone = self._beginnings[:-1] if but_last else self._beginnings
        if gone:
            try:
                self.store.delete(gone)
            except StepError:
                pass  # locked, or out of reach just now: they are small, and retention removes them with the segment
            self._beginnings = self._beginnings[-1:] if but_last else []

    def commit(self, arrived: Arrived, *, since: datetime, after_gap: bool = False) -> None:
        """Say what is in the storage now. since: the server's time, for a range that begins. Raises LeaseLost.

        after_gap: it does not follow on what was there before, so that a new range begins.
        """
        with transaction.atomic():
            until = arrived.until
            held = WalStream.objects.filter(pk=self.stream_id, fence=self.fence)
            changed = held.update(
                timeline=arrived.segment.timeline,
                archived_lsn=lsn(arrived.end),
                **({} if until is None else {"archived_until": Greatest(F("archived_until"), until)}),
            )
            if not changed:
                raise LeaseLost(f"WAL stream {self.stream_id}: another receiver holds it")
            self._extend(arrived, since, after_gap)

    def _extend(self, arrived: Arrived, since: datetime, after_gap: bool) -> None:
        number = arrived.segment.number
        ranges = WalRange.objects.filter(stream=self.stream_id, timeline=arrived.segment.timeline)
        latest = ranges.order_by("-last").first()
        if latest is None or after_gap or latest.last + 1 < number:
            WalRange.objects.create(
                stream_id=self.stream_id, timeline=arrived.segment.timeline, first=number, last=number,
                since=since, until=max(since, arrived.until or since), size=arrived.size,
            )  # fmt: skip
            return
        latest.last = max(latest.last, number)
        latest.until = max(latest.until, arrived.until or latest.until)
        latest.size += arrived.size
        latest.save(update_fields=["last", "until", "size"])

    def _sealed(self, path: Path, length: int | None) -> Iterator[bytes]:
        return self.sealer.seal(_compressed(path, length))

    def _size_if_there(self, key: str, path: Path) -> int | None:
        """The size of an object that holds what the file does; None to write it.

        Raises StepError when it holds something else: then two clusters share one archive.
        """
        entry = self.store.head(key)
        if entry is None or (self.sealer.key_id and not self.sealer.identity):
            return None
        with self.store.open(key) as stored, self.sealer.unseal(stored, self.sealer.key_id) as opened:
            there = digest_of(zstandard.ZstdDecompressor().stream_reader(opened, read_across_frames=True))
        with path.open("rb") as file:
            if there != digest_of(file):
                raise StepError(
                    f"{key} is in the storage already, with another content: another server writes to this archive. "
                    "Give one of them a policy of its own.", permanent=True,
                )  # fmt: skip
        return entry.size


def digest_of(file: BinaryIO | zstandard.ZstdDecompressionReader) -> str:
    """The SHA-256 of a stream."""
    digest = hashlib.sha256()
    while chunk := file.read(READ_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _compressed(path: Path, length: int | None) -> Iterator[bytes]:
    """The file, or its first bytes, as frames that each are made in one go, which takes least. Raises StepError."""
    left = path.stat().st_size if length is None else length
    with path.open("rb") as file:
        while left:
            chunk = file.read(min(left, FRAME_BYTES))
            if not chunk:
                raise StepError(f"{path} has become shorter while it was read.")
            left -= len(chunk)
            yield zstandard.ZstdCompressor(compression_params=COMPRESSION).compress(chunk)
