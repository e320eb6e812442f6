"""Secret values never reach a stored line: here, and nowhere else, they are taken out.

The log of an operation masks what its steps declare. What a place says is also shown outside of steps (drift, gates,
plans, pages), so whoever sends a secret to a place takes it out of what that answers: see `hidden_in_errors`.

A value is found as it is, URL-quoted, in base64 (also in the middle of a longer one), in hex and JSON-escaped,
and also when line breaks cut it: matching sees the text without its line breaks, like one long line.
"""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import accumulate
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

import ahocorasick

from controlplane.operations.errors import StepError

MASK = "••••••••"
SHORTEST = 4
# So many characters of a value's beginning are masked even when the rest never comes; so is half of a short one.
TELLING = 6
# A part of a value is masked alone from these lengths on, or ordinary words would go: a text, a line, a plain word.
LONG, LINE, WORD = 8, 16, 16
HARMLESS = frozenset(
    {
        *("user", "username", "engine", "host", "hostname", "port", "database", "dbname", "dbinstanceidentifier"),
        *("region", "type", "project_id", "client_email", "auth_uri", "token_uri"),
    }
)

# Places in a text, from the first character up to (not including) the last.
Span = tuple[int, int]

_WITHOUT_BREAKS = {ord("\n"): None, ord("\r"): None}
_UNBROKEN = re.compile(r"[^\r\n]+")


class Masker:
    """Knows the secret values of one operation. Raises ValueError for one too short to be told from plain words."""

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {value for secret in set(secrets) for value in (secret, *_parts(secret))}
        self.patterns = _Patterns({variant for value in values for variant in _variants(value)})

    def mask(self, text: str) -> str:
        """One whole text, with as many lines as before."""
        return "".join([*(stream := self.stream()).feed(text), *stream.flush()])

    def stream(self) -> "MaskStream":
        """For text that comes line by line."""
        return MaskStream(self.patterns)


@contextmanager
def hidden_in_errors(secrets: Iterable[str]) -> Iterator[None]:
    """For a conversation with a place: no StepError leaves the block that says one of these values."""
    try:
        yield
    except StepError as error:
        error.args = (Masker(secrets).mask(str(error)),)
        raise


class MaskStream:
    """Masks lines as they come, holding back just those that may turn out to begin a secret value.

    Every line comes out once, in order. After a `flush` it still knows what the last lines began.
    """

    def __init__(self, patterns: "_Patterns") -> None:
        self._patterns = patterns
        self._held: list[str] = []
        # The end of what was given out, as far as it may begin a value; without line breaks.
        self._context = ""

    def feed(self, line: str) -> list[str]:
        """Take one line; returns the lines that are finished by it."""
        return self.feed_many([line])

    def feed_many(self, lines: Sequence[str]) -> list[str]:
        """Take lines, the quicker the more at once; returns the lines that are finished by them."""
        if not self._patterns:
            return list(lines)
        text = _Lines(self._context, [*self._held, *lines])
        found = self._patterns.spans(text.flat)
        end = len(text.flat)
        start = end - len(self._patterns.tail(text.flat))
        # What is masked anyway need not wait for more.
        masked_anyway = start == end or any(first <= start and last == end for first, last in found)
        finished = len(text.lines) if masked_anyway else text.line_at(start)
        self._held = text.lines[finished:]
        self._context = self._patterns.tail(text.before(finished))
        return text.masked(found)[:finished]

    def flush(self) -> list[str]:
        """Give out what is held, with a telling beginning of a value masked."""
        if not self._held:
            return []
        text = _Lines(self._context, self._held)
        found = self._patterns.spans(text.flat)
        self._held, self._context = [], self._patterns.tail(text.flat)
        if self._patterns.is_telling(self._context):
            found.append((len(text.flat) - len(self._context), len(text.flat)))
        return text.masked(found)


class _Lines:
    """Lines and their `flat` text: a context that was given out before, then the lines without line breaks."""

    def __init__(self, context: str, lines: list[str]) -> None:
        self.lines = lines
        self._context = len(context)
        self._raw = "".join(lines)
        self._has_breaks = "\n" in self._raw or "\r" in self._raw
        self.flat = context + (self._raw.translate(_WITHOUT_BREAKS) if self._has_breaks else self._raw)

    def line_at(self, place: int) -> int:
        """The number of the line that has this place of the flat text; 0 for the context."""
        return bisect_right(self._ends, self._raw_place(place)) if place >= self._context else 0

    def before(self, number: int) -> str:
        """The flat text before a line."""
        size = sum(map(len, self.lines[number:]))
        if self._has_breaks:
            size -= sum(line.count("\n") + line.count("\r") for line in self.lines[number:])
        return self.flat[: len(self.flat) - size]

    def masked(self, spans: list[Span]) -> list[str]:
        """The lines with these spans of the flat text masked; line breaks stay."""
        parts: dict[int, list[Span]] = {}
        for first, last in _united((max(first, self._context), last) for first, last in spans if last > self._context):
            start, end = self._raw_place(first), self._raw_place(last - 1) + 1
            number = bisect_right(self._ends, start)
            while start < end:
                line_end = self._ends[number]
                line_start = line_end - len(self.lines[number])
                parts.setdefault(number, []).append((start - line_start, min(end, line_end) - line_start))
                start, number = line_end, number + 1
        if not parts:
            return self.lines
        return [_cover(line, parts[number]) if number in parts else line for number, line in enumerate(self.lines)]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self.lines)))

    @cached_property
    def _raw_places(self) -> list[int]:
        return [place for place, character in enumerate(self._raw) if character not in "\r\n"]

    def _raw_place(self, place: int) -> int:
        return self._raw_places[place - self._context] if self._has_breaks else place - self._context


