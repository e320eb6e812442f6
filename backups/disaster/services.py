"""What people and the clock may do with recovery plans: rehearse them, fail over, come home, and change them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from backups.disaster import emergencies
from backups.disaster.assembling import assemble
from backups.disaster.base import Candidate
from backups.disaster.faults import FAULTS
from backups.disaster.prediction import Prediction, predict
from backups.disaster.readiness import candidates
from backups.models import Recovery, RecoveryClock, RecoveryPlan
from backups.schedules import next_run
from controlplane.accounts.access import Actor, Machine, require
from controlplane.accounts.models import Role
from controlplane.audit.record import SYSTEM, record
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid, StepError
from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan
from controlplane.operations.states import ACTIVE
from controlplane.operations.transitions import request, said
from environments.models import EnvironmentLock

FAILOVER, FAILBACK, DRILL, FENCE = "failover", "failback", "drill", "fence"
TITLES = {
    FAILOVER: "Fail over {source} to {target}",
    FAILBACK: "Bring {target} home",
    DRILL: "Drill: {plan}",
    FENCE: "Fence {target}, which is there again",
}
CLOCK = Machine(SYSTEM("clock"))
# By break-glass: the one who asks and one more.
IN_AN_EMERGENCY = 1
CHANGEABLE = (
    "name", "rto_seconds", "rpo_seconds", "database", "traffic", "uploads", "services", "configuration", "checks",
    "tell", "approvals_required", "drill_schedule", "drill_time_zone",
)  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """What would happen, before anybody asks for it: page and request are made from the same draft.

    lost_seconds: how much would be lost now, in time. problem: why it cannot be planned, "" when it can.
    """

    plan: Plan | None
    candidates: list[Candidate] = field(default_factory=list)
    point: Candidate | None = None
    lost_seconds: float | None = None
    predicted: Prediction = field(default_factory=lambda: Prediction(None, {}))
    gates: list[Gate] = field(default_factory=list)
    problem: str = ""


def draft(plan: RecoveryPlan, kind: str, point: str = "", faults: Sequence[str] = ()) -> Draft:
    """Ask what could be restored and plan it. point: a candidate's key, "" for the newest. Changes nothing."""
    found: list[Candidate] = []
    problem = ""
    if kind not in (FAILBACK, FENCE):
        try:
            found = candidates(plan)
        except StepError as error:
            problem = str(error)
    chosen = next((one for one in found if not point or one.key == point), None)
    if point and chosen is None and not problem:
        problem = f"{point} is not there any more. Choose another restore point."
    gates = gates_for(plan, kind)
    if problem:
        return Draft(None, found, chosen, gates=gates, problem=problem)
    try:
        steps = assemble(plan, kind, chosen, _each_once(faults))
    except Invalid as error:
        return Draft(None, found, chosen, gates=gates, problem=str(error))
    lost = max(0.0, (database_time() - chosen.as_of).total_seconds()) if chosen else None
    predicted = predict(plan, steps.steps)
    return Draft(steps, found, chosen, lost, predicted, gates)


def _each_once(faults: Sequence[str]) -> list[str]:
    """Whoever names one twice means it once."""
    return list(dict.fromkeys(faults))


def gates_for(plan: RecoveryPlan, kind: str) -> list[Gate]:
    """What must hold, asked when it is requested and again at the start."""
    return [] if kind == FENCE else [_right_side(plan, kind), _not_locked(plan)]


def _right_side(plan: RecoveryPlan, kind: str) -> Gate:
    title = "The right way"
    home = plan.active == RecoveryPlan.Side.PRIMARY
    if kind == FAILBACK and home:
        words = f"{plan.primary.slug} serves people already: there is nothing to bring home."
        return Gate("side", title, Outcome.FAILED, words)
    if kind != FAILBACK and not home:
        words = f"{plan.standby.slug} serves people since the last failover: bring {plan.primary.slug} home first."
        return Gate("side", title, Outcome.FAILED, words)
    return Gate("side", title, Outcome.PASSED, f"{plan.serving.slug} serves people")


def _not_locked(plan: RecoveryPlan) -> Gate:
    """Somebody said that nothing at all may change there. What an incident locks does not count: this is the help."""
    title = "No lock"
    rows = EnvironmentLock.objects.filter(environment__in=[plan.primary, plan.standby], released_at=None)
    lock = rows.filter(against=EnvironmentLock.Against.EVERYTHING).select_related("environment").first()
    if lock is None:
        return Gate("lock", title, Outcome.PASSED, f"{' and '.join(plan.scopes)} are not locked")
    where = lock.environment.slug
    words = f"{where} is locked by {lock.author_name}: {lock.reason}. It can be released on its page."
    return Gate("lock", title, Outcome.FAILED, words)


# --- asking -------------------------------------------------------------------------------------------


def request_failover(
    actor: Actor, plan: RecoveryPlan, *, point: str, words: str, reason: str, incident: int | None = None,
    made: Draft | None = None,
) -> Operation:  # fmt: skip
    """Ask for a failover. A failed probe never does: it takes a person, what they see, and others' approval.

    incident: break-glass; then one more person who may operate there is enough. made: a draft of this very point that
    was made before, by whoever is in a transaction now, where nothing may be asked.
    Raises PermissionDenied, Http404, Invalid or Conflict.
    """
    words = said(words, "Say what you see: probes alone never decide on a failover.")
    if incident is not None and (why := emergencies.why_not(incident, plan.scopes)):
        raise Invalid(why)
    return _request(actor, plan, FAILOVER, reason=reason, point=point, words=words, incident=incident, made=made)


