import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from controlplane.live import sources
from controlplane.live.app import LiveApp
from controlplane.live.hub import Hub
from controlplane.live.requests import HEARD
from tests.live import rows

Open = Callable[..., rows.Stream]


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """In Django's place."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"heard", scope[HEARD].encode())]})
    await send({"type": "http.response.body", "body": b"Django"})


class Web:
    """The web process, as a thread so that tests can change its time-outs."""

    def __init__(self, authenticate: Callable[[Any], Any]) -> None:
        self.app = LiveApp(nothing, authenticate=authenticate)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, loop="uvloop", http="httptools", log_config=None, timeout_graceful_shutdown=1)
        )
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Web":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._server.serve([self._socket]))

    @property
    def hub(self) -> Hub:
        """There once somebody has asked for a stream."""
        assert self.app._hub
        return self.app._hub


@pytest.fixture
def source(transactional_db: None) -> Iterator[rows.Rows]:
    """The source of the tests, with its tables; alice, bob and charlie are signed in."""
    source = rows.Rows()
    rows.drop()
    rows.create()
    sources.register(source)
    rows.people.update({"alice", "bob", "charlie"})
    yield source
    rows.people.clear()
    del sources._sources[source.prefix]
    rows.drop()


@pytest.fixture
def web(source: rows.Rows) -> Iterator[Web]:
    with Web(rows.authenticate) as web:
        yield web


@pytest.fixture
def watch(web: Web) -> Iterator[Open]:
    """Open a stream, as alice unless said otherwise."""
    streams: list[rows.Stream] = []

    def open_stream(path: str, person: str = "alice", **values: str) -> rows.Stream:
        streams.append(rows.Stream(web.port, path, Cookie=f"person={person}", **values))
        return streams[-1]

    yield open_stream
    for stream in streams:
        stream.close()
