"""Streams go on while Redis or the database is away; who is too slow, or may no longer look, is closed."""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import ProgrammingError, connection
from pytest_django import Settings

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.accounts.tokens import create_token
from controlplane.embedded.processes import wait_until
from controlplane.live import hub, topics
from controlplane.live.sources import WORDS, Row
from tests.live import rows
from tests.live.conftest import Open, Web
from tests.live.rows import Stream, say, set_status

ROOT = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 40  # for whoever is connected, where nothing else ends the streams


@pytest.fixture
def deaf_web(source: rows.Rows, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web process that cannot reach Redis."""
    monkeypatch.setattr(topics, "POLL_SECONDS_DEAF", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
    with Web(rows.authenticate) as web:
        yield web


def test_without_redis_rows_status_and_news_still_come(deaf_web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "REDIS_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(hub, "DEAF_NEWS_SECONDS", 0.1)
    stream = Stream(deaf_web.port, "/live/rows/a", Cookie="person=alice")
    for number in range(1, 4):
        say("a", f"{number}")
        assert [message.id for message in stream.until("line", f"<li>{number}</li>")] == [str(number)]
    set_status("a", "waiting")
    assert stream.until("status", "<p>waiting</p>")
    assert stream.until_news(*WORDS)
    stream.close()


def test_a_ring_that_was_lost_is_made_up_for(watch: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "POLL_SECONDS", 0.1)
    stream = watch("/live/rows/a")
    rows.query("INSERT INTO live_row VALUES ('a', 1, 'nobody rang')")
    assert stream.until("line", "<li>nobody rang</li>")


def test_a_lost_database_connection_is_replaced(watch: Open) -> None:
    stream = watch("/live/rows/a")
    say("a", "before")
    stream.until("line", "<li>before</li>")
    end_other_connections()
    say("a", "after")
    assert stream.until("line", "<li>after</li>")
    assert watch("/live/rows/a").until("line", "<li>after</li>")


def end_other_connections() -> None:
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    rows.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


def test_a_reading_that_fails_is_tried_again_and_complained_about_once(
    watch: Open, source: rows.Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(topics, "TROUBLE_SECONDS", 0.05)
    stream = watch("/live/rows/a")
    read, failures = source.read, iter(range(3))

    def unlucky(key: str, after: int, limit: int) -> list[Row]:
        if next(failures, None) is not None:
            raise ProgrammingError("not now")
        return read(key, after, limit)

    monkeypatch.setattr(source, "read", unlucky)
    say("a", "in the end")
    assert stream.until("line", "<li>in the end</li>")
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "cannot read what is new of a, trying again every second"
    ]


def test_no_connection_is_held_for_a_viewer(watch: Open) -> None:
    streams = [watch("/live/rows/a") for _ in range(20)]
    say("a", "one")
    for stream in streams:
        stream.until("line", "<li>one</li>")
    # One that reads what is new, and two for everything else.
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert rows.query(count)[0][0] <= 3


def test_who_may_no_longer_look_is_closed(watch: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(hub, "ADMISSION_SECONDS", 0.05)
    alice, bob = watch("/live/rows/a"), watch("/live/rows/a", "bob")
    rows.people.discard("bob")
    assert not [message for message in bob.messages() if message.event != "news"]
    say("a", "still here")
    assert alice.until("line", "<li>still here</li>")


def test_who_takes_nothing_is_closed_and_nobody_waits_for_it(
    watch: Open, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(hub, "BLOCKED_SECONDS", 0.2)
    slow, quick = watch("/live/rows/a"), watch("/live/rows/a")
    for number in range(24):
        say("a", f"{number} {'x' * 500_000}")
        quick.until("line", f"<li>{number} {'x' * 500_000}</li>")
    assert wait_until(lambda: len(web.hub.topics["rows/a"].viewers) == 1, 30)
    seen = [int(message.id) for message in slow.messages() if message.event == "line"]
    assert seen == list(range(1, len(seen) + 1))
    assert 0 < len(seen) < 24
    # It comes back with its cursor and gets the rest.
    back = watch("/live/rows/a", Last_Event_ID=str(seen[-1]))
    rest = back.until("line", f"<li>23 {'x' * 500_000}</li>")
    assert [int(message.id) for message in rest] == list(range(len(seen) + 1, 25))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_do_not_hold_up_the_stop(transactional_db: None, alice: Person, number: signal.Signals) -> None:
    _, token = create_token(alice, "ci", Role.VIEWER, 1, Actor(alice).who)
    url = os.environ["DATABASE_URL"].rpartition("/")[0] + "/" + connection.settings_dict["NAME"]
    with socket.create_server(("127.0.0.1", 0), backlog=10) as listening:
        command = [sys.executable, "-m", "uvicorn", "controlplane.asgi:application", "--fd", str(listening.fileno())]
        command += ["--timeout-graceful-shutdown", str(GRACE_SECONDS)]
        with subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "DATABASE_URL": url},
            pass_fds=[listening.fileno()], stderr=subprocess.PIPE, text=True,
        ) as web:  # fmt: skip
            try:
                stream = Stream(listening.getsockname()[1], "/live/news", Authorization=f"Bearer {token}")
                web.send_signal(number)
                list(stream.messages())
                web.wait(GRACE_SECONDS - 5)
                assert web.stderr
                assert "without completing" not in web.stderr.read()
                stream.close()
            finally:
                web.kill()
