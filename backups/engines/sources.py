"""Where the files of an uploads backup come from: a folder of this worker's machine, or a bucket."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, Self

from django.conf import settings

from backups.engines.beneath import UNFINISHED, Beneath, Vanished, shown
from backups.engines.contents import PIECE
from backups.engines.file_index import SECOND
from backups.storage.base import Entry
from backups.storage.s3 import S3Kind, S3Store
from backups.storage.s3_reading import Reading
from controlplane.operations.errors import StepError


@dataclass(frozen=True)
class Found:
    """A file as its source shows it. mark: changes when the file does; see `file_index.Indexed` for the others.

    timed: the mark is made of times, so a second change within their steps may not show.
    """

    name: bytes
    size: int
    modified_ns: int
    mark: str
    mode: int | None = None
    timed: bool = True


@dataclass
class LeftOut:
    """What is no file and therefore not in the backup: how many, and the names of the first of them."""

    names: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, name: bytes, what: str) -> None:
        """One more. what: what it is."""
        self.count += 1
        if self.count <= 20:
            self.names.append(f"{shown(name)} ({what})")


class Source(Protocol):
    """Raises StepError, in words that say what to do."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def files(self, left_out: LeftOut) -> Iterator[Found]:
        """All files, in the order of the bytes of their names."""

    def read(self, found: Found) -> Iterator[bytes]:
        """What is in the file, up to the size it had when it was found. Raises Vanished."""

    def again(self, name: bytes) -> Found:
        """What the source shows of it now. Raises Vanished."""


def check_source(given: Any) -> dict[str, str]:
    """What is wrong with the setting `source`, by key."""
    if not isinstance(given, dict) or ("folder" in given) == ("bucket" in given):
        return {"source": 'has to be { folder = "/path" } or { bucket = "name", … }'}
    if "bucket" in given:
        return {f"source.{key}": words for key, words in S3Kind().check_settings(given).items()}
    folder = given["folder"]
    if given.keys() != {"folder"}:
        return {"source": "has nothing beside folder"}
    if not isinstance(folder, str) or not folder.strip("/ ") or ".." in PurePosixPath(folder).parts:
        return {"source.folder": "has to be the path of a folder, without .."}
    return {}


def folder_of(given: Mapping[str, Any]) -> str:
    """The folder of a source; a relative one is below DATA_DIR."""
    return str(Path(settings.DATA_DIR).resolve() / str(given["folder"]))


def source_of(wanted: Mapping[str, Any]) -> Source:
    """The source of a policy. Raises StepError when it cannot be reached."""
    given = wanted["source"]
    if "folder" in given:
        return FolderSource(folder_of(given))
    return BucketSource(S3Kind().open(given))


class FolderSource:
    """Regular files only: a symbolic link could lead anywhere, and a device or a pipe has no content to keep."""

    def __init__(self, folder: str) -> None:
        self._folder = Beneath(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.__exit__()

    def files(self, left_out: LeftOut) -> Iterator[Found]:
        """See `Source`. What a restore that was killed left is no file of anybody's."""
        for name, status in self._folder.walk():
            if name.rpartition(b"/")[2].startswith(UNFINISHED):
                continue
            if stat.S_ISREG(status.st_mode):
                yield _found(name, status)
            else:
                left_out.add(name, "symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file")

    def read(self, found: Found) -> Iterator[bytes]:
        """See `Source`."""
        left = found.size
        with self._folder.reading(found.name) as file:
            while left and (chunk := os.read(file, min(left, PIECE))):
                left -= len(chunk)
                yield chunk

    def again(self, name: bytes) -> Found:
        """See `Source`."""
        status = self._folder.look(name)
        if not stat.S_ISREG(status.st_mode):
            raise Vanished
        return _found(name, status)


def _found(name: bytes, status: os.stat_result) -> Found:
    # ctime too, which nobody can set back: a file that was changed and given its old time is read again.
    mark = f"{status.st_mtime_ns}/{status.st_ctime_ns}/{status.st_ino}"
    return Found(name, status.st_size, status.st_mtime_ns, mark, stat.S_IMODE(status.st_mode))


class BucketSource:
    """The objects of a bucket, or of a prefix in it, whatever they are called."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def files(self, left_out: LeftOut) -> Iterator[Found]:
        """See `Source`; an object has no other kinds beside it."""
        for entry in self._store.list(""):
            yield _object(entry)

    def read(self, found: Found) -> Iterator[bytes]:
        """See `Source`."""
        left = found.size
        try:
            # Not by the storage itself, which refuses names that its own objects never have.
            with BufferedReader(Reading(self._store.bucket, found.name.decode(), ""), PIECE) as file:
                while left and (chunk := file.read(min(left, PIECE))):
                    left -= len(chunk)
                    yield chunk
        except StepError:
            with suppress(StepError):
                self.again(found.name)
            raise

    def again(self, name: bytes) -> Found:
        """See `Source`."""
        entry = next(iter(self._store.list(name.decode())), None)
        if entry is None or entry.key.encode() != name:
            raise Vanished
        return _object(entry)


def _object(entry: Entry) -> Found:
    modified_ns = int(entry.modified.timestamp()) * SECOND + entry.modified.microsecond * 1000
    mark = entry.checksum or f"{modified_ns}"
    return Found(entry.key.encode(), entry.size, modified_ns, mark, timed=not entry.checksum)
