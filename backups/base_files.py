"""From the objects of base backups to a folder PostgreSQL can start in.

1. Each one of the chain is read once: its SHA-256 is that of the manifest, or nothing is used of it.
2. What was unpacked is compared with the server's own list of the files (backup_manifest).
3. pg_combinebackup makes one whole copy of a chain.
"""

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import zstandard

from backups.engines.base import Hand
from backups.scratch import Scratch
from backups.sealing import Sealer
from backups.storage.base import Store
from controlplane.operations.errors import StepError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MANIFEST = "backup_manifest"
READ_BYTES = 1024 * 1024
CHECK_FILES = 100


def unpack(chain: Sequence[Mapping[str, Any]], scratch: Scratch, store: Store, sealer: Sealer, hand: Hand) -> None:
    """Make the data folder of the scratch from a chain of base backups, the whole one first. Raises StepError."""
    progress = _Progress(hand, sum(int(one["source_bytes"]) for one in chain))
    if len(chain) == 1:
        _unpack_one(chain[0], scratch.folder(scratch.data.name), store, sealer, progress)
        verify(scratch, scratch.data, hand)
    else:
        parts = [scratch.folder(f"part-{index}") for index in range(len(chain))]
        for manifest, part in zip(chain, parts, strict=True):
            _unpack_one(manifest, part, store, sealer, progress)
            own_all(scratch, part)
        combine(scratch, parts, hand)
    own_all(scratch, scratch.data)


def combine(scratch: Scratch, parts: Sequence[Path], hand: Hand) -> None:
    """One whole copy of a chain; the parts are removed."""
    status = scratch.run(
        "pg_combinebackup", "--no-sync", "--output", str(scratch.data), *map(str, parts), wait=hand.wait
    )
    if status != 0:
        raise StepError(f"The chain of backups cannot be combined: pg_combinebackup exited {status}. "
                        f"{scratch.last_words()}", permanent=True)  # fmt: skip
    for part in parts:
        shutil.rmtree(part)
    verify(scratch, scratch.data, hand)


def verify(scratch: Scratch, folder: Path, hand: Hand) -> None:
    """Compare the files with the server's list: names and sizes, and by pg_verifybackup, where it works, checksums."""
    compare_with_list(folder)
    if scratch.run("pg_verifybackup", "--version") != 0:
        hand.log("pg_verifybackup does not run here; names and sizes of the files were compared.")
        return
    own_all(scratch, folder)
    if status := scratch.run("pg_verifybackup", "--no-parse-wal", "--quiet", str(folder), wait=hand.wait):
        raise StepError(f"The files are not those of the backup: pg_verifybackup exited {status}. "
                        f"{scratch.last_words()}", permanent=True)  # fmt: skip


def compare_with_list(folder: Path) -> None:
    """Raise StepError when a file that the server listed is not there in its size."""
    try:
        listed = json.loads((folder / MANIFEST).read_bytes())["Files"]
    except (OSError, ValueError, KeyError) as error:
        raise StepError(f"The backup has no list of its files ({MANIFEST}): {error}.", permanent=True) from error
    for one in listed:
        name = one["Path"] if "Path" in one else os.fsdecode(bytes.fromhex(one["Encoded-Path"]))
        try:
            size = (folder / name).stat().st_size
        except OSError:
            size = -1
        if size != one["Size"]:
            there = "nothing" if size < 0 else f"{size} bytes"
            raise StepError(f"The backup has {there} for {name}, which had {one['Size']} bytes.", permanent=True)


def own_all(scratch: Scratch, folder: Path) -> None:
    """Give a folder and all in it to the server's account."""
    scratch.place.own(folder)
    if scratch.place.account is not None:
        for path in folder.rglob("*"):
            os.chown(path, *scratch.place.account, follow_symlinks=False)


class Hashed(RawIOBase):
    """A stream whose SHA-256 and length are known in the end."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        chunk = self._source.read(len(view))
        view[: len(chunk)] = chunk
        self.digest.update(chunk)
        self.size += len(chunk)
        return len(chunk)


class _Progress:
    def __init__(self, hand: Hand, total: int) -> None:
        self.hand = hand
        self.total = total
        self._done = self._files = 0

    def add(self, size: int) -> None:
        self._done += size
        self._files += 1
        if self._files % CHECK_FILES == 0:
            self.hand.check()
            self.hand.progress(min(self._done, self.total), self.total, "bytes")


def _unpack_one(manifest: Mapping[str, Any], folder: Path, store: Store, sealer: Sealer, progress: _Progress) -> None:
    main = manifest["objects"][0]
    key = manifest["key"] + main["name"]
    with store.open(key) as stored:
        hashed = Hashed(stored)
        try:
            with sealer.unseal(BufferedReader(hashed, READ_BYTES), str(manifest["key_id"])) as opened:
                plain = zstandard.ZstdDecompressor().stream_reader(opened, read_across_frames=True, closefd=False)
                _extract(plain, folder, progress)
                while plain.read(READ_BYTES):
                    pass
        except (tarfile.TarError, zstandard.ZstdError) as error:
            raise StepError(f"{key} is damaged: {error}. Restore from another backup.", permanent=True) from error
        except OSError as error:
            raise StepError(f"{key} cannot be unpacked into {folder}: {error.strerror}. Is the disk full?") from error
        if hashed.size != main["size"] or hashed.digest.hexdigest() != main["sha256"]:
            raise StepError(f"{key} is damaged: its {hashed.size} bytes have another SHA-256 than those that were put "
                            "there. Restore from another backup.", permanent=True)  # fmt: skip


def _extract(plain: Any, folder: Path, progress: _Progress) -> None:
    """Unpack a tar stream; nothing gets outside of the folder."""
    with tarfile.open(fileobj=plain, mode="r|", bufsize=READ_BYTES) as archive:
        for member in archive:
            archive.extract(member, folder, set_attrs=False, filter="data")
            progress.add(member.size)
