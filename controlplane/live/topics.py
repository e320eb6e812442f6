"""One thing that is followed: its new rows are read once, encoded once, and given to all its viewers.

1. A viewer becomes a member of the topic, so that nothing from now on can pass it by.
2. It gets the rows after its cursor from PostgreSQL, in pages, up to the topic's cursor.
3. In the very moment its cursor equals the topic's (no await in between) it takes hold of the newest chunk, and
   from there walks along the chain. So nothing is lost and nothing comes twice.
"""

import asyncio
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.live.readers import Readers
from controlplane.live.sources import WORDS, Row, Source
from controlplane.live.sse import HEARTBEAT, Form, encode, news
from controlplane.live.viewers import Chunk, Closing, Viewer

logger = logging.getLogger(__name__)

PAGE_ROWS = 1000
FLUSH_SECONDS = 0.1
FLUSH_SECONDS_PER_VIEWER = 0.0001
EXTRAS_SECONDS = 0.3
EXTRAS_GRACE_SECONDS = 0.15
# How often a topic looks without having heard anything: when Redis rings, and when it is gone.
POLL_SECONDS = 5.0
POLL_SECONDS_DEAF = 1.0
HEARTBEAT_SECONDS = 15.0
TROUBLE_SECONDS = 1.0
# The part of a rest that a flush may come early.
EARLY = 0.25


@dataclass(frozen=True)
class Page:
    """Some rows, encoded. last: the cursor after them. full: there may be more."""

    bodies: dict[Form, bytes]
    last: int
    full: bool
    extras: tuple[Row, ...] = ()
    ended: bool = False


