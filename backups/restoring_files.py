"""Restores of uploads, configuration and images; each may run again after it was interrupted, and ends the same."""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from botocore.exceptions import ClientError

from backups.engines.base import Hand
from backups.engines.beneath import UNFINISHED, Beneath, Vanished, shown
from backups.engines.configuration import (
    configuration_changes,
    read_configuration,
    restore_configuration,
)
from backups.engines.contents import PIECE, name_of
from backups.engines.crew import Crew, crew
from backups.engines.file_index import Indexed, read_index
from backups.engines.image_files import restore_image
from backups.sealing import Sealer
from backups.storage.base import Store
from backups.storage.s3_bucket import Bucket
from backups.storage.s3_reading import Reading
from backups.storage.s3_upload import PART_BYTES, Upload, abort
from controlplane.operations.errors import StepError

__all__ = [
    "Restored",
    "configuration_changes",
    "read_configuration",
    "restore_configuration",
    "restore_files",
    "restore_files_to_bucket",
    "restore_image",
]

FOLDER = "files/"
FILE_MODE = 0o644  # for files whose source knows no modes
PERMISSIONS = 0o777  # nobody gets a program that runs as its owner out of a backup
TELL_SECONDS = 1.0
UPLOAD = "upload"  # in the checkpoint: key and id of the upload that was begun last

Outcome = bool | Callable[[], None]


class Keeper(Hand, Protocol):
    """A hand that also knows what was kept by those who tried before."""

    @property
    def checkpoint(self) -> Mapping[str, Any]: ...


@dataclass
class Restored:
    """written: files that were not there, or were others. same: left alone. removed: not in the backup."""

    written: int = 0
    same: int = 0
    removed: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class _Backup:
    """Where the contents of the files are. only: a folder or file in the backup, b"" for everything."""

    manifest: Mapping[str, Any]
    store: Store
    sealer: Sealer
    only: bytes

    def files(self) -> Iterator[Indexed]:
        """Those that are wanted, in order."""
        for one in read_index(self.store, self.manifest, self.sealer):
            if self.wants(one.name):
                yield one

    def wants(self, name: bytes) -> bool:
        """Whether it is, or is below, what was asked for."""
        return not self.only or name == self.only or name.startswith(self.only.rstrip(b"/") + b"/")

    def content(self, one: Indexed, workers: Crew) -> Iterator[bytes]:
        """What is in the file. Raises StepError at its end when it is something else."""
        prefix = self.manifest["key"].rsplit("/", 2)[0] + "/"
        key = prefix + name_of(FOLDER, one.sha256, self.manifest["key_id"])
        with self.store.open(key) as stored, self.sealer.unseal(stored, self.manifest["key_id"]) as plain:
            yield from _checked(plain, one, key, workers)


def _checked(plain: BinaryIO, one: Indexed, key: str, workers: Crew) -> Iterator[bytes]:
    seen = hashlib.sha256()
    while chunk := plain.read(PIECE):
        workers.check()
        seen.update(chunk)
        yield chunk
    if seen.hexdigest() != one.sha256:
        words = f"{key}, the content of {shown(one.name)}, is damaged: it is not what was put into the storage."
        raise StepError(words, permanent=True)


def restore_files(
    manifest: Mapping[str, Any],
    store: Store,
    sealer: Sealer,
    folder: Path,
    hand: Hand,
    *,
    only: str = "",
    remove_others: bool = False,
) -> Restored:
    """Write the files of an uploads backup into a folder, which is made if there is none.

    A file that is the same already is left alone; each other one appears whole, under its name, with its checksum
    compared. only: a file or a folder of the backup. remove_others: what is not in the backup (below `only`) is
    deleted; symbolic links and the like are not. Raises StepError, and then what was written so far stays.
    """
    backup = _Backup(manifest, store, sealer, os.fsencode(only))
    done = Restored()
    with Beneath(str(folder), make=True) as target:
        _each(backup, hand, done, lambda one, workers: _into_folder(backup, target, one, workers))
        _tidy(backup, target, hand, done, remove_others=remove_others)
    os.sync()  # once, instead of for each of perhaps a million files
    return _told(done, hand)


def restore_files_to_bucket(
    manifest: Mapping[str, Any], store: Store, sealer: Sealer, bucket: Bucket, hand: Keeper
) -> Restored:
    """The same into a bucket, or below a prefix in it: what is not in the backup stays.

    An object of the same size is read, to compare it. Raises StepError, and then what was written so far stays. The
    bucket is in use: only an upload that this restore began is aborted, which the hand remembers.
    """
    backup = _Backup(manifest, store, sealer, b"")
    done = Restored()
    _abort_unfinished(bucket, hand)
    _each(backup, hand, done, lambda one, workers: _into_bucket(backup, bucket, one, workers, hand))
    return _told(done, hand)


def _told(done: Restored, hand: Hand) -> Restored:
    hand.log(f"{done.written} files written, {done.same} were the same, {done.removed} removed")
    return done


