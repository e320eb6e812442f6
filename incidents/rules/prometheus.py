"""Asking a Prometheus server for metrics: one question for each metric, for all environments.

Whatever goes wrong (no answer, an error, no series, a value that is no number) is missing data with its reason.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from controlplane.operations.errors import StepError
from environments.addresses import NoAnswer
from environments.prometheus import Unusable, ask, credentials
from incidents.rules.evaluation import Reading
from incidents.rules.metrics import METRICS

NO_SERIES = Reading(None, "Prometheus has no data of it")
NO_NUMBER = Reading(None, "Prometheus has no number for it, as nothing happened in the window")
LONGEST_WORDS = 200


def read(
    base: str, wanted: Collection[str], environments: Sequence[str], token: str = ""
) -> dict[tuple[str, str], Reading]:
    """By environment and metric. base: the address of the server, without /api. token: its secret reference."""
    names = sorted(wanted)
    if not names:
        return {}
    try:
        headers = credentials(token)
    except StepError as error:
        return {(slug, name): Reading(None, _words(error)) for name in names for slug in environments}
    with ThreadPoolExecutor(len(names), thread_name_prefix="prometheus") as pool:
        answers = dict(zip(names, pool.map(lambda name: _ask(base, name, headers), names), strict=True))
    return {(slug, name): _reading(answers[name], slug) for name in names for slug in environments}


def _reading(answer: dict[str, float] | str, environment: str) -> Reading:
    if isinstance(answer, str):
        return Reading(None, answer)
    value = answer.get(environment)
    if value is None:
        return NO_SERIES
    return Reading(value) if math.isfinite(value) else NO_NUMBER


def _words(error: StepError | Unusable | NoAnswer) -> str:
    return f"Prometheus{' ' if isinstance(error, Unusable) else ': '}{error}"[:LONGEST_WORDS]


def _ask(base: str, name: str, headers: Mapping[str, str]) -> dict[str, float] | str:
    """The values by environment, or why there are none."""
    try:
        series = ask(base, METRICS[name].query(), headers)
    except (NoAnswer, Unusable) as error:
        return _words(error)
    return {one.labels.get("environment", ""): one.value for one in series}
