"""The recording provider for tests: PagerDuty, Slack, Twilio, a webhook and a mail server on loopback, in threads."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from controlplane.embedded.providers import Handler, Http, Mail, MailHandler, Record
from incidents.models import Channel

ROUTING_KEY = "routing-key-of-the-tests"
TOKEN = "token-of-the-tests"
ACCOUNT = "AC123"


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Until the condition holds; a failure when it does not for so long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


class Provider:
    """What arrived, and how to behave from now on."""

    def __init__(self, folder: Path) -> None:
        self.record = Record(folder)
        self.http = Http(("127.0.0.1", 0), type("OurHandler", (Handler,), {"record": self.record}))
        self.mail = Mail(("127.0.0.1", 0), type("OurMail", (MailHandler,), {"record": self.record}))
        self.threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            for server in (self.http, self.mail)
        ]
        for thread in self.threads:
            thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What it accepted, in the order of arrival."""
        path = self.record.folder / "messages.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of what it accepted."""
        return [message["key"] for message in self.messages]

    def behave(self, **how: Any) -> None:
        """delay, status, drop, for everything; nothing: as itself again."""
        (self.record.folder / "behaviour.json").write_text(json.dumps({"/": how} if how else {}))

    def wait_for(self, number: int) -> None:
        """Until it has accepted so many."""
        eventually(lambda: len(self.messages) >= number)

    def stop(self) -> None:
        """No thread is left."""
        for server in (self.http, self.mail):
            server.shutdown()
            server.server_close()

    def settings(self, kind: str) -> dict[str, Any]:
        """Of a channel that leads here."""
        twilio = {"url": self.url, "account": ACCOUNT, "token": "file:token", "sender": "+15550000000"}
        found: dict[str, dict[str, Any]] = {
            "pagerduty": {"routing_key": "file:routing-key", "webhook_secret": "file:token",
                          "url": f"{self.url}/v2/enqueue"},
            "slack": {"token": "file:token", "channel": "#ops", "url": f"{self.url}/slack"},
            "phone": twilio,
            "sms": twilio,
            "email": {"host": "127.0.0.1", "port": self.mail.server_address[1], "sender": "noreply@example.com",
                      "tls": "none"},
            "webhook": {"secret": "file:token", "url": f"{self.url}/webhook"},
        }  # fmt: skip
        return found[kind]

    def configure(self, *kinds: str) -> None:
        """Have these channels lead here."""
        for kind in kinds:
            Channel.objects.update_or_create(kind=kind, defaults={"settings": self.settings(kind)})


@pytest.fixture
def provider(data_dir: Path) -> Iterator[Provider]:
    """It runs, and the secrets of the channels are there."""
    (data_dir / "secrets").mkdir(exist_ok=True)
    (data_dir / "secrets" / "token").write_text(TOKEN)
    (data_dir / "secrets" / "routing-key").write_text(ROUTING_KEY)
    (data_dir / "provider").mkdir()
    running = Provider(data_dir / "provider")
    yield running
    running.stop()


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body as JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def form(self) -> dict[str, list[str]]:
        """The body as a form."""
        return parse_qs(self.body.decode())


class Wire(ThreadingHTTPServer):
    """Keeps every request whole, and answers by a script: (status, body, headers), the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Scripted)
        self.requests: list[Request] = []
        self.script: list[tuple[int, dict[str, Any], dict[str, str]]] = [(200, {}, {})]
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answers(self, status: int, body: dict[str, Any] | None = None, **headers: str) -> None:
        """From now on, always this."""
        self.script = [(status, body or {}, headers)]


class _Scripted(BaseHTTPRequestHandler):
    server: Wire

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(Request(self.command, self.path, dict(self.headers.items()), body))
        self.server.hold.wait(20)
        script = self.server.script
        status, told, headers = script.pop(0) if len(script) > 1 else script[0]
        content = json.dumps(told).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content)

    do_GET = do_POST  # noqa: N815 (the library's name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's name)
        """Nobody reads it."""


@pytest.fixture
def wire(data_dir: Path) -> Iterator[Wire]:
    """It listens, and the secrets of the channels are there."""
    (data_dir / "secrets").mkdir(exist_ok=True)
    (data_dir / "secrets" / "token").write_text(TOKEN)
    (data_dir / "secrets" / "routing-key").write_text(ROUTING_KEY)
    with Wire() as listening:
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield listening
        listening.hold.set()
        listening.shutdown()
