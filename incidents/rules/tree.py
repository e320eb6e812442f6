"""A condition as a tree, and back to text: printing and parsing again gives the same tree."""

from collections.abc import Iterator
from dataclasses import dataclass, field

# How tightly each kind of node binds; a part that binds less than its place asks for stands in parentheses.
EITHER, BOTH, NOT, COMPARED, SUM, PRODUCT, ATOM = range(7)


@dataclass(frozen=True)
class Quantity:
    """A number as it is written: 500ms is 500 and "ms". position: of its first character in the text."""

    value: float
    unit: str = ""
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Measured:
    """A metric by its name."""

    name: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Minus:
    """The opposite of a number."""

    inner: "Number"
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Arithmetic:
    """Two numbers made one. sign: + - * /. position: of the sign."""

    sign: str
    left: "Number"
    right: "Number"
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Comparison:
    """Two numbers compared. sign: > >= < <= == !=. position: of the sign."""

    sign: str
    left: "Number"
    right: "Number"
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Not:
    """Holds when the other does not."""

    inner: "Condition"
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Joined:
    """Two conditions made one. word: and, or. position: of the word."""

    word: str
    left: "Condition"
    right: "Condition"
    position: int = field(default=0, compare=False)


Number = Quantity | Measured | Minus | Arithmetic
Condition = Comparison | Not | Joined
Node = Number | Condition


def printed(node: Node) -> str:
    """The text of a tree, with no more parentheses than it needs."""
    match node:
        case Quantity(value, unit):
            return f"{_number(value)}{unit}"
        case Measured(name):
            return name
        case Minus(inner):
            return f"-{_inside(inner, ATOM)}"
        case Arithmetic(sign, left, right):
            # Left to right: only the right part needs more than its own kind.
            own = binding(node)
            return f"{_inside(left, own)} {sign} {_inside(right, own + 1)}"
        case Comparison(sign, left, right):
            return f"{_inside(left, SUM)} {sign} {_inside(right, SUM)}"
        case Not(inner):
            return f"not {_inside(inner, NOT)}"
        case Joined(word, left, right):
            own = binding(node)
            return f"{_inside(left, own)} {word} {_inside(right, own + 1)}"


def binding(node: Node) -> int:
    """How tightly it holds together."""
    match node:
        case Joined(word):
            return EITHER if word == "or" else BOTH
        case Not():
            return NOT
        case Comparison():
            return COMPARED
        case Arithmetic(sign):
            return SUM if sign in "+-" else PRODUCT
        case _:
            return ATOM


def _inside(node: Node, place: int) -> str:
    text = printed(node)
    return text if binding(node) >= place else f"({text})"


def _number(value: float) -> str:
    text = repr(value)
    return text.removesuffix(".0")


def parts(node: Node) -> Iterator[Node]:
    """The node itself and all below it, from left to right."""
    match node:
        case Minus(inner) | Not(inner):
            yield node
            yield from parts(inner)
        case Arithmetic(_, left, right) | Comparison(_, left, right) | Joined(_, left, right):
            yield from parts(left)
            yield node
            yield from parts(right)
        case _:
            yield node


def metrics_of(node: Node) -> list[str]:
    """The names of the metrics in it, each once, in the order of the text."""
    return list(dict.fromkeys(part.name for part in parts(node) if isinstance(part, Measured)))
