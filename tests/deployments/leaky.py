"""A proxy in a place's stead that lets nothing through, and quotes what it was sent: in its body and in its status."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Leaky(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        shown = self.headers.get("Authorization", "")
        # Who shows nothing is asked to, as a registry does.
        self.send_response(403 if shown else 401, f"not with {shown}")
        words = f"not with {shown}, {dict(self.headers)}"
        # As Kubernetes, AWS and a registry say it.
        errors = [{"code": "DENIED", "message": words}]
        body = json.dumps({"code": 403, "__type": "ClientException", "message": words, "errors": errors}).encode()
        self.send_header("WWW-Authenticate", 'Basic realm="tests"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 (the library's names)

    def log_message(self, *args: Any) -> None:
        """Nobody reads it."""


@contextmanager
def leaking(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Its host and port, for a block."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Leaky)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
