"""Objects named by what they hold, shared by the backups of one policy, and which of them no kept backup needs.

The name is the SHA-256 of the content before encryption, so that what is there already is not written again; with
encryption a mark of the recipient follows, since what is encrypted to another key is another object.

Each backup says what it needs in `references.txt.zst`, a name a line. That object is never encrypted: the names can
be seen in the storage anyway, and so retention needs no secret key.
"""

import hashlib
import io
import re
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, Self

import zstandard

from backups.sealing import Sealer
from backups.storage.base import Store, Stored, no_check
from controlplane.operations.errors import StepError

REFERENCES = "references.txt.zst"
FOLDERS = ("files/", "blobs/sha256/", "saved/")
PIECE = 1024 * 1024
IN_MEMORY = 4 * PIECE  # what a list keeps in memory before it moves to an unnamed file
NAME = re.compile(r"(?P<folder>[a-z0-9/]+/)(?P<digest>[0-9a-f]{64})(?P<suffix>[.a-z0-9]*)")
# Kinds of backups that share contents.
SHARING = frozenset({"uploads", "images"})


def suffix_for(key_id: str) -> str:
    """What the name of a content ends with. key_id: whom it is encrypted to, "" for nobody."""
    return f".{hashlib.sha256(key_id.encode()).hexdigest()[:8]}.age" if key_id else ""


def name_of(folder: str, digest: str, key_id: str) -> str:
    """The name of a content, below the policy's prefix. folder: one of FOLDERS."""
    fan = f"{digest[:2]}/" if folder == "files/" else ""
    return f"{folder}{fan}{digest}{suffix_for(key_id)}"


class Digests:
    """Digests in ascending order, with a number for each: 40 bytes apiece, so that a million fit anywhere."""

    def __init__(self) -> None:
        self._packed = bytearray()
        self.numbers = array("Q")

    def append(self, digest: str, number: int) -> None:
        """Add the next one. Raises StepError when it is not above the last."""
        raw = bytes.fromhex(digest)
        if raw <= self._packed[-32:]:
            raise StepError("The storage does not list its objects in order, so nothing can be concluded from it.")
        self._packed += raw
        self.numbers.append(number)

    def find(self, digest: str) -> int | None:
        """Its position; None when it is not among them."""
        raw = bytes.fromhex(digest)
        position = bisect_left(range(len(self.numbers)), raw, key=self._at)
        return position if position < len(self.numbers) and self._at(position) == raw else None

    def __getitem__(self, position: int) -> str:
        return self._at(position).hex()

    def _at(self, position: int) -> bytes:
        return bytes(self._packed[32 * position : 32 * position + 32])


class Contents:
    """The contents of one folder of a policy, as they can be used and added to by a backup. Threads may share it."""

    def __init__(self, store: Store, prefix: str, folder: str, sealer: Sealer) -> None:
        self._store = store
        self._prefix = prefix
        self._folder = folder
        self._sealer = sealer
        self._there = Digests()
        suffix = suffix_for(sealer.key_id)
        for entry in store.list(prefix + folder):
            parts = NAME.fullmatch(entry.key.removeprefix(prefix))
            if parts and parts["suffix"] == suffix:
                self._there.append(parts["digest"], entry.size)

    def name(self, digest: str) -> str:
        """Below the policy's prefix."""
        return name_of(self._folder, digest, self._sealer.key_id)

    def there(self, digest: str, size: int, stored: int | None = None) -> int | None:
        """How many bytes the storage has of it; None when it has none, or not what was put there.

        size: of the content. stored: in the storage, as an earlier backup knows it.
        """
        position = self._there.find(digest)
        if position is not None:
            found = self._there.numbers[position]
        else:
            entry = self._store.head(self._prefix + self.name(digest))
            if entry is None:
                return None
            found = entry.size
        if not self._sealer.key_id:
            return found if found == size else None
        return found if (found == stored if stored else found > size) else None

    def put(self, digest: str, chunks: Iterable[bytes], check: Callable[[], None] = no_check) -> Stored:
        """Write it. Raises StepError, and writes nothing, when the chunks are not what the digest says."""
        checked = _checked(chunks, digest)
        return self._store.put(self._prefix + self.name(digest), self._sealer.seal(checked), check=check)


class Differs(StepError):
    """What was read is not what its digest says."""


