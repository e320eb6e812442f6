"""The steps of a failover, a failback and a drill: the guide's five (assess, DNS, database, applications, verify,
notify), with the old side fenced first, and with what takes long set going before anything is waited for. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backups.disaster.applications import GROUP as APPLICATIONS
from backups.disaster.applications import Application
from backups.disaster.base import Candidate, Fence, Part
from controlplane.operations.plans import Arguments, Plan, Retry, StepSpec

AGAIN = Retry(attempts=5, wait=2.0)
FENCE, PROOF, VERIFY = "Fence", "Proof of the fence", "Verify"
MEASURED = "measure"  # the key of the step that says what was reached
SERVED = "outside"  # the key of the step after which people are served


@dataclass(frozen=True)
class Parts:
    """Everything a plan is put together from.

    about: what the steps of `steps.py` have to know of plan and sides. url: where people come from outside, "" for
    nowhere. tell: channels and contacts. fence: of the database; withdrawal: of the traffic. configuration: what the
    target's variables become before its applications are started. back: recovery steps that let people in again where
    they were, for what fails between the fence and the moment at which they are sent away.
    """

    source: str
    target: str
    about: Arguments
    applications: Sequence[Application]
    database: Part
    traffic: Part
    uploads: Part
    fence: Fence = field(default_factory=Fence)
    withdrawal: Fence = field(default_factory=Fence)
    url: str = ""
    tell: Sequence[str] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
    back: tuple[StepSpec, ...] = ()


def failover_plan(parts: Parts, candidate: Candidate) -> Plan:
    """From the side that fails to the other one, from a restore point."""
    summary = f"fail over from {parts.source} to {parts.target}, with {candidate.title}"
    return _takeover(parts, summary, f"Fail over to {parts.target}")


def failback_plan(parts: Parts) -> Plan:
    """Home again, with everything that was made meanwhile."""
    return _takeover(parts, f"bring {parts.target} back, with everything from {parts.source}", "Failback")


def _takeover(parts: Parts, summary: str, what: str) -> Plan:
    stopping = [one.stopping() for one in parts.applications]
    starting = [one.starting() for one in parts.applications]
    stops = (step for one in stopping for step in one.begin)
    proofs = (step for one in stopping for step in one.wait)
    behind_the_fence = [
        *_under(FENCE, (*stops, *parts.withdrawal.act, *parts.fence.act)),
        *parts.uploads.begin,
        *_configuration(parts),
        *_under(APPLICATIONS, (step for one in starting for step in one.begin)),
        *_proofs(parts.source, (*proofs, *parts.withdrawal.prove, *parts.fence.prove)),
        # From here on the old side is known not to write any more.
        *parts.database.wait,
        *parts.database.open,
        *parts.uploads.wait,
        *_under(APPLICATIONS, (step for one in starting for step in one.wait)),
        *parts.database.verify,
        *parts.uploads.verify,
    ]
    back = tuple(step.key for step in parts.back)
    steps = [
        _assess(parts),
        # Side by side: the old side is stopped and fenced while the new one is made ready. The database first: it
        # takes the longest.
        *parts.database.begin,
        *(replace(step, on_failure=(*step.on_failure, *back)) for step in behind_the_fence),
        # From here on people may write at the new side: what fails is tried again, and nobody goes back.
        *parts.traffic.begin,
        *parts.traffic.wait,
        *parts.traffic.open,
        *parts.traffic.verify,
        _outside(parts),
        _measure(parts),
        _tell(parts, what),
        *parts.database.cleanup,
    ]
    recovery = (*parts.database.recovery, *parts.traffic.recovery, *parts.uploads.recovery, *parts.back)
    changes = (
        {"what": "people", "from": parts.source, "to": parts.target},
        *parts.database.changes, *parts.uploads.changes, *parts.traffic.changes,
        *({"what": one.service, "from": f"{one.source.environment}, stopped there",
           "to": f"{one.count} × {one.software.version or 'what it has'} in {parts.target}"}
          for one in parts.applications),
    )  # fmt: skip
    # Whoever is in the middle of this wants to be asked, not to begin again.
    asking = tuple(replace(step, asks=True) for step in steps)
    return Plan(summary, asking, recovery, changes)


def drill_plan(parts: Parts, candidate: Candidate, faults: Sequence[str]) -> Plan:
    """The same into an isolated target: nothing is fenced, nobody is sent there, and all of it is taken away again."""
    starting = [one.starting() for one in parts.applications]
    cleanup = _cleanup(parts)
    back = tuple(replace(step, key=f"{step.key}-after-failure") for step in cleanup)
    undo = tuple(step.key for step in back)
    steps = [
        _assess(parts),
        *(_fault(fault) for fault in faults),
        *parts.database.begin,
        *parts.uploads.begin,
        *_under(APPLICATIONS, (step for one in starting for step in one.begin)),
        *parts.database.wait,
        *parts.database.open,
        *parts.uploads.wait,
        *_under(APPLICATIONS, (step for one in starting for step in one.wait)),
        *parts.database.verify,
        *parts.uploads.verify,
        *parts.traffic.begin,
        *parts.traffic.wait,
        *parts.traffic.open,
        *parts.traffic.verify,
        _outside(parts),
        _measure(parts),
    ]
    undoing = [replace(step, on_failure=undo, safe_point=number == 0) for number, step in enumerate(steps)]
    summary = f"rehearse the failover from {parts.source} to {parts.target}, with {candidate.title}"
    changes = (
        *parts.database.changes, *parts.uploads.changes, *parts.traffic.changes,
        {"what": parts.source, "from": "serves people", "to": "serves people: a drill changes nothing there"},
    )  # fmt: skip
    return Plan(summary, (*undoing, *cleanup), back, changes)


def late_fence_plan(source: str, applications: Sequence[Application], fence: Fence) -> Plan:
    """A side that people left without a proof is there again: fence and stop it before it takes in anything."""
    stopping = [one.stopping() for one in applications]
    steps = (*fence.act, *(step for one in stopping for step in one.begin))
    proofs = (*fence.prove, *(step for one in stopping for step in one.wait))
    return Plan(
        f"fence {source}, which is there again",
        (*_under(FENCE, steps), *_proofs(source, proofs)),
        changes=({"what": source, "from": "not proven to be fenced", "to": "fenced"},),
    )


def _cleanup(parts: Parts) -> list[StepSpec]:
    ends = [one.ending() for one in parts.applications]
    steps = (
        *parts.traffic.cleanup,
        *(step for one in ends for step in (*one.begin, *one.wait)),
        *parts.uploads.cleanup,
        *parts.database.cleanup,
    )
    return list(_under("Clean up", steps))


def _under(group: str, steps: Iterable[StepSpec]) -> Iterable[StepSpec]:
    return (replace(step, group=group) for step in steps)


def _proofs(source: str, steps: Iterable[StepSpec]) -> Iterable[StepSpec]:
    risk = f"It is not proven that {source} writes no more: two sides may take in different data at the same time."
    return (replace(step, group=PROOF, risk=risk) for step in steps)


def _configuration(parts: Parts) -> Iterable[StepSpec]:
    if parts.configuration:
        arguments = {"environment": parts.target, "values": dict(parts.configuration)}
        title = f"set {', '.join(sorted(parts.configuration))} in {parts.target}"
        yield StepSpec("configuration", title, "recovery.configure", arguments, APPLICATIONS, 60.0, AGAIN)


def _assess(parts: Parts) -> StepSpec:
    arguments = {**parts.about, "source": parts.source, "target": parts.target}
    return StepSpec("assess", "ask both sides how they are", "recovery.assess", arguments, "Assess", 120.0, AGAIN,
                    safe_point=True)  # fmt: skip


def _fault(fault: str) -> StepSpec:
    return StepSpec(
        f"fault/{fault}", f"game day: {fault}", "recovery.fault", {"fault": fault}, "Game day", 300.0, AGAIN
    )


def _outside(parts: Parts) -> StepSpec:
    arguments = {"url": parts.url, "target": parts.target}
    return StepSpec(SERVED, "ask from outside", "recovery.outside", arguments, VERIFY, 900.0, AGAIN)


def _measure(parts: Parts) -> StepSpec:
    arguments = {**parts.about, "source": parts.source, "target": parts.target}
    return StepSpec(MEASURED, "measure what was reached", "recovery.measure", arguments, VERIFY, 300.0, AGAIN)


def _tell(parts: Parts, what: str) -> StepSpec:
    arguments = {**parts.about, "tell_whom": list(parts.tell), "words": what}
    return StepSpec("tell", "tell people", "recovery.tell", arguments, "Tell", 300.0, AGAIN)
