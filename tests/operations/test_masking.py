"""No stored line holds a secret value, however it was written and wherever it was cut."""

import json
import re
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.operations.masking import MASK, Masker

SECRET = 'p@ss/wörd+1?~"x\\'
# Nothing of this alphabet is in any form of a value made of VALUE_CHARACTERS.
FILLER = st.text(alphabet=" .,:;-_([{ßж", max_size=30)
VALUE_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
VALUES = st.text(alphabet=VALUE_CHARACTERS, min_size=4, max_size=40)

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": lambda value: quote(value, safe=""),
    "URL path": quote,
    "URL form": quote_plus,
    "URL in lower case": lambda value: re.sub("%..", lambda found: found[0].lower(), quote(value, safe="")),
    "base64": lambda value: b64encode(value.encode()).decode(),
    "base64 without padding": lambda value: b64encode(value.encode()).decode().rstrip("="),
    "base64 for URLs": lambda value: urlsafe_b64encode(value.encode()).decode(),
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "JSON": lambda value: json.dumps(value)[1:-1],
    "JSON in Unicode": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "JSON with slashes escaped": lambda value: json.dumps(value)[1:-1].replace("/", "\\/"),
}


def cut(text: str, places: list[int]) -> list[str]:
    """The text in pieces, cut at the places (taken modulo its length)."""
    at = sorted({place % (len(text) + 1) for place in places})
    return [text[first:last] for first, last in zip([0, *at], [*at, len(text)], strict=True)]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_masked(form: str) -> None:
    assert Masker([SECRET]).mask(f"before {FORMS[form](SECRET)} after") == f"before {MASK} after"


@pytest.mark.parametrize("offset", range(6))
def test_base64_of_a_longer_text_keeps_nothing_of_the_value(offset: int) -> None:
    around = "u" * offset
    text = b64encode(f"{around}:{SECRET}:{around}".encode()).decode()
    masked = Masker([SECRET]).mask(text)
    visible = masked.split(MASK)
    # At most two characters on each side also depend on a neighbour of the value; they tell a few bits.
    alone = len(b64encode(SECRET.encode()).decode().rstrip("="))
    assert len(visible) == 2
    assert len(text) - sum(map(len, visible)) >= alone - 3


@given(value=VALUES, form=st.sampled_from(sorted(FORMS)), before=FILLER, after=FILLER, cuts=st.lists(st.integers(0)))
def test_a_value_cut_into_lines_leaves_nothing(value: str, form: str, before: str, after: str, cuts: list[int]) -> None:
    lines = cut(before + FORMS[form](value) + after, cuts)
    stream = Masker([value]).stream()
    came = [line for line in lines for line in stream.feed(line)] + stream.flush()
    assert len(came) == len(lines)
    assert "".join(came).replace(MASK, "") == before + after


@given(
    values=st.lists(st.text(alphabet="ab", min_size=4, max_size=6), min_size=1, max_size=4),
    lines=st.lists(st.text(alphabet="ab\r", max_size=8), max_size=20),
    sizes=st.lists(st.integers(1, 5), min_size=1),
)
def test_any_chunks_give_what_the_definition_says(values: list[str], lines: list[str], sizes: list[int]) -> None:
    """The definition: every character is masked that belongs to some occurrence in the text without breaks."""
    stream = Masker(values).stream()
    came, at = [], 0
    for turn in range(len(lines)):
        size = sizes[turn % len(sizes)]
        came += stream.feed_many(lines[at : at + size])
        at += size
    # Nothing is told by what might have begun at the end.
    came += stream.feed(" " * 40)
    assert came[:-1] == defined(values, lines)


def defined(values: list[str], lines: list[str]) -> list[str]:
    flat = "".join(lines).replace("\r", "")
    hidden = [False] * len(flat)
    for value in values:
        for start in range(len(flat)):
            if flat.startswith(value, start):
                hidden[start : start + len(value)] = [True] * len(value)
    marks = iter(hidden)
    covered = ["".join(c if c == "\r" or not next(marks) else "\0" for c in line) for line in lines]
    return [re.sub("\0+", MASK, line) for line in covered]


