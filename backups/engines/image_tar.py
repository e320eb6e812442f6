"""Watching a tar as it flows by: is it one, is it whole, and what do its few telling members say?"""

import re

from controlplane.operations.errors import StepError

BLOCK = 512
TELLING = frozenset({b"manifest.json", b"index.json"})
LONGEST = 1024 * 1024  # of a telling member, or of a header's extension
SIZE = re.compile(rb"(?:^|\n)\d+ size=(\d+)\n")


class ImageTar:
    """Give it each piece, in order. what: whose tar it is, as words begin. Raises StepError."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._pending = bytearray()
        self._skip = 0  # bytes of a member that nobody looks at
        self._wanted = 0  # bytes that have to be there before anything can be said: a header, or a telling member
        self._name = b""
        self._size: int | None = None  # from an extended header, for the member after it
        self._ends = 0  # blocks of zeros
        self._said = bytearray()

    def feed(self, chunk: bytes) -> None:
        """The next piece."""
        view = memoryview(chunk)
        while view:
            if self._skip:
                taken = min(self._skip, len(view))
                self._skip -= taken
                view = view[taken:]
                continue
            missing = (self._wanted or BLOCK) - len(self._pending)
            self._pending += view[:missing]
            view = view[missing:]
            if len(self._pending) == (self._wanted or BLOCK):
                piece, self._pending = bytes(self._pending), bytearray()
                self._member(piece) if self._wanted else self._header(piece)

    def end(self) -> bytes:
        """What the telling members hold, one after the other. Raises StepError when the tar is not whole."""
        if self._ends < 2 or self._pending or self._skip or self._wanted:
            raise self._broken("is cut off")
        if not self._said:
            raise self._broken("has no manifest.json")
        return bytes(self._said)

    def _header(self, block: bytes) -> None:
        if not any(block):
            self._ends += 1
            return
        if self._ends:
            raise self._broken("goes on after its end")
        if sum(block[:148]) + sum(block[156:]) + 8 * 32 != _number(block[148:156]):
            raise self._broken("is not a tar")
        size, kind = _number(block[124:136]), block[156:157]
        if self._size is not None and kind not in b"xgLK":
            size, self._size = self._size, None
        self._name = b"\0" + kind if kind == b"x" else block[:100].rstrip(b"\0").removeprefix(b"./")
        padded = -(-size // BLOCK) * BLOCK
        if (self._name in TELLING or kind == b"x") and 0 < size <= LONGEST:
            self._wanted = padded
        else:
            self._skip = padded

    def _member(self, content: bytes) -> None:
        self._wanted = 0
        if self._name in TELLING:
            self._said += content.rstrip(b"\0")
        elif found := SIZE.search(content):
            self._size = int(found[1])

    def _broken(self, how: str) -> StepError:
        return StepError(f"{self._what[:1].upper()}{self._what[1:]} {how}.")


def _number(field: bytes) -> int:
    """Octal text, or, for what does not fit, binary with the first bit set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        return -1
