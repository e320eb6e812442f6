"""A browser, and a small server that plays the control plane's answers: the scripts are tested for themselves."""

import mimetypes
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.template import engines
from django.test import RequestFactory
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pytest_django import Settings

Query = dict[str, str]
Answer = Callable[[Query, "Wire"], None]
# A page on a busy machine; what comes at all mostly comes within milliseconds.
PATIENCE_MS = 40_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Site:
    """What the played control plane answers, by path, and what it was asked, in order."""

    address: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, Query]] = field(default_factory=list)

    def page(self, path: str, body: str, **context: object) -> None:
        """Serve a page of the real shell with this content; `context` as in a template."""
        html = render_page(body, path, **context)
        self.answers[path] = lambda _query, wire: wire.send(html)

    def html(self, path: str, answer: Callable[[Query], str]) -> None:
        self.answers[path] = lambda query, wire: wire.send(answer(query))

    def queries(self, path: str) -> list[Query]:
        return [query for asked, query in self.asked if asked == path]


class Wire(BaseHTTPRequestHandler):
    """One request. Streams are HTTP/1.0: they end with the connection."""

    site: Site

    def do_GET(self) -> None:
        with suppress(ConnectionError):  # the page was left before its answer came
            self.answer()

    def answer(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.startswith("/static/"):
            file = settings.STATIC_ROOT / url.path.removeprefix("/static/")
            self.send(file.read_bytes(), mimetypes.guess_type(file.name)[0] or "font/woff2")
            return
        self.site.asked.append((url.path, query))
        answer = self.site.answers.get(url.path)
        if answer is None:
            self.refuse(503)
        else:
            answer(query, self)

    def send(self, body: str | bytes, kind: str = "text/html; charset=utf-8") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode() if isinstance(body, str) else body)

    def refuse(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def begin(self) -> None:
        """Begin an event stream."""
        self.send("", "text/event-stream")

    def event(self, name: str, data: str, number: int = 0) -> None:
        text = "".join(f"data: {line}\n" for line in data.split("\n"))
        self.wfile.write(f"{f'id: {number}' if number else ': -'}\nevent: {name}\n{text}\n".encode())

    def log_message(self, *_args: object) -> None:
        """Quiet."""


def render_page(body: str, path: str = "/", **context: object) -> str:
    """A page of the real shell, as alice sees it. `blocks` are further template blocks, in template syntax."""
    blocks, cookies = context.pop("blocks", ""), context.pop("cookies", {})
    source = f'{{% extends "base.html" %}}{{% load ui %}}{blocks}{{% block content %}}{body}{{% endblock %}}'
    alice = SimpleNamespace(is_authenticated=True, get_username=lambda: "alice", pk=1)
    navigation = {"approvals": 2, "role": "operator", "admin": True}
    request = RequestFactory().get(path)
    request.user = alice  # type: ignore[assignment]
    request.COOKIES.update(cookies)  # type: ignore[call-overload]
    context = {
        "user": alice,
        "navigation": navigation,
        "urgent": {"unacknowledged": 1},
        "halt": {"now": None},
        **context,
    }
    return engines["django"].from_string(source).render(context, request)


@pytest.fixture
def shell_urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.web.urls"


@pytest.fixture
def site(shell_urls: None) -> Iterator[Site]:
    site = Site()
    handler = type("Handler", (Wire,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser a module: while it is open, Playwright's event loop makes Django refuse the database to others."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("there is no chromium, and in CI the browser tests must run: apt-get install chromium")
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, site: Site) -> Iterator[Page]:
    """A page at the played site; errors of its scripts fail the test."""
    context = chromium.new_context(base_url=site.address, viewport={"width": 1200, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []
