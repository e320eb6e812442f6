"""A dump from the storage back into a file, every byte of it looked at on the way."""

import errno
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyrage
import zstandard

from backups.engines.base import Hand
from backups.engines.dumping import Dump
from backups.programs import NoRoom, Server
from backups.sealing import Sealer
from backups.storage.base import Store
from controlplane.operations.errors import StepError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

NAME = "database.dump"
READ_BYTES = 1024 * 1024
PROGRESS_SECONDS = 1.0
SPARE_BYTES = 64 * 1024 * 1024
NOT_SET, SET = b"\1", b"\2"


class Hashing(RawIOBase):
    """What is read goes through a hash. Closing it leaves the source open."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()
        self.size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As usual."""
        into = memoryview(buffer).cast("B")
        piece = self._source.read(len(into))
        into[: len(piece)] = piece
        self.digest.update(piece)
        self.size += len(piece)
        return len(piece)

    def drain(self, tell: Callable[[int], None]) -> None:
        """Read to the end."""
        space = bytearray(READ_BYTES)
        while self.readinto(space):
            tell(self.size)


def fetch(manifest: Mapping[str, Any], store: Store, sealer: Sealer, folder: Path, hand: Hand) -> Path:
    """The dump of a backup as a file in the folder, as pg_restore takes it; the caller removes it.

    Raises StepError: permanent when the storage does not hold what was put there, or the key is another one.
    """
    stored = manifest["objects"][0]
    need, free = int(manifest["source_bytes"]) + SPARE_BYTES, shutil.disk_usage(folder).free
    if need > free:
        raise NoRoom(
            f"The dump needs {need:,} bytes in {folder}, where {free:,} are free. Make room, then try again.",
            permanent=True,
        )
    path = folder / NAME
    try:
        with store.open(manifest["key"] + stored["name"], version=stored["version"]) as source, writing(path) as file:
            hashing, tell = Hashing(source), _teller(hand, stored["size"])
            try:
                size = _unpack(hashing, sealer, manifest["key_id"], file, tell)
            except (StepError, zstandard.ZstdError, pyrage.DecryptError) as error:
                # Is it damaged, or is it whole and the key another one? Only the hash of all of it can tell.
                hashing.drain(tell)
                _same(hashing, manifest)
                if isinstance(error, StepError):
                    raise
                raise StepError(f"{_name(manifest)} cannot be unpacked: {error}.", permanent=True) from error
            hashing.drain(tell)
            _same(hashing, manifest)
        if size != manifest["source_bytes"]:
            raise StepError(
                f"{_name(manifest)} unpacks to {size:,} bytes instead of {manifest['source_bytes']:,}.", permanent=True
            )
        set_positions(path, manifest["facts"].get("positions", []))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def dump_to(path: Path, server: Server, hand: Hand) -> None:
    """Dump a database into a file, as `fetch` would give it. Raises StepError."""
    try:
        with Dump(server) as dump, writing(path) as file:
            tell = _teller(hand, 0)
            for piece in dump.pieces(hand.check):
                _write(file, piece)
                tell(dump.walker.bytes)
        set_positions(path, dump.archive.positions.items())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def set_positions(path: Path, positions: Any) -> None:
    """Write into the table of contents where each one's data begins, which pg_dump cannot do in a pipe.

    Without it each process of pg_restore goes through all the rows before those it looks for.
    """
    with path.open("r+b") as file:
        for place, begins in positions:
            file.seek(place)
            if file.read(1) == NOT_SET:
                file.seek(place)
                file.write(SET + begins.to_bytes(8, "little"))


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A new file that only we may read. Raises StepError when the disk is full."""
    try:
        with path.open("wb", buffering=0) as file:
            path.chmod(0o600)
            yield file
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(f"The disk of {path.parent} is full. Make room, then try again.", permanent=True) from error
        raise StepError(f"{path} cannot be written: {error.strerror}.", permanent=True) from error


def _unpack(source: Hashing, sealer: Sealer, key_id: str, file: BinaryIO, tell: Callable[[int], None]) -> int:
    """Returns how many bytes were written. tell: never called by the thread that age may read the source with."""
    size = 0
    stored: BinaryIO = BufferedReader(source, READ_BYTES)
    with closing(sealer.unseal(stored, key_id)) as plain:
        reader = zstandard.ZstdDecompressor().stream_reader(plain, read_size=READ_BYTES, closefd=False)
        while piece := reader.read(READ_BYTES):
            _write(file, piece)
            size += len(piece)
            tell(source.size)
    return size


def _write(file: BinaryIO, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def _same(hashing: Hashing, manifest: Mapping[str, Any]) -> None:
    stored = manifest["objects"][0]
    if (hashing.size, hashing.digest.hexdigest()) != (stored["size"], stored["sha256"]):
        raise StepError(
            f"{_name(manifest)} is damaged in the storage: it has {hashing.size:,} of {stored['size']:,} bytes, and "
            f"{'its SHA-256 is another' if hashing.size == stored['size'] else 'is no longer what was put there'}. "
            "Restore another backup.",
            permanent=True,
        )


def _name(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['key']}{manifest['objects'][0]['name']}"


def _teller(hand: Hand, total: int) -> Callable[[int], None]:
    """Tells the progress, once a second."""
    next_at = 0.0

    def tell(done: int) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + PROGRESS_SECONDS
            hand.check()
            hand.progress(done, max(done, total), "bytes")

    return tell
