"""The health of one service over time as a drawing: latency as a line, failures as ticks, deployments as marks.

Drawn on the server: it needs no script, prints, and reads the same for everybody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from environments.samples import Bucket

WIDTH, HEIGHT = 720.0, 96.0


@dataclass(frozen=True)
class Mark:
    """A deployment, at its place on the time axis. x: SVG units."""

    x: str
    title: str


@dataclass(frozen=True)
class Chart:
    """SVG path data of a latency line, and the x of every bucket in which a probe failed."""

    line: str
    failures: list[str]
    marks: list[Mark]
    top_ms: float
    since: datetime
    until: datetime
    buckets: Sequence[Bucket]


def chart_of(
    buckets: Sequence[Bucket], since: datetime, until: datetime, deployments: Sequence[tuple[datetime, str]]
) -> Chart:
    """Draw buckets of equal width between two times; a gap in the probes is a gap in the line."""
    span = (until - since).total_seconds()

    def x(at: datetime) -> float:
        return (at - since).total_seconds() / span * WIDTH

    width = buckets[1].at - buckets[0].at if len(buckets) > 1 else timedelta(0)
    top = max((bucket.latency_ms for bucket in buckets if bucket.latency_ms is not None), default=0.0) * 1.15 or 1.0
    line, pen_down = [], False
    for bucket in buckets:
        if bucket.latency_ms is not None:
            y = HEIGHT - bucket.latency_ms / top * (HEIGHT - 8)
            line.append(f"{'L' if pen_down else 'M'}{x(bucket.at + width / 2):.1f} {y:.1f}{'' if pen_down else 'h.1'}")
        pen_down = bucket.latency_ms is not None
    failures = [f"{x(bucket.at + width / 2):.1f}" for bucket in buckets if bucket.failed]
    marks = [Mark(f"{x(at):.1f}", title) for at, title in deployments if since <= at <= until]
    return Chart("".join(line), failures, marks, top, since, until, buckets)