def _cover(line: str, parts: list[Span]) -> str:
    pieces, done = [], 0
    for first, last in parts:
        pieces += [line[done:first], _UNBROKEN.sub(MASK, line[first:last])]
        done = last
    return "".join([*pieces, line[done:]])


def _united(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, with those that touch or overlap made one."""
    united: list[Span] = []
    for first, last in sorted(spans):
        if united and first <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], last))
        else:
            united.append((first, last))
    return united


class _Patterns:
    """The automaton over all forms of all values, and what it says about a text without line breaks."""

    def __init__(self, patterns: set[str]) -> None:
        self._automaton = ahocorasick.Automaton()
        for pattern in patterns:
            self._automaton.add_word(pattern, len(pattern))
        self._automaton.make_automaton()
        self._longest = max(map(len, patterns), default=0)
        # A sieve: hardly any text passes it, and the automaton is asked only about what does.
        self._heads = {pattern[:3] for pattern in patterns}

    def __bool__(self) -> bool:
        return self._longest > 0

    def spans(self, text: str) -> list[Span]:
        """Where values are, overlapping ones too."""
        return [(end + 1 - length, end + 1) for end, length in self._automaton.iter(text)]

    def tail(self, text: str) -> str:
        """The end of the text that may be the beginning of a value (of the longest such)."""
        size = len(text)
        for start in range(max(0, size - self._longest + 1), size):
            if (size - start < 3 or text[start : start + 3] in self._heads) and self._automaton.match(text[start:]):
                return text[start:]
        return ""

    def is_telling(self, beginning: str) -> bool:
        """Whether so much of a value must not be shown, even without the rest."""
        if len(beginning) >= TELLING:
            return True
        whole = min((len(pattern) for pattern in self._automaton.keys(beginning)), default=0) if beginning else 0
        return 2 * len(beginning) > whole > 0


def _parts(secret: str) -> Iterator[str]:
    """What is a secret of its own within a value: the lines of a key, texts in JSON, the password of a URL."""
    if secret.count("\n") or secret.count("\r"):
        yield from (line.strip() for line in secret.splitlines() if _is_of_a_key(line.strip()))
    with suppress(ValueError):
        password = urlsplit(secret).password or ""
        yield from (text for text in (password, unquote(password)) if len(text) >= LONG)
    with suppress(ValueError, RecursionError):
        for text in list(_texts(json.loads(secret))):
            if len(text.translate(_WITHOUT_BREAKS).strip()) >= LONG:
                yield text
                yield from _parts(text)


def _is_of_a_key(line: str) -> bool:
    return len(line) >= LINE and not line.startswith("-----") and any(character.isalnum() for character in line)


def _texts(data: Any, name: str = "") -> Iterator[str]:
    """The texts in JSON, without those that name places and are in every log, such as the host of a database."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _texts(value, key.lower())
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value, name)
    elif isinstance(data, str) and name not in HARMLESS and not (data.isalpha() and len(data) < WORD):
        yield data


def _variants(secret: str) -> set[str]:
    value = secret.translate(_WITHOUT_BREAKS)
    if len(value) < SHORTEST:
        raise ValueError(
            f"a secret value has fewer than {SHORTEST} characters, so masking it would hide ordinary words; "
            "give it a longer value, or do not declare it a secret"
        )
    forms = {value}
    for text in {secret, value}:
        forms |= {*_quoted(text), *_base64(text), *_hex(text), *_escaped(text)}
    return {form.translate(_WITHOUT_BREAKS) for form in forms}


def _quoted(text: str) -> Iterator[str]:
    raw = _bytes(text)
    # The last is JavaScript's encodeURIComponent.
    for form in (quote(raw, safe=""), quote(raw), quote_plus(raw), quote(raw, safe="!'()*")):
        yield form
        first, *rest = form.split("%")
        yield "%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


def _base64(text: str) -> Iterator[str]:
    """The whole, and for a value inside a longer text the characters that do not depend on its neighbours."""
    raw = _bytes(text)
    for encode in (b64encode, urlsafe_b64encode):
        padded = encode(raw).decode()
        yield padded
        yield padded.rstrip("=")
        for offset, dependent in ((0, 0), (1, 2), (2, 3)):
            yield encode(bytes(offset) + raw).decode()[dependent : (offset + len(raw)) * 8 // 6]


def _hex(text: str) -> Iterator[str]:
    form = _bytes(text).hex()
    yield form
    yield form.upper()


def _escaped(text: str) -> Iterator[str]:
    for ascii_only in (True, False):
        form = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield form
        yield form.replace("/", "\\/")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
