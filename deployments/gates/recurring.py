"""Which rules a freeze may repeat by: those of RFC 5545 that have an end to every question one asks of them. Pure.

`rrulestr` reads much more than that, and goes on to the year 9999 in search of an occurrence that never comes.
"""

import re
from datetime import MAXYEAR, datetime, timedelta

from dateutil.rrule import rrule, rruleset, rrulestr

FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
DAY = "(MO|TU|WE|TH|FR|SA|SU)"
# Of each part: what it may say, and an example. Beyond these, `rrulestr` fails in the middle of a year or never ends.
PARTS = {
    "FREQ": ("|".join(FREQUENCIES), "WEEKLY"),
    "INTERVAL": ("[1-9][0-9]{0,2}", "2"),
    "COUNT": ("[1-9][0-9]{0,4}", "10"),
    "UNTIL": ("[0-9]{8}(T[0-9]{6})?", "20261231 or 20261231T180000"),
    "WKST": (DAY, "MO"),
    "BYDAY": (f"([+-]?[1-5])?{DAY}", "FR or -1FR"),
    "BYMONTH": ("0?[1-9]|1[0-2]", "1 or 12"),
    "BYMONTHDAY": ("[+-]?(0?[1-9]|[12][0-9]|3[01])", "1 or -1"),
    "BYYEARDAY": ("[+-]?([1-9][0-9]?|[12][0-9]{2}|3[0-5][0-9]|36[0-6])", "100 or -1"),
    "BYWEEKNO": ("[+-]?(0?[1-9]|[1-4][0-9]|5[0-3])", "20 or -1"),
    "BYSETPOS": ("[+-]?([1-9][0-9]?|[12][0-9]{2}|3[0-5][0-9]|36[0-6])", "1 or -1"),
}
# Closes for the first time within so long from its start; also over a turn of the century without a leap year.
FIRST_WITHIN = timedelta(days=8 * 366)
# Days, dates and weeks come again alike after so many years.
CYCLE = 400


def occurrences(rule: str, starts: datetime) -> rrule | rruleset:
    """When a rule that `problem_with_rule` takes occurs. An UNTIL that is a date alone includes that whole day."""
    return rrulestr(re.sub(r"(?<=UNTIL=)\d{8}(?=;|$)", r"\g<0>T235959", rule.upper()), dtstart=starts)


def problem_with_rule(rule: str, starts: datetime) -> str:
    """What is wrong with an RRULE, in words; "" for nothing."""
    parts = [part.partition("=") for part in rule.upper().split(";")]
    said = {name: value for name, _, value in parts}
    if said.get("FREQ") not in FREQUENCIES:
        return f"has to begin with FREQ= and one of {', '.join(FREQUENCIES)}, as in FREQ=WEEKLY;BYDAY=FR"
    if len(said) != len(parts):
        return "says something twice; write each part once"
    if {"COUNT", "UNTIL"} <= said.keys():
        return "says both COUNT and UNTIL; write one of them"
    wrong = (_problem_with_part(name, value) for name, value in said.items())
    return next(filter(None, wrong), "") or _problem_with_occurrences(rule, starts)


def _problem_with_part(name: str, value: str) -> str:
    if name in ("BYHOUR", "BYMINUTE", "BYSECOND"):
        return "must not say a time of day: that is said by when it starts"
    if name not in PARTS:
        return f"has to be made of {', '.join(PARTS)}, with ; between them and no blanks, as in FREQ=WEEKLY;BYDAY=FR"
    if name == "UNTIL" and value.endswith("Z"):
        return "has to say UNTIL by the wall's clock, without a Z"
    pattern, example = PARTS[name]
    values = value.split(",") if name.startswith("BY") else [value]
    if not all(re.fullmatch(pattern, one) for one in values):
        return f"has to say {name} otherwise, as {example}, and without blanks"
    return ""


def _problem_with_occurrences(rule: str, starts: datetime) -> str:
    try:
        read = occurrences(rule, starts)
        if isinstance(read, rrule) and _occurs_soon(read, starts) and next(iter(read), None) is not None:
            return ""
    except (ValueError, TypeError, LookupError) as error:
        return f"cannot be read: {error}"
    return "never closes anything within eight years of its start; see that its days exist and UNTIL is not before"


def _occurs_soon(rule: rrule, starts: datetime) -> bool:
    """Whether it would occur within some years, whatever its UNTIL says.

    A search for nothing ends with the calendar only, so it is made where the calendar is about to end: as many cycles
    of it later as there are, where everything is as it is at the start.
    """
    latest = MAXYEAR - 10
    begin = starts.replace(year=starts.year + (latest - starts.year) // CYCLE * CYCLE)
    first: datetime | None = next(iter(rule.replace(dtstart=begin, until=None)), None)
    return first is not None and first - begin < FIRST_WITHIN
