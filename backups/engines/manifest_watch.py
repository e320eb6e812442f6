"""The server's own list of the files, picked out of pg_basebackup's tar stream as it passes by."""

MANIFEST = "backup_manifest"
BLOCK = 512
NAME = slice(0, 100)
SIZE = slice(124, 136)


class ManifestWatch:
    """Give it every chunk of the stream. files: how many there were so far."""

    def __init__(self) -> None:
        self.files = 0
        self._header = bytearray()
        self._is_manifest = False
        self._left = 0  # of the file
        self._padding = 0

    def feed(self, chunk: bytes) -> bytes:
        """Look at the next bytes; returns those of them that belong to backup_manifest."""
        view = memoryview(chunk)
        found = bytearray()
        while view:
            if self._left:
                part, view = view[: self._left], view[self._left :]
                self._left -= len(part)
                if self._is_manifest:
                    found += part
            elif self._padding:
                skipped = min(self._padding, len(view))
                view = view[skipped:]
                self._padding -= skipped
            else:
                missing = BLOCK - len(self._header)
                self._header += view[:missing]
                view = view[missing:]
                if len(self._header) == BLOCK:
                    self._begin(bytes(self._header))
                    self._header.clear()
        return bytes(found)

    def _begin(self, header: bytes) -> None:
        name = header[NAME].rstrip(b"\0").decode(errors="replace")
        if not name:
            return  # the end of the archive
        self.files += 1
        self._is_manifest = name == MANIFEST
        self._left = number(header[SIZE])
        self._padding = -self._left % BLOCK


def number(field: bytes) -> int:
    """A number of a tar header: octal text, or binary where it is too large for that."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)
