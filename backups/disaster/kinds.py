"""What the engine has to know of failovers, failbacks and drills."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from backups.disaster.assembling import assemble
from backups.disaster.base import Candidate
from backups.disaster.plans import MEASURED, PROOF, SERVED
from backups.disaster.services import DRILL, FAILBACK, FAILOVER, FENCE, gates_for
from backups.models import Recovery, RecoveryClock, RecoveryPlan
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations import bypasses
from controlplane.operations.bypasses import Part
from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation, Step
from controlplane.operations.plans import Plan
from controlplane.operations.registry import Kind
from controlplane.operations.states import STEP_FINISHED, Answer, State, StepState
from environments.arrivals import note_arrival
from environments.locks import hold_still
from environments.models import Placement
from environments.secrets import secrets_of

TEMPLATE = "backups/disaster/_operation_facts.html"


def _recovery(operation: Operation) -> Recovery:
    related = "plan__primary", "plan__standby", "source", "target"
    return Recovery.objects.select_related(*related).get(operation=operation)


def _facts(operation: Operation) -> Mapping[str, Any]:
    """Rows alone: on the worst night of the year nothing may answer, and the plan has to stand all the same."""
    return {}


def _plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    recovery = _recovery(operation)
    return assemble(recovery.plan, recovery.kind, candidate_of(recovery), recovery.faults)


def candidate_of(recovery: Recovery) -> Candidate | None:
    """The restore point that was chosen."""
    if not recovery.point:
        return None
    kept = dict(recovery.point)
    return Candidate(kept["key"], kept["title"], datetime.fromisoformat(kept["as_of"]), kept["arguments"])


def _gates(operation: Operation, facts: Mapping[str, Any]) -> list[Gate]:
    recovery = _recovery(operation)
    hold_still(recovery.plan.scopes)
    return gates_for(recovery.plan, recovery.kind)


def _secrets(operation: Operation) -> list[str]:
    recovery = _recovery(operation)
    return [*secrets_of(recovery.source), *secrets_of(recovery.target)]


def _finished(operation: Operation) -> None:
    """What was reached, and who serves people from now on."""
    recovery = _recovery(operation)
    steps = {step.key: step for step in operation.steps.all()}
    values = _reached(recovery, operation, steps)
    Recovery.objects.filter(pk=recovery.pk).update(**values)
    if recovery.kind == Recovery.Kind.DRILL:
        done = operation.state == State.SUCCEEDED
        # One that failed proves nothing: it is still owed.
        RecoveryClock.objects.filter(plan=recovery.plan).update(overdue_said_at=None if done else Now())
    elif _was_served(steps):
        _move_people(recovery, operation)
    RecoveryClock.objects.filter(plan=recovery.plan).update(readiness_due_at=Now())
    if recovery.incident is not None and operation.started_at is not None:
        _wait_for_a_review(recovery, operation)
    transaction.on_commit(lambda: ring("news", "backups environments"))


def _wait_for_a_review(recovery: Recovery, operation: Operation) -> None:
    """It went with fewer approvers than usual: somebody who took no part looks at it afterwards."""
    approvals = operation.approvals.all()
    bypasses.note(
        f"recovery {operation.pk}",
        what=f"{operation.title}, by break-glass of incident {recovery.incident}",
        url=operation.get_absolute_url(),
        scopes=operation.scopes,
        reason=operation.reason,
        people=[
            Part(operation.requested_by_id, operation.requested_by_name),
            *(Part(one.person_id, one.person_name) for one in approvals),
        ],
        until=database_time(),
    )


def _was_served(steps: Mapping[str, Step]) -> bool:
    """People were sent there, however the rest ended."""
    return SERVED in steps and steps[SERVED].state in (StepState.SUCCEEDED, StepState.SKIPPED)


def _move_people(recovery: Recovery, operation: Operation) -> None:
    plan = recovery.plan
    to_primary = recovery.target == plan.primary
    side = RecoveryPlan.Side.PRIMARY if to_primary else RecoveryPlan.Side.STANDBY
    RecoveryPlan.objects.filter(pk=plan.pk).update(active=side)
    for service in plan.services:
        here = Placement.objects.filter(environment=recovery.source, service__slug=service).first()
        if here is None or not here.version:
            continue
        there = Placement.objects.filter(environment=recovery.target, service__slug=service)
        note_arrival(there, operation, version=here.version, digest=here.digest)
        # Nothing runs there any more, and nobody is to be woken because of that.
        note_arrival(Placement.objects.filter(pk=here.pk), operation, version="", digest="")


def _reached(recovery: Recovery, operation: Operation, steps: Mapping[str, Step]) -> dict[str, Any]:
    measured = steps[MEASURED].checkpoint if MEASURED in steps else {}
    served = steps.get(SERVED)
    values: dict[str, Any] = {"rpo_seconds": measured.get("lost_seconds"), "evidence": _evidence(steps.values())}
    if served is not None and served.state == StepState.SUCCEEDED and served.finished_at and operation.started_at:
        drill = recovery.kind == Recovery.Kind.DRILL
        # From the decision. A drill has none: nobody waits for its approval.
        since = operation.started_at if drill else operation.requested_at
        values |= {"recovered_at": served.finished_at, "rto_seconds": (served.finished_at - since).total_seconds()}
    return values | _fence(steps.values())


def _fence(steps: Iterable[Step]) -> dict[str, Any]:
    """Proven is what was observed; a person's word that they accept the risk is kept, and proves nothing."""
    proofs = [step for step in steps if step.spec["group"] == PROOF]
    if not proofs or not all(step.state in STEP_FINISHED for step in proofs):
        return {}
    answers = (step.checkpoint["answered"] for step in proofs if "answered" in step.checkpoint)
    # Whoever had it tried again has seen it after all.
    accepted = [one for one in answers if one["answer"] != Answer.RETRY]
    return {
        "fence_proven": not accepted,
        "accepted_risk": "; ".join(f"{one['about']} {one['by']}: {one['words']}" for one in accepted),
        "accepted_risk_by_name": ", ".join(dict.fromkeys(one["by"] for one in accepted))[:200],
    }


def _evidence(steps: Iterable[Step]) -> dict[str, Any]:
    """What each step noted, with its times: the report is made of it."""
    return {
        step.key: {
            "state": step.state,
            "started_at": step.started_at.isoformat() if step.started_at else "",
            "finished_at": step.finished_at.isoformat() if step.finished_at else "",
            "attempts": step.attempt,
            "noted": step.checkpoint,
            "error": step.error,
        }
        for step in steps
        if step.attempt
    }


LABELS = {FAILOVER: "failover", FAILBACK: "failback", DRILL: "drill", FENCE: "late fence"}
KINDS = tuple(
    Kind(
        key=key, label=label, facts=_facts, plan=_plan, gates=_gates, secrets=_secrets, finished=_finished,
        facts_template=TEMPLATE,
        # Who came back must not serve people, least of all while nobody may do anything about it.
        takes_away=key == FENCE,
    )
    for key, label in LABELS.items()
)  # fmt: skip
