"""pg_dump's custom format, read as it flows by: what is in it, how many rows, and a hash of each table's content.

The format: a header, the table of contents, and then, for each of its entries that has data, a block of chunks, each
with its length before it; a chunk of no length ends the block. Up to PostgreSQL 18 a chunk is one row of COPY text,
which makes millions of them, too many to walk in Python one by one. But COPY text never holds a NUL and a header of a
chunk always begins with one (the sign of its length), so one regular expression takes all headers out at once.

What is passed on is the same archive with many rows in a chunk, as PostgreSQL 19 writes it itself: any pg_restore
reads that, with less work, and it becomes smaller, since a length before each row is what hardly compresses.
The hash is of the text alone, so it does not depend on how the chunks are cut.
"""

import codecs
import re
from collections.abc import Generator
from dataclasses import dataclass, field

import xxhash

from controlplane.operations.errors import StepError

MAGIC = b"PGDMP"
CUSTOM = 1
OLDEST, NEWEST = (1, 12), (1, 16)
ROWS, LARGE_OBJECTS = 1, 3
CHUNK = re.compile(rb"\0....", re.S)
CHUNK_BYTES = 5
END = bytes(CHUNK_BYTES)  # nothing else in a block of rows has five NULs in a row
LAST_CHUNK = b"\\.\n\n\n"  # for psql, after the last row
POSITION_SET = b"\2"
COPY = re.compile(r'COPY (?:"(?:[^"]|"")*"|[^".\s(]+)(?:\.(?:"(?:[^"]|"")*"|[^".\s(]+))?\s*(\(.*\))? FROM stdin;', re.S)
PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")

Reading = Generator[None, None, None]