def request_failback(actor: Actor, plan: RecoveryPlan, *, words: str = "", reason: str) -> Operation:
    """Ask to come home. Raises PermissionDenied, Http404, Invalid or Conflict."""
    return _request(actor, plan, FAILBACK, reason=reason, words=said(words))


def request_drill(
    actor: Actor | Machine, plan: RecoveryPlan, *, reason: str, faults: Sequence[str] = (), made: Draft | None = None
) -> Operation:
    """Rehearse it; needs no approval, as it touches nothing that serves people. made: as of `request_failover`.

    Raises PermissionDenied, Http404, Invalid or Conflict.
    """
    if unknown := [fault for fault in faults if fault not in FAULTS]:
        raise Invalid(f"There is no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}.")
    return _request(actor, plan, DRILL, reason=reason, faults=_each_once(faults), made=made)


def request_late_fence(plan: RecoveryPlan) -> Operation:
    """Fence the side that people left without a proof, now that it answers again: the clock asks, and nobody has to
    approve what they wanted from the beginning. Raises Invalid or Conflict.
    """
    return _request(CLOCK, plan, FENCE, reason=f"{plan.waiting.slug} answers again and was never proven to be fenced")


def _request(
    actor: Actor | Machine, plan: RecoveryPlan, kind: str, *, reason: str, point: str = "", words: str = "",
    incident: int | None = None, faults: Sequence[str] = (), made: Draft | None = None,
) -> Operation:  # fmt: skip
    if isinstance(actor, Actor):
        require(actor, Role.OPERATOR, plan.scopes, f"start a {kind} of {plan}")
    made = made or draft(plan, kind, point, faults)
    if made.plan is None:
        raise Invalid(made.problem)
    source, target = plan.serving, plan.waiting

    def attach(operation: Operation) -> None:
        _one_at_a_time(plan, operation)
        assessment = {"words": [{"who": actor.who.name, "words": words}]} if words else {}
        Recovery.objects.create(
            operation=operation, plan=plan, kind=kind, source=source, target=target, incident=incident,
            by_schedule=not isinstance(actor, Actor), assessment=assessment, faults=list(faults),
            point=_kept(made.point), predicted=made.predicted.as_json(),
        )  # fmt: skip

    return request(
        actor,
        kind=kind,
        title=TITLES[kind].format(source=source.slug, target=target.slug, plan=plan.slug),
        scopes=plan.scopes,
        # Neither a drill nor a late fence changes anything where people are served.
        locks=[*([target.slug] if kind in (DRILL, FENCE) else plan.scopes), f"recovery/{plan.slug}"],
        plan=made.plan,
        gates=made.gates,
        reason=reason,
        approvals_required=_approvals(plan, kind, incident),
        approver_role="operator" if incident is not None else "approver",
        expected_seconds=made.predicted.seconds,
        attach=attach,
    )


def _approvals(plan: RecoveryPlan, kind: str, incident: int | None) -> int:
    if kind in (DRILL, FENCE):
        return 0
    return plan.approvals_required if incident is None else IN_AN_EMERGENCY


def _one_at_a_time(plan: RecoveryPlan, operation: Operation) -> None:
    """Two people may ask at once. The plan's row is the lock: whoever comes second sees the first one's request."""
    RecoveryPlan.objects.select_for_update().get(pk=plan.pk)
    others = Recovery.objects.filter(plan=plan, operation__state__in=ACTIVE).exclude(operation=operation)
    other = others.select_related("operation").first()
    if other is not None:
        raise Conflict(f"{other.operation.title} is on its way already (operation {other.operation_id}). Look there.")


def _kept(candidate: Candidate | None) -> dict[str, Any]:
    if candidate is None:
        return {}
    return {**asdict(candidate), "as_of": candidate.as_of.isoformat()}


# --- changing the plan --------------------------------------------------------------------------------


def change_plan(actor: Actor, plan: RecoveryPlan, changes: Mapping[str, Any], reason: str) -> None:
    """Change some of its columns; an operation that was approved for the old plan becomes stale.

    Raises PermissionDenied, Http404, Invalid or Conflict.
    """
    require(actor, Role.ADMIN, plan.scopes, f"change the recovery plan {plan}")
    reason = said(reason, "Say why you change it: it is kept for good.")
    if unknown := sorted(changes.keys() - set(CHANGEABLE)):
        raise Invalid(f"{', '.join(unknown)} cannot be changed here.")
    with transaction.atomic():
        kept = RecoveryPlan.objects.select_for_update().get(pk=plan.pk)
        before = {name: getattr(kept, name) for name in changes}
        different = {name: [before[name], value] for name, value in changes.items() if before[name] != value}
        if not different:
            raise Conflict("Nothing is different from what it says already.")
        RecoveryPlan.objects.filter(pk=plan.pk).update(**{name: value for name, (_, value) in different.items()})
        plan.refresh_from_db()
        set_clock(plan)
        transaction.on_commit(lambda: ring("news", "backups environments"))
        record(actor.who, "recovery_plan.changed", f"recovery plan {plan}", scopes=plan.scopes, reason=reason,
               data={"changes": different})  # fmt: skip


def set_clock(plan: RecoveryPlan) -> None:
    """Have it looked at soon, and its next drill where its schedule says."""
    due = next_run(plan.drill_schedule, plan.drill_time_zone, database_time()) if plan.drill_schedule else None
    RecoveryClock.objects.update_or_create(
        plan=plan, defaults={"readiness_due_at": Now(), "kit_due_at": Now(), "drill_due_at": due}
    )
