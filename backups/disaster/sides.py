"""From a plan's row to what its parts are told: the two sides, as each part sees them."""

from collections.abc import Mapping
from typing import Any

from backups.disaster.base import Side
from backups.models import RecoveryPlan
from environments.models import Environment


def sides(plan: RecoveryPlan, part: Mapping[str, Any], source: Environment) -> tuple[Side, Side]:
    """The side that people are to leave, and the one that takes over. part: the plan's `database`, say."""
    target = plan.standby if source == plan.primary else plan.primary
    return side(plan, part, source), side(plan, part, target)


def side(plan: RecoveryPlan, part: Mapping[str, Any], environment: Environment) -> Side:
    """One of them: what is common to both, then its own."""
    own = "primary" if environment == plan.primary else "standby"
    common = {name: value for name, value in part.items() if name not in ("kind", "primary", "standby")}
    return Side(environment.slug, {**common, **part.get(own, {})})


def database_part(plan: RecoveryPlan) -> dict[str, Any]:
    """The plan's `database`, with the checks that its data have to pass."""
    return {**plan.database, "checks": plan.checks}
