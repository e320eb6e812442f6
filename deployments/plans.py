"""Deployment plans: pure functions from what runs and what is wanted to a frozen plan."""

from controlplane.operations.plans import Plan
from environments.drivers.base import Driver, Running, Software, Target


def deployment_plan(driver: Driver, target: Target, running: list[Running], to: Software) -> Plan:
    """The plan that brings `to` to the target, from what runs there now.

    One after the other and never all at once, as the guide's "Zero-Downtime Deployments" asks; the driver
    knows what one instance needs.
    """
    rollout = driver.rollout(target, running, to)
    summary = f"{target.service} {to.version} to {target.environment}, from {versions(running)}"
    return Plan(summary=summary, steps=rollout.steps, recovery=rollout.recovery, changes=rollout.changes)


def versions(running: list[Running]) -> str:
    """What runs, in words: one version, several, or nothing."""
    return " and ".join(sorted({one.version for one in running if one.version})) or "nothing"
