"""How the demo's customers are doing: orders per second by site, what failed, and whether acknowledged ones are there.

Read from what the clients program remembers (`controlplane/embedded/clients.py`), so that a failover is judged by
those who buy and not by those who carry it out. Drawn on the server, as all charts.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.utils import timezone

from backups.disaster.panels import Panel
from backups.models import RecoveryPlan
from backups.programs import Server
from controlplane.operations.errors import StepError

TEMPLATE = "backups/disaster/_pulse.html"
WIDTH, HEIGHT = 720.0, 96.0
SPAN = timedelta(minutes=10)
BUCKETS = 120
LATELY = 30  # seconds
ROWS = 12  # of the table: the last minute
TAIL_BYTES = 600_000  # more than a line a second for an hour
MOST_MISSING = 20
# Where the customers were when they ordered; the first is drawn first, from the ground up.
KNOWN_SITES = ("production", "dr")


@dataclass(frozen=True)
class Second:
    """One second of the customers. ok, failed: orders by site; "" is none. words: why the last one failed."""

    at: int
    ok: dict[str, int]
    failed: dict[str, int]
    words: str


@dataclass
class Bucket:
    """Some seconds together. seconds: how many of them were recorded; 0 where nobody was there to order."""

    at: datetime
    seconds: int = 0
    ok: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    def rate(self, count: int) -> float:
        """Orders a second."""
        return count / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Series:
    """One site in the chart. path: SVG path data of its bars; orders: acknowledged in the whole span."""

    site: str
    path: str
    orders: int


@dataclass(frozen=True)
class Row:
    """A bucket in numbers. counts: orders by site, in the order of the chart's series."""

    at: datetime
    counts: list[int]
    failed: int


@dataclass(frozen=True)
class Pulse:
    """The chart. failures: SVG path data of the bars of failed orders, above all others. top: orders a second.

    site: where the customers are now, "" for nowhere. words: why the last failed order did, "" for none lately.
    longest_gap: seconds in a row in which customers wanted to order and none could.
    """

    series: list[Series]
    failures: str
    failed: int
    top: float
    since: datetime
    until: datetime
    site: str
    words: str
    longest_gap: int
    buckets: Sequence[Bucket]

    @property
    def label(self) -> str:
        """The chart in words."""
        parts = [f"{one.orders} orders at {one.site}" for one in self.series if one.orders]
        return ", ".join([*parts, f"{self.failed} failed"])

    @property
    def table(self) -> list[Row]:
        """The last minute in which anybody was there to order, the newest first."""
        there = [bucket for bucket in reversed(self.buckets) if bucket.seconds][:ROWS]
        return [Row(one.at, [one.ok[series.site] for series in self.series], one.failed) for one in there]


def pulse(until: datetime | None = None, span: timedelta = SPAN) -> Pulse | None:
    """Of the last minutes. None where no customers ever were: outside the demo. Files alone, no network."""
    end = until or timezone.now()
    end = end.replace(microsecond=0)
    begin = end - span
    if not (_folder() / "seconds.jsonl").exists():
        return None
    seconds = [one for one in seconds_since(begin) if one.at < end.timestamp()]
    return _drawn(seconds, begin, end)


@dataclass(frozen=True)
class PlanPulse:
    """What the partial shows: the customers of a plan's name."""

    plan: RecoveryPlan
    pulse: Pulse


def pulse_of(plan: RecoveryPlan) -> PlanPulse | None:
    """The customers of a plan whose people go by the local name switch; None for any other."""
    drawn = pulse() if plan.traffic.get("kind") == "local" else None
    return None if drawn is None else PlanPulse(plan, drawn)


def panel(plan: RecoveryPlan) -> Panel | None:
    """The same for the recovery pages."""
    found = pulse_of(plan)
    return None if found is None else Panel(TEMPLATE, found)


def seconds_since(since: datetime) -> list[Second]:
    """What was recorded from then on, the oldest first."""
    found = [_second(line) for line in _tail("seconds")]
    return [one for one in found if one is not None and one.at >= since.timestamp()]


def _second(line: dict[str, Any]) -> Second | None:
    try:
        return Second(int(line["at"]), dict(line["ok"]), dict(line["failed"]), str(line["words"]))
    except (KeyError, TypeError, ValueError):
        return None


def _buckets(seconds: Sequence[Second], since: datetime, until: datetime) -> list[Bucket]:
    width = (until - since) / BUCKETS
    buckets = [Bucket(since + number * width) for number in range(BUCKETS)]
    for one in seconds:
        bucket = buckets[min(BUCKETS - 1, int((one.at - since.timestamp()) / width.total_seconds()))]
        bucket.seconds += 1
        bucket.ok.update(one.ok)
        bucket.failed += sum(one.failed.values())
    return buckets


def _longest_gap(seconds: Sequence[Second]) -> int:
    longest = run = 0
    for one in seconds:
        run = run + 1 if one.failed and not one.ok else 0
        longest = max(longest, run)
    return longest


