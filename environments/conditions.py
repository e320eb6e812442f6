"""What other apps know of an environment that a change of it depends on, asked by name.

An app registers what it can say in `AppConfig.ready()`: "incidents", "backup", "emergency". Whoever needs to know asks,
and takes it as not known when nobody can say. Conditions ask PostgreSQL and nothing else: they are asked again in the
claiming transaction.
"""

from collections.abc import Callable, Mapping
from typing import Any

from controlplane.operations.gates import Outcome
from environments.models import Environment

Said = tuple[Outcome, str]  # how it stands, and why, in words
Condition = Callable[[Environment, Mapping[str, Any]], Said]
_conditions: dict[str, Condition] = {}


def register(name: str, condition: Condition) -> None:
    """Make one known. Raises ValueError when the name is taken by another."""
    if _conditions.setdefault(name, condition) is not condition:
        raise ValueError(f"condition {name} is registered twice")


def ask(name: str, environment: Environment, wanted: Mapping[str, Any]) -> Said | None:
    """What is known; None when nobody can say. wanted: what is asked for, as the policy has it."""
    condition = _conditions.get(name)
    return condition(environment, wanted) if condition else None
