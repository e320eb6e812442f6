"""Counts and durations over time as bars, drawn on the server: no script, they print, and read the same for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

WIDTH, HEIGHT = 720.0, 120.0
# Of the room of one column, what its bars take.
FILLED = 0.72


@dataclass(frozen=True)
class Bar:
    """One rectangle. x, y, width, height: SVG units. name: of its series, which is its colour."""

    name: str
    value: float
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True)
class Column:
    """The bars of one moment, and the values of all series for the table."""

    at: datetime
    bars: list[Bar]
    values: list[tuple[str, float | None]]

    @property
    def total(self) -> float:
        """All series together."""
        return sum(value or 0 for _, value in self.values)


@dataclass(frozen=True)
class Bars:
    """A chart of bars over time. top: the value at its upper edge. names: the series that have any."""

    columns: list[Column]
    names: list[str]
    top: float

    @property
    def is_empty(self) -> bool:
        """Nothing to draw."""
        return not any(column.bars for column in self.columns)


def bars_of(
    moments: Sequence[datetime], names: Sequence[str], values: Mapping[Any, float], *, stacked: bool = True
) -> Bars:
    """values: by moment and name. Stacked, the first name is at the foot; otherwise they stand side by side."""
    rows = {at: [(name, values.get((at, name))) for name in names] for at in moments}
    sums = [sum(value or 0 for _, value in row) for row in rows.values()]
    highest = [max((value or 0 for _, value in row), default=0) for row in rows.values()]
    top = max(sums if stacked else highest, default=0) or 1
    room = WIDTH / max(1, len(moments))
    draw = _stacked if stacked else _beside
    columns = [Column(at, draw(row, number * room, room, top), row) for number, (at, row) in enumerate(rows.items())]
    used = {bar.name for column in columns for bar in column.bars}
    return Bars(columns, [name for name in names if name in used], top)


def _stacked(row: list[tuple[str, float | None]], left: float, room: float, top: float) -> list[Bar]:
    bars, foot = [], HEIGHT
    for name, value in row:
        if value:
            height = value / top * (HEIGHT - 4)
            foot -= height
            bars.append(_bar(name, value, left + room * (1 - FILLED) / 2, foot, room * FILLED, height))
    return bars


def _beside(row: list[tuple[str, float | None]], left: float, room: float, top: float) -> list[Bar]:
    known = [(name, value) for name, value in row if value]
    width = room * FILLED / max(1, len(known))
    begin = left + room * (1 - FILLED) / 2
    bars = []
    for number, (name, value) in enumerate(known):
        height = value / top * (HEIGHT - 4)
        bars.append(_bar(name, value, begin + number * width, HEIGHT - height, width, height))
    return bars


def _bar(name: str, value: float, x: float, y: float, width: float, height: float) -> Bar:  # noqa: PLR0917
    return Bar(name, value, f"{x:.1f}", f"{y:.1f}", f"{max(1.0, width):.1f}", f"{max(1.0, height):.1f}")
