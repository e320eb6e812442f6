"""The steps of a recovery that belong to no part: assess, verify from outside, measure, tell."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from django.db import transaction

from backups.disaster.base import NOT_KNOWN, Candidate
from backups.disaster.databases import DATABASES
from backups.disaster.sides import database_part, side
from backups.disaster.telling import tell
from backups.models import Recovery, RecoveryPlan
from controlplane.audit.record import SYSTEM, record
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, passed, pending
from environments.addresses import NoAnswer, get
from environments.models import ConfigEntry, Environment, Placement

PROBES_AT_ONCE = 16
OUTSIDE_POLL = 1.0


def probe(environment: Environment) -> list[dict[str, Any]]:
    """Ask every instance of the environment how it is, all at once: [{"what", "well", "words"}]."""
    asked = [
        (f"{placement.service.slug} {one['name']}", f"{one['address'].rstrip('/')}{placement.health_path}")
        for placement in Placement.objects.filter(environment=environment).select_related("service")
        for one in placement.instances
        if one.get("address")
    ]
    if environment.url and not asked:
        asked = [(environment.url, f"{environment.url.rstrip('/')}/health")]
    with ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="assess") as pool:
        return [{"what": what, **heard} for (what, _), heard in zip(asked, pool.map(_ask, asked), strict=True)]


def _ask(asked: tuple[str, str]) -> dict[str, Any]:
    try:
        answer = get(asked[1])
    except NoAnswer as error:
        return {"well": False, "words": str(error)}
    return {"well": answer.status == 200, "words": f"answered {answer.status} in {answer.latency_ms:.0f} ms"}


def _assess(context: StepContext, *, plan: str, kind: str, source: str, target: str) -> None:
    """What several probes say, for the record: they never decide, people did."""
    environments = {one.slug: one for one in Environment.objects.filter(slug__in=[source, target])}
    said = {name: probe(environments[name]) for name in (source, target)}
    for name, probes in said.items():
        well = sum(one["well"] for one in probes)
        context.log(f"{name}: {well} of {len(probes)} probes answer well")
        for one in probes:
            context.log(f"{name}: {one['what']}: {one['words']}")
    newest = _newest(_plan(plan), source)
    if newest is None:
        context.log(f"{source}: its database cannot be asked for its newest row", level="warning")
    else:
        context.log(f"{source}: the newest row is of {newest.as_of:%Y-%m-%d %H:%M:%S} UTC")
    context.save_checkpoint(
        probes=said, at=database_time().isoformat(), newest=newest.as_of.isoformat() if newest else ""
    )


def _plan(slug: str) -> RecoveryPlan:
    plan = RecoveryPlan.objects.select_related("primary", "standby").filter(slug=slug).first()
    if plan is None:
        raise StepError(f"There is no recovery plan {slug} any more.", permanent=True)
    return plan


def _newest(plan: RecoveryPlan, environment: str) -> Candidate | None:
    """Of the database of a side; None when it cannot be asked, or does not know."""
    asked = side(plan, database_part(plan), plan.primary if environment == plan.primary.slug else plan.standby)
    try:
        found = DATABASES[plan.database["kind"]].newest(asked)
    except StepError:
        return None
    return None if found.key == NOT_KNOWN else found


def _entry(value: Any) -> dict[str, str]:
    """A variable as the plan has it: a text, or {"secret": a reference}."""
    if isinstance(value, Mapping):
        return {"value": "", "secret": str(value["secret"])}
    return {"value": str(value), "secret": ""}


def _is_configured(context: StepContext, *, environment: str, values: Mapping[str, Any]) -> Seen:
    there = ConfigEntry.objects.filter(environment__slug=environment, key__in=values)
    found = {one.key: {"value": one.value, "secret": one.secret} for one in there}
    return Seen.DONE if found == {key: _entry(value) for key, value in values.items()} else Seen.NOT_DONE


def _configure(context: StepContext, *, environment: str, values: Mapping[str, Any]) -> None:
    """In one transaction with its audit entry, which names the variables and not what is in them."""
    place = Environment.objects.get(slug=environment)
    context.check()
    with transaction.atomic():
        for key, value in values.items():
            ConfigEntry.objects.update_or_create(environment=place, key=key, defaults=_entry(value))
        record(
            SYSTEM("worker"), "environment.configured", f"environment {environment}", scopes=[environment],
            reason=f"as the recovery plan says, in operation {context.operation_id}", data={"changes": sorted(values)},
        )  # fmt: skip
    context.log(f"{', '.join(sorted(values))} of {environment} are as the plan says")


def _ask_outside(context: StepContext, *, url: str, target: str) -> None:
    """Note when it began to be asked; the answer is what `verify` waits for."""
    context.save_checkpoint(asked_at=database_time().isoformat())


def _answers(context: StepContext, *, url: str, target: str) -> Verdict:
    """The guide: `until curl -f https://dr.pitchey.com/health`."""
    if not url:
        context.log("the plan names no address to ask from outside: nothing is proven from there", level="warning")
        return passed("not asked")
    try:
        answer = get(url)
    except NoAnswer as error:
        return pending(f"{url}: {error}")
    if answer.status != 200:
        return pending(f"{url} answers {answer.status}")
    context.save_checkpoint(answered_at=database_time().isoformat(), latency_ms=answer.latency_ms)
    return passed(f"{url} answers 200")


def _measure(context: StepContext, *, plan: str, kind: str, source: str, target: str) -> None:
    """What was lost, in time: from the newest thing that the old side had to the newest that the new one has.

    What is promised is measured, never computed from settings. An old side that cannot be asked had everything until
    the decision, for all anybody knows.
    """
    found = _plan(plan)
    recovery = Recovery.objects.select_related("operation").get(operation=context.operation_id)
    steps = {step.key: step for step in recovery.operation.steps.all()}
    had = steps["assess"].checkpoint.get("newest") if "assess" in steps else ""
    as_of = recovery.point.get("as_of", "")
    if kind != Recovery.Kind.DRILL and (newest := _newest(found, target)) is not None:
        as_of = newest.as_of.isoformat()
    lost = None
    if as_of:
        until = datetime.fromisoformat(had) if had else recovery.operation.requested_at
        lost = max(0.0, (until - datetime.fromisoformat(as_of)).total_seconds())
        context.log(f"lost: {lost:.0f} s (promised: at most {found.rpo_seconds} s)",
                    level="line" if lost <= found.rpo_seconds else "warning")  # fmt: skip
    context.save_checkpoint(lost_seconds=lost, as_of=as_of, measured_at=database_time().isoformat())


def _tell(context: StepContext, *, plan: str, kind: str, tell_whom: Iterable[str], words: str) -> None:
    """The guide: "DR site is active. Sending notifications..."."""
    recovery = Recovery.objects.select_related("plan", "target").get(operation=context.operation_id)
    text = f"{words}: {recovery.target.name} serves people since {database_time():%Y-%m-%d %H:%M} UTC."
    queued = tell(f"recovery-{context.operation_id}", list(tell_whom), text)
    context.log(f"{queued} messages are on their way" if queued else "nobody is to be told, or no channel is set up")


STEPS = {
    "recovery.configure": StepFunction(observe=_is_configured, act=_configure),
    "recovery.assess": StepFunction(act=_assess),
    "recovery.outside": StepFunction(act=_ask_outside, verify=_answers, poll=OUTSIDE_POLL),
    "recovery.measure": StepFunction(act=_measure),
    "recovery.tell": StepFunction(act=_tell),
}