def _drawn(seconds: Sequence[Second], since: datetime, until: datetime) -> Pulse:
    buckets = _buckets(seconds, since, until)
    last = seconds[-1].ok if seconds else {}
    site = max(last, key=last.__getitem__) if last else ""
    words = next((one.words for one in reversed(seconds[-LATELY:]) if one.words), "")
    named = {name for bucket in buckets for name in bucket.ok}
    sites = [*(name for name in KNOWN_SITES if name in named), *sorted(named - set(KNOWN_SITES))]
    top = max((bucket.rate(bucket.ok.total() + bucket.failed) for bucket in buckets), default=0.0) * 1.15 or 1.0
    ground = [0.0] * len(buckets)
    series = []
    for name in sites:
        path = _bars(buckets, [bucket.rate(bucket.ok[name]) for bucket in buckets], ground, top)
        series.append(Series(name, path, sum(bucket.ok[name] for bucket in buckets)))
    failures = _bars(buckets, [bucket.rate(bucket.failed) for bucket in buckets], ground, top)
    failed = sum(bucket.failed for bucket in buckets)
    return Pulse(series, failures, failed, top, since, until, site, words, _longest_gap(seconds), buckets)


def _bars(buckets: Sequence[Bucket], rates: Sequence[float], ground: list[float], top: float) -> str:
    """Bars that stand on what was drawn before; raises the ground by them."""
    width, path = WIDTH / len(buckets), []
    for number, rate in enumerate(rates):
        if rate:
            low, high = (HEIGHT - value / top * (HEIGHT - 8) for value in (ground[number], ground[number] + rate))
            path.append(f"M{number * width:.1f} {low:.1f}V{high:.1f}h{width:.1f}V{low:.1f}z")
            ground[number] += rate
    return "".join(path)


@dataclass(frozen=True)
class Account:
    """Acknowledged orders against the rows of a database. missing: ids of those that are not there, not all of them.

    strangers: rows of that time that no customer was told of: their connection was lost in between, which is no loss.
    newest: of the rows.
    """

    acknowledged: int
    found: int
    missing: list[str]
    strangers: int
    newest: datetime | None

    @property
    def lost(self) -> int:
        """Orders that somebody was told were safe, and are not there."""
        return self.acknowledged - self.found


def account(reference: str, *, until: datetime | None = None) -> Account:
    """Look for every remembered order in the database behind a secret reference. Network; raises StepError.

    until: only orders that were acknowledged before; what happened after a restore point is not in it.
    """
    orders = acknowledged_orders(until)
    ids = list(orders)
    since = datetime.fromtimestamp(min(orders.values()), UTC) if orders else timezone.now()
    server = Server.at(reference)
    try:
        with server.connect(options="-c statement_timeout=20000") as connection:
            row = connection.execute(
                "SELECT count(*) FILTER (WHERE wanted.id IS NOT NULL), count(*), max(orders.at)"
                " FROM orders LEFT JOIN unnest(%s::uuid[]) AS wanted (id) USING (id) WHERE at >= %s",
                [ids, since - timedelta(seconds=60)],
            ).fetchone()
            gone = connection.execute(
                "SELECT id::text FROM unnest(%s::uuid[]) AS wanted (id)"
                " WHERE NOT EXISTS (SELECT FROM orders WHERE orders.id = wanted.id) LIMIT %s",
                [ids, MOST_MISSING],
            ).fetchall()
    except psycopg.Error as error:
        raise StepError(f"The orders in {server} cannot be counted: {' '.join(str(error).split())}") from None
    found, rows, newest = row or (0, 0, None)
    return Account(len(ids), int(found), [one for (one,) in gone], int(rows) - int(found), newest)


def acknowledged_orders(until: datetime | None = None) -> dict[str, float]:
    """What customers remember: seconds since 1970 by id, as far back as the files go."""
    end = until.timestamp() if until else None
    found = {}
    for line in _lines("orders"):
        if isinstance(line.get("id"), str) and isinstance(line.get("at"), float | int):
            found[line["id"]] = float(line["at"])
    return {order: at for order, at in found.items() if end is None or at < end}


def _folder() -> Path:
    return Path(settings.DATA_DIR) / "clients"


def _lines(name: str) -> Iterator[dict[str, Any]]:
    """Both files, the older one first."""
    for path in (_folder() / f"{name}.1.jsonl", _folder() / f"{name}.jsonl"):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        yield from _parsed(content)


def _tail(name: str) -> Iterator[dict[str, Any]]:
    """The last lines of both files: enough for an hour."""
    for path in (_folder() / f"{name}.1.jsonl", _folder() / f"{name}.jsonl"):
        try:
            with path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                content = file.read()
        except FileNotFoundError:
            continue
        yield from _parsed(content)


def _parsed(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # the first line of a tail, cut in half
        if isinstance(found, dict):
            yield found
