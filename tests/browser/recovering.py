"""A recovery plan with a look, drills, a failover in each of its states, and a kit; the addresses of all that."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from backups.models import Readiness, Recovery, RecoveryClock, RecoveryPlan
from controlplane.accounts.access import Actor
from controlplane.operations import transitions
from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan, StepSpec
from controlplane.operations.states import State, StepState
from tests.browser.company import Company

STEPS = (
    ("assess", "ask both sides how they are", "Assess"),
    ("database/restore", "restore the snapshot", "Database"),
    ("fence/stop", "stop pitchey-backend in production", "Fence"),
    ("fence/stopped", "see that nothing of it runs in production", "Proof of the fence"),
    ("traffic/switch", "send people to dr", "Traffic"),
    ("outside", "ask from outside", "Verify"),
)
RISK = "It is not proven that production writes no more: two sides may take in different data at the same time."


def recovered(company: Company) -> list[str]:
    """The plan's database answers nobody: what a page says then is to be seen too."""
    plan = RecoveryPlan.objects.create(
        slug="main", name="Production to DR", primary=company.environment("production"),
        standby=company.environment("dr"), services={"pitchey-backend": 1}, traffic={"kind": "local", "name": "api"},
        database={"kind": "postgres", "database": "env:NOWHERE"}, tell=["slack"],
        checks=[{"name": "there are users", "sql": "SELECT count(*) > 0 FROM users"}],
    )  # fmt: skip
    later = timezone.now() + timedelta(days=3)
    RecoveryClock.objects.create(plan=plan, readiness_due_at=later, kit_due_at=later, drill_due_at=later)
    outcomes = (("TTL of the records", "ready", "60 s"), ("Quota", "unknown", "It could not be asked: access denied."),
                ("Something to restore", "not ready", "the snapshot is 64 min old"))  # fmt: skip
    Readiness.objects.create(
        plan=plan, ready=False, restorable_to=timezone.now() - timedelta(minutes=52), predicted_seconds=5200.0,
        checks=[{"key": title, "title": title, "outcome": how, "words": words} for title, how, words in outcomes],
    )  # fmt: skip
    drills = [_over(_asked(company, plan, Recovery.Kind.DRILL), days) for days in (90, 60, 30)]
    done = _over(_asked(company, plan, Recovery.Kind.FAILOVER), 2, fence_proven=True)
    doubtful = _in_doubt(_asked(company, plan, Recovery.Kind.FAILOVER))
    waits = _asked(company, plan, Recovery.Kind.FAILOVER)
    return [
        "/recovery", plan.get_absolute_url(), f"{plan.get_absolute_url()}/drills",
        f"{plan.get_absolute_url()}/failover", f"{plan.get_absolute_url()}/failback",
        *(f"/recovery/runs/{one.pk}" for one in (drills[-1], done, doubtful, waits)),
        f"/recovery/runs/{done.pk}/report", f"/recovery/runs/{drills[0].pk}/report",
    ]  # fmt: skip


def _asked(company: Company, plan: RecoveryPlan, kind: str) -> Operation:
    steps = tuple(
        StepSpec(key, title, "recovery.assess", {}, group, risk=RISK if key == "fence/stopped" else "")
        for key, title, group in STEPS
    )
    now = timezone.now()
    kept: dict[str, Any] = {
        "point": {"key": "snapshot", "title": "snapshot of 02:00", "as_of": now.isoformat(), "arguments": {}},
        "predicted": {"seconds": 360.0, "steps": {key: 60.0 for key, _, _ in STEPS}},
        "assessment": {"words": [{"who": "Alice", "words": "all probes are red, and AWS says so"}]},
    }

    def attach(operation: Operation) -> None:
        Recovery.objects.create(
            operation=operation, plan=plan, kind=kind, source=plan.primary, target=plan.standby, **kept
        )

    change = {"what": "pitchey-backend", "from": "production, stopped there", "to": "1 × 1.4.0 in dr"}
    return transitions.request(
        Actor(company.alice), kind=kind, title=f"{kind} of production to dr", scopes=plan.scopes,
        plan=Plan("fail over", steps, changes=(change,)), reason="the region is dark", approvals_required=2,
        gates=[Gate("side", "The right way", Outcome.PASSED, "production serves people")], attach=attach,
    )  # fmt: skip


def _over(operation: Operation, days: int, **values: Any) -> Operation:
    start = timezone.now() - timedelta(days=days)
    end = start + timedelta(seconds=200 + days)
    Operation.objects.filter(pk=operation.pk).update(
        state=State.SUCCEEDED, requested_at=start, started_at=start, finished_at=end
    )
    operation.steps.update(state=StepState.SUCCEEDED, attempt=1, started_at=start, finished_at=end,
                           checkpoint={"rows": {"users": 412_008}, "lost_seconds": 41.0})  # fmt: skip
    Recovery.objects.filter(operation=operation).update(
        rto_seconds=200.0 + days, rpo_seconds=60.0, recovered_at=end, **values
    )
    return operation


def _in_doubt(operation: Operation) -> Operation:
    start = timezone.now() - timedelta(minutes=20)
    Operation.objects.filter(pk=operation.pk).update(
        state=State.NEEDS_OPERATOR, requested_at=start, started_at=start, outcome="A person has to say what is true."
    )
    operation.steps.filter(position__lt=3).update(
        state=StepState.SUCCEEDED, attempt=1, started_at=start, finished_at=start + timedelta(minutes=5)
    )
    error = "production cannot be reached: nobody knows whether anything runs there."
    operation.steps.filter(position=3).update(state=StepState.UNKNOWN, attempt=1, started_at=start, error=error)
    return operation
