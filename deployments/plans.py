"""Deployment plans: pure functions from what runs and what is wanted to a frozen plan."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controlplane.operations.plans import Plan, StepSpec
from deployments.strategies.blue_green import after_switch, blue_green_plan, serving_at
from deployments.strategies.canary import canary_plan
from deployments.strategies.rolling import rolling_plan, several, versions
from deployments.strategies.settings import BLUE_GREEN, CANARY, Settings
from deployments.strategies.situation import Situation
from environments.drivers.base import Driver, Running, Software

__all__ = [
    "BACKUP",
    "begin_with",
    "deployment_plan",
    "makes_backup",
    "serving",
    "several",
    "versions",
    "will_run",
    "without_backup",
]
# The heading of the steps that back up before anything is touched.
BACKUP = "Backup"


def deployment_plan(driver: Driver, situation: Situation, to: Software, settings: Settings, strategy: str) -> Plan:
    """The plan that brings `to` to the target, from what runs there now, by a strategy.

    Raises Invalid, in words, where the strategy cannot be had there; StepError where the driver has no way.
    """
    if strategy == CANARY:
        return canary_plan(driver, situation, to, settings.canary)
    if strategy == BLUE_GREEN:
        return blue_green_plan(driver, situation, to, settings.blue_green)
    return rolling_plan(driver, situation, to)


def begin_with(plan: Plan, first: Sequence[StepSpec]) -> Plan:
    """The same plan, with what comes before anything is touched; where nothing is to be done, nothing comes first."""
    return replace(plan, steps=(*first, *plan.steps)) if plan.steps else plan


def without_backup(plan: Plan) -> Plan:
    """The same plan, which tells its approver that no backup is made first; words that hold for any emergency."""
    row = {"what": BACKUP, "from": "", "to": "none is made first: the glass is broken"}
    return replace(plan, changes=(*plan.changes, row)) if plan.steps else plan


def makes_backup(plan: Mapping[str, Any]) -> bool:
    """Whether a backup is made first, of a plan's JSON."""
    return any(step["group"] == BACKUP for step in plan["steps"])


def serving(situation: Situation, settings: Settings, strategy: str) -> list[Running]:
    """What people get now: of two colours only one. Raises Invalid as the plan does."""
    return serving_at(situation, settings.blue_green) if strategy == BLUE_GREEN else situation.running


def will_run(situation: Situation, to: Software, settings: Settings, strategy: str) -> Situation:
    """What there will be once a deployment of `to` has gone well. Raises Invalid as the plan does."""
    if strategy == BLUE_GREEN:
        return after_switch(situation, to, settings.blue_green)
    return replace(situation, running=[one.after(situation.target, to) for one in situation.running])
