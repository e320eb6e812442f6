"""What every storage can do. One file a kind beside this one; `backups.storage.STORES` is the registry."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol


@dataclass(frozen=True)
class Stored:
    """An object as it was written. sha256: hex, of the bytes in the storage. version: "" where there are none."""

    key: str
    size: int
    sha256: str
    version: str = ""


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it. checksum: what the storage itself says of the content ("" if nothing)."""

    key: str
    size: int
    modified: datetime
    checksum: str = ""


def no_check() -> None:
    """For who holds no lease that could be lost."""


class Store(Protocol):
    """Keys are relative paths with slashes. Everything raises StepError, in words that say what to do."""

    def put(self, key: str, chunks: Iterable[bytes], *, check: Callable[[], None] = no_check) -> Stored:
        """Write an object from a stream, in constant memory; it appears whole, or not at all.

        check: called before each part and before the end; raises when this worker may no longer act. Whatever
        goes wrong, also in `chunks` itself, the upload is aborted and leaves no part.
        """

    def open(self, key: str, *, version: str = "") -> AbstractContextManager[BinaryIO]:
        """Read an object from its beginning; a connection that is lost on the way is taken up where it was."""

    def head(self, key: str) -> Entry | None:
        """What is there under the key; None for nothing."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Everything whose key begins so, in order of the keys."""

    def delete(self, keys: Iterable[str]) -> int:
        """Remove objects, all their versions too; what is not there is no error. Returns how many were asked for.

        Raises StepError(permanent) when one is locked (Object Lock), naming it and until when.
        """

    def abandon(self, prefix: str) -> int:
        """Abort uploads that somebody began below the prefix and never finished; returns how many."""

    def locked_until(self, key: str) -> datetime | None:
        """Until when the object cannot be deleted by anybody; None where it can."""

    def problem(self) -> str:
        """Why nothing can be written here, in words ("" when it can): asked before a backup begins."""


class StoreKind(Protocol):
    """One kind of storage, as declared in the configuration file."""

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with the settings, by key, in words that go on from the key."""

    def open(self, settings: Mapping[str, Any]) -> Store:
        """The storage itself. Raises StepError."""