def _checked(chunks: Iterable[bytes], digest: str) -> Iterator[bytes]:
    seen = hashlib.sha256()
    for chunk in chunks:
        seen.update(chunk)
        yield chunk
    if seen.hexdigest() != digest:
        raise Differs(f"What was read has the SHA-256 {seen.hexdigest()}, not {digest}.")


# --- lists that are written as a backup goes on --------------------------------------------------------


class Lines:
    """Lines, compressed as they come, for an object that is written once all are known."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by __exit__
        self._compressor = zstandard.ZstdCompressor(level=6, write_checksum=True).compressobj()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, line: str) -> None:
        """Add one; the line's end is added. Raises StepError when there is no room for it."""
        self._write(self._compressor.compress(line.encode() + b"\n"))

    def chunks(self) -> Iterator[bytes]:
        """All of it, compressed. Nothing can be added afterwards."""
        self._write(self._compressor.flush())
        self._file.seek(0)
        while chunk := self._file.read(PIECE):
            yield chunk

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            words = f"This worker has no room for a list of files in {tempfile.gettempdir()}: {error.strerror}."
            raise StepError(words) from error


# --- reading an object of a backup ---------------------------------------------------------------------


@contextmanager
def opened(store: Store, manifest: Mapping[str, Any], name: str) -> Iterator[BinaryIO]:
    """An object of a backup, as it is in the storage; StepError at its end when it is not what was put there."""
    for one in manifest["objects"]:
        if one["name"] == name:
            with store.open(manifest["key"] + name, version=one.get("version", "")) as file:
                yield io.BufferedReader(Verified(file, manifest["key"] + name, one["sha256"]), PIECE)
            return
    raise StepError(f"The backup {manifest['key']} has no {name}.", permanent=True)


class Verified(io.RawIOBase):
    """A stream that raises StepError at its end when it is not what was put there."""

    def __init__(self, source: BinaryIO, key: str, sha256: str) -> None:
        self._source, self._key, self._sha256 = source, key, sha256
        self._seen = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._source.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._seen.update(chunk)
        if not chunk and self._seen.hexdigest() != self._sha256:
            raise damaged(self._key)
        return len(chunk)


def damaged(key: str) -> StepError:
    """The storage holds something else under the key than what was put there."""
    return StepError(f"{key} is damaged: it is not what was put into the storage.", permanent=True)


def lines_in(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a compressed list, without their ends. Raises StepError for what is no such list."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(file, closefd=False) as plain:
            for line in io.BufferedReader(plain, PIECE):
                yield line.rstrip(b"\n")
        file.read()  # what follows belongs to no list, but shows whether the object is whole
    except zstandard.ZstdError as error:
        raise StepError(f"A list of the backup is damaged: {error}.", permanent=True) from error


# --- what no kept backup needs --------------------------------------------------------------------------


def references(store: Store, manifest: Mapping[str, Any]) -> Iterator[str]:
    """The names, below the policy's prefix, of the contents a backup needs. Raises StepError when it cannot be told."""
    with opened(store, manifest, REFERENCES) as file:
        for line in lines_in(file):
            yield line.decode()


def unreferenced(store: Store, prefix: str, kept: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The keys of contents below the policy's prefix that none of the kept backups needs.

    kept: the manifests of all that are kept. Nothing is yielded before each of them was read, and StepError is raised
    when one cannot be. No backup of the policy may be running meanwhile: its manifest is not written yet.
    """
    groups: dict[tuple[str, str], Digests] = {}
    for folder in FOLDERS:
        for entry in store.list(prefix + folder):
            if parts := NAME.fullmatch(entry.key.removeprefix(prefix)):
                group = groups.setdefault((folder, parts["suffix"]), Digests())
                group.append(parts["digest"], 0)
    for manifest in kept:
        if manifest["kind"] not in SHARING:
            continue
        for name in references(store, manifest):
            _mark(groups, name)
    for (folder, suffix), group in groups.items():
        for position, needed in enumerate(group.numbers):
            if not needed:
                digest = group[position]
                yield prefix + name_of(folder, digest, "") + suffix


def _mark(groups: Mapping[tuple[str, str], Digests], name: str) -> None:
    parts = NAME.fullmatch(name)
    folder = next((folder for folder in FOLDERS if name.startswith(folder)), "")
    if parts is None or not folder:
        raise StepError(f"{name} is no name of a content; nothing is removed.", permanent=True)
    group = groups.get((folder, parts["suffix"]))
    position = group.find(parts["digest"]) if group else None
    if group and position is not None:
        group.numbers[position] = 1
