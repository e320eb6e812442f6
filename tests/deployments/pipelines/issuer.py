"""An issuer of tokens as GitHub Actions is one: its keys by HTTP, and tokens for runs, right or wrong."""

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

REPOSITORY = "pitchey/api"
SHA = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
AUDIENCE = "https://control.pitchey.example"
# Made once: an RSA key takes long.
RSA = {name: RSAKey.generate_key(2048, {"kid": name}) for name in ("one", "two")}
EC = ECKey.generate_key("P-256", {"kid": "curve"})


@dataclass
class Issuer:
    """published: the keys it tells of. broken: it answers 500. asked: how often it was asked for its keys."""

    url: str
    published: list[RSAKey | ECKey] = field(default_factory=lambda: [RSA["one"], EC])
    broken: bool = False
    asked: int = 0

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a push to main, by octocat; None takes one away."""
        now = int(time.time())
        told = {
            "iss": self.url, "aud": AUDIENCE, "jti": str(uuid4()), "iat": now, "nbf": now - 5, "exp": now + 300,
            "sub": f"repo:{REPOSITORY}:ref:refs/heads/main", "repository": REPOSITORY, "repository_id": "42",
            "ref": "refs/heads/main", "sha": SHA, "event_name": "push", "run_id": "1001", "run_attempt": "1",
            "actor": "octocat", "workflow": "Deploy to Production",
        }  # fmt: skip
        return {name: value for name, value in {**told, **changes}.items() if value is not None}

    def token(self, key: RSAKey | ECKey = RSA["one"], kid: str | None = None, **changes: Any) -> str:
        """A token with these claims, signed with this key."""
        algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
        return jwt.encode({"alg": algorithm, "kid": kid or key.kid or ""}, self.claims(**changes), key)


def unsigned(claims: dict[str, Any], header: dict[str, Any], signature: str = "") -> str:
    """Put together by hand, as no library would."""
    parts = (base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in (header, claims))
    return ".".join([*parts, signature])


class Serving:
    """An HTTP server on the loopback interface for the length of a block."""

    def __init__(self, answer: Any) -> None:
        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, content = answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = handle_any  # noqa: N815 - the library's names

            def log_message(self, *args: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Serving":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(issuer: Issuer) -> Serving:
    """Its keys, at /.well-known/jwks."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        issuer.asked += 1
        keys = [key.as_dict(private=False) | {"use": "sig"} for key in issuer.published]
        return (500, {}, b"down") if issuer.broken else (200, {}, json.dumps({"keys": keys}).encode())

    return Serving(answer)
