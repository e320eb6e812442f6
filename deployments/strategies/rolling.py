"""Rolling: one after the other and never all at once, as the guide's "Zero-Downtime Deployments" asks."""

from collections.abc import Sequence

from controlplane.operations.plans import Plan
from deployments.strategies.situation import Situation
from environments.drivers.base import Driver, Running, Software

AND = " and "


def rolling_plan(driver: Driver, situation: Situation, to: Software) -> Plan:
    """The driver's own way; it knows what one instance needs."""
    rollout = driver.rollout(situation.target, situation.running, to)
    summary = summary_of(situation, to, situation.running)
    return Plan(summary=summary, steps=rollout.steps, recovery=rollout.recovery, changes=rollout.changes)


def summary_of(situation: Situation, to: Software, before: Sequence[Running], how: str = "") -> str:
    """What the plan does, in one sentence. how: in what way, in words."""
    target, was = situation.target, versions(before)
    if any(one.stranger for one in before):
        was = f"{was}{AND}what somebody else started".removeprefix(f"nothing{AND}")
    return f"{target.service} {to.version} to {target.environment}, from {was}{how and f', {how}'}"


def versions(running: Sequence[Running]) -> str:
    """What runs, in words: one version, several, or nothing."""
    return AND.join(sorted({one.version for one in running if one.version})) or "nothing"


def several(words: str) -> list[str]:
    """The versions in such words."""
    return words.split(AND)
