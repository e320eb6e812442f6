"""A folder whose files are reached one name after the other, and never through a symbolic link.

Whoever may write into the folder (an application its users upload to) could put a link anywhere at any moment, also
between a look and the use of what was seen. So no path is ever opened as a whole: each part is opened below the one
before, and the system refuses a link there.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

from controlplane.operations.errors import StepError

# What the system answers when a part of the path is not there, or is not what it was.
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE})
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
UNFINISHED = b".restoring-"


class Vanished(Exception):
    """There is no such file (any more)."""


def shown(name: bytes) -> str:
    """A name for people; what is no UTF-8 stands as in \\xff."""
    return name.decode(errors="backslashreplace")


class Beneath:
    """Names are paths below the folder, as bytes, with slashes. Raises StepError where the system refuses."""

    def __init__(self, path: str, *, make: bool = False) -> None:
        self.path = path
        with self._in_words(b""):
            try:
                if make:
                    os.makedirs(path, exist_ok=True)  # noqa: PTH103 - as text, like all of this file
                self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError) as error:
                words = f"There is no folder {path} on this worker's machine. Is the volume mounted?"
                raise StepError(words, permanent=True) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._root)

    def walk(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Everything below that is no folder, in the order of the bytes of its name."""
        waiting: list[tuple[int, bytes, Iterator[tuple[bytes, bool]]]] = []
        try:
            top = os.dup(self._root)
            waiting.append((top, b"", self._entries(top, b"")))
            while waiting:
                folder, above, entries = waiting[-1]
                name, is_folder = next(entries, (b"", False))
                if not name:
                    os.close(waiting.pop()[0])
                elif is_folder:
                    self._go_into(waiting, folder, above + name, name)
                else:
                    with suppress(FileNotFoundError):
                        yield above + name, os.stat(name, dir_fd=folder, follow_symlinks=False)
        finally:
            for folder, _, _ in waiting:
                os.close(folder)

    def _go_into(
        self, waiting: list[tuple[int, bytes, Iterator[tuple[bytes, bool]]]], folder: int, path: bytes, name: bytes
    ) -> None:
        with self._in_words(path), suppress(Vanished), _gone():
            below = os.open(name.rstrip(b"/"), FOLDER, dir_fd=folder)
            try:
                waiting.append((below, path, self._entries(below, path)))
            except BaseException:
                os.close(below)
                raise

    def _entries(self, folder: int, path: bytes) -> Iterator[tuple[bytes, bool]]:
        """A folder's name ends with a slash, which also puts it where its files belong in the order."""
        with self._in_words(path), os.scandir(folder) as found:
            names = [(os.fsencode(one.name), one.is_dir(follow_symlinks=False)) for one in found]
        return iter(sorted((name + b"/" if is_folder else name, is_folder) for name, is_folder in names))

    @contextmanager
    def folder(self, name: bytes, *, make: bool = False) -> Iterator[tuple[int, bytes]]:
        """The folder a file is in, opened, and the last part of its name. Raises Vanished."""
        *above, last = parts_of(name)
        with self._in_words(name):
            here = os.dup(self._root)
            try:
                for part in above:
                    here = _into(here, part, make=make)
                yield here, last
            finally:
                os.close(here)

    @contextmanager
    def reading(self, name: bytes) -> Iterator[int]:
        """The file, opened for reading. Raises Vanished, also when it is no regular file."""
        with self.folder(name) as (folder, last), self._in_words(name):
            with _gone():
                file = os.open(last, READ, dir_fd=folder)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise Vanished
                yield file
            finally:
                os.close(file)

    def look(self, name: bytes) -> os.stat_result:
        """What is there, without following a link. Raises Vanished."""
        with self.folder(name) as (folder, last), self._in_words(name), _gone():
            return os.stat(last, dir_fd=folder, follow_symlinks=False)

    def write(
        self, name: bytes, chunks: Iterable[bytes], *, mode: int, modified_ns: int, check: Callable[[], None]
    ) -> None:
        """Put a file there: under another name first, so that it appears whole or not at all.

        Raises Vanished where a link or a file stands in the place of one of its folders.
        """
        with self.folder(name, make=True) as (folder, last), self._in_words(name):
            unfinished = UNFINISHED + secrets.token_hex(8).encode()
            file = os.open(unfinished, WRITE, 0o600, dir_fd=folder)
            try:
                with os.fdopen(file, "wb", closefd=False) as target:
                    for chunk in chunks:
                        target.write(chunk)
                os.fchmod(file, mode)
                os.utime(file, ns=(modified_ns, modified_ns))
                check()
                os.replace(unfinished, last, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(unfinished, dir_fd=folder)
                raise
            finally:
                os.close(file)

    def make_folder(self, name: bytes) -> None:
        """A folder, if there is none. Raises Vanished where something else stands."""
        with self.folder(name + b"/.", make=True):
            pass

    def remove(self, name: bytes) -> None:
        """Take a file away; none is no error."""
        with suppress(Vanished), self.folder(name) as (folder, last), self._in_words(name), _gone():
            os.unlink(last, dir_fd=folder)

    @contextmanager
    def _in_words(self, name: bytes) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = f"{self.path}/{shown(name)}" if name else self.path
            if isinstance(error, PermissionError):
                words = f"This worker's user may not use {place} ({error.strerror}). Allow it, then try again."
                raise StepError(words, permanent=True) from error
            raise StepError(f"{place} cannot be used: {error.strerror or error}.") from error


def parts_of(name: bytes) -> list[bytes]:
    """The parts of a name. Raises StepError for one that leads elsewhere."""
    parts = name.split(b"/")
    if b"\0" in name or any(part in (b"", b".", b"..") for part in parts[:-1]) or parts[-1] in (b"", b".."):
        raise StepError(f"{shown(name)!r} is no name of a file below a folder.", permanent=True)
    return parts


def _into(here: int, part: bytes, *, make: bool) -> int:
    """The folder below; closes the one it was opened from."""
    with _gone():
        if make:
            with suppress(FileExistsError):
                os.mkdir(part, 0o777, dir_fd=here)
        below = os.open(part, FOLDER, dir_fd=here)
    os.close(here)
    return below


@contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in GONE:
            raise Vanished from error
        raise
