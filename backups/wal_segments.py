"""Names and positions in PostgreSQL's write-ahead log, and the names its files have in the storage.

Below a policy's prefix (suffix: ".age" where backups are encrypted):

    wal/00000001/000000010000000A000000FE.zst                       a segment
    wal/00000001/000000010000000A000000FF.00c3a2f8.partial.zst      its beginning, that many bytes
    wal/00000002.history.zst                                        where a timeline branched off

A beginning has its length in its name, so that a later one never overwrites an earlier one, nor the other way round
when a receiver that was frozen goes on. What is cut off are zeros.
"""

import re
from dataclasses import dataclass

FOLDER = "wal/"
SEGMENT = re.compile(r"[0-9A-F]{24}")
HISTORY = re.compile(r"[0-9A-F]{8}\.history")
STORED = re.compile(
    r"(?:[0-9A-F]{8}/)?(?P<name>[0-9A-F]{24}|[0-9A-F]{8}\.history)(?:\.(?P<length>[0-9a-f]{8})\.partial)?\.zst(?:\.age)?"
)


def position(lsn: str) -> int:
    """A position in bytes, of text as in SQL: "0/16B3748"."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn(at: int) -> str:
    """A position as SQL writes it."""
    return f"{at >> 32:X}/{at & 0xFFFFFFFF:X}"


def last_segment(end: str, size: int) -> int:
    """The number of the segment that holds the last byte before a position."""
    return max(0, position(end) - 1) // size


@dataclass(frozen=True)
class Segment:
    """A file of the log: the timeline, and the number that is its position divided by the size of a segment."""

    timeline: int
    number: int

    @classmethod
    def named(cls, name: str, size: int) -> "Segment":
        """Of the name of its file. size: of a segment, in bytes."""
        per_file = 2**32 // size
        return cls(int(name[:8], 16), int(name[8:16], 16) * per_file + int(name[16:], 16))

    def name(self, size: int) -> str:
        """Of its file."""
        per_file = 2**32 // size
        return f"{self.timeline:08X}{self.number // per_file:08X}{self.number % per_file:08X}"


@dataclass(frozen=True)
class StoredFile:
    """A file of the log as it is in the storage. length: None when it is whole, else the bytes of its beginning."""

    key: str
    name: str
    length: int | None

    @property
    def is_sealed(self) -> bool:
        """Whether it is encrypted."""
        return self.key.endswith(".age")


def stored_file(key: str, prefix: str) -> StoredFile | None:
    """What a key in the storage means; None when it is no file of the policy's log."""
    found = STORED.fullmatch(key.removeprefix(prefix + FOLDER))
    if found is None:
        return None
    return StoredFile(key, found["name"], int(found["length"], 16) if found["length"] else None)


def folder_of(prefix: str, name: str) -> str:
    """The folder of a file of the log in the storage, ends with a slash."""
    return f"{prefix}{FOLDER}{name[:8]}/" if SEGMENT.fullmatch(name) else f"{prefix}{FOLDER}"


def key_of(prefix: str, name: str, suffix: str, length: int | None = None) -> str:
    """Where a segment or a history file is in the storage. length: of a beginning."""
    partial = "" if length is None else f".{length:08x}.partial"
    return f"{folder_of(prefix, name)}{name}{partial}.zst{suffix}"
