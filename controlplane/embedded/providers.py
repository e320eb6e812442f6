"""A recording server that stands for PagerDuty, Slack, Twilio and a mail server: what it accepts it writes down.

It is started as `python -I -S providers.py [--folder DIR --port PORT]` (by default what DATA_DIR and
RECORDING_PROVIDER say) and uses the standard library only. `bin/run` starts it for the demo, so that one sees what
would have left; tests and benchmarks start it as the judge of what did.

    PORT + 1             the mail server
    DIR/messages.jsonl   one line for each request that was accepted, with the time at which it arrived
    DIR/behaviour.json   {"/v2/enqueue": {"delay": 2, "status": 503, "drop": true}} by the beginning of the path:
                         how the provider behaves until the file changes. delay: seconds before the answer; the
                         message counts as arrived before it. status: the answer; below 400 it was accepted.
                         drop: no answer at all, though it was accepted.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import os
import socketserver
import threading
import time
import urllib.parse
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CALLBACK_SECONDS = 0.5
BODY_LIMIT = 1_000_000


class Record:
    """The folder: what arrived, and how to behave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._numbers = 0

    def behaviour(self, path: str) -> dict[str, Any]:
        """What to do with a request to this path."""
        try:
            known = json.loads((self.folder / "behaviour.json").read_text())
        except (OSError, ValueError):
            return {}
        return next((how for start, how in known.items() if path.startswith(start)), {})

    def write(self, **message: Any) -> int:
        """Append one line with one write; returns its number."""
        with self._lock:
            self._numbers += 1
            line = json.dumps({"number": self._numbers, **message}).encode() + b"\n"
            log = os.open(self.folder / "messages.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(log, line)
            finally:
                os.close(log)
            return self._numbers

    def find(self, start: str, field: str, value: str) -> list[dict[str, Any]]:
        """The newest messages to paths that begin so, with this value in a field of their form."""
        try:
            lines = (self.folder / "messages.jsonl").read_text().splitlines()[-500:]
        except OSError:
            return []
        found = [json.loads(line) for line in lines]
        return [one for one in reversed(found) if one["path"].startswith(start) and one["body"].get(field) == value]


class Handler(BaseHTTPRequestHandler):
    """One request to any of the providers."""

    protocol_version = "HTTP/1.1"
    record: Record

    def do_POST(self) -> None:
        arrived = time.time()
        raw = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), BODY_LIMIT))
        how = self.record.behaviour(self.path)
        status = int(how.get("status", 200))
        body = _read(raw, self.headers.get("Content-Type", ""))
        number = 0
        if status < 400:
            key = self.headers.get("Idempotency-Key", "")
            kept = {name: value for name, value in body.items() if name != "routing_key"}
            number = self.record.write(at=arrived, path=self.path, key=key, body=kept)
        if number and "StatusCallback" in body:
            password = base64.b64decode(self.headers.get("Authorization", "").partition(" ")[2]).partition(b":")[2]
            threading.Thread(target=_call_back, args=[body, _sid(number), password], daemon=True).start()
        time.sleep(float(how.get("delay", 0)))
        if how.get("drop"):
            self.close_connection = True
            return
        answer = self.answer(number, body) if status < 400 else {"message": "not today"}
        accepted = 202 if self.path.startswith("/v2/") else 201 if self.path.startswith("/2010") else 200
        self.say(accepted if status == 200 else status, answer)

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        resource = parts.path.rpartition("/")[2].removesuffix(".json").lower()
        to = urllib.parse.parse_qs(parts.query).get("To", [""])[0]
        found = self.record.find(parts.path, "To", to)
        listed = [
            {"sid": _sid(one["number"]), "body": one["body"].get("Body", ""),
             "status_callback": one["body"].get("StatusCallback", "")}
            for one in found
        ]  # fmt: skip
        self.say(200, {resource: listed})

    def answer(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        """As each of the providers answers."""
        if self.path.startswith("/v2/"):
            return {"status": "success", "message": "Event processed", "dedup_key": body.get("dedup_key", "")}
        if self.path.startswith("/2010"):
            return {"sid": _sid(number), "status": "queued"}
        return {"ok": True, "ts": str(number)}

    def say(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the library)
        """Nobody reads it."""


def _sid(number: int) -> str:
    return f"SM{number:032d}"


def _read(raw: bytes, content_type: str) -> dict[str, Any]:
    text = raw.decode(errors="replace")
    if "json" in content_type:
        with suppress(ValueError):
            found = json.loads(text)
            return found if isinstance(found, dict) else {"value": found}
    return dict(urllib.parse.parse_qsl(text))


def _call_back(body: dict[str, Any], sid: str, password: bytes) -> None:
    """As Twilio does: say that it rings or was sent, and then that it was delivered, signed with the token."""
    call = "Twiml" in body
    for status in ("initiated", "completed") if call else ("sent", "delivered"):
        time.sleep(CALLBACK_SECONDS / 2)
        form = {"CallSid" if call else "MessageSid": sid, "To": body.get("To", "")}
        _say_status(body, form | {"CallStatus" if call else "MessageStatus": status}, password)


def _say_status(body: dict[str, Any], form: dict[str, str], password: bytes) -> None:
    url = urllib.parse.urlsplit(body["StatusCallback"])
    signed = body["StatusCallback"] + "".join(f"{name}{form[name]}" for name in sorted(form))
    signature = base64.b64encode(hmac.new(password, signed.encode(), hashlib.sha1).digest()).decode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
    with suppress(OSError, http.client.HTTPException):
        connection.request("POST", f"{url.path}?{url.query}", urllib.parse.urlencode(form), headers)
        with connection.getresponse() as response:
            response.read()
    connection.close()


class MailHandler(socketserver.StreamRequestHandler):
    """As much of SMTP as it takes to accept a mail."""

    record: Record

    def handle(self) -> None:
        with suppress(ConnectionError):  # whoever sends may go away
            self.converse()

    def converse(self) -> None:
        self.say("220 recorded")
        sender, to = "", ""
        while line := self.rfile.readline(BODY_LIMIT).decode(errors="replace").strip():
            word = line[:4].upper()
            if word in ("EHLO", "HELO"):
                self.say("250 recorded")
            elif word == "MAIL":
                sender = line
                self.say("250 ok")
            elif word == "RCPT":
                to = line.partition(":")[2].strip("<> ")
                self.say("250 ok")
            elif word == "DATA":
                self.say("354 go on")
                self.accept(sender, to, time.time())
            elif word == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def accept(self, sender: str, to: str, arrived: float) -> None:
        lines = []
        while (line := self.rfile.readline(BODY_LIMIT)) not in (b".\r\n", b""):
            lines.append(line.decode(errors="replace"))
        text = "".join(lines)
        key = next((line.partition("<")[2].partition("@")[0] for line in lines if line.startswith("Message-ID:")), "")
        how = self.record.behaviour("/mail")
        if int(how.get("status", 250)) >= 400:
            self.say(f"{how['status']} not today")
            return
        self.record.write(at=arrived, path="/mail", key=key, body={"From": sender, "To": to, "text": text})
        time.sleep(float(how.get("delay", 0)))
        self.say("250 kept")

    def say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


class Mail(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    address = urllib.parse.urlsplit(os.environ.get("RECORDING_PROVIDER", ""))
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("DATA_DIR", ".")) / "providers")
    parser.add_argument("--port", type=int, default=address.port, required=address.port is None)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    Handler.record = MailHandler.record = Record(options.folder)
    mail = Mail(("127.0.0.1", options.port + 1), MailHandler)
    threading.Thread(target=mail.serve_forever, daemon=True).start()
    Http(("127.0.0.1", options.port), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
