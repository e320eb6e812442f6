"""A failover against its promise, and drills over time, as drawings made on the server: no script, and they print."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backups.disaster.overview import took
from backups.models import Recovery
from controlplane.operations.states import State
from controlplane.web.tones import Tone

WIDTH, HEIGHT = 720.0, 120.0


@dataclass(frozen=True)
class Mark:
    """A moment on the bar. x: SVG units."""

    x: str
    title: str


@dataclass(frozen=True)
class RtoBar:
    """Time that has passed against the time that was promised. promise: where that ends; x and widths: SVG units.

    seconds, promised, predicted: the numbers behind it; predicted None where nobody knows.
    """

    seconds: float
    promised: float
    predicted: float | None
    passed: str
    promise: str
    marks: list[Mark]
    tone: Tone

    @property
    def is_over(self) -> bool:
        """The promise is broken."""
        return self.seconds > self.promised


def rto_bar(seconds: float, promised: float, ends: Sequence[tuple[str, float]], *, over: bool = False) -> RtoBar:
    """ends: when each phase is predicted to end, in seconds since the same moment. over: nothing moves any more."""
    predicted = max((end for _, end in ends), default=None)
    top = max(1.0, promised, seconds, predicted or 0.0)

    def x(value: float) -> str:
        return f"{value / top * WIDTH:.1f}"

    tone = Tone.BAD if seconds > promised else Tone.WAIT if (predicted or 0.0) > promised else Tone.BUSY
    if over and tone == Tone.BUSY:
        tone = Tone.OK
    marks = [Mark(x(end), title) for title, end in ends]
    return RtoBar(seconds, promised, predicted, x(seconds), x(promised), marks, tone)


@dataclass(frozen=True)
class Point:
    """One drill in the chart. x, y: SVG units; predicted, seconds: in seconds, None where nobody knows."""

    recovery: Recovery
    x: str
    y: str
    tone: Tone
    predicted: float | None
    seconds: float


@dataclass(frozen=True)
class Trend:
    """What drills took against what was predicted, as SVG path data. top: seconds. promise: its y, "" off the top."""

    real: str
    predicted: str
    promise: str
    points: list[Point]
    top: float
    since: datetime
    until: datetime


def trend(recoveries: Sequence[Recovery]) -> Trend | None:
    """In any order. None for fewer than two that came to an end: a dot tells no story."""
    known = [(one, seconds) for one in recoveries if (seconds := took(one)) is not None]
    known.sort(key=lambda pair: (pair[0].operation.requested_at, pair[0].operation_id))
    if len(known) < 2:
        return None
    since, until = known[0][0].operation.requested_at, known[-1][0].operation.requested_at
    span = max(1.0, (until - since).total_seconds())
    promised = float(known[-1][0].plan.rto_seconds)
    highest = max(max(seconds, one.predicted.get("seconds") or 0.0) for one, seconds in known)
    # The promise is in the picture while it is near; far above everything it would press the rest flat.
    top = max(1.0, max(highest, promised if promised <= 3 * highest else 0.0) * 1.1)

    def x(one: Recovery) -> str:
        return f"{8 + (one.operation.requested_at - since).total_seconds() / span * (WIDTH - 16):.1f}"

    def y(seconds: float) -> str:
        return f"{HEIGHT - seconds / top * (HEIGHT - 8):.1f}"

    points = [
        Point(one, x(one), y(seconds), Tone.OK if one.operation.state == State.SUCCEEDED else Tone.BAD,
              one.predicted.get("seconds"), seconds)
        for one, seconds in known
    ]  # fmt: skip
    real = "M" + "L".join(f"{point.x} {point.y}" for point in points)
    foretold = [f"{point.x} {y(point.predicted)}" for point in points if point.predicted is not None]
    return Trend(
        real, "M" + "L".join(foretold) if len(foretold) > 1 else "", y(promised) if promised <= top else "", points,
        top, since, until,
    )  # fmt: skip
