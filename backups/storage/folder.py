"""Backups in a folder of this machine: a disk of its own, or a share that is mounted.

An object is written under a hidden temporary name beside its place and renamed when it is whole and on the disk.
The name holds a random token: once somebody else has taken the file away (`abandon`), whoever still writes it, be
it a worker that was frozen for an hour, fails at the rename.

    path    absolute (the folder has to exist: a disk that is not mounted must not be written beneath), or relative
            below DATA_DIR (it is made)
"""

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import BufferedReader, FileIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from django.conf import settings as django_settings

from backups.storage.base import Entry, Stored, no_check
from backups.storage.keys import checked
from controlplane.operations.errors import StepError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHECK_BYTES = 8 * 1024 * 1024  # as often as a bucket gets a part
READ_BYTES = 256 * 1024
FOLDER_MODE, FILE_MODE = 0o700, 0o600
TOKEN_LETTERS = 16
UNFINISHED = ".part"
PROBE = f".probe{UNFINISHED}"
# Another worker may remove a folder because it is empty, just when this one wants to write there.
MAKE_ATTEMPTS = 10


class FolderKind:
    """See `base.StoreKind`."""

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Only `path` is known."""
        wrong = {key: "is not a setting of a folder" for key in settings if key != "path"}
        path = settings.get("path")
        if not isinstance(path, str) or not path.strip() or "\0" in path:
            wrong["path"] = "has to be the path of a folder"
        elif ".." in PurePosixPath(path).parts:
            wrong["path"] = "must not contain .."
        return wrong

    def open(self, settings: Mapping[str, Any]) -> "FolderStore":
        """The folder. One below DATA_DIR is made."""
        for key, words in self.check_settings(settings).items():
            raise StepError(f"The storage's setting {key} {words}.", permanent=True)
        path = Path(settings["path"])
        store = FolderStore(Path(django_settings.DATA_DIR) / path)
        if not path.is_absolute():
            with _in_words(f"make {store.root}", store.root):
                store.root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        return store


class Missing(StepError):
    """There is no such file."""


class FolderStore:
    """See `base.Store`. root: the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, chunks: Iterable[bytes], *, check: Callable[[], None] = no_check) -> Stored:
        """The file is on the disk before its name appears."""
        target = self._path(key)
        check()
        with self._in_words(f"write {key}"):
            temporary, file = self._begin(target)
        try:
            with file:
                size, sha256 = self._write(file, chunks, key, check)
            check()
            with self._in_words(f"write {key}"):
                self._finish(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        return Stored(key, size, sha256)

    def _begin(self, target: Path) -> tuple[Path, FileIO]:
        """The temporary file, empty."""
        token = secrets.token_hex(TOKEN_LETTERS // 2)
        temporary = target.with_name(f".{target.name}.{token}{UNFINISHED}")
        for attempt in range(MAKE_ATTEMPTS):
            self._make_folders(target.parent)
            try:
                return temporary, FileIO(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w")
            except FileNotFoundError:
                if attempt == MAKE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _make_folders(self, folder: Path) -> None:
        if folder == self.root or folder.is_dir():
            return
        self._make_folders(folder.parent)
        with suppress(FileExistsError, FileNotFoundError):  # whoever takes one away at this moment: `_begin` goes again
            folder.mkdir(FOLDER_MODE)
            _sync(folder.parent)

    def _write(self, file: FileIO, chunks: Iterable[bytes], key: str, check: Callable[[], None]) -> tuple[int, str]:
        digest = hashlib.sha256()
        size, checked_at = 0, 0
        for chunk in chunks:
            if size - checked_at >= CHECK_BYTES:
                check()
                checked_at = size
            digest.update(chunk)
            with self._in_words(f"write {key}"):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
            size += len(chunk)
        with self._in_words(f"write {key}"):
            os.fsync(file.fileno())
            file.close()  # a network share may say only now that it is full
        return size, digest.hexdigest()

    def _finish(self, temporary: Path, target: Path) -> None:
        try:
            temporary.rename(target)
        except FileNotFoundError:
            name = target.relative_to(self.root)
            raise StepError(f"Another worker gave the writing of {name} up while this one was at it.") from None
        _sync(target.parent)

    @contextmanager
    def open(self, key: str, *, version: str = "") -> Iterator[BinaryIO]:
        """There are no versions: the argument is not looked at."""
        path = self._path(key)
        with self._in_words(f"read {key}"):
            file = _Reading(path, f"read {key}", self.root)
        with BufferedReader(file, READ_BYTES) as reader:
            yield reader

    def head(self, key: str) -> Entry | None:
        """None for nothing, but not for a folder that is not there as a whole."""
        path = self._path(key)
        try:
            with self._in_words(f"look at {key}"):
                found = path.stat()
        except Missing:
            return None
        return _entry(key, found) if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str) -> Iterator[Entry]:
        """Hidden files, and what is no file, do not count."""
        folder, _, begin = prefix.rpartition("/")
        yield from self._entries(checked(folder) + "/" if folder else "", begin)

    def _entries(self, folder: str, begin: str = "") -> Iterator[Entry]:
        for name, is_folder in self._names(folder):
            if not name.startswith(begin) or name.startswith("."):
                continue
            if is_folder:
                yield from self._entries(folder + name)
                continue
            with suppress(Missing), self._in_words(f"look at {folder}{name}"):
                yield _entry(folder + name, (self.root / folder / name).stat(follow_symlinks=False))

    def _names(self, folder: str) -> Sequence[tuple[str, bool]]:
        """What is in a folder, in the order of keys: folders, which end with a slash, and files."""
        try:
            with self._in_words(f"list {folder}"), os.scandir(self.root / folder) as found:
                folders, files = [], []
                for one in found:
                    if one.is_dir(follow_symlinks=False):
                        folders.append((one.name + "/", True))
                    elif one.is_file(follow_symlinks=False):
                        files.append((one.name, False))
                return sorted(folders + files)
        except Missing:
            return ()

    def delete(self, keys: Iterable[str]) -> int:
        """Folders that are empty afterwards go too."""
        count = 0
        for key in keys:
            path = self._path(key)
            with suppress(Missing), self._in_words(f"delete {key}"):
                path.unlink()
            self._remove_empty(path.parent)
            count += 1
        return count

    def abandon(self, prefix: str) -> int:
        """Remove the temporary files of objects whose key begins so."""
        folder, _, begin = prefix.rpartition("/")
        count = 0
        for path in self._unfinished(checked(folder) + "/" if folder else "", begin):
            with suppress(Missing), self._in_words(f"remove {path}"):
                path.unlink()
                count += 1
            self._remove_empty(path.parent)
        return count

    def _unfinished(self, folder: str, begin: str = "") -> Iterator[Path]:
        for name, is_folder in self._names(folder):
            if is_folder and name.startswith(begin):
                yield from self._unfinished(folder + name)
            elif not is_folder and name.startswith(f".{begin}") and name.endswith(UNFINISHED):
                yield self.root / folder / name

    def locked_until(self, key: str) -> datetime | None:
        """A folder locks nothing."""
        return None

    def problem(self) -> str:
        """Tries it with an empty file. It always has the same name: what a killed worker left, the next one removes."""
        probe = self.root / PROBE
        try:
            with self._in_words("write a file"):
                os.close(os.open(probe, os.O_WRONLY | os.O_CREAT, FILE_MODE))
                probe.unlink(missing_ok=True)
        except StepError as error:
            return str(error)
        return ""

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def _remove_empty(self, folder: Path) -> None:
        with suppress(OSError):  # one is not empty: then neither are those around it
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent

    @contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        with _in_words(what, self.root):
            yield


class _Reading(FileIO):
    """A file whose disk may fail while it is read."""

    def __init__(self, path: Path, what: str, root: Path) -> None:
        super().__init__(path)
        self.what, self.root = what, root

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As usual. Raises StepError."""
        with _in_words(self.what, self.root):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        """As usual. Raises StepError."""
        with _in_words(self.what, self.root):
            return super().readall()


def _entry(key: str, found: os.stat_result) -> Entry:
    return Entry(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _sync(folder: Path) -> None:
    """A name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _in_words(what: str, root: Path) -> Iterator[None]:
    """Say what happened and what to do. Raises Missing only while the storage's own folder is there."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        if root.is_dir():
            raise Missing(f"Cannot {what}: it is not in {root}.", permanent=True) from error
        words = f"Cannot {what}: there is no folder {root}. Make it, or mount the disk it is on."
        raise StepError(words, permanent=True) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(root).free // 1024**2
            words = f"Cannot {what}: the disk of {root} is full ({free} MB are free). Make room, then try again."
            raise StepError(words) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            words = f"Cannot {what}: this process may not write or read in {root} ({error.strerror})."
            raise StepError(f"{words} Give its user the right to.", permanent=True) from error
        raise StepError(f"Cannot {what} in {root}: {error.strerror}.") from error
