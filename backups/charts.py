"""Sizes over time and the recoverable window as drawings, made on the server: no script, they print, same for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.models import Backup
from backups.window import Window, merged
from controlplane.web.tones import Tone

WIDTH, HEIGHT = 720.0, 96.0


@dataclass(frozen=True)
class Point:
    """One backup in a chart. x, y: SVG units."""

    backup: Backup
    x: str
    y: str
    tone: Tone


@dataclass(frozen=True)
class SizeChart:
    """The size of a policy's backups over time: SVG path data, and a dot for each."""

    line: str
    points: list[Point]
    top: int  # bytes
    since: datetime
    until: datetime


def size_chart(latest: Sequence[Backup]) -> SizeChart | None:
    """latest: the newest first. None for fewer than two: a dot tells no story."""
    backups = sorted(latest, key=lambda one: (one.as_of, one.pk))
    if len(backups) < 2:
        return None
    since, until = backups[0].as_of, backups[-1].as_of
    span = max(1.0, (until - since).total_seconds())
    top = max(1, round(max(one.size for one in backups) * 1.15))
    points = [
        Point(one, f"{8 + (one.as_of - since).total_seconds() / span * (WIDTH - 16):.1f}",
              f"{HEIGHT - one.size / top * (HEIGHT - 8):.1f}", tone_of(one))
        for one in backups
    ]  # fmt: skip
    line = "M" + "L".join(f"{point.x} {point.y}" for point in points)
    return SizeChart(line, points, top, since, until)


def tone_of(backup: Backup) -> Tone:
    """Whether it restores, as far as is known."""
    if backup.state == Backup.State.DELETED:
        return Tone.IDLE
    if backup.verdict == Backup.Verdict.FAILED or backup.state == Backup.State.DAMAGED:
        return Tone.BAD
    return Tone.OK if backup.verdict == Backup.Verdict.PROVEN else Tone.IDLE


@dataclass(frozen=True)
class Stretch:
    """Recoverable time in a bar. x, width: SVG units."""

    x: str
    width: str
    since: datetime
    until: datetime


@dataclass(frozen=True)
class WindowBar:
    """From the first recoverable moment to now: what lies between two stretches is a gap."""

    stretches: list[Stretch]
    since: datetime
    until: datetime

    @property
    def gaps(self) -> int:
        """How many."""
        return len(self.stretches) - 1


def window_bar(windows: Sequence[Window], now: datetime) -> WindowBar | None:
    """None while nothing is recoverable."""
    stretches = merged(windows)
    if not stretches:
        return None
    since, until = stretches[0][0], max(now, stretches[-1][1])
    span = max(timedelta(seconds=1), until - since)

    def at(moment: datetime) -> float:
        return (moment - since) / span * WIDTH

    drawn = [
        Stretch(f"{at(begin):.1f}", f"{max(2.0, at(end) - at(begin)):.1f}", begin, end) for begin, end in stretches
    ]
    return WindowBar(drawn, since, until)
