"""What numbers in conditions measure, and the units they may be written in."""

import math
from enum import StrEnum


class Dimension(StrEnum):
    """What a number is a number of, in words for messages."""

    TIME = "a time"
    SHARE = "a share"
    SIZE = "a size"
    COUNT = "a count"


# unit → what it measures, and how much of the dimension's own unit (ms, 1, bytes) one of it is.
UNITS: dict[str, tuple[Dimension, float]] = {
    "ms": (Dimension.TIME, 1.0),
    "s": (Dimension.TIME, 1000.0),
    "m": (Dimension.TIME, 60_000.0),
    "h": (Dimension.TIME, 3_600_000.0),
    "d": (Dimension.TIME, 86_400_000.0),
    "%": (Dimension.SHARE, 0.01),
    "B": (Dimension.SIZE, 1.0),
    "kB": (Dimension.SIZE, 1e3),
    "MB": (Dimension.SIZE, 1e6),
    "GB": (Dimension.SIZE, 1e9),
    "TB": (Dimension.SIZE, 1e12),
    "KiB": (Dimension.SIZE, 2.0**10),
    "MiB": (Dimension.SIZE, 2.0**20),
    "GiB": (Dimension.SIZE, 2.0**30),
    "TiB": (Dimension.SIZE, 2.0**40),
}
NO_BREAK = "\N{NO-BREAK SPACE}"


def shown(value: float, dimension: Dimension | None) -> str:
    """A value for people: 12.5 %, 840 ms, 1.2 s, 3, 1.5 GB."""
    if dimension is Dimension.SHARE:
        return f"{_short(value * 100)}{NO_BREAK}%"
    if dimension is Dimension.TIME:
        for unit in ("d", "h", "m", "s"):
            if abs(value) >= UNITS[unit][1]:
                return f"{_short(value / UNITS[unit][1])}{NO_BREAK}{unit}"
        return f"{_short(value)}{NO_BREAK}ms"
    if dimension is Dimension.SIZE:
        for unit in ("TB", "GB", "MB", "kB"):
            if abs(value) >= UNITS[unit][1]:
                return f"{_short(value / UNITS[unit][1])}{NO_BREAK}{unit}"
        return f"{_short(value)}{NO_BREAK}B"
    return _short(value)


def _short(value: float) -> str:
    """Three digits that count, and no exponent where people do without."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == round(value) and abs(value) < 1e9:
        return str(round(value))
    return f"{value:.3g}" if abs(value) < 1000 or abs(value) >= 1e9 else str(round(value))
