"""The judge of canaries: it finds what is worse, leaves alone what is not, and holds what its sources promise."""

import math
import random
from itertools import product

import pytest

from deployments.strategies.judge import (
    ANY_TIME,
    Interval,
    Judgement,
    Limits,
    Outcome,
    Side,
    Tally,
    judge,
    log_ratio,
    mantel_haenszel,
)
from tests.benchmarks import canary as bench

LIMITS = Limits(points=2.0, requests=1000, slower_percent=50.0)


def alike(count: int, errors: int = 1, **values: float) -> list[Interval]:
    """Intervals of 100 requests a side, of which as many fail on both."""
    side = Side(100, errors, **values)
    return [Interval(side, side)] * count


def hypergeometric(errors: int, ours: int, theirs: int, failed: int) -> float:
    return math.comb(ours, errors) * math.comb(theirs, failed - errors) / math.comb(ours + theirs, failed)


class TestVerdicts:
    def test_a_canary_that_fails_always_is_found_within_a_few_requests(self) -> None:
        said = judge([Interval(Side(6, 6), Side(54, 0)), Interval(Side(6, 6), Side(54, 0))], LIMITS)
        assert said.outcome == Outcome.BAD
        assert said.words == (
            "The canary fails more than the others: canary 100 % of 12 requests failed; "
            "others 0 % of 108 requests failed."
        )
        assert said.evidence == 1

    def test_nothing_is_said_before_enough_was_seen(self) -> None:
        said = judge(alike(9), LIMITS)
        assert said.outcome == Outcome.OPEN
        assert said.words.startswith("No verdict yet, after 900 of 1000 requests a side")

    @pytest.mark.parametrize("errors", [0, 1, 30, 100])
    def test_what_is_alike_is_good_whatever_the_rate(self, errors: int) -> None:
        said = judge(alike(10, errors), LIMITS)
        assert said.outcome == Outcome.GOOD
        assert said.words.startswith("The canary is no worse than the others")

    def test_the_smaller_side_decides_when_enough_was_seen(self) -> None:
        few = [Interval(Side(10, 0), Side(90, 0))] * 99
        assert judge(few, LIMITS).outcome == Outcome.OPEN
        assert judge([*few, few[0]], LIMITS).outcome == Outcome.GOOD

    def test_sides_that_are_counted_in_turn_are_compared_all_the_same(self) -> None:
        """Prometheus scrapes one instance after the other, so that a look has news of one side only."""

        def in_turn(errors: int) -> list[Interval]:
            return [Interval(Side(100, errors), Side(0, 0)), Interval(Side(0, 0), Side(100, 1))] * 10

        assert judge(in_turn(9), LIMITS).outcome == Outcome.BAD
        assert judge(in_turn(1), LIMITS).outcome == Outcome.GOOD
        slow = [Interval(Side(100, 1, 60.0), Side(0, 0)), Interval(Side(0, 0), Side(100, 1, 20.0))] * 9
        assert "slower than the others" in judge(slow, LIMITS).words

    def test_without_requests_there_is_no_verdict(self) -> None:
        nothing = Side(0, 0)
        assert judge([], LIMITS).outcome == Outcome.OPEN
        said = judge([Interval(nothing, Side(5000, 100))] * 3, LIMITS)
        assert said.outcome == Outcome.OPEN
        assert "canary no requests" in said.words

    def test_a_canary_that_fails_less_is_no_worse(self) -> None:
        assert judge([Interval(Side(100, 0), Side(100, 9))] * 10, LIMITS).outcome == Outcome.GOOD

    def test_what_hurts_both_alike_is_no_evidence(self) -> None:
        """A database that goes away in the middle: ten times as many failures, which is no matter of the canary."""
        assert judge([*alike(5, 1), *alike(5, 80)], LIMITS).outcome == Outcome.GOOD
        unequal = [Interval(Side(10, 0), Side(90, 0))] * 50 + [Interval(Side(10, 5), Side(90, 45))] * 50
        assert judge(unequal, LIMITS).outcome == Outcome.GOOD

    def test_the_last_look_sees_what_no_look_on_the_way_did(self) -> None:
        intervals = [Interval(Side(100, 5), Side(100, 3))] * 10
        assert judge(intervals[:-1], Limits(requests=900)).outcome == Outcome.GOOD
        tally = Tally(LIMITS)
        for one in [Interval(Side(100, 6), Side(100, 3))] * 10:
            tally.add(one)
            before = tally.judgement()
        assert before.outcome == Outcome.BAD
        assert "seen over all requests" in before.words


