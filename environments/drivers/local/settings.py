"""The driver settings of `local`: what they are where nothing is said, and what is wrong with them."""

from collections.abc import Mapping
from typing import Any

from environments.balancers import problem_with

# The guide's container check asks three times; everything else is short, since nothing real has to drain here.
DEFAULTS: dict[str, Any] = {
    "checks": 3,
    "failures": 3,
    "check_interval": 1.0,
    "drain_seconds": 2.0,
    "broken_versions": {},
}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 3600


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100


def _statuses(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, int) and 100 <= one <= 599 for one in value.values())


def _words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


CHECKED = {
    "checks": (_count, "has to be a whole number from 1 to 100"),
    "failures": (_count, "has to be a whole number from 1 to 100"),
    "check_interval": (_number, "has to be a number of seconds from 0 to 3600"),
    "drain_seconds": (_number, "has to be a number of seconds from 0 to 3600"),
    "broken_versions": (_statuses, 'has to name an HTTP status for each version, as in {"1.6.0" = 503}'),
    "program": (_words, 'has to be a list of words, as in ["{python}", "service.py", "--port", "{port}"]'),
    "folder": (lambda value: isinstance(value, str) and bool(value), "has to be the path of a folder"),
}


def problems(given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with driver settings, in words, by key."""
    known = CHECKED.keys() | {"balancer"}
    wrong = {key: f"is no setting of it; there are {', '.join(sorted(known))}" for key in given.keys() - known}
    if words := problem_with(given.get("balancer", {"kind": "none"})):
        wrong["balancer"] = words
    return wrong | {key: words for key, (good, words) in CHECKED.items() if key in given and not good(given[key])}
