"""Asking a Prometheus server for metrics through its HTTP API: one question for each metric, for all environments.

Whatever goes wrong (no answer, an error, no series, a value that is no number) is missing data with its reason.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from environments.addresses import NoAnswer, get
from incidents.rules.evaluation import Reading
from incidents.rules.metrics import METRICS

TIMEOUT_SECONDS = 3.0
# What Prometheus may take to think; less than we wait.
ITS_TIMEOUT = "2500ms"
NO_SERIES = Reading(None, "Prometheus has no data of it")
NO_NUMBER = Reading(None, "Prometheus has no number for it, as nothing happened in the window")
LONGEST_WORDS = 200


class Unusable(Exception):
    """The server gave no answer that could be read; the text says why."""


def read(base: str, wanted: Collection[str], environments: Sequence[str]) -> dict[tuple[str, str], Reading]:
    """By environment and metric. base: the address of the server, without /api."""
    names = sorted(wanted)
    if not names:
        return {}
    with ThreadPoolExecutor(len(names), thread_name_prefix="prometheus") as pool:
        answers = dict(zip(names, pool.map(lambda name: _ask(base, name), names), strict=True))
    return {(slug, name): _reading(answers[name], slug) for name in names for slug in environments}


def _reading(answer: dict[str, float] | str, environment: str) -> Reading:
    if isinstance(answer, str):
        return Reading(None, answer)
    value = answer.get(environment)
    if value is None:
        return NO_SERIES
    return Reading(value) if math.isfinite(value) else NO_NUMBER


def _ask(base: str, name: str) -> dict[str, float] | str:
    """The values by environment, or why there are none."""
    question = urlencode({"query": METRICS[name].query(), "timeout": ITS_TIMEOUT})
    try:
        answer = get(f"{base.rstrip('/')}/api/v1/query?{question}", timeout=TIMEOUT_SECONDS)
        return _values(answer.status, answer.json())
    except NoAnswer as error:
        return f"Prometheus: {error}"[:LONGEST_WORDS]
    except Unusable as error:
        return f"Prometheus {error}"[:LONGEST_WORDS]


def _values(status: int, body: Mapping[str, Any]) -> dict[str, float]:
    if body.get("status") != "success":
        said = body.get("error")
        raise Unusable(f"answered {status}: {said}" if isinstance(said, str) else f"answered {status}")
    try:
        series = body["data"]["result"]
        return {str(one["metric"].get("environment", "")): float(one["value"][1]) for one in series}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Unusable("answered something else than a list of series") from None