class Topic:
    """The rows of one key of a source (or, without a source, only the news) and who watches them.

    A rest of FLUSH_SECONDS lies between two flushes, more with very many viewers; after a longer silence the first
    change goes out at once.
    """

    def __init__(self, source: Source | None, key: str, live: Readers, replay: Readers) -> None:
        self.viewers: set[Viewer] = set()
        self.tail = Chunk({}, 0, ended=False)
        self.cursor = 0
        self.extras: tuple[Row, ...] = ()
        self.deaf = False
        self.source = source
        self.key = key
        self._live = live
        self._replay = replay
        self._pages: dict[tuple[int, int, Form], asyncio.Task[Page]] = {}
        self._bell = asyncio.Event()
        self._words: set[str] = set()
        self._rows_due = False
        # When the extras are to be read next, and when they were read last.
        self._extras_due = math.inf
        self._extras_at = 0.0
        self._published_at = 0.0
        self._trouble: Exception | None = None
        self._started: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Nothing will follow what has been read."""
        return _is_end(self.extras)

    # --- What it hears ----------------------------------------------------------------------------

    def ring(self, text: str = "") -> None:
        """Something is new: rows up to the number `text`, or anything."""
        if text.isdecimal() and int(text) <= self.cursor:
            return
        self._rows_due = True
        self._extras_due = min(self._extras_due, self._extras_at + EXTRAS_SECONDS) if text else 0.0
        self._bell.set()

    def tell(self, words: Iterable[str]) -> None:
        """Pass on news."""
        self._words.update(words)
        self._bell.set()

    def look(self) -> None:
        """Rings may have been missed: look at everything."""
        self.tell(WORDS)
        self.ring()

    # --- Its life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find out where it stands, once; every viewer waits for that."""
        if self._started is None:
            self._started = asyncio.create_task(self._start())
        await asyncio.shield(self._started)

    async def _start(self) -> None:
        source = self.source
        if source is not None:
            # In this order: if the extras say that it ended, no row comes after those counted then.
            self.extras = tuple(await self._live.run(source.extras, self.key))
            self.cursor = await self._live.run(source.last, self.key)
        self._running = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Nobody watches any more."""
        for task in (self._started, self._running):
            if task is not None:
                task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._published_at = due = loop.time()
        while True:
            await self._wait_for_something()
            rest = max(FLUSH_SECONDS, FLUSH_SECONDS_PER_VIEWER * len(self.viewers))
            # One flush may come a little early after a late one; else a writer that keeps the same pace would meet
            # a rest that has just begun, again and again.
            due = max(due, loop.time()) + rest
            await self._flush()
            await asyncio.sleep(due - rest * EARLY - loop.time())

    async def _wait_for_something(self) -> None:
        if self._rows_due or self._words:
            return
        self._bell.clear()
        # While rows come, the extras go out with them and cost no flush of their own.
        until_extras = max(0.0, self._extras_due + EXTRAS_GRACE_SECONDS - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(min(until_extras, POLL_SECONDS_DEAF if self.deaf else POLL_SECONDS)):
                await self._bell.wait()
        except TimeoutError:
            self.ring()

    # --- Giving out -------------------------------------------------------------------------------

    async def _flush(self) -> None:
        page = await self._read_new() if self.source is not None and self._rows_due else self._nothing()
        self.cursor, self.extras = page.last, page.extras
        if page.full:
            self.ring()
        words, self._words = self._words, set()
        silent = asyncio.get_running_loop().time() - self._published_at >= HEARTBEAT_SECONDS
        more = (news(words) if words else b"") or (HEARTBEAT if silent else b"")
        if more or any(page.bodies.values()):
            self._publish({form: more + body for form, body in page.bodies.items()}, ended=page.ended)

    async def _read_new(self) -> Page:
        assert self.source is not None
        loop = asyncio.get_running_loop()
        ask = loop.time() >= self._extras_due
        if ask:
            self._extras_due, self._extras_at = math.inf, loop.time()
        self._rows_due = False
        try:
            page = await self._live.run(_new_page, self.source, self.key, self.cursor, self.extras, ask=ask)
        except Exception as error:
            if self._trouble is None:
                logger.exception("cannot read what is new of %s, trying again every second", self.key)
            self._trouble = error
            loop.call_later(TROUBLE_SECONDS, self.ring)
            return self._nothing()
        self._trouble = None
        return page

    def _nothing(self) -> Page:
        return Page(dict.fromkeys(Form, b""), self.cursor, full=False, extras=self.extras)

    def _publish(self, bodies: dict[Form, bytes], *, ended: bool) -> None:
        chunk = Chunk(bodies, self.tail.offset, ended=ended)
        self.tail.following = chunk
        self.tail = chunk
        self._published_at = asyncio.get_running_loop().time()
        for viewer in self.viewers:
            viewer.wake()

    # --- Catching up ------------------------------------------------------------------------------

    async def page(self, after: int, form: Form) -> Page:
        """Rows after a cursor, up to the topic's. Viewers that want the same at once share one reading."""
        wanted = (after, self.cursor, form)
        task = self._pages.get(wanted)
        if task is None:
            assert self.source is not None
            task = asyncio.create_task(self._replay.run(_old_page, self.source, self.key, *wanted))
            self._pages[wanted] = task
            task.add_done_callback(lambda _: self._pages.pop(wanted))
        return await asyncio.shield(task)

    async def last(self) -> int:
        """The number of the newest row in the database, which the topic may not have read yet."""
        return await self._replay.run(self.source.last, self.key) if self.source else 0

    def close_slow(self, now: float, seconds: float, size: int) -> None:
        """Close whom the network takes nothing from for so long, or who is so many bytes behind."""
        for viewer in list(self.viewers):
            blocked = viewer.sending_since and now - viewer.sending_since > seconds
            if blocked or (viewer.chunk is not None and self.tail.offset - viewer.chunk.offset > size):
                viewer.close(Closing.BEHIND)


def _old_page(source: Source, key: str, after: int, upto: int, form: Form) -> Page:
    rows = source.read(key, after, PAGE_ROWS)
    full = len(rows) == PAGE_ROWS and rows[-1].seq < upto
    return Page({form: encode([row for row in rows if row.seq <= upto], form)}, rows[-1].seq if full else upto, full)


def _new_page(source: Source, key: str, after: int, extras: tuple[Row, ...], *, ask: bool) -> Page:
    rows = source.read(key, after, PAGE_ROWS)
    full = len(rows) == PAGE_ROWS
    seen: tuple[Row, ...] | None = None
    if not full and (ask or any(row.event != "line" for row in rows)):
        seen = tuple(source.extras(key))
        if _is_end(seen):
            # Rows may have come between the two readings; once it ended, none comes any more.
            late = source.read(key, rows[-1].seq if rows else after, PAGE_ROWS)
            rows += late
            full = len(late) == PAGE_ROWS
    # The status after rows that are not all read yet would be ahead of them.
    if full or seen is None:
        seen = extras
    # The end comes last.
    messages = sorted([*rows, *(seen if seen != extras else ())], key=lambda row: row.event == "end")
    return Page(
        bodies={form: encode(messages, form) for form in Form},
        last=rows[-1].seq if rows else after,
        full=full,
        extras=seen,
        ended=_is_end(messages),
    )


def _is_end(rows: Iterable[Row]) -> bool:
    return any(row.event == "end" for row in rows)
