"""Changing alert rules: what is declared, what an administrator writes, and the pause."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.audit.record import record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.transitions import said
from incidents.intake.own import say
from incidents.models import AlertRule, RuleState
from incidents.rules import alerts

# What its alerts are known by: when one of these changes, those that are out are taken back under their old name, and
# said anew with the next look.
KNOWN_BY = frozenset({"name", "severity", "notify"})


def apply(slug: str, values: Mapping[str, Any]) -> AlertRule:
    """Make a rule so, in the caller's transaction. values: fields of the model, checked."""
    rule = AlertRule.objects.select_for_update().filter(slug=slug).first()
    if rule is None:
        rule = AlertRule.objects.create(slug=slug, **values)
    else:
        rows = RuleState.objects.filter(rule=rule)
        if any(getattr(rule, name) != value for name, value in values.items() if name in KNOWN_BY):
            _take_back(rule)
            rows.update(told_since=None, nodata_since=None)
            rows.filter(state=RuleState.State.FIRING).update(state=RuleState.State.PENDING)
        AlertRule.objects.filter(pk=rule.pk).update(**values)
        rows.update(due_at=Now())
    transaction.on_commit(lambda: ring("news", "alerts"))
    return rule


def _take_back(rule: AlertRule) -> list[RuleState]:
    """Say that its alerts are over, in the caller's transaction; returns its rows, locked."""
    rows = RuleState.objects.select_for_update(of=("self",)).select_related("rule", "environment")
    found = list(rows.filter(rule=rule).order_by("pk"))
    say([one for row in found for one in alerts.over(row)])
    return found


def change(actor: Actor, rule: AlertRule, values: Mapping[str, Any], reason: str) -> None:
    """Another condition, another duration. values: fields of the model, checked by the form.

    Where it watched and where it will watch, both take an administrator. Raises Invalid.
    """
    if not values:
        raise Invalid("Nothing is different.")
    after = values.get("environments", rule.environments)
    scopes = sorted({*rule.environments, *after}) if rule.environments and after else []
    require(actor, Role.ADMIN, scopes, f"change the alert rule {rule.name}")
    reason = said(reason, "Say why: it is kept for good.")
    with transaction.atomic():
        kept = AlertRule.objects.select_for_update().get(pk=rule.pk)
        changes = {name: [getattr(kept, name), value] for name, value in values.items()}
        apply(rule.slug, values)
        record(actor.who, "alert_rule.changed", f"alert rule {kept.name}", scopes=scopes, reason=reason,
               data={"changes": changes})  # fmt: skip


def pause(actor: Actor, rule: AlertRule, reason: str, *, paused: bool) -> None:
    """Stop evaluating it, or go on. Alerts of it that are out are taken back. Raises Invalid or Conflict."""
    word = "pause" if paused else "resume"
    require(actor, Role.ADMIN, rule.environments, f"{word} the alert rule {rule.name}")
    reason = said(reason, f"Say why you {word} it: it is kept for good.")
    with transaction.atomic():
        if not AlertRule.objects.filter(pk=rule.pk, paused=not paused).update(paused=paused):
            raise Conflict(f"Somebody was first: it is {'paused' if paused else 'not paused'} already.")
        if paused:
            RuleState.objects.filter(pk__in=[row.pk for row in _take_back(rule)]).delete()
        transaction.on_commit(lambda: ring("news", "alerts"))
        record(actor.who, f"alert_rule.{word}d", f"alert rule {rule.name}", scopes=rule.environments, reason=reason)
