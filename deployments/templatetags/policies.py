"""How templates show what the rules ask of a deployment, and what it brings."""

from collections.abc import Mapping
from typing import Any

from django import template

from controlplane.operations.models import Operation
from deployments.commits import Between, commits_of_deployment
from deployments.models import Deployment
from deployments.policies import policy_of, ticks_of
from environments.models import Environment

register = template.Library()
ABOUT = ["environment", "release__service", "release__report__pipeline", "operation__notice__pipeline",
         "operation__canary_verdict"]  # fmt: skip


@register.simple_tag
def deployment_of(operation: Operation) -> Deployment:
    """What the operation is about, read with all that its page says of it."""
    rows = Deployment.objects.select_related(*ABOUT)
    return rows.get(operation=operation)


@register.simple_tag
def checklist(deployment: Deployment) -> list[Mapping[str, Any]]:
    """Its items, each with its tick; empty where the environment has none."""
    return ticks_of(deployment.operation, policy_of(deployment.environment))


@register.simple_tag
def approvals(environment: Environment) -> int:
    """How many approve a change there, groups included."""
    return policy_of(environment).approvals_required


@register.simple_tag
def commits(deployment: Deployment) -> Between | None:
    """What it brings or takes away; None where that is not known."""
    return commits_of_deployment(deployment)


@register.filter
def ticked(items: list[Mapping[str, Any]]) -> int:
    """How many of them are."""
    return sum(one["tick"] is not None for one in items)
