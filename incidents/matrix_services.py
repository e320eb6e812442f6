"""Changing the matrix. What runs already keeps the plan it was opened with (`incidents.escalation.plan`)."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.db import connection, transaction

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.audit.record import record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.transitions import said
from incidents.escalation import plan
from incidents.models import EscalationLevel, EscalationPolicy

# Held while somebody changes any policy: each severity belongs to one of them, so they are looked at together.
MATRIX_LOCK = 4_857_110_042
LEVELS_AT_MOST = 10
LONGEST_SECONDS = 7 * 24 * 3600
WHY = "Say why: it is kept for good."


@dataclass(frozen=True)
class LevelPlan:
    """A level as somebody wants it; see `EscalationLevel` for the fields."""

    role: str
    after_seconds: int
    targets: tuple[tuple[str, str], ...]  # ("schedule", slug) or ("person", username)
    channels: tuple[str, ...]


@dataclass(frozen=True)
class PolicyPlan:
    """A policy as somebody wants it."""

    name: str
    severities: tuple[str, ...]
    repeats: int
    repeat_after_seconds: int
    levels: tuple[LevelPlan, ...]


def problem_with_times(levels: Sequence[LevelPlan]) -> str:
    """What is wrong with the order of the levels; "" when each comes after the one before."""
    for number, (before, after) in enumerate(pairwise(levels), 2):
        if after.after_seconds <= before.after_seconds:
            return f"L{number} has to come later than L{number - 1}: times are counted from the opening of the incident"
    return "" if levels else "a matrix needs a level: without one nobody would be paged"


def problem_with_severities(slug: str, severities: Collection[str], *, besides: Collection[str] = ()) -> str:
    """Which other policy has one of these severities already; "" when none has. besides: policies not to look at."""
    for other in EscalationPolicy.objects.exclude(slug__in=[slug, *besides]):
        if taken := sorted(set(other.severities) & set(severities)):
            return f"{' and '.join(taken)} is escalated by {other.name} already; take it out there first"
    return ""


def as_stored(policy: EscalationPolicy) -> dict[str, Any]:
    """A policy as its incidents keep it, and its severities."""
    return plan.snapshot(policy) | {"severities": sorted(policy.severities)}


def digest_of(policy: EscalationPolicy) -> str:
    """What somebody saw before they changed it."""
    return hashlib.sha256(json.dumps(as_stored(policy), sort_keys=True).encode()).hexdigest()


def change(actor: Actor, policy: EscalationPolicy, wanted: PolicyPlan, *, shown: str, reason: str) -> None:
    """Make the policy so. shown: the digest of what was on the page. Admins only. Raises Invalid, Conflict."""
    require(actor, Role.ADMIN, [], f"change the escalation policy {policy.slug}")
    reason = said(reason, WHY)
    with transaction.atomic():
        _check(policy.slug, wanted)
        kept = EscalationPolicy.objects.select_for_update().get(pk=policy.pk)
        before = as_stored(kept)
        if digest_of(kept) != shown:
            raise Conflict("Somebody has changed this matrix since you opened it: look at it again, then decide.")
        write(kept.slug, wanted)
        after = as_stored(EscalationPolicy.objects.get(pk=kept.pk))
        if before == after:
            raise Invalid("Nothing is different.")
        _recorded(actor, "escalation.changed", kept.slug, reason, changes_of(before, after))


def create(actor: Actor, slug: str, wanted: PolicyPlan, *, reason: str) -> EscalationPolicy:
    """One more policy, for incidents to come. Admins only. Raises Invalid, Conflict when its short name is taken."""
    require(actor, Role.ADMIN, [], f"add the escalation policy {slug}")
    reason = said(reason, WHY)
    with transaction.atomic():
        _check(slug, wanted)
        if not EscalationPolicy.objects.get_or_create(slug=slug, defaults={"name": wanted.name})[1]:
            raise Conflict(f"There is an escalation policy {slug} already: change that one, or choose another name.")
        made = write(slug, wanted)
        _recorded(actor, "escalation.added", slug, reason, changes_of({}, as_stored(made)))
    return made


def _check(slug: str, wanted: PolicyPlan) -> None:
    """Raises Invalid for what no policy can be. Nobody else changes one until the end of the transaction."""
    if words := problem_with_times(wanted.levels):
        raise Invalid(f"{words[0].upper()}{words[1:]}.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [MATRIX_LOCK])
    if words := problem_with_severities(slug, wanted.severities):
        raise Invalid(f"{words}.")


def _recorded(actor: Actor, action: str, slug: str, reason: str, changes: Mapping[str, Any]) -> None:
    transaction.on_commit(lambda: ring("news", "incidents"))
    record(actor.who, action, f"escalation policy {slug}", reason=reason, data={"changes": changes})


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs, by key."""
    return {key: [before.get(key, ""), value] for key, value in after.items() if before.get(key) != value}


def write(slug: str, wanted: PolicyPlan) -> EscalationPolicy:
    """Create the policy or replace all of it, in the caller's transaction."""
    policy, _ = EscalationPolicy.objects.update_or_create(
        slug=slug,
        defaults={
            "name": wanted.name,
            "severities": sorted(wanted.severities),
            "repeats": wanted.repeats,
            "repeat_after_seconds": wanted.repeat_after_seconds,
        },
    )
    EscalationLevel.objects.filter(policy=policy).delete()
    EscalationLevel.objects.bulk_create(
        EscalationLevel(
            policy=policy, number=number, role=one.role, after_seconds=one.after_seconds,
            targets=[{kind: name} for kind, name in one.targets], channels=list(one.channels),
        )
        for number, one in enumerate(wanted.levels, 1)
    )  # fmt: skip
    return policy


def plan_of(policy: EscalationPolicy) -> PolicyPlan:
    """A stored policy in the same form."""
    return PolicyPlan(
        policy.name, tuple(policy.severities), policy.repeats, policy.repeat_after_seconds,
        tuple(
            LevelPlan(level.role, level.after_seconds, tuple(next(iter(one.items())) for one in level.targets),
                      tuple(level.channels))
            for level in policy.levels.all()
        ),
    )  # fmt: skip
