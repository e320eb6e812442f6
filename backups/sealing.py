"""Encryption of backups on this side of the storage: age, so that stock tools open them (`age -d -i key.txt`).

Only the recipient (a public key) is needed to make backups; the identity that opens them is a secret reference. It
may hold several keys, one a line as `age-keygen` writes them, so that old backups open after a change of keys.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, BinaryIO

import pyrage
from pyrage import x25519

from controlplane.operations.errors import StepError
from environments.secrets import resolve

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# age hands out 8 KB at a time: gathered, or the two threads would spend their time waking each other.
PIECE_BYTES = 256 * 1024
PIECES_WAITING = 2


@dataclass(frozen=True)
class Sealer:
    """recipient: an age public key, "" for no encryption. identity: the reference of the secret key, to open."""

    recipient: str = ""
    identity: str = ""

    @property
    def key_id(self) -> str:
        """Whom it is encrypted to, as the manifest says; "" for nobody."""
        return self.recipient

    @property
    def suffix(self) -> str:
        """What an object's name ends with: ".age" or nothing."""
        return ".age" if self.recipient else ""

    def seal(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The stream as it goes to the storage, in constant memory.

        `chunks` is read by the thread that asks for the next piece, and closed with this generator.
        Raises StepError for a recipient that is none.
        """
        if not self.recipient:
            yield from chunks
            return
        if wrong := problem_with_recipient(self.recipient):
            raise StepError(f"The recipient {self.recipient} {wrong}.", permanent=True)
        yield from _sealed(chunks, x25519.Recipient.from_str(self.recipient))

    def unseal(self, source: BinaryIO, key_id: str) -> BinaryIO:
        """The stream as it was before; key_id: of the manifest, "" for one that is not encrypted.

        Close it before the source. Raises StepError(permanent) for a wrong or missing key, naming both key ids, and,
        on reading, for bytes that were changed. `source` is read by another thread.
        """
        if not key_id:
            return source
        if not self.identity:
            raise StepError(
                f"This backup is encrypted to {key_id}, and its policy names no identity. "
                "Give the policy the secret reference of the key.",
                permanent=True,
            )
        identities = _identities(resolve(self.identity), self.identity)
        unsealed = _Unsealed(source, identities, key_id, self.identity)
        try:
            unsealed.begin()
        except BaseException:
            unsealed.close()
            raise
        return BufferedReader(unsealed, PIECE_BYTES)


def problem_with_recipient(recipient: str) -> str:
    """What is wrong with a recipient that is about to be configured, in words; "" when nothing is."""
    if recipient.upper().startswith("AGE-SECRET-KEY-"):
        return "is a secret key; give the public key that belongs to it, which begins with age1"
    try:
        x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        return f"is no age public key ({error}); it begins with age1, see `age-keygen -y`"
    return ""


def new_identity() -> tuple[str, str]:
    """A new pair of keys: the secret text, and the recipient that belongs to it."""
    identity = x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def recipient_of(reference: str) -> str:
    """Whom the key behind a secret reference belongs to: of several keys, the first. Raises StepError."""
    return str(_identities(resolve(reference), reference)[0].to_public())


def _identities(text: str, reference: str) -> list[x25519.Identity]:
    """The keys of a file as `age-keygen` writes it."""
    lines = [line.strip() for line in text.splitlines()]
    try:
        found = [x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise StepError(
            f"The secret {reference} is no age key: its line has to begin with AGE-SECRET-KEY-1.", permanent=True
        )
    return found


class _Gone(Exception):
    """The other side does not take, or give, any more."""


class _Pieces:
    """Bytes on their way from one thread to another, a few pieces at most; either side can end it."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._complete = False
        self._stopped = False

    def give(self, piece: bytes) -> None:
        """Waits for room. Raises _Gone when it was stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._waiting) < PIECES_WAITING)
            if self._stopped:
                raise _Gone
            self._waiting.append(piece)
            self._changed.notify_all()

    def take(self) -> bytes:
        """Waits for the next; b"" after the last. Raises _Gone when it was stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._complete or self._waiting)
            if self._waiting and not self._stopped:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._complete:
                return b""
            raise _Gone

    def complete(self) -> None:
        """There will be no more."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Whoever waits here stops at once."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class _Work(threading.Thread):
    """A thread that keeps what it failed with."""

    def __init__(self, function: Callable[[], None], end: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._function, self._end = function, end
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Whatever happens, the other side hears of the end."""
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001 -- whoever waits for the work raises it
            self.failure = error
        finally:
            self._end()


