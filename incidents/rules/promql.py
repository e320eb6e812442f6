"""Conditions in the language of Prometheus: a series for each environment in which the condition holds."""

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
)
from incidents.rules.units import UNITS

OPPOSITE = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}


def expression(condition: Condition, where: str = "") -> str:
    """The whole condition. where: matchers of labels that each series must carry."""
    return _condition(condition, where, negated=False)


def _condition(condition: Condition, where: str, *, negated: bool) -> str:
    """PromQL has no “not”: it is brought down to the comparisons."""
    match condition:
        case Not(inner):
            return _condition(inner, where, negated=not negated)
        case Joined(word, left, right):
            joint = {"and": "or", "or": "and"}[word] if negated else word
            first, second = (_condition(side, where, negated=negated) for side in (left, right))
            return f"({first}) {joint} ({second})"
        case Comparison(sign, left, right):
            turned = OPPOSITE[sign] if negated else sign
            return f"{_number(left, where)} {turned} {_number(right, where)}"


def _number(node: Number, where: str) -> str:
    match node:
        case Quantity(value, unit):
            return repr(value * UNITS[unit][1] if unit else value).removesuffix(".0")
        case Measured(name):
            return f"({METRICS[name].query(where)})"
        case Minus(inner):
            return f"(-{_number(inner, where)})"
        case Arithmetic(sign, left, right):
            return f"({_number(left, where)} {sign} {_number(right, where)})"


def absence(condition: Condition, environment: str) -> str:
    """Holds where a metric of the condition has no value in an environment; one that is no number counts as none."""
    where = f'environment="{environment}"'
    return " or ".join(f"absent(({METRICS[name].query(where)}) >= -Inf)" for name in metrics_of(condition))
