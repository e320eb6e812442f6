"""A real HAProxy with real servers behind it, each of which says how it is and can be told to take its time."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from environments.balancers.base import Member
from tests.environments.balancers.running import WHY_NOT, Haproxy


class Handler(BaseHTTPRequestHandler):
    server: "Server"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = self.server.status
        if self.path == "/slow":
            self.server.began.set()
            self.server.go_on.wait(10)
        elif self.path != "/health":
            self.server.served += 1
        body = self.server.name.encode()
        self.send_response(status if self.path == "/health" or self.server.fails else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


class Server(ThreadingHTTPServer):
    """One behind it. status: of its /health, and with `fails` of everything."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.status, self.fails, self.served = name, 200, False, 0
        self.began, self.go_on = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """HAProxy's checks go away in the middle."""

    @property
    def member(self) -> Member:
        return Member(self.name, "127.0.0.1", self.server_port)


class Proxy(Haproxy):
    """HAProxy, and servers behind it."""

    def __init__(self, folder: Path, names: list[str], *, slow_start: str = "0") -> None:
        self.servers = {name: Server(name) for name in names}
        ports = {name: one.server_port for name, one in self.servers.items()}
        super().__init__(folder, ports, every="50ms", slow_start=slow_start)

    def get(self, path: str = "/") -> tuple[int, str]:
        """Ask by the door, with a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            with connection.getresponse() as answer:
                return answer.status, answer.read().decode()
        finally:
            connection.close()

    def stop(self) -> None:
        """It, and the servers."""
        super().stop()
        for server in self.servers.values():
            server.go_on.set()
            server.shutdown()
            server.server_close()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for it."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@contextmanager
def proxying(*, slow_start: str = "0") -> Iterator[Proxy]:
    """A HAProxy with two servers, both well."""
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    folder = Path(tempfile.mkdtemp(prefix="cp-ha-"))
    made = Proxy(folder, ["one", "two"], slow_start=slow_start)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """One whose servers get their share as soon as they are well."""
    with proxying() as made:
        yield made
