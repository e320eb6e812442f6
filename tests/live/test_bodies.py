"""A body larger than anything here takes is not read, nor one in anything but UTF-8, whoever sends it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler

from controlplane.live.app import LARGEST_BODY, LiveApp


class Django:
    """Reads the whole body, as Django's handler does."""

    def __init__(self) -> None:
        self.read = 0
        self.gone = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                return
            self.read += len(message["body"])
            if not message.get("more_body"):
                return


def ask(django: Django, pieces: int, **headers: str) -> list[Any]:
    """A request of so many MB, piece by piece; returns what was answered without Django."""
    sent: list[Any] = []
    left = iter(range(pieces, 0, -1))

    async def receive() -> dict[str, Any]:
        number = next(left)
        return {"type": "http.request", "body": bytes(2**20), "more_body": number > 1}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "path": "/login", "method": "POST",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    async_to_sync(LiveApp(django, authenticate=lambda scope: None))(scope, receive, send)
    return sent


def test_one_that_says_so_is_refused_before_it_is_read() -> None:
    django = Django()
    answer = ask(django, 300, content_length=str(300 * 2**20))
    assert (answer[0]["status"], django.read) == (413, 0)


def test_one_that_does_not_say_so_is_cut_off() -> None:
    django = Django()
    assert ask(django, 300) == []
    assert django.gone
    assert django.read <= LARGEST_BODY


@pytest.mark.parametrize("headers", [{}, {"content_length": str(2 * 2**20)}, {"content_length": "many"}])
def test_what_fits_passes(headers: dict[str, str]) -> None:
    django = Django()
    assert ask(django, 2, **headers) == []
    assert (django.read, django.gone) == (2 * 2**20, False)


OTHERS = ("hex", "utf-7", "unicode_escape", "idna", "punycode", "utf-16", "latin-1", "no-such-charset")
FORMS = ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/json", "text/plain")


@pytest.mark.parametrize("kind", [f"{form}; charset={other}" for form in FORMS for other in OTHERS])
def test_what_says_that_it_is_not_utf_8_is_refused(kind: str) -> None:
    django = Django()
    answer = ask(django, 1, content_type=kind)
    assert (answer[0]["status"], django.read) == (400, 0)
    assert b"Send the request in UTF-8" in answer[1]["body"]


@pytest.mark.parametrize("parameter", ["charset*=no-such-charset''x", "charset*=idna''%41", "charset*=hex''%41"])
def test_so_is_what_cannot_be_told(parameter: str) -> None:
    assert ask(Django(), 1, content_type=f"text/plain; {parameter}")[0]["status"] == 400


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8"])
def test_utf_8_may_be_said(charset: str) -> None:
    assert ask(Django(), 1, content_type=f"multipart/form-data; boundary=x; charset={charset}") == []


@pytest.mark.parametrize("parameter", ["charset=hex", "charset=utf-7", "charset*=no-such-charset''x"])
def test_django_itself_is_never_asked_to_read_it(parameter: str) -> None:
    """It has no answer to these but an error of its own."""
    form = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\nalice\r\n--x--\r\n'
    kind = f"multipart/form-data; boundary=x; {parameter}"
    sent: list[Any] = []
    messages: Iterator[dict[str, Any]] = iter([{"type": "http.request", "body": form}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        return await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {"host": "testserver", "content-type": kind, "content-length": str(len(form))}
    scope = {
        "type": "http", "path": "/login", "query_string": b"", "method": "POST", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    async_to_sync(LiveApp(ASGIHandler(), authenticate=lambda scope: None))(scope, receive, send)
    assert sent[0]["status"] == 400
