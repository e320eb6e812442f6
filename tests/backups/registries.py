"""A small registry of images and a small docker host that speak the real protocols, and fail as they are told."""

import base64
import hashlib
import http.server
import io
import json
import os
import socketserver
import tarfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

OCI = "application/vnd.oci.image."


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Content:
    """What a registry has. manifests: with their media types. lies: what it gives instead of a blob."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    lies: dict[str, bytes] = field(default_factory=dict)

    def image(self, *layers: bytes, platform: str = "amd64") -> str:
        """Put an image there; returns its digest."""
        config = json.dumps({"architecture": platform, "os": "linux", "rootfs": {"type": "layers"}}).encode()
        for blob in (config, *layers):
            self.blobs[sha256(blob)] = blob
        described = [_described(layer, f"{OCI}layer.v1.tar+gzip") for layer in layers]
        manifest = {"schemaVersion": 2, "mediaType": f"{OCI}manifest.v1+json", "layers": described,
                    "config": _described(config, f"{OCI}config.v1+json")}  # fmt: skip
        return self._manifest(manifest)

    def index(self, *images: tuple[str, str]) -> str:
        """Put an index there, of (digest, platform); returns its digest."""
        described = [
            {**_described(self.manifests[digest][0], f"{OCI}manifest.v1+json"),
             "platform": {"os": "linux", "architecture": platform}}
            for digest, platform in images
        ]  # fmt: skip
        return self._manifest({"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": described})

    def _manifest(self, manifest: dict[str, Any]) -> str:
        data = json.dumps(manifest).encode()
        self.manifests[sha256(data)] = data, manifest["mediaType"]
        return sha256(data)


def _described(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


@dataclass
class Wire:
    """How a registry behaves. auth: "", "basic" or "token". redirect: where blobs are sent to.

    cuts: after so many bytes of a blob the connection ends, one for each request. statuses: before any true answer.
    """

    auth: str = ""
    user: tuple[str, str] = ("robot", "a-password-1")
    redirect: str = ""
    ranges: bool = True
    cuts: deque[int] = field(default_factory=deque)
    statuses: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Authorization


class _Registry(http.server.BaseHTTPRequestHandler):
    content: Content
    wire: Wire
    server: http.server.ThreadingHTTPServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization", "")
        self.wire.asked.append((self.path, authorization))
        parts = urlsplit(self.path)
        if parts.path == "/token":
            self._token(parse_qs(parts.query), authorization)
        elif self.wire.statuses:
            status, headers = self.wire.statuses.popleft()
            self._answer(status, b"", headers)
        elif not self._may(authorization) and not parts.path.startswith("/cdn/"):
            self._answer(401, b"", {"WWW-Authenticate": self._challenge()})
        elif "/manifests/" in parts.path:
            data, media_type = self.content.manifests.get(parts.path.rpartition("/")[2], (b"", ""))
            self._answer(200 if data else 404, data, {"Content-Type": media_type} if data else {})
        elif self.wire.redirect and not parts.path.startswith("/cdn/"):
            self._answer(307, b"", {"Location": f"{self.wire.redirect}/cdn/{parts.path.rpartition('/')[2]}"})
        else:
            self._blob(parts.path.rpartition("/")[2])

    do_HEAD = do_GET  # noqa: N815

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(":".join(self.wire.user).encode()).decode()

    def _may(self, authorization: str) -> bool:
        wanted = {"": "", "basic": self._basic(), "token": "Bearer a-token-of-the-test"}[self.wire.auth]
        return not wanted or authorization == wanted

    def _challenge(self) -> str:
        if self.wire.auth == "basic":
            return 'Basic realm="here"'
        realm = f"http://127.0.0.1:{self.server.server_port}/token"
        return f'Bearer realm="{realm}",service="registry",scope="repository:team/api:pull"'

    def _token(self, query: dict[str, list[str]], authorization: str) -> None:
        good = authorization == self._basic() and query["scope"] == ["repository:team/api:pull"]
        self._answer(200 if good else 401, json.dumps({"token": "a-token-of-the-test"}).encode())

    def _blob(self, digest: str) -> None:
        data = self.content.lies.get(digest, self.content.blobs.get(digest))
        if data is None:
            self._answer(404, b"")
            return
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.wire.ranges else 0
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        cut = self.wire.cuts.popleft() if self.wire.cuts else None
        self._answer(206 if start else 200, data[start:], headers, cut)

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut])


@contextmanager
def registry(content: Content, wire: Wire) -> Iterator[str]:
    """Its address."""
    handler = type("Handler", (_Registry,), {"content": content, "wire": wire})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# --- docker -----------------------------------------------------------------------------------------------


@dataclass
class DockerHost:
    """images: by "repository@digest", what an inspection shows. tar: what a save gives. cut: of it, if set."""

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    tar: bytes = b""
    cut: int | None = None
    status: int = 200
    asked: list[str] = field(default_factory=list)


class _Docker(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host: DockerHost

    def log_message(self, *arguments: Any) -> None:
        pass

    def address_string(self) -> str:
        return "docker"

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.host.asked.append(path)
        if path.endswith("/json"):
            image = self.host.images.get(path.removeprefix("/images/").removesuffix("/json"))
            data = json.dumps(image or {"message": "No such image"}).encode()
            self.send_response(200 if image else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_response(self.host.status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(self.host.tar), 50_000):
            if self.host.cut is not None and start >= self.host.cut:
                self.close_connection = True
                return
            piece = self.host.tar[start : start + 50_000]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass


@contextmanager
def docker(host: DockerHost, folder: Path) -> Iterator[str]:
    """Its address, a socket in the folder."""
    path = str(folder / "docker.sock")
    handler = type("Handler", (_Docker,), {"host": host})
    with _UnixServer(path, handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"unix://{path}"
        server.shutdown()
        thread.join()


def saved(config: str, *layers: bytes) -> bytes:
    """A tar as `docker save` writes it. config: the digest of the image's configuration."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, layer in enumerate(layers):
            member = tarfile.TarInfo(f"blobs/sha256/{'long' * 40}{number}")  # longer than a plain header takes
            member.size = len(layer)
            tar.addfile(member, io.BytesIO(layer))
        manifest = json.dumps([{"Config": f"blobs/sha256/{config.removeprefix('sha256:')}", "Layers": []}]).encode()
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        tar.addfile(member, io.BytesIO(manifest))
    return target.getvalue()


def noise(size: int) -> bytes:
    """Bytes that nothing makes smaller."""
    return os.urandom(size)
