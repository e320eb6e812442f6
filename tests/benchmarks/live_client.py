"""Many viewers in one process: reads streams as a browser does and says how late each line was.

`python -m tests.benchmarks.live_client PORT PATH COOKIE VIEWERS FIRST LAST` prints "connected" once every viewer has
its first bytes, and one line of JSON once every viewer has line LAST, or nothing has come for a while.
"""

import asyncio
import json
import re
import sys
import time
from collections import Counter
from typing import NamedTuple, cast

import uvloop

LINE = re.compile(rb"id: (\d+)\nevent: line\ndata: [^\n]*?t=(\d+\.\d+)")
SILENCE_SECONDS = 5.0
CONNECTING_SECONDS = 60.0
BUCKETS_PER_SECOND = 10_000


class Block(NamedTuple):
    """What a piece of a stream holds: the numbers of its lines and when each was said."""

    numbers: tuple[int, ...]
    said: tuple[float, ...]


class Load:
    """All viewers together."""

    def __init__(self, viewers: int, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.connecting = self.watching = viewers
        self.connected = asyncio.Event()
        self.done = asyncio.Event()
        self.refused = b""
        self.lost = self.doubled = self.bytes = 0
        self.heard_at = time.monotonic()
        self.heard: list[tuple[float, Block]] = []
        # All viewers get the same bytes: the first to get them parses them for all, or this process would be the limit.
        self._blocks: dict[bytes, Block] = {}

    def block(self, data: bytes) -> Block:
        found = self._blocks.get(data)
        if found is None:
            lines = LINE.findall(data)
            found = Block(tuple(int(number) for number, _ in lines), tuple(float(said) for _, said in lines))
            self._blocks[data] = found
            self.bytes += len(data)
        return found

    def result(self) -> dict[str, float]:
        buckets: Counter[int] = Counter()
        for heard_at, block in self.heard:
            buckets.update(int((heard_at - said) * BUCKETS_PER_SECOND) for said in block.said)
        return {
            "p50_ms": quantile(buckets, 0.5),
            "p99_ms": quantile(buckets, 0.99),
            "lost": self.lost,
            "doubled": self.doubled,
            "bytes_per_line": round(self.bytes / (self.last - self.first + 1)),
        }


def quantile(buckets: Counter[int], part: float) -> float:
    wanted = part * sum(buckets.values())
    for bucket in sorted(buckets):
        wanted -= buckets[bucket]
        if wanted <= 0:
            return (bucket + 1) / BUCKETS_PER_SECOND * 1000
    return 0.0


class Watcher(asyncio.Protocol):
    """One viewer; `next` is the line it waits for."""

    def __init__(self, load: Load, request: bytes) -> None:
        self.load = load
        self.request = request
        self.next = load.first
        self.rest: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self.request)

    def data_received(self, data: bytes) -> None:
        load = self.load
        load.heard_at = now = time.monotonic()
        if self.rest is None:
            load.refused = load.refused or (b"" if data.startswith(b"HTTP/1.1 200") else data)
            load.connecting -= 1
            if not load.connecting:
                load.connected.set()
            self.rest = b""
        data = self.rest + data
        end = data.rfind(b"\n\n") + 2
        self.rest = data[end:] if end > 1 else data
        block = load.block(data[:end]) if end > 1 else None
        if block is not None and block.numbers:
            load.heard.append((now, block))
            self.count(block.numbers)

    def count(self, numbers: tuple[int, ...]) -> None:
        load, expected = self.load, self.next
        if numbers[0] != expected or numbers[-1] - numbers[0] + 1 != len(numbers):
            for number in numbers:
                load.lost += max(0, number - expected)
                load.doubled += number < expected
                expected = max(expected, number + 1)
        self.next = numbers[-1] + 1
        if expected <= load.last < self.next:
            load.watching -= 1
            if not load.watching:
                load.done.set()


async def main(port: int, path: str, cookie: str, load: Load) -> None:
    loop = asyncio.get_running_loop()
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode()
    watchers = []
    for _ in range(load.connecting):
        _, watcher = await loop.create_connection(lambda: Watcher(load, request), "127.0.0.1", port)
        watchers.append(watcher)
    async with asyncio.timeout(CONNECTING_SECONDS):
        await load.connected.wait()
    if load.refused:
        sys.exit(f"a viewer was refused: {load.refused.decode()}")
    print("connected", flush=True)
    while not load.done.is_set() and time.monotonic() - load.heard_at < SILENCE_SECONDS:
        await asyncio.sleep(0.5)
    load.lost += sum(load.last + 1 - watcher.next for watcher in watchers)
    print(json.dumps(load.result()), flush=True)


if __name__ == "__main__":
    port, path, cookie, *numbers = sys.argv[1:]
    uvloop.run(main(int(port), path, cookie, Load(*map(int, numbers))))
