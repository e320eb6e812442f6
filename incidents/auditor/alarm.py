"""The auditor's own way out: a POST, a mail, and the heartbeat, with the standard library alone."""

from __future__ import annotations

import json
import smtplib
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

SECONDS = 5.0
# For all of it, name look-ups too, which know no time-out of their own.
PATIENCE_SECONDS = 8.0


class NotSent(Exception):
    """Nobody took it, in words."""


class TooLong(Exception):
    """It did not end in time."""


def within(seconds: float, function: Callable[[], None]) -> None:
    """Call it in a thread of its own and wait for so long. Raises what it raises, or TooLong."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - handed on to the caller, whatever it is
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TooLong(f"no end after {seconds:g} s")
    if raised:
        raise raised[0]


def post(url: str, message: Mapping[str, Any]) -> None:
    """POST it as JSON. Raises NotSent unless the answer is 2xx."""
    body = json.dumps(message).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310
    _open(request)


def get(url: str) -> None:
    """The heartbeat. Raises NotSent unless the answer is 2xx."""
    _open(urllib.request.Request(url, method="GET"))  # noqa: S310


def _open(request: urllib.request.Request) -> None:
    request.add_header("User-Agent", "incident-auditor")

    def send() -> None:
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - settings allow http(s) alone
                answer.read(1024)
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            raise

    try:
        within(PATIENCE_SECONDS, send)
    except (OSError, ValueError, TooLong) as error:  # also an HTTP error and a name that is not known
        raise NotSent(f"{urlsplit(request.full_url).netloc}: {error}") from error


def mail(url: str, lines: Sequence[str]) -> None:
    """Mail the lines: smtp://user:password@host:port/?from=…&to=…; smtps for TLS. Raises NotSent."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    message = EmailMessage()
    message["Subject"] = f"Incident auditor: {lines[0]}"[:200].replace("\n", " ")
    message["From"] = query.get("from", "auditor@localhost")
    message["To"] = query.get("to", "")
    message.set_content("\n".join(lines))

    def send() -> None:
        kind = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
        with kind(parts.hostname or "localhost", parts.port or 0, timeout=SECONDS) as server:
            server.ehlo()
            if parts.scheme != "smtps" and server.has_extn("starttls"):
                server.starttls()
            if parts.username:
                server.login(unquote(parts.username), unquote(parts.password or ""))
            server.send_message(message)

    try:
        within(PATIENCE_SECONDS, send)
    except (OSError, ValueError, smtplib.SMTPException, TooLong) as error:
        raise NotSent(f"{parts.hostname}: {error}") from error
