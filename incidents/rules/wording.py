"""A condition in words, for people who do not read formulas at night."""

from incidents.rules.evaluation import dimension_of, shown_number
from incidents.rules.metrics import METRICS
from incidents.rules.tree import Arithmetic, Comparison, Condition, Joined, Measured, Minus, Not, Number, Quantity
from incidents.rules.units import Dimension

SIGNS = {
    ">": "is above", ">=": "is at least", "<": "is below", "<=": "is at most", "==": "is exactly", "!=": "is not",
}  # fmt: skip
MATH = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


def in_words(condition: Condition) -> str:
    """ "the share of requests that failed is above 5 %"."""
    match condition:
        case Not(inner):
            return f"it is not so that {_grouped(inner)}"
        case Joined(word, left, right):
            return f"{_grouped(left, word)}, {word} {_grouped(right, word)}"
        case Comparison(sign, left, right):
            dimension = dimension_of(left) or dimension_of(right)
            return f"{_number(left, dimension)} {SIGNS[sign]} {_number(right, dimension)}"


def _grouped(condition: Condition, word: str = "") -> str:
    text = in_words(condition)
    return f"({text})" if isinstance(condition, Joined) and condition.word != word else text


def _number(node: Number, dimension: Dimension | None) -> str:
    match node:
        case Quantity():
            return shown_number(node, dimension)
        case Measured(name):
            return METRICS[name].words
        case Minus(inner):
            return f"minus {_number(inner, dimension)}"
        case Arithmetic(sign, left, right):
            own = None if sign in "*/" else dimension
            return f"{_number(left, own)} {MATH[sign]} {_number(right, own)}"
