"""Looks, requests and recoveries that are over, as the pages find them."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from backups.disaster.services import request_drill, request_failover
from backups.models import Readiness, Recovery, RecoveryPlan
from controlplane.accounts.access import Actor, Machine
from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from controlplane.operations.models import Operation, OperationLock

CLOCK = Machine(SYSTEM("clock"))
CHECKS = [{"key": "ttl", "title": "TTL", "outcome": "ready", "words": "60 s"}]


def looked(
    plan: RecoveryPlan, *, minutes: float = 5, predicted: float | None = 600, ready: bool = True,
    checks: list[dict[str, str]] = CHECKS,
) -> Readiness:  # fmt: skip
    """A look at the plan. minutes: how old the newest restorable thing is; predicted: seconds."""
    return Readiness.objects.create(
        plan=plan, ready=ready, checks=checks, restorable_to=timezone.now() - timedelta(minutes=minutes),
        predicted_seconds=predicted,
    )  # fmt: skip


def asked(who: Person, plan: RecoveryPlan, **more: Any) -> Operation:
    """A request for a failover from the replica."""
    said = {"point": "replica", "words": "all probes are red", "reason": "region down", **more}
    return request_failover(Actor(who), plan, **said)


def over(operation: Operation, *, state: str = "succeeded", seconds: float = 240, **values: Any) -> Recovery:
    """As if it had run and ended so. values: columns of its recovery."""
    start = operation.requested_at
    end = start + timedelta(seconds=seconds)
    OperationLock.objects.filter(operation=operation).delete()
    Operation.objects.filter(pk=operation.pk).update(state=state, started_at=start, finished_at=end)
    operation.steps.filter(phase="main").update(
        state="succeeded", attempt=1, started_at=start, finished_at=start + timedelta(seconds=2)
    )
    good = {"rto_seconds": seconds, "rpo_seconds": 60.0, "recovered_at": end} if state == "succeeded" else {}
    Recovery.objects.filter(operation=operation).update(**{**good, **values})
    return Recovery.objects.select_related("operation", "plan").get(operation=operation)


def drilled(plan: RecoveryPlan, *, seconds: float, state: str = "succeeded", **values: Any) -> Recovery:
    """A drill by the clock that is over."""
    return over(request_drill(CLOCK, plan, reason="monthly"), state=state, seconds=seconds, **values)
