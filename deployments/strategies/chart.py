"""Two sides over time as two lines, drawn on the server: it needs no script, prints, and reads the same for all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from deployments.models import CanarySample
from deployments.strategies.judge import Side, Total
from deployments.strategies.records import interval_of

WIDTH, HEIGHT = 720.0, 120.0
POINTS = 48
# The lines show this many points together, or few requests would look like a saw.
TOGETHER = 4


@dataclass(frozen=True)
class Point:
    """Both sides over some samples that follow each other. at: the time of the last."""

    at: datetime
    canary: Side
    baseline: Side


@dataclass(frozen=True)
class Lines:
    """SVG path data of both sides, and the value at the top."""

    canary: str
    baseline: str
    top: float


@dataclass(frozen=True)
class Chart:
    """failed: shares from 0 to 1. answered: milliseconds; None where nobody says. points: the same as a table."""

    failed: Lines
    answered: Lines | None
    points: Sequence[Point]
    since: datetime
    until: datetime


def chart_of(samples: Sequence[CanarySample]) -> Chart | None:
    """None before there is something to draw. The first sample only says where counting began."""
    points = points_of(samples[1:])
    if not points:
        return None
    since, until = samples[0].at, samples[-1].at
    failed = _lines(points, since, until, _share, least=0.01)
    answered = _lines(points, since, until, lambda side: side.mean_ms, least=1.0)
    return Chart(failed, answered if answered.canary or answered.baseline else None, points, since, until)


def points_of(samples: Sequence[CanarySample]) -> list[Point]:
    """At most `POINTS`: so many samples together that the lines can be read."""
    each = max(1, -(-len(samples) // POINTS))
    return [_point(samples[start : start + each]) for start in range(0, len(samples), each)]


def _point(samples: Sequence[CanarySample]) -> Point:
    canary, baseline = Total(), Total()
    for interval in map(interval_of, samples):
        canary.add(interval.canary)
        baseline.add(interval.baseline)
    return Point(samples[-1].at, canary.side, baseline.side)


def _share(side: Side) -> float | None:
    return side.errors / side.requests if side.requests else None


def _lines(
    points: Sequence[Point], since: datetime, until: datetime, value: Callable[[Side], float | None], *, least: float
) -> Lines:
    """Both on one scale. A side that had no requests for so long that it would be drawn has a gap."""
    sides = [_smooth([point.canary for point in points]), _smooth([point.baseline for point in points])]
    top = max([found for side in sides for one in side if (found := value(one)) is not None] + [least]) * 1.15
    span = (until - since).total_seconds() or 1.0

    def line(side: Sequence[Side]) -> str:
        path: list[str] = []
        empty = TOGETHER
        for point, one in zip(points, side, strict=True):
            found = value(one)
            if found is not None:
                x = (point.at - since).total_seconds() / span * WIDTH
                y = HEIGHT - found / top * HEIGHT
                path.append(f"{'L' if empty < TOGETHER else 'M'}{x:.1f} {y:.1f}{'' if empty < TOGETHER else 'h.1'}")
            empty = empty + 1 if found is None else 0
        return "".join(path)

    return Lines(line(sides[0]), line(sides[1]), top)


def _smooth(sides: Sequence[Side]) -> list[Side]:
    """Each with those right before it; one without requests stays so."""
    smooth = []
    for place, side in enumerate(sides):
        total = Total()
        for one in sides[max(0, place - TOGETHER + 1) : place + 1]:
            total.add(one)
        smooth.append(total.side if side.requests else side)
    return smooth
