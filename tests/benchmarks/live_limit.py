"""The limit of what one process can do: the same bytes to the same viewers, with nothing but asyncio.

`python -m tests.benchmarks.live_limit PORT LINES RATE BYTES_PER_LINE` waits for a line on its standard input, then says
LINES lines, RATE a second, flushed as the hub flushes. It ends with its standard input.
"""

import asyncio
import sys
import time
from typing import cast

import uvloop

from controlplane.live.topics import FLUSH_SECONDS, FLUSH_SECONDS_PER_VIEWER

START = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Stream(asyncio.Protocol):
    """One viewer's connection; whatever it asks for, it gets the stream."""

    def __init__(self, streams: list[asyncio.Transport]) -> None:
        self.streams = streams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(START)
        self.streams.append(self.transport)


def chunk(numbers: range, began: float, rate: int, size: int) -> bytes:
    lines = [f"id: {n + 1}\nevent: line\ndata: t={began + n / rate:.6f} " for n in numbers]
    body = "".join(line.ljust(size - 2, ".") + "\n\n" for line in lines).encode()
    return b"%x\r\n%b\r\n" % (len(body), body)


async def main(port: int, lines: int, rate: int, size: int) -> None:
    loop = asyncio.get_running_loop()
    streams: list[asyncio.Transport] = []
    await loop.create_server(lambda: Stream(streams), "127.0.0.1", port)
    await loop.run_in_executor(None, sys.stdin.readline)
    rest = max(FLUSH_SECONDS, FLUSH_SECONDS_PER_VIEWER * len(streams))
    began, said, flushes = time.monotonic(), 0, 0
    while said < lines:
        flushes += 1
        await asyncio.sleep(began + flushes * rest - time.monotonic())
        due = min(lines, int((time.monotonic() - began) * rate) + 1)
        data = chunk(range(said, due), began, rate, size)
        said = due
        for stream in streams:
            stream.write(data)
    await loop.run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
