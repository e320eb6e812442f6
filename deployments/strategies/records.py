"""What a canary showed, in the database: written under the fence of the worker that holds the operation."""

from django.db import transaction

from controlplane.live.ring import ring
from controlplane.operations.events import append
from controlplane.operations.registry import StepContext
from deployments.models import CanarySample, CanaryVerdict
from deployments.strategies import sources
from deployments.strategies.judge import Interval, Judgement, Side
from deployments.strategies.sources import Counters


def samples_of(operation_id: int) -> list[CanarySample]:
    """All of them, in order. The first only says where counting began."""
    return list(CanarySample.objects.filter(operation_id=operation_id))


def interval_of(row: CanarySample) -> Interval:
    """As the judge takes it."""
    return Interval(
        Side(row.canary_requests, row.canary_errors, row.canary_ms),
        Side(row.baseline_requests, row.baseline_errors, row.baseline_ms),
        row.fresh,
    )


def keep_sample(context: StepContext, interval: Interval, counters: Counters) -> None:
    """Add one. Raises LeaseLost when another worker goes on with the operation."""
    with transaction.atomic():
        append(context.operation_id, [], fence=context.fence)
        CanarySample.objects.create(
            operation_id=context.operation_id,
            canary_requests=interval.canary.requests,
            canary_errors=interval.canary.errors,
            canary_ms=interval.canary.mean_ms,
            baseline_requests=interval.baseline.requests,
            baseline_errors=interval.baseline.errors,
            baseline_ms=interval.baseline.mean_ms,
            fresh=interval.fresh,
            counters=sources.kept(counters),
        )
        transaction.on_commit(_tell)


def keep_verdict(
    context: StepContext, outcome: str, words: str, judgement: Judgement, *, names: str, goes_on: bool
) -> None:
    """Write down how it ended, and that it was done, in one transaction. Raises LeaseLost."""
    with context.together():
        append(context.operation_id, [], fence=context.fence)
        CanaryVerdict.objects.create(
            operation_id=context.operation_id, outcome=outcome, words=words, goes_on=goes_on
        )  # fmt: skip
        context.did("judged", names, verdict=outcome, requests=judgement.canary.requests, goes_on=goes_on)
        transaction.on_commit(_tell)


def verdict_of(operation_id: int) -> CanaryVerdict | None:
    """How it ended, if it has."""
    return CanaryVerdict.objects.filter(operation_id=operation_id).first()


def _tell() -> None:
    ring("news", "canary")
