"""What a request for a stream asks for, read strictly."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

from controlplane.live.ring import NEWS
from controlplane.live.sources import Source, source_for
from controlplane.live.sse import Form
from controlplane.live.viewers import Scope

# Of the scope of Django's requests: see Hub.heard.
HEARD = "controlplane.live.heard"

_PATH = re.compile(r"/live/([a-z-]+)/([A-Za-z0-9._-]{1,100})")
_HEARD = re.compile(r"|[0-9a-f]{32}-[0-9]{1,19}")
_NEWS_PATH = f"/live/{NEWS}"
_LARGEST = 2**63 - 1


class Refusal(Exception):
    """The answer to a request that gets no stream, in words."""

    def __init__(self, status: HTTPStatus, detail: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers


def is_live(path: str) -> bool:
    """Whether the path belongs to a stream; others are Django's."""
    found = _PATH.fullmatch(path)
    return path == _NEWS_PATH or (found is not None and source_for(found[1]) is not None)


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """source: None for the news alone. after: the cursor. again: a browser that comes back by itself.

    heard: how far the news had been heard when the page was made; None for somebody who has no page.
    """

    source: Source | None
    key: str
    form: Form
    after: int
    again: bool
    heard: str | None

    @classmethod
    def of(cls, scope: Scope) -> "StreamRequest":
        """Read a request whose path `is_live`. Raises Refusal."""
        if scope["method"] not in {"GET", "HEAD"}:
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "A stream can only be read.", (b"allow", b"GET, HEAD"))
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        found = _PATH.fullmatch(scope["path"])
        cursor = _cursor(query.get("after", ["0"])[-1])
        last_seen = _header(scope, b"last-event-id")
        return cls(
            source=source_for(found[1]) if found else None,
            key=found[2] if found else NEWS,
            form=_form(query["as"][-1]) if "as" in query else _form_of_client(scope),
            # A browser that comes back repeats the address it began with; the header knows better.
            after=cursor if last_seen is None else _cursor(last_seen),
            again=last_seen is not None,
            heard=_heard(query["heard"][-1]) if "heard" in query else None,
        )


def bearer(scope: Scope) -> str | None:
    """The API token a request carries, None without one."""
    kind, _, token = (_header(scope, b"authorization") or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _cursor(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= _LARGEST):
        raise Refusal(HTTPStatus.BAD_REQUEST, "`after` must be the number of the last row you have, or 0.")
    return int(text)


def _heard(text: str) -> str:
    if not _HEARD.fullmatch(text):
        raise Refusal(HTTPStatus.BAD_REQUEST, "`heard` must be what the page was given, or empty.")
    return text


def _form(text: str) -> Form:
    try:
        return Form(text)
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "`as` must be html or json.") from None


def _form_of_client(scope: Scope) -> Form:
    return Form.HTML if bearer(scope) is None else Form.JSON


def _header(scope: Scope, name: bytes) -> str | None:
    return next(_headers(scope, name), None)


def _headers(scope: Scope, name: bytes) -> Iterator[str]:
    return (value.decode("latin-1") for key, value in scope["headers"] if key == name)
