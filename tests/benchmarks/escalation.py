"""How late a page is: 10,000 incidents whose levels fall due within one minute, two clocks, a recording provider.

1. All incidents are open, each with one pending level; every other level names a person, the rest the schedule.
2. Two real clock processes with all their duties page them by PagerDuty; the recording provider stands for it.
3. A look every 50 ms sees which outbox rows are committed; the provider says when each request arrived.

All of it runs on one machine: clocks, PostgreSQL with fsync, the provider and this process.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from datetime import time as dt_time
from pathlib import Path
from typing import Any

from django.conf import settings

from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from controlplane.clock.models import Beat
from controlplane.embedded.processes import free_port
from incidents.models import Channel, Delivery, Incident, Layer, Level, Page, Schedule

INCIDENTS = 10_000
SECONDS = 60.0
CLOCKS = 2
HEAD_START = timedelta(seconds=5)
LOOK_SECONDS = 0.05
# Afterwards, for what is still to come: what has not come by then is lost.
PATIENCE_SECONDS = 120.0
PROVIDER = Path(settings.BASE_DIR) / "controlplane" / "embedded" / "providers.py"


def run() -> dict[str, Any]:
    """The figures of `bin/bench escalation`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _provider(folder) as address, _clocks(folder):
            _world(address)
            _wait_for_clocks()
            due = _incidents(database_time() + HEAD_START)
            seen = _watch(due, folder)
            return _figures(due, seen, _arrivals(folder))


@contextmanager
def _provider(folder: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-I", "-S", str(PROVIDER), "--folder", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@contextmanager
def _clocks(folder: Path) -> Iterator[None]:
    command = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), "clock"]
    with (folder / "clocks.log").open("wb") as log:
        processes = [subprocess.Popen(command, stdout=log, stderr=log) for _ in range(CLOCKS)]
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def _world(address: str) -> None:
    """Ten people, one schedule, and PagerDuty, which is the recording provider."""
    secret = Path(settings.DATA_DIR) / "secrets" / "bench-routing-key"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("a routing key of the benchmark")
    Channel.objects.create(
        kind="pagerduty", settings={"routing_key": "file:bench-routing-key", "url": f"{address}/v2/enqueue"}
    )
    people = [Person.objects.create(username=f"bench-{number}", first_name=f"Bench {number}") for number in range(10)]
    schedule = Schedule.objects.create(slug="primary", name="Primary", time_zone="UTC")
    Layer.objects.create(
        schedule=schedule, position=0, name="all", people=[person.username for person in people],
        starts_on=date(2026, 1, 1), handover=dt_time(9),
    )  # fmt: skip


def _wait_for_clocks() -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while Beat.objects.count() < CLOCKS:
        if time.monotonic() > deadline:
            raise RuntimeError("the clocks do not beat")
        time.sleep(0.1)


def _incidents(begin: datetime) -> dict[int, float]:
    """Open them, their levels due one after the other; returns when each is due, in epoch seconds, by incident."""
    plan = {"slug": "bench", "name": "Bench", "repeats": 0, "repeat_after_seconds": 1800, "levels": []}
    incidents = Incident.objects.bulk_create(
        (
            Incident(title=f"bench {number}", severity="P2", impact="high", urgency="medium", environments=[],
                     opened_by_name="bench", policy=plan)
            for number in range(INCIDENTS)
        ),
        batch_size=1000,
    )  # fmt: skip
    begin = max(begin, database_time() + HEAD_START)
    targets = [{"schedule": "primary"}], [{"person": "bench-1"}]
    levels = [
        Level(incident=incident, number=1, role="On-Call Engineer", targets=targets[number % 2],
              channels=["pagerduty"], due_at=begin + timedelta(seconds=SECONDS * number / INCIDENTS))
        for number, incident in enumerate(incidents)
    ]  # fmt: skip
    Level.objects.bulk_create(levels, batch_size=1000)
    return {level.incident_id: level.due_at.timestamp() for level in levels}


def _watch(due: dict[int, float], folder: Path) -> dict[int, float]:
    """When the outbox row of each incident was first there to be seen; returns once the provider has had all, too."""
    seen: dict[int, float] = {}
    last, deadline = 0, max(due.values()) + PATIENCE_SECONDS
    looks: list[tuple[float, int]] = []
    while time.time() < deadline:
        # Rows become visible in another order than they are numbered: look back a few seconds each time.
        while len(looks) > 1 and looks[1][0] < time.time() - 5:
            looks.pop(0)
        after = looks[0][1] if looks else 0
        rows = list(Delivery.objects.filter(pk__gt=after).values_list("pk", "incident_id"))
        now = time.time()
        for pk, incident_id in rows:
            seen.setdefault(incident_id or 0, now)
            last = max(last, pk)
        looks.append((now, last))
        if len(seen) >= len(due) and (folder / "messages.jsonl").read_bytes().count(b"\n") >= len(due):
            break
        time.sleep(LOOK_SECONDS)
    return seen


def _arrivals(folder: Path) -> dict[int, list[tuple[float, str]]]:
    """By incident: when which key arrived."""
    incident_of = dict(Page.objects.values_list("pk", "incident_id"))
    found: dict[int, list[tuple[float, str]]] = {}
    for line in (folder / "messages.jsonl").read_text().splitlines():
        message = json.loads(line)
        page_id = int(message["key"].split("-")[1])
        found.setdefault(incident_of[page_id], []).append((message["at"], message["key"]))
    return found


def _figures(
    due: dict[int, float], seen: dict[int, float], arrivals: dict[int, list[tuple[float, str]]]
) -> dict[str, Any]:
    keys = {incident: Counter(key for _, key in came) for incident, came in arrivals.items()}
    late = [seen[incident] - at for incident, at in due.items() if incident in seen]
    sent = [min(arrivals[incident])[0] - at for incident, at in due.items() if incident in arrivals]
    return {
        **_late("late", late),
        **_late("sent_late", sent),
        "lost": sum(incident not in arrivals or incident not in seen for incident in due),
        "doubled": sum(len(one) - 1 for one in keys.values()),
        "repeats_of_a_key": sum(sum(one.values()) - len(one) for one in keys.values()),
        "early": sum(seconds < 0 for seconds in late),
        "incidents": len(due),
    }


def _late(name: str, seconds: list[float]) -> dict[str, int]:
    ordered = sorted(seconds) or [0.0]
    marks = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        f"{name}_{mark}_ms": round(ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000)
        for mark, part in marks.items()
    }
