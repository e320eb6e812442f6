"""Is the canary worse than the others? A sequential test, pure: from what was counted to a verdict in words.

Error rates. Each interval is a table of two by two: canary and others, failed and not. If both fail alike, then, the
interval's totals given, the canary's failures are hypergeometric, whatever the rate is and however it moves while
we look: no rate has to be known, and what hurts both sides alike is no evidence. Two looks share the allowed
false aborts of 1 %:

* Any time, 0.3 %: Wald's likelihood ratio of "worse by so many points" against "alike", multiplied over intervals
  (A. Wald, "Sequential Analysis", 1947, chapter 6, compares two rates by their odds ratio in this way, pair by pair).
  The odds ratio looked for comes from the intervals before, so that the product stays a martingale, and by Ville's
  inequality it exceeds 1 / 0.003 once in 333 times at most, however often one looks (R. Turner, A. Ly, P. Grünwald,
  "Generic E-variables for exact sequential k-sample tests that allow for optional stopping", 2024).
* Once, at the end, 0.7 %: the Mantel-Haenszel statistic over all intervals (N. Mantel, W. Haenszel, 1959), one-sided.
  Strict while one looks and nearly the plain test at the end: Haybittle (1971) and Peto (1976) for clinical trials.
  A canary with a tenth of the requests and few failures has a lopsided distribution, of whose upper tail the normal one
  knows too little (1.6 % instead of 0.7 %): its third moment is reckoned with (E. Cornish, R. Fisher, 1937).

Latency. Each interval gives the logarithm of how much slower the canary is; the mixture sequential probability ratio
test on their mean (R. Johari, L. Pekelis, D. Walsh, "Always Valid Inference", 2015, theorem 1, with the variance
estimated) asks whether it is slower than allowed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

# False aborts: at any look, and at the last one; together the promised 1 %.
ANY_TIME = 0.003
LAST_LOOK_Z = 2.4573  # one-sided 0.7 %
# Before anything was counted: one failure in a hundred requests.
FIRST_FAILURES, FIRST_REQUESTS = 1.0, 100.0
RATES = (0.0005, 0.95)
# Latency: false aborts, fewest intervals, the least scatter we believe in, and what is added to both sides in ms, so
# that a millisecond more on two is no catastrophe.
SLOW = 0.003
FEWEST = 5.0
SCATTER = 0.05
GRACE_MS = 10.0


@dataclass(frozen=True)
class Side:
    """What one side got in an interval. mean_ms: how long answers took; None where nobody says."""

    requests: int
    errors: int
    mean_ms: float | None = None


@dataclass(frozen=True)
class Interval:
    """Both sides over the same time. fresh: how much of the latency is news, from 0 to 1: a mean over the last
    thousand requests, of which a hundred are new, is a tenth of an observation."""

    canary: Side
    baseline: Side
    fresh: float = 1.0


@dataclass(frozen=True)
class Limits:
    """What is looked for. points: percentage points of failures more. slower_percent: of latency; 0: not judged.

    requests: on each side; after so many without a verdict against it the canary is good.
    """

    points: float = 2.0
    requests: int = 4000
    slower_percent: float = 50.0


class Outcome(StrEnum):
    """What the numbers say so far."""

    OPEN = "open"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True)
class Judgement:
    """outcome and why, in words. evidence: from 0 to 1, how far towards a verdict against the canary."""

    outcome: Outcome
    words: str
    canary: Side
    baseline: Side
    evidence: float


def judge(intervals: Iterable[Interval], limits: Limits) -> Judgement:
    """What all intervals say together."""
    tally = Tally(limits)
    for interval in intervals:
        tally.add(interval)
    return tally.judgement()


def told(side: Side) -> str:
    """One side in words: “1.2 % of 4012 requests failed, answered in 21 ms”."""
    if not side.requests:
        return "no requests"
    latency = f", answered in {side.mean_ms:.0f} ms" if side.mean_ms is not None else ""
    return f"{percent(side.errors / side.requests)} of {side.requests} requests failed{latency}"


def percent(share: float) -> str:
    """A share in words, as exact as it is worth reading: “0.25 %”, “3.1 %”, “62 %”."""
    value = 100 * share
    return f"{round(value, 2 if value < 1 else 1 if value < 10 else 0):g} %"


class Tally:
    """The evidence of the intervals so far; each is added once, in their order.

    An interval in which one side had no requests compares nothing. It waits, and counts together with those after it:
    who scrapes instances one after the other rarely has news of both sides at once.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.canary, self.baseline = Total(), Total()
        self._waits = _Waiting()
        self._compared = Total()  # of the others, up to the last comparison
        self._failing = 0.0
        self._surplus = self._variance = self._third = 0.0
        self._slower = Slower()

    def add(self, interval: Interval) -> None:
        """One more."""
        self.canary.add(interval.canary)
        self.baseline.add(interval.baseline)
        self._waits.add(interval)
        if self._waits.canary.requests and self._waits.baseline.requests:
            self._compare(self._waits.canary.side, self._waits.baseline.side, min(1.0, self._waits.fresh))
            self._waits = _Waiting()

    def _compare(self, ours: Side, theirs: Side, fresh: float) -> None:
        self._failing += log_ratio(ours, theirs, self._odds_ratio())
        surplus, variance, third = mantel_haenszel(ours, theirs)
        self._surplus += surplus
        self._variance += variance
        self._third += third
        if ours.mean_ms is not None and theirs.mean_ms is not None:
            self._slower.add(math.log((ours.mean_ms + GRACE_MS) / (theirs.mean_ms + GRACE_MS)), fresh)
        self._compared.add(theirs)

    def judgement(self) -> Judgement:
        """What they say."""
        allowed, needed = self.limits.slower_percent, self.limits.requests
        failing = self._failing / -math.log(ANY_TIME)
        slow = self._slower.evidence(allowed) / -math.log(SLOW)
        seen = min(self.canary.requests, self.baseline.requests)
        both = f"canary {told(self.canary.side)}; others {told(self.baseline.side)}"
        if failing >= 1:
            outcome, words = Outcome.BAD, f"The canary fails more than the others: {both}."
        elif slow >= 1:
            outcome, words = Outcome.BAD, f"The canary is more than {allowed:g} % slower than the others: {both}."
        elif seen < needed:
            outcome, words = Outcome.OPEN, f"No verdict yet, after {seen} of {needed} requests a side: {both}."
        elif self.last_look() > 1:
            outcome, words = Outcome.BAD, f"The canary fails more than the others, seen over all requests: {both}."
        else:
            outcome, words = Outcome.GOOD, f"The canary is no worse than the others: {both}."
        evidence = 1.0 if outcome == Outcome.BAD else min(1.0, max(0.0, failing, slow))
        return Judgement(outcome, words, self.canary.side, self.baseline.side, evidence)

    def last_look(self) -> float:
        """The Mantel-Haenszel statistic, with its correction for whole numbers, as a part of what would be too much."""
        if not self._variance:
            return 0.0
        lopsided = max(0.0, self._third / (self._variance * math.sqrt(self._variance)))
        return (self._surplus - 0.5) / math.sqrt(self._variance) / (LAST_LOOK_Z + lopsided * (LAST_LOOK_Z**2 - 1) / 6)

    def _odds_ratio(self) -> float:
        """Of "worse by so many points" to what the others failed in the intervals before."""
        low, high = RATES
        rate = (self._compared.errors + FIRST_FAILURES) / (self._compared.requests + FIRST_REQUESTS)
        without = min(max(rate, low), high)
        worse = min(without + self.limits.points / 100, (1 + high) / 2)
        return worse / (1 - worse) / (without / (1 - without))


