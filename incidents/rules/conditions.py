"""Reading conditions, as the guide's alert configuration writes them: error_rate > 0.05, p95_response_time > 500ms.

    condition: either            either: both ("or" both)*           both: opposite ("and" opposite)*
    opposite: "not" opposite | sum SIGN sum | "(" either ")"         SIGN: > >= < <= == !=
    sum: product (("+" | "-") product)*                              product: atom (("*" | "/") atom)*
    atom: NUMBER [UNIT] | METRIC | "-" atom | "(" sum ")"

1. A parser made from the grammar reads the text; what it stumbles over is told by its place and in words.
2. The tree is checked: every metric and unit is known, and times are compared with times, not with shares.
3. Nothing but ConditionError comes out of it, whatever goes in.
"""

from collections.abc import Collection
from difflib import get_close_matches
from functools import lru_cache
from typing import cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from incidents.rules.metrics import METRICS
from incidents.rules.tree import (
    Arithmetic,
    Comparison,
    Condition,
    Joined,
    Measured,
    Minus,
    Node,
    Not,
    Number,
    Quantity,
    metrics_of,
    printed,
)
from incidents.rules.units import UNITS, Dimension

LONGEST = 500
DEEPEST = 100

GRAMMAR = r"""
?start: either
?either: both | either OR both -> joined
?both: opposite | both AND opposite -> joined
?opposite: NOT opposite -> negation | comparison | "(" either ")"
comparison: sum SIGN sum
?sum: product | sum (PLUS | MINUS) product -> arithmetic
?product: atom | product (TIMES | OVER) atom -> arithmetic
?atom: NUMBER [WORD | PERCENT] -> quantity | WORD -> measured | MINUS atom -> minus | "(" sum ")"

AND.2: /and\b/i
OR.2: /or\b/i
NOT.2: /not\b/i
SIGN: ">=" | "<=" | "==" | "!=" | ">" | "<"
PLUS: "+"
MINUS: "-"
TIMES: "*"
OVER: "/"
PERCENT: "%"
NUMBER: /([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE][+-]?[0-9]+)?/
WORD: /[^\W\d]\w*/
%ignore /\s+/
"""

# What people write who come from elsewhere, and what is meant.
INSTEAD = {
    "=": "write == for “equal”, >= or <= for a bound",
    "&": "write “and”",
    "|": "write “or”",
    "!": "write “not”, or != for “not equal”",
    ",": "write 0.05 with a point",
    "≥": "write >=",
    "≤": "write <=",
    "≠": "write !=",
}
SIGNS = "> >= < <= == !="


class ConditionError(ValueError):
    """A condition that cannot be understood. position: of the character, from 0. words: what is wrong, what helps."""

    def __init__(self, text: str, position: int, words: str) -> None:
        super().__init__(f"{words} (at character {position + 1})")
        self.text = text
        self.position = position
        self.words = words

    @property
    def caret(self) -> str:
        """The condition on one line, and a caret below the character."""
        line = "".join(one if one.isprintable() else " " for one in self.text)
        return f"{line}\n{' ' * self.position}^"


@lru_cache(maxsize=1000)
def parse(text: str) -> Condition:
    """The tree of a condition. Raises ConditionError."""
    if not text.strip():
        raise ConditionError(text, 0, "The condition is empty; write one such as error_rate > 0.05.")
    if len(text) > LONGEST:
        raise ConditionError(text, LONGEST, f"The condition has {len(text)} characters; at most {LONGEST} are read.")
    try:
        tree = cast("Condition", _PARSER.parse(text))
    except UnexpectedCharacters as error:
        position = _position(error)
        raise ConditionError(text, position, _character(text[position])) from None
    except UnexpectedToken as error:
        raise _token(text, error) from None
    except UnexpectedInput as error:
        raise ConditionError(text, _position(error), "This cannot be understood.") from None
    _Check(text).condition(tree, 0)
    return tree


def problem_with(text: str) -> str:
    """What is wrong with a condition that is about to be configured, with a caret; "" when nothing is."""
    try:
        parse(text)
    except ConditionError as error:
        return f"cannot be understood at character {error.position + 1}: {error.words}\n{error.caret}\n"
    return ""


# --- The tree, as the parser goes along ---------------------------------------------------------------


class _Build(Transformer[Token, Node]):
    """Called by the parser itself, so that no depth of parentheses ends in recursion."""

    def quantity(self, parts: list[Token]) -> Node:
        number, unit = parts
        return Quantity(float(number), str(unit or ""), number.start_pos or 0)

    def measured(self, parts: list[Token]) -> Node:
        return Measured(str(parts[0]), parts[0].start_pos or 0)

    def minus(self, parts: list[Token]) -> Node:
        return Minus(cast("Number", parts[1]), parts[0].start_pos or 0)

    def arithmetic(self, parts: list[Token]) -> Node:
        left, sign, right = parts
        return Arithmetic(str(sign), cast("Number", left), cast("Number", right), sign.start_pos or 0)

    def comparison(self, parts: list[Token]) -> Node:
        left, sign, right = parts
        return Comparison(str(sign), cast("Number", left), cast("Number", right), sign.start_pos or 0)

    def negation(self, parts: list[Token]) -> Node:
        return Not(cast("Condition", parts[1]), parts[0].start_pos or 0)

    def joined(self, parts: list[Token]) -> Node:
        left, word, right = parts
        return Joined(word.lower(), cast("Condition", left), cast("Condition", right), word.start_pos or 0)


_PARSER = Lark(GRAMMAR, parser="lalr", lexer="basic", maybe_placeholders=True, transformer=_Build())