class TestLatency:
    def slow(self, factor: float, limits: Limits = LIMITS, fresh: float = 1.0) -> Judgement:
        chance = random.Random(7)
        rows = []
        for _ in range(20):
            noise = chance.lognormvariate(0, 0.1)
            rows.append(Interval(Side(40, 0, 100 * factor * noise), Side(40, 0, 100.0), fresh))
        return judge(rows, limits)

    def test_a_slow_canary_is_found(self) -> None:
        said = self.slow(2.5)
        assert said.outcome == Outcome.BAD
        assert said.words.startswith("The canary is more than 50 % slower than the others")

    def test_one_that_is_a_little_slower_is_allowed(self) -> None:
        assert self.slow(1.3).outcome == Outcome.OPEN

    def test_it_can_be_left_out(self) -> None:
        assert self.slow(9.0, Limits(slower_percent=0)).outcome == Outcome.OPEN

    def test_a_mean_that_is_mostly_old_news_counts_little(self) -> None:
        assert self.slow(2.5, fresh=0.1).outcome == Outcome.OPEN

    def test_a_load_balancer_s_mean_over_lately_is_enough_within_the_usual_requests(self) -> None:
        """Forty looks of a hundred requests each, where each moves the mean by a fifth."""
        rows = [Interval(Side(100, 0, 250.0), Side(100, 0, 100.0), 0.18)] * 40
        assert judge(rows, Limits(requests=4000)).outcome == Outcome.BAD

    def test_a_millisecond_more_on_two_is_no_catastrophe(self) -> None:
        fast = [Interval(Side(40, 0, 3.5), Side(40, 0, 2.0))] * 20
        assert judge(fast, LIMITS).outcome == Outcome.OPEN


class TestMathematics:
    @pytest.mark.parametrize(("ours", "theirs", "failed"), [*product([1, 5, 12], [1, 7, 20], [1, 3, 9])])
    @pytest.mark.parametrize("odds_ratio", [1.2, 3.0, 20.0])
    def test_the_ratio_is_a_martingale_if_both_fail_alike(
        self, ours: int, theirs: int, failed: int, odds_ratio: float
    ) -> None:
        """Its mean under the hypergeometric distribution is 1: that is what Ville's inequality needs."""
        if failed > ours + theirs:
            return
        counts = range(max(0, failed - theirs), min(failed, ours) + 1)
        mean = sum(
            hypergeometric(count, ours, theirs, failed)
            * math.exp(log_ratio(Side(ours, count), Side(theirs, failed - count), odds_ratio))
            for count in counts
        )
        assert mean == pytest.approx(1)

    def test_it_is_walds_ratio_for_pairs(self) -> None:
        """One request a side: of a pair with one failure, the canary's was it with odds 3 to 1 instead of 1 to 1."""
        assert math.exp(log_ratio(Side(1, 1), Side(1, 0), 3.0)) == pytest.approx(0.75 / 0.5)
        assert math.exp(log_ratio(Side(1, 0), Side(1, 1), 3.0)) == pytest.approx(0.25 / 0.5)
        assert log_ratio(Side(1, 1), Side(1, 1), 3.0) == pytest.approx(0)

    def test_large_counts_neither_overflow_nor_vanish(self) -> None:
        assert math.isfinite(log_ratio(Side(200_000, 20_000), Side(900_000, 30_000), 3.0))

    @pytest.mark.parametrize(("ours", "theirs", "failed"), [(5, 7, 3), (20, 4, 10)])
    def test_the_last_look_has_the_mean_and_variance_of_the_distribution(
        self, ours: int, theirs: int, failed: int
    ) -> None:
        counts = range(max(0, failed - theirs), min(failed, ours) + 1)
        rows = [(hypergeometric(count, ours, theirs, failed), count) for count in counts]
        mean = sum(chance * count for chance, count in rows)
        spread = sum(chance * (count - mean) ** 2 for chance, count in rows)
        third = sum(chance * (count - mean) ** 3 for chance, count in rows)
        found = mantel_haenszel(Side(ours, counts[0]), Side(theirs, failed - counts[0]))
        assert found == pytest.approx((counts[0] - mean, spread, third))

    @pytest.mark.parametrize("others", [1, 9, 19])
    @pytest.mark.parametrize("failed", [3, 6, 17, 40, 117, 318, 1500])
    def test_at_the_last_look_alone_so_many_are_falsely_aborted_however_few_requests_the_canary_has(
        self, others: int, failed: int
    ) -> None:
        """Reckoned exactly, of 1,000 requests to the canary and so many times as many to the others."""
        ours, theirs = 1000, 1000 * others
        too_much = 0.0
        for count in range(min(failed, ours), -1, -1):
            tally = Tally(Limits(requests=1000))
            tally.add(Interval(Side(ours, count), Side(theirs, failed - count)))
            if tally.last_look() <= 1:
                break
            too_much += hypergeometric(count, ours, theirs, failed)
        assert too_much <= 0.007

    def test_both_looks_together_allow_one_false_abort_in_a_hundred(self) -> None:
        last = math.erfc(2.4573 / math.sqrt(2)) / 2
        assert ANY_TIME + last == pytest.approx(0.01, abs=1e-5)


def test_the_benchmark_measures_what_was_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same simulation as `bin/bench canary`, shorter, so with room for chance."""
    monkeypatch.setattr(bench, "RUNS", 120)
    monkeypatch.setattr(bench, "BASE_RATES", (0.0, 0.01, 0.02))
    monkeypatch.setattr(bench, "BASE_RATES_OF_A_TENTH", (0.001,))
    monkeypatch.setattr(bench, "BEYOND", ())
    figures = bench.run()
    assert figures["detection_rate"] >= 0.95
    assert figures["false_abort_rate"] <= 0.03
    assert figures["median_requests"] < 4000
