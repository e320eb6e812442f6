"""The step that watches a canary until there is a verdict. Any worker goes on from what is in the database."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction
from deployments.models import CanaryVerdict
from deployments.strategies.asking import balancer_named, members_of
from deployments.strategies.canary import MARGIN_SECONDS
from deployments.strategies.judge import Judgement, Limits, Outcome, Tally
from deployments.strategies.records import interval_of, keep_sample, keep_verdict, samples_of, verdict_of
from deployments.strategies.settings import ABORT
from deployments.strategies.sources import Counters, Read, from_kept, reader, since
from environments.balancers.base import Standing

# So many looks one after the other at which the load balancer finds a canary unhealthy.
UNWELL = 3
# A line in the log every so many samples.
A_LINE = 12


def _is_judged(context: StepContext, **arguments: Any) -> Seen:
    verdict = verdict_of(context.operation_id)
    if verdict is None:
        return Seen.NOT_DONE
    if not verdict.goes_on:
        raise StepError(verdict.words, permanent=True)
    return Seen.DONE


def _judge(
    context: StepContext,
    *,
    environment: str,
    source: str,
    balancer: Arguments,
    canaries: list[Arguments],
    others: list[Arguments],
    points: float,
    slower_percent: float,
    requests: int,
    deadline: float,
    interval: float,
    without_verdict: str,
) -> None:
    watch = _Watch(
        context,
        reader(source, balancer, [*canaries, *others], environment),
        [one["name"] for one in canaries],
        [one["name"] for one in others],
        Limits(points, requests, slower_percent),
    )
    unwell = 0
    while True:
        judgement = watch.look()
        found = _unwell(balancer, canaries)
        unwell = unwell + 1 if found else 0
        if unwell >= UNWELL:
            judgement = replace(judgement, outcome=Outcome.BAD, words=f"{found}. {judgement.words}")
        if judgement.outcome != Outcome.OPEN:
            _conclude(context, watch, judgement)
            return
        left = context.remaining() - MARGIN_SECONDS
        if left <= 0:
            _without(context, watch, judgement, deadline, without_verdict)
            return
        context.wait(min(interval, left))


class _Watch:
    """Samples so far, and those to come."""

    def __init__(
        self, context: StepContext, read: Read, canaries: Sequence[str], others: Sequence[str], limits: Limits
    ) -> None:
        self.names = ", ".join(canaries)
        self.trouble = ""
        self._context, self._read = context, read
        self._canaries, self._others = canaries, others
        self._tally = Tally(limits)
        self._before: Counters = {}
        rows = samples_of(context.operation_id)
        for row in rows:
            self._tally.add(interval_of(row))
            self._before = from_kept(row.counters)
        self._count = len(rows)
        if rows:
            context.log(f"goes on from {len(rows)} samples: {self._tally.judgement().words}")

    def look(self) -> Judgement:
        """One sample more, and what they say together. Numbers that cannot be had for a moment are no verdict."""
        try:
            now = self._read()
        except StepError as error:
            if error.permanent:
                raise
            if str(error) != self.trouble:
                self._context.log(f"no numbers: {error}", level="warning")
            self.trouble = str(error)
            return self._tally.judgement()
        self.trouble = ""
        self._context.check()
        sample = since(self._before, now, self._canaries, self._others)
        # Whoever does not answer this time is counted from where it was.
        self._before = {**self._before, **now}
        keep_sample(self._context, sample, self._before)
        self._tally.add(sample)
        self._count += 1
        judgement = self._tally.judgement()
        seen = min(judgement.canary.requests, judgement.baseline.requests)
        self._context.progress(min(seen, self._tally.limits.requests), self._tally.limits.requests, "requests a side")
        if self._count % A_LINE == 0:
            self._context.log(judgement.words)
        return judgement


def _unwell(balancer: Arguments, canaries: Sequence[Arguments]) -> str:
    """Which canary the load balancer finds unhealthy, in words; "" for none, or where nobody can be asked."""
    if not balancer:
        return ""
    kind, settings = balancer_named(balancer)
    try:
        seen = [(one.name, kind.look(settings, one)) for one in members_of(canaries)]
    except StepError:
        return ""
    bad = [f"{name} is unhealthy ({one.words})" for name, one in seen if one.standing == Standing.UNHEALTHY]
    return f"The load balancer says: {', '.join(bad)}" if bad else ""


def _conclude(context: StepContext, watch: _Watch, judgement: Judgement) -> None:
    good = judgement.outcome == Outcome.GOOD
    outcome = CanaryVerdict.Outcome.GOOD if good else CanaryVerdict.Outcome.BAD
    keep_verdict(context, outcome, judgement.words, judgement, names=watch.names, goes_on=good)
    if not good:
        raise StepError(judgement.words, permanent=True)
    context.log(judgement.words)


def _without(context: StepContext, watch: _Watch, judgement: Judgement, seconds: float, then: str) -> None:
    """The deadline came first: the configuration says what that means."""
    why = f" No numbers came last: {watch.trouble}." if watch.trouble else ""
    goes_on = then != ABORT
    end = "It goes on all the same" if goes_on else "So it goes back"
    words = f"{judgement.words.rstrip('.')}, and the {seconds:g} s for it are over.{why} {end} (without_verdict)."
    keep_verdict(context, CanaryVerdict.Outcome.NONE, words, judgement, names=watch.names, goes_on=goes_on)
    if not goes_on:
        raise StepError(words, permanent=True)
    context.log(words, level="warning")


JUDGING = StepFunction(observe=_is_judged, act=_judge)
