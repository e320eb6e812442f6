"""How well canaries are judged: simulated ones that are worse, and ones that are not. No server is asked.

The canary gets 100 requests an interval until there is a verdict, at most 4,000. Worse is 2 points of failures more.
The others get as many as it (`by_base_rate`), or nine times as many, as with the usual share of a tenth
(`of_a_tenth_by_base_rate`). detection_rate and false_abort_rate are the worst of both. `beyond_by_base_rate` has rates,
with equal sides, at which even the best test with all 4,000 requests and 1 % false aborts finds less than 95 % (at 5 %:
93 %): they are shown, not promised. slow_detection_rate is of canaries that take twice as long
where half as long again is allowed; slow_false_abort_rate of those that take just that.
"""

import random
from functools import cache
from itertools import accumulate
from math import comb
from statistics import median
from typing import Any

from deployments.strategies.judge import Interval, Limits, Outcome, Side, Tally

BASE_RATES = (0.0, 0.001, 0.005, 0.01, 0.02, 0.03)
BASE_RATES_OF_A_TENTH = (0.0, 0.001, 0.01, 0.03, 0.05, 0.07)
A_TENTH = 9  # requests to the others for each to the canary
BEYOND = (0.04, 0.05)
POINTS = 2.0
RUNS = 2000
AN_INTERVAL = 100
LIMITS = Limits(points=POINTS, requests=4000)
PROMISED = {"detection_rate": (0.95, 1), "false_abort_rate": (0, 0.01), "median_requests": (1, 4000)}


def run() -> dict[str, Any]:
    """The figures of `bin/bench canary`."""
    chance = random.Random(20240611)
    equal = {f"{rate:.1%}": _at(rate, 1, chance) for rate in BASE_RATES}
    tenth = {f"{rate:.1%}": _at(rate, A_TENTH, chance) for rate in BASE_RATES_OF_A_TENTH}
    promised = [*equal.values(), *tenth.values()]
    return {
        "detection_rate": min(row["detection_rate"] for row in promised),
        "false_abort_rate": max(row["false_abort_rate"] for row in promised),
        "median_requests": max(row["median_requests"] for row in promised),
        "slow_detection_rate": _share_of_bad([_slow(2.0, chance) for _ in range(RUNS // 4)]),
        "slow_false_abort_rate": _share_of_bad([_slow(1.5, chance) for _ in range(RUNS // 4)]),
        "by_base_rate": equal,
        "of_a_tenth_by_base_rate": tenth,
        "beyond_by_base_rate": {f"{rate:.1%}": _at(rate, 1, chance) for rate in BEYOND},
        "runs_each": RUNS,
    }


def _at(rate: float, others: int, chance: random.Random) -> dict[str, float]:
    worse = [_canary(rate + POINTS / 100, rate, others, chance) for _ in range(RUNS)]
    alike = [_canary(rate, rate, others, chance) for _ in range(RUNS)]
    found = [requests for outcome, requests in worse if outcome == Outcome.BAD]
    return {
        "detection_rate": round(len(found) / RUNS, 4),
        "false_abort_rate": _share_of_bad([outcome for outcome, _ in alike]),
        "median_requests": median(found),
    }


def _share_of_bad(outcomes: list[Outcome]) -> float:
    return round(outcomes.count(Outcome.BAD) / len(outcomes), 4)


def _canary(its_rate: float, rate: float, others: int, chance: random.Random) -> tuple[Outcome, int]:
    """The verdict, and the requests to the canary that it took. others: requests to them for each to the canary."""
    tally = Tally(LIMITS)
    while True:
        tally.add(Interval(_side(its_rate, chance), _side(rate, chance, AN_INTERVAL * others)))
        verdict = tally.judgement()
        if verdict.outcome != Outcome.OPEN:
            return verdict.outcome, verdict.canary.requests


def _side(rate: float, chance: random.Random, size: int = AN_INTERVAL, mean_ms: float | None = None) -> Side:
    return Side(size, chance.choices(range(size + 1), cum_weights=_cumulated(rate, size))[0], mean_ms)


@cache
def _cumulated(rate: float, size: int) -> list[float]:
    """How likely at most so many of an interval's requests fail."""
    return list(accumulate(comb(size, count) * rate**count * (1 - rate) ** (size - count) for count in range(size + 1)))


def _slow(factor: float, chance: random.Random) -> Outcome:
    """A canary whose means are so many times the others', which scatter by a fifth from interval to interval."""
    tally = Tally(LIMITS)
    while True:
        ours, theirs = (100 * times * chance.lognormvariate(0, 0.2) for times in (factor, 1.0))
        tally.add(Interval(_side(0.0, chance, mean_ms=ours), _side(0.0, chance, mean_ms=theirs)))
        verdict = tally.judgement()
        if verdict.outcome != Outcome.OPEN:
            return verdict.outcome
