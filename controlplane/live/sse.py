"""The wire format of server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

import re
from collections.abc import Iterable
from enum import StrEnum

from controlplane.live.sources import Row

# A browser whose stream broke waits this long before it comes back.
RETRY = b"retry: 1000\n\n"
HEARTBEAT = b":\n\n"

_LINE_BREAK = re.compile(r"\r\n|\r|\n")


class Form(StrEnum):
    """How a viewer wants its rows: a browser as HTML, a program as JSON."""

    HTML = "html"
    JSON = "json"


def encode(rows: Iterable[Row], form: Form) -> bytes:
    """The rows as messages, in one piece."""
    if form is Form.JSON:
        return "".join([_message(row.seq, row.event, row.json) for row in rows]).encode()
    return "".join([_message(row.seq, row.event, row.html) for row in rows]).encode()


def news(words: Iterable[str]) -> bytes:
    """One message that names what may look different now."""
    return _message(0, "news", " ".join(sorted(words))).encode()


def _message(seq: int, event: str, text: str) -> str:
    if "\n" in text or "\r" in text:
        text = "\ndata: ".join(_LINE_BREAK.split(text))
    number = f"id: {seq}\n" if seq else ""
    return f"{number}event: {event}\ndata: {text}\n\n"
