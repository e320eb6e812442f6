"""A real installation for the browser: the web process, a worker and a clock, against the database of the tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from controlplane.accounts.models import Person
from controlplane.embedded.processes import free_port, wait_until
from tests.browser.company import Company, found, stop_everything
from tests.web.conftest import PATIENCE_MS
from tests.web.conftest import chromium as chromium  # noqa: PLC0414 (a fixture)

ROOT = Path(__file__).parents[2]
Open = Callable[..., Page]
PROCESSES = ("web", "worker", "clock")
LAST_LINES = 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives a browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("browser")
            item.add_marker(pytest.mark.timeout(240))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """What the processes of the installation said last, beside what failed."""
    report: Any = yield
    if report.failed:
        for name in PROCESSES:
            with suppress(OSError):
                said = _log_of(name).read_text(errors="replace").splitlines()
                report.sections.append((f"Last words of the {name}", "\n".join(said[-LAST_LINES:])))
    return report  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def installation(chromium: Browser, django_db_setup: None) -> Iterator[str]:
    """The three processes; gives the address. Without a browser none of them is started."""
    port = free_port()
    python = [sys.executable, "-P", "-m"]
    celery = ["celery", "-A", "controlplane.celery", "worker", "-P", "prefork", "-c", "1", "--without-gossip"]
    uvicorn = ["uvicorn", "controlplane.asgi:application", "--port", str(port), "--timeout-graceful-shutdown", "1"]
    web = [*python, *uvicorn, "--no-access-log"]
    worker = [*python, *celery, "--without-mingle", "--loglevel=INFO"]
    clock = [sys.executable, "-P", "manage.py", "clock"]
    commands = dict(zip(PROCESSES, (web, worker, clock), strict=True))
    running = {name: _start(command, _log_of(name)) for name, command in commands.items()}
    address = f"http://127.0.0.1:{port}"
    try:
        assert wait_until(lambda: _answers(address), 60), _log_of("web").read_text()
        with pytest.MonkeyPatch.context() as patch:
            # Playwright keeps an event loop in this thread; the tests themselves are not asynchronous.
            patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
            yield address
    finally:
        for process in running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _log_of(process: str) -> Path:
    return Path(settings.DATA_DIR) / f"{process}.log"


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    url = urlsplit(os.environ["DATABASE_URL"])
    database = urlunsplit(url._replace(path=f"/{connection.settings_dict['NAME']}"))
    env = {**os.environ, "DATABASE_URL": database, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with log.open("wb") as out:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)


def _answers(address: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{address}/healthz").status_code < 500
    return False


@pytest.fixture
def company(installation: str, transactional_db: None, alice: Person, bob: Person) -> Iterator[Company]:
    """Four environments of real processes, as the sample of the guide's company declares them."""
    try:
        yield found(alice, bob)
    finally:  # also what it was that could not be founded: the next one begins with empty folders
        stop_everything()


@pytest.fixture
def open_as(installation: str, company: Company, chromium: Browser) -> Iterator[Open]:
    """Open a page as somebody; whatever goes wrong in it (scripts, policy, answers) fails the test."""
    contexts: list[BrowserContext] = []
    troubles: list[str] = []

    def open_page(person: Person | None, path: str = "/", **options: Any) -> Page:
        options = {"viewport": {"width": 1360, "height": 850}, **options}
        context = chromium.new_context(base_url=installation, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        if person is not None:
            context.add_cookies([{"name": "sessionid", "value": session_of(person), "url": installation}])
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(f"{page.url}: {error}"))
        page.on("console", lambda message: _note(troubles, page, message))
        page.on("requestfailed", lambda request: _note_request(troubles, request))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def session_of(person: Person) -> str:
    """A session as signing in makes it."""
    client = Client()
    client.force_login(person)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def _note(troubles: list[str], page: Page, message: ConsoleMessage) -> None:
    if message.type in ("error", "warning"):
        troubles.append(f"{page.url}: {message.text}")


def _note_request(troubles: list[str], request: Request) -> None:
    # A stream or a fetch that a new page cuts off is no trouble.
    if request.failure != "net::ERR_ABORTED":
        troubles.append(f"{request.url}: {request.failure}")