def quoted(*names: str) -> str:
    """A name as SQL has it, quotes only where they are needed: public.users, public."Users"."""
    return ".".join(name if PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"' for name in names)


def _header_of(chunk: bytes) -> bytes:
    return b"\0" + len(chunk).to_bytes(4, "little")


def _codec_of(encoding: str) -> str:
    """Python's name of an encoding that PostgreSQL has."""
    try:
        return codecs.lookup(encoding.replace("WIN", "cp").replace("KOI8", "koi8_")).name
    except LookupError:
        return "utf-8"


@dataclass(frozen=True)
class Item:
    """An entry of the table of contents. position: where in the archive it says where its data is."""

    number: int
    has_data: bool
    kind: str  # "TABLE", "TABLE DATA", "INDEX", …
    schema: str
    name: str
    definition: str
    copy: str
    needs: tuple[int, ...]
    position: int

    @property
    def label(self) -> str:
        """Its name with its schema, as SQL has it."""
        return quoted(self.schema, self.name) if self.schema else quoted(self.name)

    @property
    def columns(self) -> str:
        """Of a TABLE DATA: the list in brackets, as COPY has it."""
        found = COPY.match(self.copy)
        return (found[1] or "") if found else ""


@dataclass
class TableData:
    """What was seen of one table. bytes: of COPY text. hash: of the same, XXH3 of 128 bits."""

    item: Item
    rows: int = 0
    bytes: int = 0
    hash: str = ""
    done: bool = False


@dataclass
class LargeObjects:
    """All of them together; the hash is a sum, so their order does not matter."""

    count: int = 0
    total: int = 0

    @property
    def hash(self) -> str:
        """Of their numbers and contents."""
        return f"{self.total % 2**128:032x}"


@dataclass
class Archive:
    """What an archive holds, as far as it was read."""

    database: str = ""
    server_version: str = ""
    tool_version: str = ""
    items: dict[int, Item] = field(default_factory=dict)
    contents_read: bool = False
    tables: list[TableData] = field(default_factory=list)
    large_objects: LargeObjects = field(default_factory=LargeObjects)
    # Where the data of an entry begins, by the place in the archive that should say so.
    positions: dict[int, int] = field(default_factory=dict)

    @property
    def encoding(self) -> str:
        """Of the text in it."""
        named = (one.definition for one in self.items.values() if one.kind == "ENCODING")
        return next(named, "'UTF8'").split("'")[1]

    def data_of_tables(self) -> list[Item]:
        """The entries that hold the rows of a table."""
        return [one for one in self.items.values() if one.kind == "TABLE DATA" and one.has_data]


class Walker:
    """Feed it the archive in blocks of any size, then `finish`. Raises StepError for what is no whole archive.

    bytes: that were read. written: that were passed on.
    """

    def __init__(self) -> None:
        self.archive = Archive()
        self.bytes = 0
        self.written = 0
        self._block = b""
        self._at = 0
        self._from = 0  # what of the block is to be passed on as it is begins here
        self._pieces: list[bytes] = []
        self._version = (0, 0)
        self._row_is_chunk = True
        self._codec = "utf-8"  # of names: that of the database, which the first entry says
        self._between = False  # at the end of a block of data, or of the table of contents
        self._walk = self._everything()
        next(self._walk)

    def feed(self, block: bytes) -> list[bytes]:
        """Read the next bytes; returns the pieces of the archive to pass on. What is not understood yet comes later."""
        self._block = self._block[self._at :] + block if self._at < len(self._block) else block
        self._at = self._from = 0
        self.bytes += len(block)
        next(self._walk)
        self._pass_on()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _pass_on(self, *pieces: bytes) -> None:
        """What was walked over as it is, and then these in the place of what follows."""
        if self._from < self._at:
            pieces = (self._block[self._from : self._at], *pieces)
        self._pieces += pieces
        self.written += sum(map(len, pieces))
        self._from = self._at

    def finish(self) -> Archive:
        """There is no more. Raises StepError when something is missing."""
        if not self._between or self._at < len(self._block):
            raise StepError(f"The dump is cut off after {self.bytes} bytes.")
        missing = [one for one in self.archive.items.values()
                   if one.has_data and one.position not in self.archive.positions]  # fmt: skip
        if missing:
            raise StepError(f"The dump holds no data of {missing[0].label}, which its own contents list.")
        return self.archive

    @property
    def _offset(self) -> int:
        return self.bytes - len(self._block) + self._at

    def _everything(self) -> Reading:
        yield from self._header()
        count = yield from self._integer()
        for _ in range(count):
            item = yield from self._item()
            self.archive.items[item.number] = item
            if item.kind == "ENCODING":
                self._codec = _codec_of(self.archive.encoding)
        self.archive.contents_read = True
        while True:
            self._between = True
            yield from self._await(1)
            self._between = False
            self._pass_on()
            begins, read = self.written, self._offset
            kind = yield from self._byte()
            number = yield from self._integer()
            item_or_none = self.archive.items.get(number)
            if item_or_none is None or kind not in (ROWS, LARGE_OBJECTS):
                raise StepError(f"The dump is damaged at byte {read}.")
            self.archive.positions[item_or_none.position] = begins
            yield from self._rows(item_or_none) if kind == ROWS else self._objects()

    def _header(self) -> Reading:
        fixed = yield from self._bytes(len(MAGIC) + 6)
        self._version = (fixed[5], fixed[6])
        integer_bytes, offset_bytes, layout = fixed[8:11]
        if fixed[:5] != MAGIC or (integer_bytes, offset_bytes, layout) != (4, 8, CUSTOM):
            raise StepError("This is no dump in PostgreSQL's custom format.", permanent=True)
        if not OLDEST <= self._version <= NEWEST:
            named = ".".join(map(str, self._version))
            raise StepError(f"The dump has format {named}, which this version does not know.", permanent=True)
        yield from self._bytes(1) if self._version >= (1, 15) else self._integer()
        for _ in range(7):
            yield from self._integer()
        self.archive.database = yield from self._text()
        self.archive.server_version = yield from self._text()
        self.archive.tool_version = yield from self._text()
        # From version 19 on, chunks are filled up with rows.
        self._row_is_chunk = int(re.split(r"\D", self.archive.tool_version)[0] or 0) < 19

    def _item(self) -> Generator[None, None, Item]:
        number = yield from self._integer()
        has_data = yield from self._integer()
        yield from self._text()  # the catalog it is of
        yield from self._text()  # its number there
        name = yield from self._text()
        kind = yield from self._text()
        yield from self._integer()  # the section
        definition = yield from self._text()
        yield from self._text()  # how to drop it
        copy = yield from self._text()
        schema = yield from self._text()
        yield from self._text()  # the tablespace
        if self._version >= (1, 14):
            yield from self._text()  # the access method
        if self._version >= (1, 16):
            yield from self._integer()  # the kind of relation
        yield from self._text()  # the owner
        yield from self._text()  # whether it has OIDs
        needs = []
        while (need := (yield from self._text_or_none())) is not None:
            needs.append(int(need))
        position = self._offset
        yield from self._bytes(1 + 8)
        return Item(number, bool(has_data), kind, schema, name, definition, copy, tuple(needs), position)

    def _rows(self, item: Item) -> Reading:
        table = TableData(item)
        self.archive.tables.append(table)
        digest = xxhash.xxh3_128()
        tail = b""  # not hashed before it is known that it is not the last chunk
        done = False
        while not done:
            yield from self._await(1)
            block = self._block[self._at :]
            text = b"".join(CHUNK.split(block))
            # After an end comes the next block's kind, which now stands in the text: look for the end only then.
            if (b"\1" in text or b"\3" in text or block.endswith(END)) and (end := block.find(END)) >= 0:
                block, done = block[:end], True
                text = b"".join(CHUNK.split(block))
            whole = text.partition(b"\0")[0]  # a header that is cut off stays for the next time
            cut_off = len(text) - len(whole)
            text = whole
            self._pass_on(*([_header_of(text), text] if text else []), *([END] if done else []))
            self._at = self._from = self._at + len(block) - cut_off + (CHUNK_BYTES if done else 0)
            chunks = (len(block) - cut_off - len(text)) // CHUNK_BYTES
            table.rows += chunks if self._row_is_chunk else text.count(b"\n")
            table.bytes += len(text)
            if len(text) < len(LAST_CHUNK):
                tail, text = tail + text, b""
                digest.update(tail[: -len(LAST_CHUNK)])
            else:
                digest.update(tail)
                digest.update(memoryview(text)[: -len(LAST_CHUNK)])
                tail = text
            tail = tail[-len(LAST_CHUNK) :]
            if cut_off:
                yield
        if tail != LAST_CHUNK:
            raise StepError(f"The data of {item.label} has no end in the dump.")
        table.rows -= 1 if self._row_is_chunk else LAST_CHUNK.count(b"\n")
        table.bytes -= len(LAST_CHUNK)
        table.hash = digest.hexdigest()
        table.done = True  # last of all: another thread may be waiting for it

    def _objects(self) -> Reading:
        objects = self.archive.large_objects
        while number := (yield from self._integer()) % 2**32:
            digest = xxhash.xxh3_128(number.to_bytes(4, "big"))
            while length := (yield from self._integer()):
                digest.update((yield from self._bytes(length)))
            objects.count += 1
            objects.total += digest.intdigest()

    def _await(self, count: int) -> Reading:
        while len(self._block) - self._at < count:
            yield

    def _bytes(self, count: int) -> Generator[None, None, bytes]:
        yield from self._await(count)
        self._at += count
        return self._block[self._at - count : self._at]

    def _byte(self) -> Generator[None, None, int]:
        return (yield from self._bytes(1))[0]

    def _integer(self) -> Generator[None, None, int]:
        sign, *_ = raw = yield from self._bytes(CHUNK_BYTES)
        value = int.from_bytes(raw[1:], "little")
        return -value if sign else value

    def _text_or_none(self) -> Generator[None, None, str | None]:
        length = yield from self._integer()
        if length < 0:
            return None
        return (yield from self._bytes(length)).decode(self._codec, errors="replace")

    def _text(self) -> Generator[None, None, str]:
        return (yield from self._text_or_none()) or ""
