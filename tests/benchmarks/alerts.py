"""Alerts a second from eight senders until they are kept, against bare inserts of the same bodies; and a storm.

All processes are real: the web process, a clock, eight senders with a connection each. Both are measured in turns, so
that what else the machine does falls on both. A body is handled when its alerts are kept, not when it is answered.
"""

import json
import pickle
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import connection

from controlplane.accounts.models import Grant, Person, Role
from controlplane.clock.models import last_beat
from controlplane.embedded.processes import free_port
from incidents.intake.gate import digest_of
from incidents.intake.matchers import parse
from incidents.models import (
    Alert,
    AlertSource,
    Channel,
    ContactMethod,
    EscalationLevel,
    EscalationPolicy,
    Incident,
    IncidentRule,
    Page,
    RawAlert,
)
from tests.benchmarks.alerts_sender import SENDERS, TOKEN
from tests.benchmarks.live import _cookie, _line, _process, _wait_for

BODIES = 4000
ALERTS_A_BODY = 5  # what Alertmanager groups
DIFFERENT_ALERTS = 2000
TURNS = 4
STORM = 100_000
STORM_A_BODY = 250
PATIENCE = 300.0
PAGE_LOOKS = 9
BARE = "bench_bare"


def run() -> dict[str, Any]:
    """The figures of `bin/bench alerts`."""
    person = _world()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"]
        stack.enter_context(_process("uvicorn", "controlplane.asgi:application", "--port", str(port), *options))
        _wait_for(port)
        clock = stack.enter_context(_process("django", "clock"))
        _wait_for_clock()
        figures = _turns(port, folder, "HighErrorRate", ALERTS_A_BODY)
        single = _turns(port, folder, "DatabaseConnectionFailure", 1)
        figures |= {f"single_{key}": single[key] for key in ("bodies_per_second", "ratio_to_insert")}
        storm = _write(folder / "storm", _bodies(STORM // STORM_A_BODY, STORM_A_BODY, STORM, "Storm"))
        figures |= _storm(port, storm, _cookie(person))
        assert clock.poll() is None, "the clock has died"
    return figures


def _world() -> Person:
    person = Person.objects.create(username="bench", email="bench@example.com")
    Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
    ContactMethod.objects.create(person=person, kind="email", address="bench@example.com")
    # Nobody listens there: whom a storm wakes is counted by the pages that it makes.
    Channel.objects.create(kind="pagerduty", settings={"routing_key": "env:SECRET_KEY", "url": "http://127.0.0.1:9/"})
    AlertSource.objects.create(pk=1, slug="bench", kind="alertmanager", token_digest=digest_of(TOKEN))
    policy = EscalationPolicy.objects.create(slug="matrix", name="Matrix", severities=["P1"])
    for number, after in enumerate((0, 900, 1800, 3600), start=1):
        EscalationLevel.objects.create(
            policy=policy, number=number, role=f"L{number}", after_seconds=after,
            targets=[{"person": "bench"}], channels=["pagerduty"],
        )  # fmt: skip
    IncidentRule.objects.create(
        slug="storm", matchers=parse('alertname="Storm"'), group_by=["alertname"], severity="P1", title="{alertname}"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {BARE} (LIKE incidents_rawalert INCLUDING ALL)")
    return person


def _bodies(count: int, alerts: int, different: int, name: str = "HighErrorRate") -> list[bytes]:
    began = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    return [
        json.dumps({
            "version": "4", "groupKey": f'{{}}:{{alertname="{name}"}}', "status": "firing", "receiver": "control-plane",
            "alerts": [_alert(name, (number * alerts + position) % different, began) for position in range(alerts)],
        }).encode()
        for number in range(count)
    ]  # fmt: skip


def _alert(name: str, number: int, began: str) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": name, "severity": "critical", "instance": f"10.0.{number // 250}.{number % 250}:8000",
                   "job": "pitchey-backend", "number": str(number)},
        "annotations": {"summary": "More than 5 % of requests fail", "description": "error_rate is 0.07 for 5 minutes"},
        "startsAt": began, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
        "fingerprint": f"{name[0]}{number:015x}",
    }  # fmt: skip


def _write(path: Path, bodies: Sequence[bytes]) -> Path:
    path.write_bytes(pickle.dumps(list(bodies)))
    return path


def _turns(port: int, folder: Path, name: str, size: int) -> dict[str, Any]:
    """Bodies of so many alerts, bare and handled in turns."""
    bodies = _write(folder / name, _bodies(BODIES, size, DIFFERENT_ALERTS, name))
    rates, bare, answers = [], [], []
    for _ in range(TURNS):
        seconds, _ = _senders("insert", BARE, bodies)
        bare.append(BODIES / seconds)
        before = RawAlert.objects.filter(state=RawAlert.State.HANDLED).count()
        began = time.perf_counter()
        _, took = _senders("post", str(port), bodies)
        _wait_until_handled(before + BODIES)
        rates.append(BODIES / (time.perf_counter() - began))
        answers.extend(took)
    kept = Alert.objects.filter(name=name).values_list("count", flat=True)
    assert len(kept) == DIFFERENT_ALERTS
    assert sum(kept) == TURNS * BODIES * size
    answers.sort()
    mean, bare_mean = sum(rates) / TURNS, sum(bare) / TURNS
    return {
        "alerts_per_second": round(mean * size),
        "bodies_per_second": round(mean),
        "bare_inserts_per_second": round(bare_mean),
        "ratio_to_insert": round(mean / bare_mean, 2),
        "p50_ms": round(1000 * answers[len(answers) // 2], 2),
        "p99_ms": round(1000 * answers[len(answers) * 99 // 100], 2),
    }


def _senders(how: str, where: str, bodies: Path) -> tuple[float, list[float]]:
    """All eight at once: the seconds until the last is done, and those of each body."""
    with ExitStack() as stack:
        arguments = (how, where, str(bodies))
        senders = [
            stack.enter_context(_process("tests.benchmarks.alerts_sender", *arguments, str(number)))
            for number in range(SENDERS)
        ]
        assert all(_line(sender) == "ready" for sender in senders)
        began = time.perf_counter()
        for sender in senders:
            _start(sender)
        took = [json.loads(_line(sender)) for sender in senders]
        return time.perf_counter() - began, [seconds for one in took for seconds in one]


def _start(sender: "subprocess.Popen[str]") -> None:
    assert sender.stdin
    sender.stdin.write("go\n")
    sender.stdin.flush()


def _wait_for_clock() -> None:
    deadline = time.monotonic() + PATIENCE
    while last_beat() is None:
        assert time.monotonic() < deadline, "no clock"
        time.sleep(0.05)


def _wait_until_handled(count: int) -> None:
    """Asked by what is not handled yet, of which there is an index: counting would cost what is being measured."""
    deadline = time.monotonic() + PATIENCE
    while RawAlert.objects.filter(state=RawAlert.State.STORED).exists():
        assert time.monotonic() < deadline, "the clock does not handle what is stored"
        time.sleep(0.02)
    assert RawAlert.objects.filter(state=RawAlert.State.HANDLED).count() == count


def _storm(port: int, bodies: Path, cookie: str) -> dict[str, Any]:
    """100,000 alerts of one cause: whom it wakes, and what its incident's page costs."""
    began = time.perf_counter()
    _senders("post", str(port), bodies)
    deadline = time.monotonic() + PATIENCE
    while not Incident.objects.filter(alert_count=STORM).exists():
        assert time.monotonic() < deadline, "the storm is not over"
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    while Incident.objects.exclude(unsaid={}).exists() or not Page.objects.exists():
        assert time.monotonic() < deadline, "the storm is not told, or nobody is paged"
        time.sleep(0.1)
    incident = Incident.objects.get()
    took, size = _look(port, f"/incidents/{incident.pk}", cookie)
    return {
        "storm_alerts": STORM,
        "storm_seconds": round(seconds, 1),
        "storm_incidents": Incident.objects.count(),
        "storm_pages": Page.objects.count(),
        "storm_entries": incident.last_seq,
        "storm_page_ms": took,
        "storm_page_kb": size,
    }


def _look(port: int, path: str, cookie: str) -> tuple[float, float]:
    """The median of the milliseconds of some looks at a page, after a first one, and its kilobytes."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Cookie": cookie})
    took, size = [], 0
    for _ in range(PAGE_LOOKS + 1):
        before = time.perf_counter()
        with urllib.request.urlopen(request, timeout=30) as answer:
            size = len(answer.read())
        took.append(1000 * (time.perf_counter() - before))
    return round(sorted(took[1:])[PAGE_LOOKS // 2], 1), round(size / 1024, 1)
