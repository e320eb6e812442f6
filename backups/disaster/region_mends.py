"""Comparing both sides' uploads and bringing over what is missing, as an operation that people and the clock ask for.

Nothing is fenced and nobody is moved: it needs no approval. It holds a lock of its own, so a failover does not wait
for it; both of them bring over the same things the same way, and never over something newer.
"""

import logging
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from backups.disaster.base import Side
from backups.disaster.sides import sides
from backups.disaster.uploads.mending import GROUP, whole_step
from backups.models import RecoveryPlan, RegionLook, RegionMend
from controlplane.accounts.access import Actor, Machine, require
from controlplane.accounts.models import Role
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid, StepError
from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan
from controlplane.operations.registry import Kind
from controlplane.operations.states import ACTIVE
from controlplane.operations.transitions import request
from environments.secrets import resolve

logger = logging.getLogger(__name__)

REGION_MEND = "region-mend"
NO_UPLOADS = "This plan names no uploads, so there is nothing to compare. Say in its settings where they are."


def request_mend(actor: Actor | Machine, plan: RecoveryPlan, *, reason: str) -> Operation:
    """Ask for it. Raises PermissionDenied, Http404, Invalid, or Conflict when one is on its way."""
    if isinstance(actor, Actor):
        require(actor, Role.OPERATOR, plan.scopes, f"mend the uploads of {plan}")
    if not plan.uploads:
        raise Invalid(NO_UPLOADS)
    source, target = sides(plan, plan.uploads, plan.serving)

    def attach(operation: Operation) -> None:
        _one_at_a_time(plan)
        RegionMend.objects.create(operation=operation, plan=plan, source=source.environment, target=target.environment)

    return request(
        actor,
        kind=REGION_MEND,
        title=f"Uploads: bring to {target.environment} what it misses of {source.environment}",
        scopes=plan.scopes,
        locks=[f"uploads/{plan.slug}"],
        plan=mend_plan(plan.uploads["kind"], source, target),
        gates=[],
        reason=reason,
        approvals_required=0,
        attach=attach,
    )


def _one_at_a_time(plan: RecoveryPlan) -> None:
    """Two people may press at once. The plan's row is the lock."""
    RecoveryPlan.objects.select_for_update().get(pk=plan.pk)
    other = under_way(plan)
    if other is not None:
        raise Conflict(f"{other.title} is on its way already (operation {other.pk}). Look there.")


def under_way(plan: RecoveryPlan) -> Operation | None:
    """The one that is not over yet, if there is one."""
    mend = RegionMend.objects.filter(plan=plan, operation__state__in=ACTIVE).select_related("operation").first()
    return mend.operation if mend else None


def mend_plan(kind: str, source: Side, target: Side) -> Plan:
    """One step. Pure."""
    where = f"what {source.environment} has and {target.environment} misses"
    change = {"what": GROUP.lower(), "from": source.environment, "to": f"{target.environment}: {where}"}
    return Plan(f"bring over {where}", (whole_step(kind, source, target),), changes=(change,))


# --- what the engine has to know ------------------------------------------------------------------------


def _plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    """Where people are served somewhere else by now, it is another plan, and the request is stale."""
    plan = _recovery_plan(operation)
    return mend_plan(plan.uploads["kind"], *sides(plan, plan.uploads, plan.serving))


def _recovery_plan(operation: Operation) -> RecoveryPlan:
    rows = RegionMend.objects.select_related("plan__primary", "plan__standby")
    return rows.get(operation=operation).plan


def _secrets(operation: Operation) -> list[str]:
    uploads = _recovery_plan(operation).uploads
    tables = [uploads, *(uploads[side] for side in ("primary", "standby") if side in uploads)]
    found = []
    for reference in {table[key] for table in tables for key in ("access_key", "secret_key") if key in table}:
        try:
            found.append(resolve(reference))
        except StepError as error:
            logger.warning("operation %s: %s", operation.pk, error)
    return found


def _nothing(operation: Operation) -> Mapping[str, Any]:
    return {}


def _no_gates(operation: Operation, facts: Mapping[str, Any]) -> list[Gate]:
    return []


def _finished(operation: Operation) -> None:
    """Look again at once: the page shall say what is there now."""
    RegionLook.objects.filter(plan__mends__operation=operation).update(due_at=Now())
    transaction.on_commit(lambda: ring("news", "backups environments"))


KIND = Kind(
    key=REGION_MEND, label="mending of uploads", facts=_nothing, plan=_plan, gates=_no_gates, secrets=_secrets,
    finished=_finished, background=True,
)  # fmt: skip
