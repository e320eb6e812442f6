"""Which alert rules a person sees, and the one they named: the object, or 404, or 403."""

from collections.abc import Iterable

from django.db.models import Prefetch, QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from incidents.models import AlertRule, RuleState


def visible_states(actor: Actor) -> QuerySet[RuleState]:
    """How rules stand where the person may look, in the order of the board."""
    rows = RuleState.objects.select_related("environment", "rule").order_by("environment__position", "environment")
    scopes = actor.scopes(Role.VIEWER)
    return rows if scopes is None else rows.filter(environment__slug__in=scopes)


def visible_rules(actor: Actor) -> list[AlertRule]:
    """Those that watch, or when paused would watch, an environment the person may look at; with their states there."""
    rules = AlertRule.objects.prefetch_related(Prefetch("states", visible_states(actor)))
    return [rule for rule in rules if _sees(actor, rule.environments)]


def load_rule(actor: Actor, slug: str, role: Role = Role.VIEWER) -> AlertRule:
    """The rule, if the person sees one of its environments, or has a stronger role in all of them.

    Raises Http404 or PermissionDenied otherwise.
    """
    rule = get_object_or_404(AlertRule, slug=slug)
    if role == Role.VIEWER and _sees(actor, rule.environments):
        return rule
    if not _sees(actor, rule.environments):
        require(actor, role, rule.environments, f"open the alert rule {rule.name}")
        raise Http404
    require(actor, role, rule.environments, f"change the alert rule {rule.name}")
    return rule


def _sees(actor: Actor, environments: Iterable[str]) -> bool:
    """Somewhere is enough; a rule of all environments is seen by whoever sees one."""
    scopes = actor.scopes(Role.VIEWER)
    if scopes is None:
        return True
    return bool(set(scopes) & set(environments)) if environments else bool(scopes)