# --- What the parser stumbles over --------------------------------------------------------------------


def _position(error: UnexpectedInput) -> int:
    return cast("int", error.pos_in_stream)


def _character(found: str) -> str:
    name = f"“{found}”" if found.isprintable() and not found.isspace() else f"The character U+{ord(found):04X}"
    return f"{name} means nothing here; {INSTEAD.get(found, 'conditions are made of metrics, numbers and operators')}."


def _token(text: str, error: UnexpectedToken) -> ConditionError:
    token = error.token
    allowed = error.accepts or set()
    at_end = token.type == "$END"
    position = len(text.rstrip()) if at_end else token.start_pos or 0
    before = "at the end" if at_end else f"before “{token}”"
    if "NUMBER" in allowed:
        words = f"A metric or a number is missing {before}."
    elif token.type == "RPAR":
        words = "This “)” closes nothing."
    elif at_end and "SIGN" in allowed:
        words = f"A comparison is missing at the end: one of {SIGNS}, and what to compare with."
    elif at_end and "RPAR" in allowed:
        words = "A “)” is missing at the end."
    elif token.type == "SIGN":
        words = "A second comparison needs “and” or “or” before it: 0 < a and a < 5."
    elif token.type in ("NUMBER", "WORD", "NOT", "LPAR"):
        wanted = f"{SIGNS} + - * /" if "SIGN" in allowed else "and, or"
        words = f"An operator is missing {before}: one of {wanted}.{_near(str(token), ('and', 'or'))}"
    elif "SIGN" in allowed:
        words = f"A comparison is missing {before}: one of {SIGNS}, and what to compare with."
    else:
        words = f"“{token}” cannot stand here."
    return ConditionError(text, position, words)


# --- What a tree must be ------------------------------------------------------------------------------


class _Check:
    """One walk through a tree; raises ConditionError at the first thing that is wrong with it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def condition(self, node: Condition, depth: int) -> None:
        """All that is below it."""
        self._not_too_deep(node, depth)
        match node:
            case Joined(_, left, right):
                self.condition(left, depth + 1)
                self.condition(right, depth + 1)
            case Not(inner):
                self.condition(inner, depth + 1)
            case Comparison(_, left, right):
                self._comparison(node, self.number(left, depth + 1), self.number(right, depth + 1))

    def _comparison(self, node: Comparison, left: Dimension | None, right: Dimension | None) -> None:
        if left and right and left != right:
            words = f"{printed(node.left)} is {left} and {printed(node.right)} is {right}: they cannot be compared."
            raise self._wrong(node, f"{words}{_such_as(left)}")
        if not metrics_of(node):
            known = ", ".join(METRICS)
            raise self._wrong(node, f"This is always the same, as it names no metric; there are: {known}.")

    def number(self, node: Number, depth: int) -> Dimension | None:
        """What it measures; None for a bare number, which goes with everything."""
        self._not_too_deep(node, depth)
        match node:
            case Quantity():
                return self._quantity(node)
            case Measured(name):
                if name not in METRICS:
                    near = _near(name, METRICS) or f" There are: {', '.join(METRICS)}."
                    raise self._wrong(node, f"There is no metric “{name}”.{near}")
                return METRICS[name].dimension
            case Minus(inner):
                return self.number(inner, depth + 1)
            case Arithmetic(sign, left, right):
                return self._arithmetic(node, sign, self.number(left, depth + 1), self.number(right, depth + 1))

    def _quantity(self, node: Quantity) -> Dimension | None:
        if node.value == float("inf"):
            raise self._wrong(node, "This number is too large.")
        if not node.unit:
            return None
        if node.unit in UNITS:
            return UNITS[node.unit][0]
        position = self.text.index(node.unit, node.position)
        if node.unit in METRICS:
            words = f"An operator is missing before “{node.unit}”: one of {SIGNS} + - * /."
        else:
            near = _near(node.unit, UNITS) or f" There are: {', '.join(UNITS)}."
            words = f"There is no unit “{node.unit}”.{near}"
        raise ConditionError(self.text, position, words)

    def _arithmetic(
        self, node: Arithmetic, sign: str, left: Dimension | None, right: Dimension | None
    ) -> Dimension | None:
        share = Dimension.SHARE
        if sign in "+-" and (left is None or right is None or left == right):
            return left or right
        if sign == "*" and (left in (None, share) or right in (None, share)):
            return next((one for one in (left, right) if one not in (None, share)), left or right)
        if sign == "/" and right in (None, share):
            return left
        if sign == "/" and left == right:
            return share
        first, second = left or "a number", right or "a number"
        verbs = {"+": "and {} cannot be added", "-": "and {} cannot be subtracted", "*": "and {} cannot be multiplied",
                 "/": "cannot be divided by {}"}  # fmt: skip
        raise self._wrong(node, f"{first.capitalize()} {verbs[sign].format(second)}.")

    def _not_too_deep(self, node: Node, depth: int) -> None:
        if depth > DEEPEST:
            raise self._wrong(node, f"The condition has more than {DEEPEST} levels; make it simpler, or two rules.")

    def _wrong(self, node: Node, words: str) -> ConditionError:
        return ConditionError(self.text, node.position, words)


def _such_as(dimension: Dimension) -> str:
    example = {Dimension.SHARE: "5% or 0.05", Dimension.TIME: "500ms or 2s", Dimension.SIZE: "512MB"}.get(dimension)
    return f" Write {example}, say." if example else " Write a bare number."


def _near(word: str, known: Collection[str]) -> str:
    close = [one for one in known if one.lower() == word.lower()] or get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""
