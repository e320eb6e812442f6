"""A freeze repeats by a rule that can be read, says no time of day, and occurs: no question about it runs for ever."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.gates.recurring import FIRST_WITHIN, PARTS, problem_with_rule
from deployments.gates.windows import Window


def wall(text: str) -> datetime:
    """A time on the wall's clock."""
    return datetime.fromisoformat(text)


NEW_YEAR = wall("2026-01-01")
STARTS = st.datetimes(wall("2016-01-01"), wall("2036-12-31")).map(lambda one: one.replace(second=0, microsecond=0))
NUMBERS = st.integers(-400, 400).map(str)
VALUES = st.lists(st.one_of(NUMBERS, st.sampled_from(["MO", "-1FR", "5SU", "53MO", "20270101", ""])), max_size=3)
PIECES = st.tuples(st.sampled_from([*PARTS, "BYHOUR", "DTSTART"]), VALUES.map(",".join)).map("=".join)
RULES = st.tuples(
    st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]), st.lists(PIECES, max_size=3)
).map(lambda one: ";".join([f"FREQ={one[0]}", *one[1]]))  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("", "has to begin with FREQ="),
        ("WEEKLY", "has to begin with FREQ="),
        ("FREQ=SECONDLY", "has to begin with FREQ="),
        ("FREQ=DAILY;BYHOUR=3", "not say a time of day"),
        ("FREQ=DAILY;BYEASTER=0", "has to be made of FREQ, INTERVAL"),
        ("FREQ=DAILY;", "has to be made of FREQ, INTERVAL"),
        ("FREQ=WEEKLY;BYDAY=XX", "BYDAY otherwise, as FR"),
        ("FREQ=MONTHLY;BYDAY=99999MO", "BYDAY otherwise, as FR"),
        ("FREQ=YEARLY;BYMONTH=1,13;BYDAY=1MO", "BYMONTH otherwise"),
        ("FREQ=DAILY;UNTIL=20260101T000000Z", "without a Z"),
        ("FREQ=DAILY;UNTIL=5", "UNTIL otherwise, as 2026"),
        ("FREQ=DAILY;UNTIL=20269999", "cannot be read"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL otherwise, as 2"),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL otherwise, as 2"),
        ("FREQ=DAILY;INTERVAL=\u0661", "INTERVAL otherwise, as 2"),
        ("FREQ=DAILY;INTERVAL=1;INTERVAL=0", "twice"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20270101", "one of them"),
        ("FREQ=DAILY;COUNT=5 RRULE:FREQ=SECONDLY", "without blanks"),
        ("FREQ=DAILY;COUNT=5\nRRULE:FREQ=DAILY", "without blanks"),
        ("FREQ=DAILY;COUNT=5\n", "without blanks"),
        ("FREQ=DAILY;COUNT=5 DTSTART:20260101T000000Z", "without blanks"),
        ("RRULE:FREQ=DAILY", "has to begin with FREQ="),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "never closes anything"),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=FR", "never closes anything"),
        ("FREQ=DAILY;UNTIL=20251231", "never closes anything"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said(rule: str, words: str) -> None:
    assert words in problem_with_rule(rule, NEW_YEAR)


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=WEEKLY;BYDAY=FR;UNTIL=20270101T000000",
        "freq=monthly;byday=-1fr",
        "FREQ=YEARLY",
        "FREQ=DAILY;INTERVAL=2;COUNT=3",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=YEARLY;BYWEEKNO=53",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    ],
)
def test_a_good_rule_is_fine(rule: str) -> None:
    assert problem_with_rule(rule, NEW_YEAR) == ""


def test_a_leap_day_comes_also_around_a_century_without_one() -> None:
    assert problem_with_rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", wall("2096-03-01")) == ""


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=timedelta(seconds=2))
@given(RULES, STARTS)
def test_what_is_taken_closes_something_soon_and_can_be_asked(rule: str, starts: datetime) -> None:
    if problem_with_rule(rule, starts):
        return
    window = Window("why", "UTC", starts, 60, rule)
    begin = starts.replace(tzinfo=UTC)
    assert window.between(begin, begin + FIRST_WITHIN + timedelta(days=1))
    window.covering(begin + timedelta(days=3653))


@given(st.text("FREQ=DAILY;WKBMONTHSPU0123456789,+-: \n", max_size=60))
def test_whatever_is_typed_gets_an_answer(rule: str) -> None:
    assert problem_with_rule(rule, NEW_YEAR) or rule.upper().startswith("FREQ=")
