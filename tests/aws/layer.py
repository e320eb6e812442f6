"""An HTTP layer in front of moto's server: it counts, plays time for ECS, and misbehaves as real networks do."""

import http.client
import json
import logging
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from moto.server import ThreadedMotoServer

from tests.aws.ecs import Ecs, Json

CHANGES = ("RegisterTaskDefinition", "UpdateService")


@dataclass(frozen=True)
class Fault:
    """What happens to one request. taken: AWS carries it out all the same.

    status: answer with it and `body`; 0: give no answer. holds: keep the caller waiting until it hangs up.
    """

    taken: bool = False
    status: int = 0
    body: bytes = b""
    holds: bool = False


def refused(code: str, message: str, status: int = 400) -> Fault:
    """AWS says no."""
    return Fault(status=status, body=json.dumps({"__type": code, "message": message}).encode())


def throttled() -> Fault:
    """Too many requests."""
    return refused("ThrottlingException", "Rate exceeded")


def denied(action: str, resource: str = "*") -> Fault:
    """IAM says no."""
    who = "arn:aws:iam::123456789012:user/control-plane"
    return refused(
        "AccessDeniedException", f"User: {who} is not authorized to perform: {action} on resource: {resource}"
    )


def broken() -> Fault:
    """A server error, from something in front that does not speak AWS's language."""
    return Fault(status=503, body=b"<html>Service Unavailable</html>")


LOST_AFTER = Fault(taken=True)  # carried out, but the connection was lost before the answer
LOST_BEFORE = Fault()
SLOW = Fault(taken=True, holds=True)


@dataclass
class Layer:
    """The layer's state. taken: how often AWS carried out each action. bodies: what was sent with each change.

    on_taken: called with the action right after AWS carried out a change, before anybody hears of it.
    """

    moto: tuple[str, int]
    ecs: Ecs = field(default_factory=Ecs)
    url: str = ""
    taken: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    bodies: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    on_taken: Callable[[str], None] = lambda action: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def will(self, action: str, *faults: Fault) -> None:
        """The next requests for the action meet these faults, one each."""
        self.faults[action].extend(faults)

    @property
    def changes(self) -> dict[str, int]:
        """How often something was changed."""
        return {action: self.taken[action] for action in CHANGES if self.taken[action]}

    def reset(self) -> None:
        """Forget everything, moto's world included."""
        self.ecs.reset()
        for kept in (self.taken, self.asked, self.bodies, self.faults):
            kept.clear()
        self.on_taken = lambda action: None
        self.forward("POST", "/moto-api/reset", {}, b"")

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Ask moto."""
        connection = http.client.HTTPConnection(*self.moto, timeout=10)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def serve(self, action: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Carry out one action: moto's part, then ours."""
        request: Json = json.loads(body or b"{}")
        with self.lock:
            if own := self.ecs.own_answer(action, request):
                return 200, json.dumps(own).encode()
            status, content = self.forward("POST", "/", headers, body)
            if status != 200:
                return status, content

            def ask(action: str, body: Json) -> Json:
                target = headers["X-Amz-Target"].partition(".")[0] + f".{action}"
                _, answer = self.forward("POST", "/", {**headers, "X-Amz-Target": target}, json.dumps(body).encode())
                found: Json = json.loads(answer)
                return found

            played = self.ecs.answer(action, request, json.loads(content), ask)
            self.taken[action] += 1
            if action in CHANGES:
                self.bodies[action].append(request)
                self.on_taken(action)
            return 200, json.dumps(played).encode()


class _Handler(BaseHTTPRequestHandler):
    layer: ClassVar[Layer]
    protocol_version = "HTTP/1.1"
    timeout = 10
    PASSED_ON = ("Authorization", "X-Amz-Target", "X-Amz-Date", "Content-Type")

    def do_POST(self) -> None:
        """Serve one request, or fail to."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        action = self.headers["X-Amz-Target"].rpartition(".")[2]
        headers = {name: self.headers[name] for name in self.PASSED_ON if self.headers[name]}
        self.layer.asked[action] += 1
        waiting = self.layer.faults[action]
        fault = waiting.popleft() if waiting else None
        status, content = 0, b""
        if fault is None or fault.taken:
            status, content = self.layer.serve(action, headers, body)
        if fault is None:
            self._answer(status, content)
        elif fault.status:
            self._answer(fault.status, fault.body)
        else:
            self.close_connection = True
            if fault.holds:
                self.connection.recv(1)  # until the caller hangs up

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


class Server:
    """Moto and the layer, each on a free loopback port."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        self.layer = Layer(self._moto.get_host_and_port())
        handler = type("Handler", (_Handler,), {"layer": self.layer})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.layer.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        """Stop both."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._moto.stop()
