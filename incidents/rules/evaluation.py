"""What a condition says of an environment, given what its metrics are. What is missing is never taken for fine."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from incidents.rules.metrics import METRICS
from incidents.rules.tree import (
    Arithmetic,
    Comparison,
    Condition,
    Joined,
    Measured,
    Minus,
    Not,
    Number,
    Quantity,
    metrics_of,
    parts,
    printed,
)
from incidents.rules.units import UNITS, Dimension, shown


@dataclass(frozen=True)
class Reading:
    """One metric of one environment now, in its dimension's own unit. value None: nobody knows; words: why."""

    value: float | None
    words: str = ""


UNASKED = Reading(None, "was not asked for")
Readings = Mapping[str, Reading]


@dataclass(frozen=True)
class Finding:
    """holds None: data are missing. value: of the comparison that a person would look at. words: for people."""

    holds: bool | None
    value: float | None
    words: str


SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
# What is divided by zero is no number, and that is missing data: no share of nothing is fine, and none is too high.
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
    "/": lambda left, right: left / right if right else math.nan,
}  # fmt: skip


def find(condition: Condition, readings: Readings) -> Finding:
    """Look at it.

    It holds when what is known is enough for that. When it does not hold, everything must be known: a metric that
    is missing makes the whole missing.
    """
    compared = _looked_at(condition, readings)
    value = number_of(_side(compared)[0], readings)
    known = None if math.isnan(value) or math.isinf(value) else value
    holds = _holds(condition, readings)
    missing = _missing(condition, readings)
    if holds:
        return Finding(True, known, _said(compared, readings))
    if missing or holds is None:
        return Finding(None, known, "; ".join(missing) or f"{printed(compared)}: divides by zero")
    return Finding(False, known, _said(compared, readings))


def number_of(node: Number, readings: Readings) -> float:
    """Its value; nan when it is not known."""
    match node:
        case Quantity(value, unit):
            return value * UNITS[unit][1] if unit else value
        case Measured(name):
            value_of = readings.get(name, UNASKED).value
            return math.nan if value_of is None else value_of
        case Minus(inner):
            return -number_of(inner, readings)
        case Arithmetic(sign, left, right):
            return ARITHMETIC[sign](number_of(left, readings), number_of(right, readings))


def bound_of(condition: Condition) -> str:
    """What its first comparison compares with, for people: 5 %."""
    compared = next(part for part in parts(condition) if isinstance(part, Comparison))
    return shown_number(_side(compared)[1], dimension_of(_side(compared)[0]))


def shown_number(node: Number, dimension: Dimension | None) -> str:
    """A number as a value where it is one; as text where metrics are in it."""
    return printed(node) if metrics_of(node) else shown(number_of(node, {}), dimension_of(node) or dimension)


def dimension_of(node: Number) -> Dimension | None:
    """What a number of a checked condition measures."""
    match node:
        case Quantity(_, unit):
            return UNITS[unit][0] if unit else None
        case Measured(name):
            return METRICS[name].dimension
        case Minus(inner):
            return dimension_of(inner)
        case Arithmetic(sign, left, right):
            first, second = dimension_of(left), dimension_of(right)
            if sign == "/":
                return Dimension.SHARE if first and first == second else first
            if sign == "*" and first is Dimension.SHARE and second:
                return second
            return first or second


def _holds(condition: Condition, readings: Readings) -> bool | None:
    match condition:
        case Not(inner):
            inside = _holds(inner, readings)
            return None if inside is None else not inside
        case Comparison(sign, left, right):
            first, second = number_of(left, readings), number_of(right, readings)
            return None if math.isnan(first) or math.isnan(second) else SIGNS[sign](first, second)
        case Joined(word, one, other):
            sides = {_holds(one, readings), _holds(other, readings)}
            decisive = word == "or"
            if decisive in sides:
                return decisive
            return None if None in sides else not decisive


def _looked_at(condition: Condition, readings: Readings) -> Comparison:
    """The first comparison that holds, or else the first one."""
    compared = [part for part in parts(condition) if isinstance(part, Comparison)]
    return next((one for one in compared if _holds(one, readings)), compared[0])


def _side(compared: Comparison) -> tuple[Number, Number]:
    """What is measured, and what it is compared with: 0.05 < error_rate is read from the right."""
    left, right = compared.left, compared.right
    return (left, right) if metrics_of(left) else (right, left)


def _missing(condition: Condition, readings: Readings) -> list[str]:
    wanted = {name: readings.get(name, UNASKED) for name in metrics_of(condition)}
    return [f"{name}: {one.words}" for name, one in wanted.items() if one.value is None]


def _said(compared: Comparison, readings: Readings) -> str:
    measured, bound = _side(compared)
    dimension = dimension_of(measured)
    value = number_of(measured, readings)
    now = shown(value, dimension) if math.isfinite(value) else "not known"
    return f"{printed(measured)} is {now}, the bound is {shown_number(bound, dimension)}"
