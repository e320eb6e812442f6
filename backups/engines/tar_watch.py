"""What pg_basebackup's tar stream holds, seen while it passes by."""

from collections.abc import Iterable, Mapping

BLOCK = 512
NAME = slice(0, 100)
SIZE = slice(124, 136)
MOST_KEPT = 64 * 1024


class TarWatch:
    """Give it every chunk: it keeps the beginning of some small files, and hands on all of the manifest.

    kept: names of files to keep. manifest: the name of the last file, whose bytes `feed` returns.
    """

    def __init__(self, kept: Iterable[str], manifest: str) -> None:
        self.content: Mapping[str, bytearray] = {name: bytearray() for name in kept}
        self.manifest_name = manifest
        self.files = 0
        self._header = bytearray()
        self._name = ""
        self._left = 0  # of the file
        self._padding = 0

    def feed(self, chunk: bytes) -> bytes:
        """Look at the next bytes of the stream; returns those of them that belong to the manifest."""
        view = memoryview(chunk)
        found = bytearray()
        while view:
            if self._left:
                part, view = view[: self._left], view[self._left :]
                self._left -= len(part)
                if self._name == self.manifest_name:
                    found += part
                elif self._name in self.content and len(self.content[self._name]) < MOST_KEPT:
                    self.content[self._name].extend(part)
            elif self._padding:
                skipped = min(self._padding, len(view))
                view = view[skipped:]
                self._padding -= skipped
            else:
                part, view = view[: BLOCK - len(self._header)], view[BLOCK - len(self._header) :]
                self._header += part
                if len(self._header) == BLOCK:
                    self._begin(bytes(self._header))
                    self._header.clear()
        return bytes(found)

    def _begin(self, header: bytes) -> None:
        self._name = header[NAME].rstrip(b"\0").decode(errors="replace")
        if not self._name:
            return  # the end of the archive
        self.files += 1
        self._left = number(header[SIZE])
        self._padding = -self._left % BLOCK


def number(field: bytes) -> int:
    """A number of a tar header: octal text, or binary where it is too large for that."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)
