"""All gates of a deployment, in the order in which people ask for them."""

from dataclasses import replace
from datetime import datetime

from controlplane.operations.gates import Gate, Outcome
from deployments.gates import checklist, conditions, evidence, promotion, times, turn, way_back
from deployments.gates.emergency import emergency
from deployments.gates.known import know
from deployments.models import Deployment, Release
from environments.models import Environment

# What people may set aside together, for an incident. Whether the software is what it claims to be is not among it.
BREAKABLE = frozenset({"soak", "incidents", "backup", "freeze", "hours", "checklist", "way-back"})


def gates_for(
    environment: Environment,
    release: Release,
    *,
    kind: str,
    operation_id: int | None = None,
    planned: datetime | None = None,
    seen: way_back.Look | None = None,
    makes_backup: bool | None = None,
) -> list[Gate]:
    """All gates. operation_id: the one they are asked for, None before there is one. planned: when it is to start.

    seen: what the place said of the way back; None where it was not asked, as a page that must not wait does.
    makes_backup: whether the plan that they are asked for has a backup made first; None where there is no plan yet.

    A rollback passes what must not stop the way back: only what nobody has run, a lock and other work keep it.
    """
    known = know(environment, release, operation_id)
    if kind == Deployment.Kind.ROLLBACK:
        return [
            promotion.ran_before(environment, release),
            turn.not_locked(environment, known.locks, rollback=True),
            turn.nobody_else(environment, known.held),
        ]
    policy, at = known.policy, max(planned, known.now) if planned else known.now
    gates = [
        *promotion.gates(environment, release, known),
        evidence.ci_passed(release, policy),
        *evidence.gates(release, known),
        *conditions.gates(environment, policy, makes_backup=makes_backup),
        *times.gates(known.freezes, policy, at),
        *checklist.gates(policy, known.ticked, is_asked_for=operation_id is not None),
        *way_back.gates(release, known, seen),
        turn.not_locked(environment, known.locks),
        turn.nobody_else(environment, known.held),
    ]
    return _broken(environment, gates)


def _broken(environment: Environment, gates: list[Gate]) -> list[Gate]:
    """Those that two people have set aside for an incident pass, and say so."""
    standing = [gate for gate in gates if gate.key in BREAKABLE and gate.outcome is not Outcome.PASSED]
    why = emergency(environment) if standing else ""
    if not why:
        return gates
    return [
        replace(gate, outcome=Outcome.PASSED, reason=f"set aside: {why} (otherwise: {gate.reason})", set_aside=True)
        if gate in standing
        else gate
        for gate in gates
    ]