@dataclass
class Total:
    """The sum of one side; its latency is the mean over the requests of those intervals that know one."""

    requests: int = 0
    errors: int = 0
    _timed: int = 0
    _ms: float = 0.0

    def add(self, side: Side) -> None:
        """One interval more."""
        self.requests += side.requests
        self.errors += side.errors
        if side.mean_ms is not None:
            self._timed += side.requests
            self._ms += side.requests * side.mean_ms

    @property
    def side(self) -> Side:
        """As one interval."""
        return Side(self.requests, self.errors, self._ms / self._timed if self._timed else None)


@dataclass
class _Waiting:
    """Intervals that count together."""

    canary: Total = field(default_factory=Total)
    baseline: Total = field(default_factory=Total)
    fresh: float = 0.0

    def add(self, interval: Interval) -> None:
        """One interval more."""
        self.canary.add(interval.canary)
        self.baseline.add(interval.baseline)
        self.fresh += interval.fresh


# --- errors -------------------------------------------------------------------------------------------


def log_ratio(canary: Side, baseline: Side, odds_ratio: float) -> float:
    """How much likelier the canary's failures are with this odds ratio than if both fail alike, totals given."""
    failed = canary.errors + baseline.errors
    if not failed or not canary.requests or not baseline.requests:
        return 0.0
    least, most = max(0, failed - baseline.requests), min(failed, canary.requests)
    step = math.log(odds_ratio)
    weight, alike, worse = 0.0, [0.0], [0.0]  # logarithms, beside those of the least
    for count in range(least, most):
        weight += math.log((canary.requests - count) * (failed - count))
        weight -= math.log((count + 1) * (baseline.requests - failed + count + 1))
        alike.append(weight)
        worse.append(weight + step * (count + 1 - least))
    return step * (canary.errors - least) - (_log_sum(worse) - _log_sum(alike))


def _log_sum(logarithms: Sequence[float]) -> float:
    top = max(logarithms)
    return top + math.log(sum(math.exp(one - top) for one in logarithms))


def mantel_haenszel(canary: Side, baseline: Side) -> tuple[float, float, float]:
    """How many more of the interval's failures were the canary's than its share of requests; variance, third moment."""
    ours, theirs = canary.requests, baseline.requests
    both, failed = ours + theirs, canary.errors + baseline.errors
    if not ours or not theirs:
        return 0.0, 0.0, 0.0
    variance = failed * (both - failed) * ours * theirs / (both * both * (both - 1))
    third = variance * (both - 2 * ours) * (both - 2 * failed) / (both * (both - 2)) if both > 2 else 0.0
    return canary.errors - failed * ours / both, variance, third


# --- latency ------------------------------------------------------------------------------------------


@dataclass
class Slower:
    """How much slower the canary was, interval by interval, as logarithms weighted by how fresh they are."""

    count: float = 0.0
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, value: float, fresh: float) -> None:
        """One interval more."""
        self.count += fresh
        self._sum += fresh * value
        self._squares += fresh * value * value

    def evidence(self, slower_percent: float) -> float:
        """The logarithm of the mixture likelihood ratio that it is slower than allowed; 0 for nothing said."""
        if not slower_percent or self.count < FEWEST:
            return 0.0
        mean, allowed = self._sum / self.count, math.log1p(slower_percent / 100)
        if mean <= allowed:
            return 0.0
        scatter = (self._squares - self.count * mean * mean) / (self.count - 1)
        scatter *= (self.count + 1) / (self.count - 1)  # estimated from few, it may as well be larger
        variance, spread = max(scatter, SCATTER**2), allowed**2
        share = variance + self.count * spread
        exponent = (self.count * (mean - allowed)) ** 2 * spread / (2 * variance * share)
        return math.log(variance / share) / 2 + exponent
