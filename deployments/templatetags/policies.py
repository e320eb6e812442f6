"""How templates show what the rules ask of a deployment."""

from collections.abc import Mapping
from typing import Any

from django import template

from controlplane.operations.models import Operation
from deployments.policies import policy_of, ticks_of
from environments.models import Environment

register = template.Library()


@register.simple_tag
def checklist(operation: Operation) -> list[Mapping[str, Any]]:
    """Its items, each with its tick; empty where the environment has none."""
    return ticks_of(operation, policy_of(operation.deployment.environment))


@register.simple_tag
def approvals(environment: Environment) -> int:
    """How many approve a change there, groups included."""
    return policy_of(environment).approvals_required


@register.filter
def ticked(items: list[Mapping[str, Any]]) -> int:
    """How many of them are."""
    return sum(one["tick"] is not None for one in items)
