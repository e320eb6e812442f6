"""What a log costs: one operation's lines through the whole path, against raw COPY of the same batches.

And what a long log costs the reader: the operation's page at 100,000 lines against 100.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.operations import transitions
from controlplane.operations.claims import claim
from controlplane.operations.events import LogWriter
from controlplane.operations.models import Operation
from tests.operations import recipes

LINES = 100_000
BATCH = LogWriter.FULL  # what the writer itself makes of lines that come faster than it flushes
SECRETS = [f"secret-number-{n}-of-the-environment" for n in range(10)]
TEXT = "host-2: GET /health answered 200 in 12 ms, worker {0} of the pool, request {0:08x}"


def run() -> dict[str, Any]:
    """The figures of `bin/bench log`."""
    recipes.register()
    recipes.reset().plan = recipes.empty_plan(1)
    person = Person.objects.create(username="bench")
    Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
    lines = [TEXT.format(n) for n in range(LINES)]
    long, short = _operation(person, "long"), _operation(person, "short")
    ours = raw = 0.0
    part = LINES // 5
    for start in range(0, LINES, part):
        ours += _write(long, lines[start : start + part])
        raw += _copy(start, lines[start : start + part])
    _write(short, lines[:100])
    client = Client(SERVER_NAME="localhost")
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    pages = _page_ratio(client, long.operation_id, short.operation_id)
    return {
        "lines_per_s": round(LINES / ours),
        "raw_lines_per_s": round(LINES / raw),
        "ratio": round(raw / ours, 2),
        **pages,
    }


def _operation(person: Person, scope: str) -> LogWriter:
    operation = transitions.request(
        Actor(person), kind="sample", title=scope, scopes=[scope], plan=recipes.world.plan, gates=[],
        reason="bench", approvals_required=0,
    )  # fmt: skip
    claimed = claim(operation.pk, "bench")
    assert claimed
    return LogWriter(operation.pk, claimed.fence, SECRETS)


def _write(log: LogWriter, lines: list[str]) -> float:
    began = time.perf_counter()
    for line in lines:
        log.line(line, step="s0")
    log.flush()
    return time.perf_counter() - began


def _copy(before: int, lines: list[str]) -> float:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS raw_event"
            " (operation bigint, seq bigint, at timestamptz, kind text, step text, text text,"
            " PRIMARY KEY (operation, seq))"
        )
        began = time.perf_counter()
        for start in range(0, len(lines), BATCH):
            with transaction.atomic(), cursor.copy("COPY raw_event FROM STDIN") as copy:
                for number, line in enumerate(lines[start : start + BATCH], start=before + start):
                    copy.write_row((1, number, "2026-01-01 00:00:00+00", "line", "s0", line))
        return time.perf_counter() - began


def _page_ratio(client: Client, long: int, short: int) -> dict[str, Any]:
    def page(operation: int) -> Callable[[], bytes]:
        def get() -> bytes:
            answer = client.get(Operation(pk=operation).get_absolute_url())
            assert answer.status_code == 200, answer.status_code
            return answer.content

        return get

    return {"page_ratio": ratio(page(long), page(short), rounds=15), "page_bytes": len(page(long)())}


def ratio(one: Callable[[], object], other: Callable[[], object], rounds: int) -> float:
    """Median time of one to median time of the other, taken in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 2):
        for which, call in enumerate((one, other)):
            began = time.perf_counter()
            call()
            if number >= 2:  # the first two warm the caches
                times[which].append(time.perf_counter() - began)
    return round(statistics.median(times[0]) / statistics.median(times[1]), 2)
