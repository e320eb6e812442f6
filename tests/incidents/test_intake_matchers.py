"""Matchers as people write them, and regular expressions that cannot take for ever."""

import json

import pytest

from incidents.intake import plain
from incidents.intake.matchers import BadMatchers, hold, parse, spell
from incidents.intake.said import NotUnderstood, RawBody
from tests.incidents.test_alerts_turns import NOON


@pytest.mark.parametrize(
    ("text", "labels", "holds"),
    [
        ("", {}, True), ('a="1"', {"a": "1"}, True), ('a="1"', {}, False), ('a=""', {}, True), ('a!="1"', {}, True),
        ('a=~"prod.*"', {"a": "production"}, True), ('a=~"prod"', {"a": "production"}, False),
        ('a!~"x|y"', {"a": "x"}, False), ('a="1", b="2"', {"a": "1", "b": "3"}, False),
        (r'a="say \"no\", \\ and go"', {"a": 'say "no", \\ and go'}, True), (r'a=~"\d+"', {"a": "12"}, True),
    ],
)  # fmt: skip
def test_all_of_them_have_to_hold(text: str, labels: dict[str, str], holds: bool) -> None:
    matchers = parse(text)
    assert hold(matchers, labels) is holds
    assert parse(spell(matchers)) == matchers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "At character 1"), ('a="1" b="2"', "At character 7"), ('a="1",', "nothing follows"),
        ('a="1', "At character 1"),
        ('a=~"("', "no regular expression"), ('a=~"(a+)+b"', "too long"), ('a=~"(a|a)*b"', "too long"),
        (r'a=~"(a)\1"', "too long"), ('a=~".*.*.*.*"', "more than 3"), ('a="' + "x" * 301 + '"', "longer than 300"),
        (",".join(['a="1"'] * 21), "20 at most"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(BadMatchers, match=words):
        parse(text)


def read(content: object) -> list[str]:
    return [one.name for one in plain.read(RawBody(1, json.dumps(content).encode(), NOON))]


def test_plain_bodies_are_one_alert_or_several() -> None:
    assert read({"name": "DiskFull"}) == ["DiskFull"]
    assert read({"alerts": [{"name": "A"}, {"name": "B", "status": "resolved"}]}) == ["A", "B"]


@pytest.mark.parametrize(
    "content",
    [{}, [], {"alerts": []}, {"name": ""}, {"name": "X", "status": "odd"}, {"name": "X", "colour": "red"},
     {"alerts": [{"name": "X", "labels": {"a": 1}}]}, {"name": "X", "started_at": "yesterday"}],
)  # fmt: skip
def test_plain_bodies_are_read_strictly(content: object) -> None:
    with pytest.raises(NotUnderstood):
        read(content)
