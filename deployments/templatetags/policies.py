"""How templates show the checklist of a deployment."""

from collections.abc import Mapping
from typing import Any

from django import template

from controlplane.operations.models import Operation
from deployments.policies import policy_of, ticks_of

register = template.Library()


@register.simple_tag
def checklist(operation: Operation) -> list[Mapping[str, Any]]:
    """Its items, each with its tick; empty where the environment has none."""
    return ticks_of(operation, policy_of(operation.deployment.environment))


@register.filter
def ticked(items: list[Mapping[str, Any]]) -> int:
    """How many of them are."""
    return sum(one["tick"] is not None for one in items)
