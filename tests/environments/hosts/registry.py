"""A registry of images that speaks the real protocol, to everybody or to whoever knows its password."""

import base64
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANY = "application/octet-stream"


class Registry(ThreadingHTTPServer):
    """Serves what was put into it, by digest.

    served: the digests that were asked for and given. shown: what it was shown for a password.
    """

    daemon_threads = True
    USER, PASSWORD = "deployer", "correct-horse-battery"

    def __init__(self, port: int = 0, *, for_everybody: bool = False) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        login = base64.b64encode(f"{self.USER}:{self.PASSWORD}".encode()).decode()
        self.login = "" if for_everybody else f"Basic {login}"
        self.served: list[str] = []
        self.shown: list[str] = []
        self.things: dict[str, tuple[str, bytes]] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        """How the names of its images begin."""
        return f"127.0.0.1:{self.server_port}"

    @property
    def repository(self) -> str:
        """The name that the image has here."""
        return f"{self.host}/pitchey-backend"

    def put(self, image: bytes) -> None:
        """Take an image in: an OCI archive, as `podman load` takes it."""
        with tarfile.open(fileobj=io.BytesIO(image)) as archive:
            files = {one.name: held.read() for one in archive if one.isfile() and (held := archive.extractfile(one))}
        kinds = {one["digest"]: one["mediaType"] for one in json.loads(files["index.json"])["manifests"]}
        for name, content in files.items():
            if name.startswith("blobs/"):
                digest = name.removeprefix("blobs/").replace("/", ":")
                self.things[digest] = kinds.get(digest, ANY), content

    def close(self) -> None:
        """Serve no more."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever pulls goes away when it has what it wants."""


class _Handler(BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        shown = self.headers.get("Authorization", "")
        self.server.shown += [shown] if shown else []
        if self.server.login and shown != self.server.login:
            self._answer(401, "text/plain", b"who are you?", {"WWW-Authenticate": 'Basic realm="tests"'})
            return
        name = self.path.rpartition("/")[2]
        kind, content = self.server.things.get(name, ("", b""))
        if self.path == "/v2/":
            self._answer(200, "application/json", b"{}", {})
        elif kind:
            assert name == f"sha256:{hashlib.sha256(content).hexdigest()}"
            self.server.served.append(name)
            self._answer(200, kind, content, {"Docker-Content-Digest": name})
        else:
            self._answer(404, "application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', {})

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _answer(self, status: int, kind: str, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""
