"""How people say the rule that a freeze repeats by. Pure."""

import re
from calendar import day_name, month_name
from datetime import datetime

UNITS = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "YEARLY": "year"}
DAYS = dict(zip(("MO", "TU", "WE", "TH", "FR", "SA", "SU"), day_name, strict=True))
ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last", -2: "last but one"}
SAID = {"FREQ", "INTERVAL", "BYMONTH", "BYMONTHDAY", "BYDAY", "COUNT", "UNTIL"}


def words_of(rule: str) -> str:
    """A rule that `recurring.problem_with_rule` takes, as "every 2 weeks on Monday and Friday, 10 times".

    The rule itself where there are no short words for it.
    """
    parts = {name: value for name, _, value in (part.partition("=") for part in rule.upper().split(";"))}
    days, dates = _listed(parts, "BYDAY"), [int(one) for one in _listed(parts, "BYMONTHDAY")]
    numbered = [int(day[:-2]) for day in days if day[:-2]]
    numbers = {*numbered, *(date for date in dates if date < 0)}
    if parts.keys() - SAID or numbers - ORDINALS.keys() or not _reads_as_meant(parts, len(days), len(numbered)):
        return rule
    unit, every = UNITS[parts["FREQ"]], int(parts.get("INTERVAL", 1))
    words = f"every {unit}" if every == 1 else f"every {every} {unit}s"
    words += _phrase(" in ", [month_name[int(one)] for one in _listed(parts, "BYMONTH")])
    words += _phrase(" on the ", [_date(one) for one in dates])
    words += _phrase(" if it is a " if dates else " on ", [_day(one) for one in days])
    if "COUNT" in parts:
        words += ", once" if parts["COUNT"] == "1" else f", {parts['COUNT']} times"
    return words + (f", until {_moment(parts['UNTIL'])}" if "UNTIL" in parts else "")


def _reads_as_meant(parts: dict[str, str], days: int, numbered: int) -> bool:
    """Whether the words would mean to people what the rule means to a calendar."""
    of_the_month = "BYMONTHDAY" in parts
    if parts["FREQ"] in ("DAILY", "WEEKLY"):
        return not numbered and not of_the_month
    if numbered and (numbered < days or of_the_month):
        return False
    every_month = parts["FREQ"] == "MONTHLY" or "BYMONTH" in parts
    return every_month or (not of_the_month and numbered == days)


def _listed(parts: dict[str, str], name: str) -> list[str]:
    return parts[name].split(",") if name in parts else []


def _phrase(before: str, words: list[str]) -> str:
    return before + re.sub(", (?=[^,]*$)", " and ", ", ".join(words)) if words else ""


def _day(day: str) -> str:
    number, name = day[:-2], DAYS[day[-2:]]
    return f"the {ORDINALS[int(number)]} {name}" if number else name


def _date(number: int) -> str:
    if number < 0:
        return f"{ORDINALS[number]} day"
    ending = "th" if 10 < number < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    day = f"{moment.day} {month_name[moment.month]} {moment.year}"
    return f"{day} {moment:%H:%M}" if "T" in text else f"the end of {day}"
