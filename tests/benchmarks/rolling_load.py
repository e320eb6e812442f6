"""The people who ask all the while: so many requests a second by one door, each once, every failure counted.

`python -m tests.benchmarks.rolling_load PORT RATE PATH` prints "ready" after the first good answer, asks until its
standard input is closed, and prints one line of JSON. Every other request has a connection of its own, the others go
over connections that are kept. Nothing is tried again.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from typing import Any

import uvloop

TIMEOUT_SECONDS = 20.0
FIRST_SECONDS = 10.0

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    """All requests together. They begin by the clock, however long the earlier ones take."""

    def __init__(self, port: int, rate: float, path: str) -> None:
        self.port, self.rate, self.path = port, rate, path
        self.idle: deque[Wire] = deque()
        self.sent = self.ok = 0
        self.failures: Counter[str] = Counter()
        self.took: list[float] = []
        self.open: set[asyncio.Task[None]] = set()

    async def run(self, ended: asyncio.Event) -> dict[str, Any]:
        """Ask until it has ended; the figures."""
        began = time.monotonic()
        while not ended.is_set():
            due = int((time.monotonic() - began) * self.rate)
            while self.sent < due:
                self.sent += 1
                task = asyncio.create_task(self._request(kept=self.sent % 2 == 0))
                self.open.add(task)
                task.add_done_callback(self.open.discard)
            await asyncio.sleep(0.004)
        seconds = time.monotonic() - began
        await asyncio.gather(*self.open)
        took = sorted(self.took)
        return {
            "sent": self.sent,
            "answered": self.ok,
            "failed": self.sent - self.ok,
            "failures": dict(self.failures.most_common(5)),
            "seconds": round(seconds, 1),
            "per_second": round(self.ok / seconds, 1),
            "p50_ms": round(took[len(took) // 2] * 1000, 1),
            "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 1),
            "max_ms": round(took[-1] * 1000, 1),
        }

    async def _request(self, *, kept: bool) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status = await self.ask(kept=kept)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.failures[f"{time.time():.1f} {type(error).__name__}: {error}"] += 1
            return
        if status == 200:
            self.ok += 1
            self.took.append(time.monotonic() - began)
        else:
            self.failures[f"{time.time():.1f} status {status}"] += 1

    async def ask(self, *, kept: bool) -> int:
        """The status of one answer. Raises what asyncio raises, and ValueError for one that makes no sense."""
        wire = (self._kept() if kept else None) or await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = wire
        stays = False
        try:
            how = "" if kept else "Connection: close\r\n"
            writer.write(f"GET {self.path} HTTP/1.1\r\nHost: bench\r\n{how}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            stays = kept and b"connection: close" not in head
            return int(head[9:12])
        finally:
            if stays:
                self.idle.append(wire)
            else:
                writer.close()

    def _kept(self) -> Wire | None:
        """The connection that was used longest ago. One that the other side has closed meanwhile is none."""
        while self.idle:
            wire = self.idle.popleft()
            if not wire[0].at_eof():
                return wire
            wire[1].close()
        return None


async def main(port: int, rate: float, path: str) -> None:
    """Ask, and print."""
    load, ended = Load(port, rate, path), asyncio.Event()
    async with asyncio.timeout(FIRST_SECONDS):
        while await load.ask(kept=False) != 200:
            await asyncio.sleep(0.05)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, ended.set)
    print(json.dumps(await load.run(ended)), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
