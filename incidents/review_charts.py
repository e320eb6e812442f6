"""What the review draws: error rate and answer times, phases and changes as bars, all on one axis of time, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db import connection

from controlplane.web.tones import Tone
from environments.models import Placement
from incidents.changes import Change, Outcome

WIDTH, HEIGHT = 720.0, 84.0
# Room above the highest value.
HEADROOM = 8.0
LANES = 4
BAR, GAP = 9.0, 3.0
# A change that took no time is still to be seen.
NARROWEST = 3.0

PARTS = """
    SELECT placement.environment_id, floor(extract(epoch FROM sample.at - %(since)s) / %(width)s)::int AS part,
        count(*), count(*) FILTER (WHERE NOT sample.healthy),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY sample.latency_ms) FILTER (WHERE sample.latency_ms IS NOT NULL)
    FROM environments_healthsample sample JOIN environments_placement placement ON placement.id = sample.placement_id
    WHERE sample.placement_id = ANY(%(placements)s) AND sample.at >= %(since)s AND sample.at < %(until)s
    GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Axis:
    """From when to when, and where a moment lies on it."""

    since: datetime
    until: datetime

    def x(self, at: datetime) -> float:
        """SVG units, inside of the drawing."""
        share = (at - self.since) / (self.until - self.since)
        return min(max(share, 0.0), 1.0) * WIDTH

    def at(self, share: float) -> datetime:
        """The moment at a share of the whole."""
        return self.since + (self.until - self.since) * share


@dataclass(frozen=True)
class Part:
    """The probes of all instances of an environment in one part of the time. p95: ms, None when nobody answered."""

    at: datetime
    probes: int
    failed: int
    p95: float | None

    @property
    def error_rate(self) -> float:
        """0 to 1."""
        return self.failed / self.probes


@dataclass(frozen=True)
class Curve:
    """One measure over time. line: SVG path. top: the value at the upper edge. worst: the highest there was."""

    line: str
    top: float
    worst: float


@dataclass(frozen=True)
class Bar:
    """One rectangle of time. x, y, width, end (its right edge): SVG units."""

    tone: Tone
    title: str
    url: str
    x: str
    y: str
    width: str
    end: str


@dataclass(frozen=True)
class Bars:
    """Bars in as many lanes as they need."""

    bars: list[Bar]
    height: float


@dataclass(frozen=True)
class Measured:
    """One environment: what its probes heard."""

    name: str
    parts: list[Part]
    errors: Curve
    latency: Curve


def parts_of(placements: Sequence[Placement], axis: Axis, count: int) -> dict[int, list[Part]]:
    """By environment: the probes in `count` equal parts of the time, in one query; parts without any are left out."""
    width = (axis.until - axis.since) / count
    values: dict[str, Any] = {
        "since": axis.since, "until": axis.until, "width": width.total_seconds(),
        "placements": [one.pk for one in placements],
    }  # fmt: skip
    found: dict[int, list[Part]] = {}
    with connection.cursor() as cursor:
        cursor.execute(PARTS, values)
        for environment, part, probes, failed, p95 in cursor.fetchall():
            found.setdefault(environment, []).append(Part(axis.since + part * width, probes, failed, p95))
    return found


def measured(name: str, parts: list[Part], axis: Axis, count: int) -> Measured:
    """Both curves of an environment. Error rates are drawn up to 6 % at least: the guide's bound is in view."""
    width = (axis.until - axis.since) / count
    rates = _curve([(one.at, one.error_rate) for one in parts], axis, width, least=0.06)
    latency = _curve([(one.at, one.p95) for one in parts], axis, width, least=1.0)
    return Measured(name, parts, rates, latency)


def _curve(values: Sequence[tuple[datetime, float | None]], axis: Axis, width: timedelta, *, least: float) -> Curve:
    """A part without a value breaks the line."""
    known = [value for _, value in values if value is not None]
    worst = max(known, default=0.0)
    top = max(worst * 1.1, least)
    line, last = [], None
    for at, value in values:
        if value is None:
            last = None
            continue
        y = HEIGHT - value / top * (HEIGHT - HEADROOM)
        joined = last is not None and at - last < width * 1.5
        line.append(f"{'L' if joined else 'M'}{axis.x(at + width / 2):.1f} {y:.1f}{'' if joined else 'h.1'}")
        last = at
    return Curve("".join(line), top, worst)


def change_bars(changes: Sequence[Change], axis: Axis) -> Bars:
    """From the start of each to its end; what overlaps goes into another lane, while there are any."""
    free = [float("-inf")] * LANES
    bars, lanes = [], 1
    for one in sorted(changes, key=lambda change: (change.began_at, change.key)):
        begin = axis.x(one.began_at)
        width = max(axis.x(one.ended_at or axis.until) - begin, NARROWEST)
        lane = next((number for number, edge in enumerate(free) if edge <= begin), LANES - 1)
        free[lane], lanes = begin + width + 1, max(lanes, lane + 1)
        title = f"{one.title}{f', {one.word}' if one.word else ''}"
        bars.append(Bar(_tone(one), title, one.url, f"{begin:.1f}", f"{lane * (BAR + GAP):.0f}", f"{width:.1f}",
                        f"{axis.x(one.ended_at or axis.until):.1f}"))  # fmt: skip
    return Bars(bars, lanes * (BAR + GAP) - GAP)


def _tone(change: Change) -> Tone:
    return {
        Outcome.DONE: Tone.OK, Outcome.RUNNING: Tone.BUSY, Outcome.HALF_WAY: Tone.BAD, Outcome.PUT_BACK: Tone.WAIT,
    }[change.outcome]  # fmt: skip


def phase_bars(moments: Sequence[tuple[str, datetime]], end: datetime, axis: Axis) -> list[Bar]:
    """One beside the other, each until the next one begins and the last one until `end`."""
    edges = [(name, axis.x(min(at, end))) for name, at in [*moments, ("", end)]]
    return [
        Bar(Tone.IDLE, name, "", f"{begin:.1f}", "0", f"{max(edge - begin, 0.0):.1f}", f"{edge:.1f}")
        for (name, begin), (_, edge) in pairwise(edges)
    ]