def _each(backup: _Backup, hand: Hand, done: Restored, restore: Callable[[Indexed, Crew], Outcome]) -> None:
    """All files, a few at a time. restore: whether it had to be written, or what writes it, in this thread."""
    total, told = int(backup.manifest["facts"]["bytes"]), 0.0
    with crew(hand.check) as workers:
        for size, outcome in workers.each(lambda one: (one.size, restore(one, workers)), backup.files()):
            if callable(outcome):
                outcome()
            written = bool(outcome)
            done.bytes += size
            done.written += written
            done.same += not written
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                hand.progress(done.bytes, total, "bytes")
    if not done.written + done.same and backup.only:
        raise StepError(f"There is no {shown(backup.only)} in this backup.", permanent=True)
    hand.progress(done.bytes, done.bytes, "bytes")


# --- a folder ------------------------------------------------------------------------------------------


def _into_folder(backup: _Backup, target: Beneath, one: Indexed, workers: Crew) -> bool:
    try:
        if one.name.endswith(b"/") and one.size == 0:  # how buckets spell a folder
            target.make_folder(one.name.rstrip(b"/"))
            return True
        if _is_there(target, one):
            return False
        mode = FILE_MODE if one.mode is None else one.mode & PERMISSIONS
        chunks = backup.content(one, workers)
        target.write(one.name, chunks, mode=mode, modified_ns=one.modified_ns, check=workers.check)
    except Vanished as error:
        place = f"{target.path}/{shown(one.name)}"
        words = f"{place} cannot be written: a file or a symbolic link stands where one of its folders belongs."
        raise StepError(f"{words} Move it away, or restore into another folder.", permanent=True) from error
    return True


def _is_there(target: Beneath, one: Indexed) -> bool:
    try:
        with target.reading(one.name) as file:
            if os.fstat(file).st_size != one.size:
                return False
            seen = hashlib.sha256()
            while chunk := os.read(file, PIECE):
                seen.update(chunk)
            return seen.hexdigest() == one.sha256
    except Vanished:
        return False


def _tidy(backup: _Backup, target: Beneath, hand: Hand, done: Restored, *, remove_others: bool) -> None:
    """Take away what a killed restore left, and, if asked to, what is not in the backup."""
    wanted = backup.files()
    following = next(wanted, None)
    for name, status in target.walk():
        hand.check()
        if name.rpartition(b"/")[2].startswith(UNFINISHED):
            target.remove(name)
            continue
        while following and following.name < name:
            following = next(wanted, None)
        is_wanted = following is not None and following.name == name
        if remove_others and backup.wants(name) and not is_wanted and stat.S_ISREG(status.st_mode):
            target.remove(name)
            done.removed += 1


# --- a bucket ------------------------------------------------------------------------------------------


def _abort_unfinished(bucket: Bucket, hand: Keeper) -> None:
    """What a killed worker had begun. Another upload, of the same key even, may be the application's."""
    if UPLOAD not in hand.checkpoint:
        return
    key, upload = hand.checkpoint[UPLOAD]
    hand.check()
    try:
        abort(bucket, key, upload)
    except StepError as error:
        if not error.permanent:
            raise
        hand.log(f"upload {upload} of {key}, begun before, stays: {error}", level="warning")


def _into_bucket(backup: _Backup, bucket: Bucket, one: Indexed, workers: Crew, hand: Keeper) -> Outcome:
    if one.name.endswith(b"/") and one.size == 0:  # how buckets spell a folder: there is nothing in it
        return False
    key = _object_name(one.name)
    if _size_of(bucket, key) == one.size and _sha256_of(bucket, key) == one.sha256:
        return False

    def write() -> None:
        # Not by the storage itself, which refuses names that its own objects never have.
        upload = Upload(bucket, key, workers.check, ours=False, begun=begun)
        upload.run(backup.content(one, workers))

    def begun(upload: str) -> None:
        hand.save_checkpoint(**{UPLOAD: [key, upload]})

    if one.size >= PART_BYTES:
        return write  # in parts: the hand, which has to remember it, is not for the crew's threads
    write()
    return True


def _object_name(name: bytes) -> str:
    """Raises StepError for what no object can be called, and for what would lead out of the bucket on the way to it."""
    try:
        key = name.decode()
    except UnicodeDecodeError:
        key = ""
    if not key or "\0" in key or not {".", ".."}.isdisjoint(key.split("/")):
        words = f"{shown(name)} cannot be the name of an object in a bucket. Restore into a folder instead."
        raise StepError(words, permanent=True)
    return key


def _size_of(bucket: Bucket, key: str) -> int | None:
    """None where there is no such object."""
    with bucket.words("GetObject", key):
        try:
            return bucket.client.head_object(**bucket.at(key))["ContentLength"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.NOT_FOUND:
                raise
            return None


def _sha256_of(bucket: Bucket, key: str) -> str:
    seen = hashlib.sha256()
    with BufferedReader(Reading(bucket, key, ""), PIECE) as file:
        while chunk := file.read(PIECE):
            seen.update(chunk)
    return seen.hexdigest()
