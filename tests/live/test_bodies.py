"""A body larger than anything here takes is not read, whoever sends it."""

from typing import Any

import pytest
from asgiref.sync import async_to_sync

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
