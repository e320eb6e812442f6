"""A verified backup before a change of an environment: whether one is there, and the steps that make one.

Registered as the condition "backup" and the steps "backup.before" and "backup.proven"; whoever names them in a plan
knows nothing else of backups.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from backups.models import Backup, Kind, Policy, Restore
from backups.services import BACKUP, request_backup, request_proof
from controlplane.accounts.access import Machine
from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError
from controlplane.operations.gates import Outcome
from controlplane.operations.models import Operation
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed, pending
from controlplane.operations.states import FINISHED, State
from environments.conditions import Said
from environments.models import Environment

DATA = (Kind.DATABASE, Kind.PITR)


def condition(environment: Environment, wanted: Mapping[str, Any]) -> Said:
    """Whether every database here has a backup of the last `minutes` that a restore has proven.

    is_made: the change makes what is lacking first. A policy that is paused is left out, and said to be: whoever
    approves the change sees it.
    """
    young = _good(OuterRef("pk")).filter(as_of__gte=Now() - timedelta(minutes=wanted["minutes"]))
    here = Policy.objects.filter(environment=environment, kind__in=DATA).order_by("pk")
    rows = list(here.annotate(is_proven=Exists(young)).values_list("slug", "paused", "is_proven"))
    policies = {slug: is_proven for slug, paused, is_proven in rows if not paused}
    paused = ", ".join(slug for slug, paused, _ in rows if paused)
    if not rows:
        words = f"no policy backs up a database of {environment.slug}. Declare one in the configuration file."
        return Outcome.FAILED, words
    if not policies:
        return Outcome.FAILED, f"nothing is backed up: {paused} is paused. Resume it."
    without = f" Left out, as it is paused: {paused}." if paused else ""
    if not (lacking := ", ".join(slug for slug, is_proven in policies.items() if not is_proven)):
        return Outcome.PASSED, f"{', '.join(policies)}: verified by a restore.{without}"
    words = f"no backup of {lacking} that young is verified."
    if wanted["is_made"]:
        return Outcome.PASSED, f"{words} One is made and verified first.{without}"
    return Outcome.FAILED, f"{words}{without}"


def _policies(environment: str) -> list[Policy]:
    here = Policy.objects.filter(environment__slug=environment, kind__in=DATA, paused=False)
    return list(here.select_related("environment", "storage").order_by("pk"))


def _good(policy: Policy | OuterRef) -> QuerySet[Backup]:
    """Those that a restore has proven."""
    return Backup.objects.filter(policy=policy, state=Backup.State.AVAILABLE, verdict=Backup.Verdict.PROVEN)


def _proven(policy: Policy, minutes: int, run: Operation | None = None) -> bool:
    """Whether one that is proven is young enough, or is of this run, however long it took to prove it."""
    good = _good(policy)
    young = good.filter(as_of__gte=database_time() - timedelta(minutes=minutes))
    return young.exists() or (run is not None and good.filter(operation_id=run.pk).exists())


# --- the steps ----------------------------------------------------------------------------------------


def _reason(context: StepContext) -> str:
    return f"before operation {context.operation_id}"


def _run(context: StepContext, policy: Policy) -> Operation | None:
    """The backup that this operation asked for, also if the worker died right after; None if it came to nothing."""
    asked = Operation.objects.filter(kind=BACKUP, part_of=context.operation_id, lock_names__contains=[policy.lock_name])
    return asked.exclude(state__in=FINISHED - {State.SUCCEEDED}).order_by("-pk").first()


def _made(run: Operation | None) -> Backup | None:
    return Backup.objects.filter(operation_id=run.pk).defer("manifest").first() if run else None


def _lacking(context: StepContext, environment: str, minutes: int) -> list[tuple[Policy, Operation | None]]:
    """The policies without a verified backup that is young enough, each with what was asked for."""
    runs = [(policy, _run(context, policy)) for policy in _policies(environment)]
    return [(policy, run) for policy, run in runs if not _proven(policy, minutes, run)]


def _is_made(context: StepContext, *, environment: str, minutes: int) -> Seen:
    lacking = _lacking(context, environment, minutes)
    return Seen.NOT_DONE if any(_made(run) is None for _, run in lacking) else Seen.DONE


def _make(context: StepContext, *, environment: str, minutes: int) -> None:
    if not _policies(environment):
        raise StepError(f"No policy backs up a database of {environment}.", permanent=True)
    for policy, run in _lacking(context, environment, minutes):
        asked = run
        if asked is None:
            context.check()
            part_of = context.operation_id
            asked = request_backup(_us(context), policy, reason=_reason(context), part_of=part_of)
            context.did("backed up", environment, policy=policy.slug, operation=asked.pk)
        context.log(f"operation {asked.pk} backs up {policy.slug}")


def _are_made(context: StepContext, *, environment: str, minutes: int) -> Verdict:
    for policy, run in _lacking(context, environment, minutes):
        if run is None:
            return failed(f"the backup of {policy.slug} came to nothing; its operation says why")
        if _made(run) is None:
            return pending(f"operation {run.pk} backs up {policy.slug}")
    return passed("a backup of each database is there")


def _is_proven(context: StepContext, *, environment: str, minutes: int) -> Seen:
    return Seen.NOT_DONE if _lacking(context, environment, minutes) else Seen.DONE


def _prove(context: StepContext, *, environment: str, minutes: int) -> None:
    """Have each restored for a test, unless that is under way already: that is what makes it verified."""
    for policy, run in _lacking(context, environment, minutes):
        made = _made(run)
        if made is None:
            raise StepError(f"There is no backup of {policy.slug} that could be tested.", permanent=True)
        tests = Restore.objects.filter(backup=made, target=Restore.Target.TEST)
        if policy.proof != Policy.Proof.EACH and not tests.exclude(operation__state__in=FINISHED).exists():
            context.check()
            test = request_proof(_us(context), made, reason=_reason(context), part_of=context.operation_id)
            context.did("tested", environment, policy=policy.slug, operation=test.pk)
            context.log(f"operation {test.pk} restores backup {made.pk} for a test")


def _are_proven(context: StepContext, *, environment: str, minutes: int) -> Verdict:
    for policy, run in _lacking(context, environment, minutes):
        made = _made(run)
        if made is not None and made.verdict == Backup.Verdict.FAILED:
            return failed(f"the backup of {policy.slug} did not restore: {made.verdict_words}")
        return pending(f"the backup of {policy.slug} is restored for a test")
    return passed("a verified backup of each database is there")


def _us(context: StepContext) -> Machine:
    return Machine(SYSTEM(f"operation {context.operation_id}"))


STEPS = {
    "backup.before": StepFunction(observe=_is_made, act=_make, verify=_are_made),
    "backup.proven": StepFunction(observe=_is_proven, act=_prove, verify=_are_proven),
}