@given(value=VALUES.filter(lambda value: len(set(value)) == len(value)), cuts=st.lists(st.integers(0), max_size=60))
def test_flushing_after_each_line_shows_the_first_few_characters_at_most(value: str, cuts: list[int]) -> None:
    stream = Masker([value]).stream()
    came = [line for piece in cut(f"..{value}..", cuts) for line in stream.feed(piece) + stream.flush()]
    visible = "".join(came).replace(MASK, "").replace(".", "")
    assert value.startswith(visible)
    assert len(visible) <= min(5, len(value) // 2)


@given(lines=st.lists(st.text(), max_size=30), flushes=st.lists(st.booleans(), min_size=1))
def test_text_without_values_comes_out_as_it_was(lines: list[str], flushes: list[bool]) -> None:
    stream = Masker(["zq§" * 4, "§§zq!§zq"]).stream()
    came = []
    for number, line in enumerate(lines):
        came += stream.feed(line.replace("§", ""))
        came += stream.flush() if flushes[number % len(flushes)] else []
    assert came + stream.flush() == [line.replace("§", "") for line in lines]


def test_only_what_may_begin_a_value_is_held_back() -> None:
    stream = Masker(["secret-value"]).stream()
    assert stream.feed("an ordinary line") == ["an ordinary line"]
    assert stream.feed("it is sec") == []
    assert stream.feed("ond to none") == ["it is sec", "ond to none"]
    assert stream.feed("it is sec") == []
    assert stream.feed("ret-value") == [f"it is {MASK}", MASK]


def test_a_flush_masks_a_telling_beginning_and_remembers_it() -> None:
    stream = Masker(["secret-value"]).stream()
    assert stream.feed("a secret") == []
    assert stream.flush() == [f"a {MASK}"]
    assert stream.feed("-value and more") == [f"{MASK} and more"]
    assert stream.feed("sec") + stream.flush() == ["sec"]


def test_one_text_keeps_its_line_breaks() -> None:
    assert Masker(["secret-value"]).mask("a\r\nsecret\r\n-val\nue b\n") == f"a\r\n{MASK}\r\n{MASK}\n{MASK} b\n"


def test_a_value_of_several_lines_is_one_value() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADAN\nBgkqhkiG9w0B\n-----END KEY-----\n"
    masker = Masker([key])
    stream = masker.stream()
    assert [line for part in key.splitlines() for line in stream.feed(part)] + stream.flush() == [MASK] * 4
    assert masker.mask(json.dumps({"key": key})) == f'{{"key": "{MASK}"}}'


@pytest.mark.parametrize("value", ["", "abc", "ab\nc\n"])
def test_too_short_a_value_is_refused_without_naming_it(value: str) -> None:
    with pytest.raises(ValueError, match="fewer than 4 characters") as raised:
        Masker(["long enough", value])
    assert not value or value not in str(raised.value)


def test_without_values_lines_pass_untouched() -> None:
    stream = Masker([]).stream()
    assert stream.feed_many(["a", "b"]) == ["a", "b"]
    assert stream.flush() == []
    assert Masker([]).mask("a\nb") == "a\nb"


def test_masking_keeps_up_with_a_noisy_step() -> None:
    masker = Masker([f"{number}-kJ8s+Qx/{number * 7919}-pW2v" for number in range(20)])
    lines = [
        f"{number:06d} instance web-{number % 9} answered /health with 200 in 3 ms".ljust(80) for number in range(20000)
    ]
    best = min(timed(masker, lines) for _ in range(3))
    # Four times slower than it is on two busy cores: the limit holds the order of magnitude, not the figure.
    assert len(lines) / best > 50_000


def timed(masker: Masker, lines: list[str]) -> float:
    began = time.perf_counter()
    stream = masker.stream()
    for at in range(0, len(lines), 100):
        stream.feed_many(lines[at : at + 100])
        stream.flush()
    return time.perf_counter() - began


PEM = "\n".join(
    [
        "-----BEGIN PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
        "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
        "-----END PRIVATE KEY-----",
    ]
)


@pytest.mark.parametrize(
    ("secret", "line"),
    [
        (PEM, "read MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"),
        (PEM, "read BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"),
        ('{"username": "admin", "password": "correct-horse"}', "login with correct-horse failed"),
        ('{"keys": [{"value": "correct-horse"}]}', "correct-horse"),
        ("postgresql://prod:correct%20horse@db.example/app", 'password "correct horse"'),
        ("redis://:correct-horse@cache:6379/0", "AUTH correct-horse"),
        ("redis://:correct%2Dhorse$@cache:6379/0", "redis://:correct%2Dhorse$@other:6379"),
        ('{"DATABASE_URL": "postgres://u:correct-horse@db/app"}', "correct-horse"),
        (json.dumps({"private_key": PEM}), PEM.splitlines()[1]),
        (json.dumps({"private_key": PEM}), PEM.replace("\n", " ")),
    ],
)
def test_what_is_a_secret_within_a_value_is_masked_alone(secret: str, line: str) -> None:
    masked = Masker([secret]).mask(line)
    assert MASK in masked
    assert "correct" not in masked
    assert "MII" not in masked
    assert "BKc" not in masked


def test_ordinary_words_of_a_value_stay() -> None:
    rds = json.dumps(
        {
            "engine": "postgres",
            "dbname": "production",
            "host": "db.example.com",
            "username": "prod_user",
            "x": "backend",
        }
    )
    line = "production-1: postgresql://prod_user@db.example.com for the backend"
    assert Masker([rds]).mask(line) == line
    assert Masker(["a line of a key\n########\n        \n"]).mask("######## and        ") == "######## and        "


@pytest.mark.parametrize(
    "secret", ['{"a": "\\n\\n\\n\\n\\n\\n\\n\\n"}', '{"a": "ab\\n\\n\\n\\n\\n\\n"}', "[" * 5000, '["", 1, null]']
)
def test_no_part_of_a_value_is_in_its_way(secret: str) -> None:
    assert Masker([secret]).mask(f"x {secret} y") != f"x {secret} y"
