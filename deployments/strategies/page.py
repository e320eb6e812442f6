"""What the page of a canary says: both sides' numbers, how far the verdict is, and what it was."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from controlplane.operations.models import Operation, Step
from controlplane.operations.states import StepState
from deployments.models import CanaryVerdict, Deployment
from deployments.strategies.canary import JUDGE, JUDGING_KEY, MARGIN_SECONDS
from deployments.strategies.chart import Chart, chart_of
from deployments.strategies.judge import Judgement, Limits, Outcome, Side, judge
from deployments.strategies.records import interval_of, samples_of, verdict_of

TONES = {CanaryVerdict.Outcome.GOOD: "ok", CanaryVerdict.Outcome.BAD: "bad", CanaryVerdict.Outcome.NONE: "wait"}


@dataclass(frozen=True)
class Row:
    """One side of the table. share: of its requests that failed, in percent; None without requests."""

    name: str
    instances: str
    side: Side

    @property
    def share(self) -> float | None:
        """Of its requests, in percent."""
        return 100 * self.side.errors / self.side.requests if self.side.requests else None


class CanaryPage:
    """Asked for part by part, each part in one query."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.deployment = Deployment.objects.select_related("environment", "release__service").get(operation=operation)

    @cached_property
    def wanted(self) -> dict[str, Any]:
        """The arguments of the judging step; empty where nothing is compared."""
        steps = (step["arguments"] for step in self.operation.plan["steps"] if step["function"] == JUDGE)
        return next(steps, {})

    @property
    def limits(self) -> Limits:
        """What is looked for."""
        return Limits(self.wanted["points"], self.wanted["requests"], self.wanted["slower_percent"])

    @cached_property
    def step(self) -> Step | None:
        """The judging step, as it stands."""
        return Step.objects.filter(operation=self.operation, key=JUDGING_KEY).first()

    @cached_property
    def verdict(self) -> CanaryVerdict | None:
        """How it ended, if it has."""
        return verdict_of(self.operation.pk)

    @cached_property
    def judgement(self) -> Judgement:
        """What the numbers say so far."""
        return judge([interval_of(row) for row in self._samples], self.limits)

    @cached_property
    def chart(self) -> Chart | None:
        """The two lines."""
        return chart_of(self._samples)

    @property
    def rows(self) -> list[Row]:
        """Both sides, as a table."""
        names = [", ".join(one["name"] for one in self.wanted[key]) for key in ("canaries", "others")]
        sides = (self.judgement.canary, self.judgement.baseline)
        return [Row("canary", names[0], sides[0]), Row("others", names[1], sides[1])]

    @property
    def words(self) -> str:
        """The verdict, or why there is none yet."""
        if self.verdict:
            return self.verdict.words
        if self.step is None or self.step.state == StepState.PENDING:
            if self.operation.is_finished:
                return "It ended before the canary was compared with the others."
            return "The canary does not have the release yet; then it is compared with the others."
        if self.step.state == StepState.FAILED:
            return self.step.error or "It was stopped before there was a verdict."
        return self.judgement.words

    @property
    def tone(self) -> str:
        """Of the verdict."""
        if self.verdict:
            return TONES[CanaryVerdict.Outcome(self.verdict.outcome)]
        return "busy" if self.is_watching else "idle"

    @property
    def title(self) -> str:
        """The verdict in a word or two."""
        if self.verdict:
            return {"ok": "No worse", "bad": "Worse", "wait": "No verdict"}[self.tone]
        return "Being compared" if self.is_watching else "Not compared"

    @property
    def is_watching(self) -> bool:
        """Whether numbers still come."""
        return self.step is not None and self.step.state == StepState.RUNNING and not self.operation.is_finished

    @property
    def until(self) -> datetime | None:
        """When a verdict has to be there."""
        deadline = self.step.deadline if self.step and self.is_watching else None
        return deadline - timedelta(seconds=MARGIN_SECONDS) if deadline else None

    @property
    def seen(self) -> int:
        """Requests of the side that has fewer, at most those needed."""
        return min(self.judgement.canary.requests, self.judgement.baseline.requests, self.limits.requests)

    @property
    def evidence_percent(self) -> int:
        """How far towards a verdict against it, from 0 to 100."""
        bad = self.verdict and self.verdict.outcome == CanaryVerdict.Outcome.BAD
        return 100 if bad or self.judgement.outcome == Outcome.BAD else round(100 * self.judgement.evidence)

    @cached_property
    def _samples(self) -> list[Any]:
        return samples_of(self.operation.pk)
