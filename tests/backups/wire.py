"""An HTTP proxy in front of an S3 server that fails as networks and servers do, and a bucket behind it."""

import http.client
import sys
import threading
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from backups.storage.s3 import S3Kind, S3Store

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"


@dataclass(frozen=True)
class Fault:
    """What happens to one request. taken: the server carries it out all the same.

    status, code: answer so; 0: give no answer. holds: keep the caller waiting until it hangs up. cut: pass so many
    bytes of the answer's body on, then end the connection. garbles: change a byte of what is sent. before: called
    first. passes: nothing else happens.
    """

    taken: bool = False
    status: int = 0
    code: str = ""
    holds: bool = False
    cut: int | None = None
    garbles: bool = False
    passes: bool = False
    before: Callable[[], object] = lambda: None


PASSED = Fault(passes=True)
SLOW_DOWN = Fault(status=503, code="SlowDown")
BROKEN = Fault(status=500, code="InternalError")
DENIED = Fault(status=403, code="AccessDenied")
LOST_BEFORE = Fault()
LOST_AFTER = Fault(taken=True)
SILENT = Fault(holds=True)
DROPPED = Fault(status=200)  # says yes and keeps nothing
GARBLED = Fault(garbles=True)


class _Quiet(ThreadingHTTPServer):
    """A connection that is lost, on either side, is what this is for: nothing to be told."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Proxy:
    """Between the client and a server. asked: how often each action came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: Counter[str] = Counter()
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._http = _Quiet(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def will(self, action: str, *faults: Fault) -> None:
        """The next requests for the action meet these faults, one each."""
        self.faults[action].extend(faults)

    def reset(self) -> None:
        """As new."""
        self.asked.clear()
        self.faults.clear()

    def close(self) -> None:
        """Stop it."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def action_of(method: str, path: str) -> str:
    """What a request asks for, as S3 names it."""
    parts = urlsplit(path)
    query = parse_qs(parts.query, keep_blank_values=True)
    object_ = "/" in parts.path.strip("/")
    named = {
        ("PUT", "partNumber"): "UploadPart",
        ("PUT", "retention"): "PutObjectRetention",
        ("POST", "uploads"): "CreateMultipartUpload",
        ("POST", "uploadId"): "CompleteMultipartUpload",
        ("DELETE", "uploadId"): "AbortMultipartUpload",
        ("GET", "uploadId"): "ListParts",
        ("GET", "uploads"): "ListMultipartUploads",
        ("POST", "delete"): "DeleteObjects",
        ("GET", "versioning"): "GetBucketVersioning",
    }
    for (verb, name), action in named.items():
        if verb == method and name in query:
            return action
    usual = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
    return usual.get(method, method) if object_ else "ListObjects"


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[Proxy]
    protocol_version = "HTTP/1.1"
    timeout = 20
    PIECE = 64 * 1024

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        action = action_of(self.command, self.path)
        self.proxy.asked[action] += 1
        waiting = self.proxy.faults[action]
        fault = waiting.popleft() if waiting else PASSED
        fault.before()
        if fault.passes:
            self._pass_on(body, None)
        elif fault.garbles:
            self._pass_on(bytes([body[0] ^ 1]) + body[1:], None)
        elif fault.cut is not None:
            self._pass_on(body, fault.cut)
        elif fault.status:
            content = f"<Error><Code>{fault.code}</Code><Message>so it is</Message></Error>" if fault.code else ""
            self._answer(fault.status, content.encode())
        else:
            self.close_connection = True
            if fault.taken:
                for one in self._ask(body):
                    one.close()
            if fault.holds:
                self.connection.recv(1)  # until the caller hangs up

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 -- so they are looked for

    def _ask(self, body: bytes) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=20)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name not in ("Expect", "Connection"):
                connection.putheader(name, value)
        with suppress(ConnectionError):  # it may refuse before it has read all of it
            connection.endheaders(body)
        if connection.sock is None:
            raise ConnectionRefusedError("nobody is there")
        return connection.getresponse(), connection

    def _pass_on(self, body: bytes, cut: int | None) -> None:
        response, connection = self._ask(body)
        try:
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                if name not in ("Transfer-Encoding", "Connection"):
                    self.send_header(name, value)
            if response.length is None and response.chunked:
                content = response.read()
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                return
            self.end_headers()
            left = cut
            while piece := response.read(self.PIECE if left is None else min(left, self.PIECE)):
                self.wfile.write(piece)
                left = None if left is None else left - len(piece)
            self.close_connection = cut is not None
        finally:
            response.close()  # it keeps the connection's socket until it is
            connection.close()

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response_only(status)
        self.send_header("ETag", '"d41d8cd98f00b204e9800998ecf8427e"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@dataclass
class OwnBucket:
    """A bucket and how to come to it. client: directly, not through the proxy."""

    settings: dict[str, Any]
    client: Any
    proxy: Proxy
    name: str = field(default_factory=lambda: f"b-{uuid.uuid4().hex[:12]}")

    def store(self, **settings: Any) -> S3Store:
        """Opened as a storage would be."""
        return S3Kind().open({**self.settings, "bucket": self.name, **settings})

    def keys(self) -> list[str]:
        """What is in it."""
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def uploads(self) -> list[str]:
        """Keys of uploads that are not finished."""
        try:
            found = self.client.list_multipart_uploads(Bucket=self.name)
        except self.client.exceptions.NoSuchUpload:  # there never was one, says rclone
            return []
        return [one["Key"] for one in found.get("Uploads", [])]
