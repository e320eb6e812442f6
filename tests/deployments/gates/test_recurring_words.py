"""A freeze says in words how it repeats."""

import pytest

from deployments.gates.recurring_words import words_of


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("FREQ=DAILY", "every day"),
        ("FREQ=WEEKLY;BYDAY=FR", "every week on Friday"),
        ("freq=weekly;interval=2;byday=mo,we,fr", "every 2 weeks on Monday, Wednesday and Friday"),
        ("FREQ=MONTHLY;BYDAY=-1FR", "every month on the last Friday"),
        ("FREQ=MONTHLY;BYDAY=+1MO,3MO", "every month on the first Monday and the third Monday"),
        ("FREQ=MONTHLY;BYMONTHDAY=1,2,3,11,22,-1", "every month on the 1st, 2nd, 3rd, 11th, 22nd and last day"),
        ("FREQ=MONTHLY;BYMONTHDAY=13;BYDAY=FR", "every month on the 13th if it is a Friday"),
        ("FREQ=YEARLY;BYMONTH=12,1;COUNT=10", "every year in December and January, 10 times"),
        ("FREQ=YEARLY;COUNT=1", "every year, once"),
        ("FREQ=YEARLY;BYMONTH=12;BYDAY=FR", "every year in December on Friday"),
        ("FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=1", "every year in January on the 1st"),
        ("FREQ=YEARLY;BYDAY=1FR", "every year on the first Friday"),
        ("FREQ=DAILY;UNTIL=20261231", "every day, until the end of 31 December 2026"),
        ("FREQ=DAILY;UNTIL=20261231T180000", "every day, until 31 December 2026 18:00"),
    ],
)
def test_people_need_not_read_a_calendars_format(rule: str, words: str) -> None:
    assert words_of(rule) == words


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=YEARLY;BYWEEKNO=20",
        "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1",
        "FREQ=MONTHLY;BYDAY=-4FR",
        "FREQ=WEEKLY;BYDAY=1FR",  # every Friday
        "FREQ=DAILY;BYMONTHDAY=1",
        "FREQ=YEARLY;BYDAY=FR",  # of the whole year
        "FREQ=YEARLY;BYMONTHDAY=1",  # of each month
        "FREQ=MONTHLY;BYDAY=FR,1FR",  # the first only
        "FREQ=MONTHLY;BYMONTHDAY=10,12;BYDAY=2TU",
    ],
)
def test_what_has_no_short_words_is_said_as_it_was_written(rule: str) -> None:
    assert words_of(rule) == rule