class _PlainText:
    """What age reads from to encrypt: pieces that another thread gives."""

    def __init__(self, pieces: _Pieces) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; b"" at the end."""
        if not self._rest:
            self._rest = memoryview(self._pieces.take())
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


class _Sink:
    """What age writes to."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._gathered = bytearray()

    def write(self, data: bytes) -> int:
        """Takes all of it."""
        self._gathered += data
        if len(self._gathered) >= PIECE_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Pass on what was gathered."""
        if self._gathered:
            piece, self._gathered = bytes(self._gathered), bytearray()
            self._put(piece)


def _sealed(chunks: Iterable[bytes], recipient: x25519.Recipient) -> Iterator[bytes]:
    """age pulls, and so do we: it works in a thread, which never waits for us to take what it has written.

    What lies ready is bounded all the same: nothing is given to it before that is taken.
    """
    pieces = _Pieces()
    ready: deque[bytes] = deque()
    sink = _Sink(ready.append)

    def work() -> None:
        pyrage.encrypt_io(_PlainText(pieces), sink, [recipient])
        sink.flush()

    thread = _Work(work, pieces.stop)
    try:
        for chunk in chunks:
            if chunk:
                try:
                    pieces.give(chunk)
                except _Gone:
                    break  # it failed: said below
            while ready:
                yield ready.popleft()
        pieces.complete()
        thread.join()
        if thread.failure is not None:
            raise StepError(f"The backup cannot be encrypted: {thread.failure}.") from thread.failure
        yield from ready
    finally:
        pieces.stop()
        thread.join()
        if close := getattr(chunks, "close", None):
            close()


class _Source:
    """What age reads from to decrypt. It would turn an error into text: kept, to be raised as it was."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.failure: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        """Of the source."""
        try:
            return self._source.read(size)
        except BaseException as error:
            self.failure = error
            raise


class _Unsealed(RawIOBase):
    """The plain text of a sealed stream."""

    def __init__(self, source: BinaryIO, identities: list[x25519.Identity], key_id: str, reference: str) -> None:
        super().__init__()
        self._pieces = _Pieces()
        self._source = _Source(source)
        self._identities, self._key_id, self._reference = identities, key_id, reference
        self._rest = memoryview(b"")
        self._thread = _Work(self._work, self._pieces.complete)

    def _work(self) -> None:
        sink = _Sink(self._pieces.give)
        pyrage.decrypt_io(self._source, sink, self._identities)
        sink.flush()

    def begin(self) -> None:
        """Wait until the first bytes are there. Raises StepError when no key opens it."""
        self._next()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Raises StepError."""
        if not self._rest:
            self._next()
        into = memoryview(buffer).cast("B")
        size = min(len(into), len(self._rest))
        into[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def _next(self) -> None:
        self._rest = memoryview(self._pieces.take())
        if not self._rest:
            self._thread.join()
            if self._thread.failure is not None:
                raise self._reason(self._thread.failure)

    def _reason(self, failure: BaseException) -> BaseException:
        if self._source.failure is not None:
            return self._source.failure
        if isinstance(failure, pyrage.DecryptError) and "No matching keys" in str(failure):
            own = ", ".join(str(identity.to_public()) for identity in self._identities)
            return StepError(
                f"This backup is encrypted to {self._key_id}, but the identity {self._reference} belongs to {own}. "
                "Give the policy the reference of the key that fits.",
                permanent=True,
            )
        return StepError(
            f"This backup, encrypted to {self._key_id}, was changed or cut off in the storage ({failure}).",
            permanent=True,
        )

    def close(self) -> None:
        """End the other thread; it may finish one read of the source."""
        if not self.closed:
            self._pieces.stop()
            self._thread.join()
        super().close()
