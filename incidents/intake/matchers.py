"""Matchers, as Alertmanager has them: alertname="HighErrorRate", environment=~"prod.*". All of them have to hold.

A regular expression has to fit the whole value. One that could take for ever on a long value is refused when it is
written down, since the clock tries it on every alert: a repetition of groups, more than three repetitions in one.
"""

import re
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as sre_parser  # type: ignore[import-not-found]
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

Matcher = Mapping[str, str]  # label, op, value

OPERATORS = ("=~", "!~", "!=", "=")
AT_MOST = 20
LONGEST = 300
REPETITIONS_AT_MOST = 3
_ONE = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")\s*')
_SLOW = (sre.GROUPREF, sre.GROUPREF_EXISTS, sre.ASSERT, sre.ASSERT_NOT)
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_SINGLE = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN)


class BadMatchers(ValueError):
    """What is wrong with matchers, in words that point at the place."""


def parse(text: str) -> list[dict[str, str]]:
    """Matchers from what a person wrote, with commas between them. Raises BadMatchers."""
    found: list[dict[str, str]] = []
    at = 0
    text = text.strip()
    while at < len(text):
        one = _ONE.match(text, at)
        if one is None:
            raise BadMatchers(f'At character {at + 1}: write label="value", as in alertname="HighErrorRate".')
        label, op, quoted = one.groups()
        found.append({"label": label, "op": op, "value": re.sub(r"\\(.)", r"\1", quoted[1:-1])
                      if op in ("=", "!=") else quoted[1:-1].replace('\\"', '"')})  # fmt: skip
        at = one.end()
        if at < len(text):
            if text[at] != ",":
                raise BadMatchers(f"At character {at + 1}: a comma goes between two matchers.")
            at += 1
            if not text[at:].strip():
                raise BadMatchers(f"At character {at}: nothing follows the comma.")
    if words := problem_with(found):
        raise BadMatchers(words)
    return found


def problem_with(matchers: Sequence[Any]) -> str:
    """What is wrong with matchers that are about to be stored, in words; "" for nothing."""
    if len(matchers) > AT_MOST:
        return f"These are {len(matchers)} matchers; {AT_MOST} at most are taken."
    for one in matchers:
        if not isinstance(one, dict) or set(one) != {"label", "op", "value"}:
            return "A matcher has a label, an op and a value."
        if one["op"] not in OPERATORS:
            return f"{one['op']} is no operator of a matcher; there are {', '.join(OPERATORS)}."
        if len(one["value"]) > LONGEST or len(one["label"]) > LONGEST:
            return f"The matcher of {one['label'][:40]} is longer than {LONGEST} characters."
        if "\0" in one["value"]:
            return f"The matcher of {one['label']} has a NUL character."
        if one["op"].endswith("~") and (words := _problem_with_pattern(one["value"])):
            return f"{one['label']}{one['op']}{_quoted(one['value'])}: {words}"
    return ""


def spell(matchers: Iterable[Matcher]) -> str:
    """Matchers as a person would write them."""
    return ", ".join(f"{one['label']}{one['op']}{_quoted(one['value'], one['op'])}" for one in matchers)


def hold(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether all of them hold. A label that is not there has the value ""."""
    return all(_holds(one["op"], one["value"], labels.get(one["label"], "")) for one in matchers)


def _holds(op: str, wanted: str, value: str) -> bool:
    if op == "=":
        return value == wanted
    if op == "!=":
        return value != wanted
    return _fits(wanted, value[:LONGEST]) == (op == "=~")


@lru_cache(maxsize=8192)
def _fits(pattern: str, value: str) -> bool:
    return re.fullmatch(pattern, value, re.DOTALL) is not None


def _quoted(value: str, op: str = "=~") -> str:
    return '"' + (value.replace("\\", "\\\\") if op in ("=", "!=") else value).replace('"', '\\"') + '"'


def _problem_with_pattern(pattern: str) -> str:
    try:
        tree = sre_parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"is no regular expression: {error}."
    repetitions = _repetitions(tree)
    if repetitions is None:
        return "repeats a group, or looks around; that may take too long. Write it with single characters and sets."
    if repetitions > REPETITIONS_AT_MOST:
        return f"has more than {REPETITIONS_AT_MOST} repetitions; that may take too long."
    return ""


def _repetitions(tree: Any) -> int | None:
    """How many there are of single characters; None if anything else is repeated."""
    total = 0
    for code, argument in tree:
        if code in _SLOW:
            return None
        if code in _REPEATS:
            _, most, inner = argument
            if most > 1 and not (len(inner) == 1 and inner[0][0] in _SINGLE):
                return None
            total += 1
            continue
        parts = argument[1] if code is sre.BRANCH else [argument[-1]] if code is sre.SUBPATTERN else []
        for part in parts:
            below = _repetitions(part)
            if below is None:
                return None
            total += below
    return total
