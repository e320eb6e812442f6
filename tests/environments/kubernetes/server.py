"""The stand-in at the wire: a small threaded HTTP server that speaks as an API server does, and fails when told to."""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.environments.kubernetes.cluster import PLURALS, Cluster, Refusal
from tests.environments.kubernetes.fields import Object

TOKEN = "a-token-that-nobody-may-see"


@dataclass
class Fault:
    """What happens to the next requests of this method and kind. status 0: the answer is lost after the change.

    needs: a parameter that they have. in_stream: a watch begins well, and its first event is the refusal.
    """

    method: str
    kind: str
    status: int
    times: int = 1
    retry_after: str = ""
    message: str = "told to fail"
    needs: str = ""
    in_stream: bool = False


@dataclass
class Asked:
    """One request."""

    method: str
    kind: str
    name: str
    params: dict[str, str]
    body: Object


@dataclass
class ApiServer:
    """A cluster behind a port. knows: another way than its token to tell who somebody is, by the bearer token."""

    cluster: Cluster
    url: str = ""
    token: str = TOKEN
    knows: Callable[[str], bool] | None = None
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def fault_for(self, method: str, kind: str, params: dict[str, str]) -> Fault | None:
        """The one that hits this request, if any."""
        for one in self.faults:
            if one.times and (one.method, one.kind) == (method, kind) and (not one.needs or one.needs in params):
                one.times -= 1
                return one
        return None

    def lets_in(self, authorization: str, certificate: object) -> bool:
        """Whether it may ask; a client certificate that the TLS layer accepted is enough."""
        scheme, _, token = authorization.partition(" ")
        known = self.knows(token) if self.knows else token == self.token
        return bool(certificate) or (scheme == "Bearer" and known)

    def changes(self) -> list[tuple[str, str, str]]:
        """What was asked to be changed: method, kind, name."""
        return [(one.method, one.kind, one.name) for one in self.asked if one.method != "GET"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: ApiServer

    def log_message(self, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "{}")
        parts = urlsplit(self.path)
        params = dict(parse_qsl(parts.query))
        below = parts.path.partition("/namespaces/production/")[2].split("/")
        kind, name = PLURALS.get(below[0], ""), below[1] if len(below) > 1 else ""
        watch = "watch" in params
        method = "WATCH" if watch else self.command
        self.api.asked.append(Asked(method if watch else self.command, kind, name or _name(body), params, body))
        try:
            certificate = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
            if not self.api.lets_in(self.headers.get("Authorization", ""), certificate):
                raise Refusal(401, "Unauthorized", "Unauthorized")
            fault = self.api.fault_for(method, kind, params)
            if fault and fault.status:
                said = Refusal(fault.status, "Told", fault.message).status
                event = {"type": "ERROR", "object": said}
                self._send(
                    200 if fault.in_stream else fault.status, event if fault.in_stream else said, fault.retry_after
                )
                return
            with self.api.cluster.lock:
                answer = self._answer(kind, name, below, params, body)
        except Refusal as refusal:
            self._send(refusal.code, refusal.status)
            return
        if fault:
            self.close_connection = True  # the change was made, and nobody hears of it
            self.connection.close()
            return
        if isinstance(answer, bytes):
            self._raw(200, answer, "text/plain")
        else:
            self._send(201 if self.command == "POST" else 200, answer)

    def _answer(self, kind: str, name: str, below: list[str], params: dict[str, str], body: Any) -> Any:
        cluster = self.api.cluster
        if self.command == "POST":
            return cluster.shown(cluster.create(kind, body, params["fieldManager"]))
        if self.command == "PATCH":
            if self.headers["Content-Type"] == "application/json-patch+json":
                return cluster.shown(cluster.patch(kind, name, body))
            if self.headers["Content-Type"] != "application/apply-patch+yaml":
                raise Refusal(415, "UnsupportedMediaType", "only apply is spoken here")
            applied = cluster.apply(kind, body, params["fieldManager"], force=params.get("force") == "true")
            return cluster.shown(applied)
        if self.command == "DELETE":
            cluster.delete(kind, name, body)
            return {"kind": "Status", "status": "Success"}
        if below[-1] == "log":
            cluster.get(kind, name)
            return "\n".join(cluster.logs[-int(params["tailLines"]) :]).encode()
        if kind == "Deployment":
            cluster.tick()
        if "watch" in params:
            return self._watched(kind, params)
        return cluster.shown(cluster.get(kind, name) if name else self._page(kind, params))

    def _watched(self, kind: str, params: dict[str, str]) -> bytes:
        cluster = self.api.cluster
        name = params["fieldSelector"].partition("=")[2]
        events = list(cluster.since(int(params["resourceVersion"]), kind, name))
        bookmark = {"kind": kind, "metadata": {"resourceVersion": str(cluster.version)}}
        events.append(("BOOKMARK", bookmark))
        return "".join(json.dumps({"type": what, "object": found}) + "\n" for what, found in events).encode()

    def _page(self, kind: str, params: dict[str, str]) -> Object:
        wanted = dict(part.split("=", 1) for part in params.get("labelSelector", "").split(",") if part)
        found = [
            one for one in self.api.cluster.of(kind) if wanted.items() <= (one["metadata"].get("labels") or {}).items()
        ]
        start, size = int(params.get("continue", "0")), self.api.cluster.page
        more = {"continue": str(start + size)} if start + size < len(found) else {}
        meta = {"resourceVersion": str(self.api.cluster.version), **more}
        return {"kind": f"{kind}List", "metadata": meta, "items": found[start : start + size]}

    def _send(self, status: int, content: Object, retry_after: str = "") -> None:
        self._raw(status, json.dumps(content).encode(), "application/json", retry_after)

    def _raw(self, status: int, body: bytes, kind: str, retry_after: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(body)


def _name(body: Any) -> str:
    return str((body.get("metadata") or {}).get("name", "")) if isinstance(body, dict) else ""


@contextmanager
def served(cluster: Cluster, tls: ssl.SSLContext | None = None) -> Iterator[ApiServer]:
    """The cluster behind a port of this computer, for a block; with TLS, if its context is given."""
    api = ApiServer(cluster)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    api.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
