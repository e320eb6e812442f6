"""The auditor as a process: it raises, tells until it is heard, ends, beats, and survives what is away."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from incidents.auditor.chain import Chains
from incidents.auditor.invariants import INVARIANTS, Invariant
from incidents.auditor.ledger import settle
from incidents.auditor.looks import look
from incidents.auditor.settings import Settings, WrongSetting, settings_of
from incidents.auditor.watch import Auditor
from incidents.models import AuditorAlarm, AuditorBeat, Incident, Level
from tests.incidents.auditor_world import World, build

ROOT = Path(__file__).resolve().parents[2]


class Wire(ThreadingHTTPServer):
    """Writes down what it is told; answers with `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.posted: list[dict[str, Any]] = []
        self.beats = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}/"

    def keys(self, part: str = "alarms") -> list[str]:
        """Of all alarms that it was told."""
        return [one["key"] for message in self.posted for one in message[part]]


class Handler(BaseHTTPRequestHandler):
    server: Wire

    def do_POST(self) -> None:
        """An alarm."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status == 200:
            self.server.posted.append(body)
        self._answer()

    def do_GET(self) -> None:
        """The heartbeat."""
        self.server.beats += 1
        self._answer()

    def _answer(self) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A provider of the auditor's own."""
    server = Wire()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def database_url() -> str:
    """The one of this test run."""
    values = connection.settings_dict
    return psycopg.conninfo.make_conninfo(
        host=values["HOST"], port=values["PORT"], user=values["USER"], password=values["PASSWORD"],
        dbname=values["NAME"],
    )  # fmt: skip


@pytest.fixture
def auditor(transactional_db: None, wire: Wire) -> Iterator[Auditor]:
    """One with a connection of its own."""
    one = Auditor(Settings(database_url(), "test", alarm_url=wire.url, heartbeat_url=wire.url))
    yield one
    one._close()


def broken() -> tuple[World, Incident]:
    """An incident that lost a level; a clock beats."""
    world = build()
    incident = world.open()
    assert world.look() == {}
    Level.objects.filter(incident=incident, number=2).delete()
    return world, incident


def test_an_alarm_is_raised_once_told_once_and_over_when_it_is_over(auditor: Auditor, wire: Wire) -> None:
    _, incident = broken()
    key = f"level-missing:{incident.pk}:L2"
    assert auditor.once()
    assert auditor.once()
    assert AuditorAlarm.objects.get(over_at=None).key == key
    assert AuditorAlarm.objects.get(over_at=None).told_at is not None
    assert wire.keys() == [key]
    assert wire.beats == 2
    assert AuditorBeat.objects.get().name == "test"
    Incident.objects.filter(pk=incident.pk).update(policy={})
    assert auditor.once()
    assert not AuditorAlarm.objects.filter(over_at=None).exists()
    assert wire.keys("over") == [key]


def test_it_tells_again_until_it_is_heard(auditor: Auditor, wire: Wire) -> None:
    broken()
    wire.status = 503
    auditor.once()
    assert AuditorAlarm.objects.get().told_at is None
    wire.status = 200
    auditor.once()
    assert AuditorAlarm.objects.get().told_at is not None
    assert len(wire.keys()) == 1


def test_a_database_that_is_away_is_told_once_and_when_it_is_back(auditor: Auditor, wire: Wire) -> None:
    there, auditor.settings = (
        auditor.settings,
        Settings("postgresql://nobody@127.0.0.1:1/nothing", "test", alarm_url=wire.url, heartbeat_url=wire.url),
    )
    assert not auditor.once()
    assert not auditor.once()
    assert wire.keys() == ["database"]
    assert wire.beats == 0, "a heartbeat without a look"
    auditor.settings = there
    assert auditor.once()
    assert wire.keys("over") == ["database"]


def test_one_that_cannot_be_checked_stops_no_other(db: None) -> None:
    world, incident = broken()
    raw = cast("psycopg.Connection[Any]", connection.connection)
    nonsense = Invariant("nonsense", "nothing", "SELECT nothing FROM nowhere")
    found = look(raw, Chains(), [nonsense, *INVARIANTS]).found
    assert set(found) == {"unchecked:nonsense", f"level-missing:{incident.pk}:L2"}
    assert world.look()


def test_an_alarm_of_what_cannot_be_checked_stays(db: None) -> None:
    assert not AuditorAlarm.objects.exists()  # and with that the test's transaction has begun
    raw = cast("psycopg.Connection[Any]", connection.connection)
    settle(raw, {"nonsense:1": "wrong", "other:1": "wrong"})
    ended = settle(raw, {}, ["nonsense:"])
    assert [one.key for one in ended] == ["other:1"]
    assert AuditorAlarm.objects.get(over_at=None).key == "nonsense:1"


def test_many_of_a_kind_are_a_few_alarms(db: None) -> None:
    world = build()
    for number in range(25):
        incident = world.open(title=f"cause {number}")
        Level.objects.filter(incident=incident).delete()
    found = [key for key in world.look() if key.startswith("escalation-ended:")]
    assert len(found) == 21
    assert "escalation-ended:more" in found


@pytest.mark.timeout(60)
def test_the_command_looks_once(transactional_db: None, wire: Wire) -> None:
    broken()
    env = {**os.environ, "DATABASE_URL": url_of_the_tests(), "AUDITOR_ALARM_URL": wire.url}
    run = subprocess.run(
        [sys.executable, "manage.py", "auditor", "--once"], cwd=ROOT, env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "has lost its level L2" in run.stderr
    assert len(wire.keys()) == 1


def url_of_the_tests() -> str:
    """As DATABASE_URL says it."""
    values = settings.DATABASES["default"]
    name = connection.settings_dict["NAME"]
    return f"postgres://{values['USER']}:{values['PASSWORD']}@{values['HOST']}:{values['PORT']}/{name}"


@pytest.mark.parametrize(
    "wrong", [{"DATABASE_URL": ""}, {"AUDITOR_SECONDS": "soon"}, {"AUDITOR_SECONDS": "60"}, {"AUDITOR_ALARM_URL": "x"}]
)
def test_a_wrong_setting_is_refused_in_words(wrong: dict[str, str]) -> None:
    with pytest.raises(WrongSetting):
        settings_of({"DATABASE_URL": "postgres://there/is", **wrong})


def test_settings_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://alarm.example/\n")
    settings = settings_of({"DATABASE_URL": "postgres://there/is", "AUDITOR_ALARM_URL_FILE": str(tmp_path / "url")})
    assert settings.alarm_url == "https://alarm.example/"
