"""Between what was written before a viewer came and what is written after, nothing is lost and nothing comes twice."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.live import sources, topics
from controlplane.live.app import LiveApp
from controlplane.live.sources import Row

NUMBER = re.compile(rb"id: (\d+)\n")


class Memory:
    """Rows that a thread appends while they are read; a reading takes a moment, as in a database."""

    prefix = "memory"

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.finished = False

    def append(self, count: int, *, finished: bool) -> None:
        for _ in range(count):
            seq = len(self.rows) + 1
            self.rows.append(Row(seq, "line", str(seq), str(seq)))
        self.finished = finished

    def authorize(self, viewer: Any, key: str) -> None:
        """Everybody may."""

    def last(self, key: str) -> int:
        last = len(self.rows)
        time.sleep(0.0005)
        return last

    def read(self, key: str, after: int, limit: int) -> list[Row]:
        rows = self.rows[after : after + limit]
        time.sleep(0.0005)
        return rows

    def extras(self, key: str) -> list[Row]:
        return [Row(0, "end", "", "{}")] if self.finished else []


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """A source in memory, with pages and flushes so small that there are seams everywhere."""
    monkeypatch.setattr(topics, "PAGE_ROWS", 3)
    monkeypatch.setattr(topics, "FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(topics, "EXTRAS_SECONDS", 0.0)
    monkeypatch.setattr(topics, "EXTRAS_GRACE_SECONDS", 0.001)
    memory = Memory()
    sources.register(memory)
    yield memory
    del sources._sources[memory.prefix]


async def watched(app: LiveApp, after: int, behind: float) -> list[int]:
    """The numbers one viewer gets until the end; each write of its network takes so many seconds."""
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        await asyncio.sleep(behind)

    scope = {
        "type": "http", "method": "GET", "path": "/live/memory/a", "query_string": b"after=%d" % after, "headers": [],
    }  # fmt: skip
    await app(scope, asyncio.get_running_loop().create_future, send)
    return [int(number) for number in NUMBER.findall(b"".join(sent))]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    writes=st.lists(st.integers(1, 8), min_size=1, max_size=25),
    viewers=st.lists(
        st.tuples(st.integers(0, 25), st.integers(0, 100), st.sampled_from([0.0, 0.0, 0.002])), min_size=1, max_size=6
    ),
)
def test_every_viewer_gets_every_row_after_its_cursor_once(
    memory: Memory, writes: list[int], viewers: list[tuple[int, int, float]]
) -> None:
    """Each viewer comes after so many writes, with a cursor at so many percent of what there is then."""
    memory.rows, memory.finished = [], False
    app = LiveApp(None, authenticate=lambda scope: "alice")  # type: ignore[arg-type]
    cursors: list[int] = []

    async def write() -> None:
        for turn, size in enumerate(writes, start=1):
            await asyncio.to_thread(memory.append, size, finished=turn == len(writes))
            if app._hub:
                app._hub._hear(f"memory/a {len(memory.rows)}")
            await asyncio.sleep(0.001)

    async def view(number: int, turn: int, percent: int, behind: float) -> list[int]:
        while len(memory.rows) < sum(writes[:turn]):
            await asyncio.sleep(0.0003)
        cursors[number] = len(memory.rows) * percent // 100
        return await watched(app, cursors[number], behind)

    async def all_of_it() -> list[list[int]]:
        cursors.extend([0] * len(viewers))
        writing = asyncio.create_task(write())
        views = [asyncio.create_task(view(number, *viewer)) for number, viewer in enumerate(viewers)]
        await writing
        ringing = asyncio.create_task(ring_on())
        got = await asyncio.wait_for(asyncio.gather(*views), 10)
        ringing.cancel()
        assert app._hub
        await app._hub.stop()
        return got

    async def ring_on() -> None:
        while True:
            if app._hub:
                app._hub._hear("memory/a ")
            await asyncio.sleep(0.005)

    for cursor, got in zip(cursors, asyncio.run(all_of_it()), strict=True):
        assert got == list(range(cursor + 1, sum(writes) + 1))


class Abrupt(Memory):
    """Its last rows and its end are committed right after a reading of the rows."""

    def read(self, key: str, after: int, limit: int) -> list[Row]:
        rows = super().read(key, after, limit)
        if self.rows and not self.finished:
            self.append(2, finished=True)
        return rows


def test_rows_that_come_with_the_end_are_not_cut_off(memory: Memory) -> None:
    sources._sources["memory"] = abrupt = Abrupt()
    app = LiveApp(None, authenticate=lambda scope: "alice")  # type: ignore[arg-type]

    async def once() -> list[int]:
        viewing = asyncio.create_task(watched(app, 0, 0.0))
        while not (app._hub and app._hub.topics):
            await asyncio.sleep(0.001)
        abrupt.append(1, finished=False)
        app._hub._hear("memory/a ")
        got = await asyncio.wait_for(viewing, 5)
        await app._hub.stop()
        return got

    assert asyncio.run(once()) == [1, 2, 3]


def test_threads_are_gone_after_the_stop(memory: Memory) -> None:
    memory.append(2, finished=True)
    app = LiveApp(None, authenticate=lambda scope: "alice")  # type: ignore[arg-type]

    async def once() -> None:
        assert await watched(app, 0, 0.0) == [1, 2]
        assert app._hub
        await app._hub.stop()

    asyncio.run(once())
    assert {thread.name for thread in threading.enumerate()}.isdisjoint({"live", "replay"})
