"""Adopting what runs: one of the two answers to drift; the other is to deploy again what should run.

Nothing is changed where the software runs. What is written down as deployed there becomes what truly runs: a known
release with just that digest, and how it runs where the driver remembers that (`Leaving`). It is asked for with a
reason, approved as a deployment is, and looked at again by its step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.operations.errors import Conflict, Invalid, StepError
from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan, Retry, StepSpec
from controlplane.operations.registry import Demand, Kind, StepContext, StepFunction
from controlplane.operations.states import State
from controlplane.operations.transitions import request
from deployments.by_digest import releases_with
from deployments.gates.turn import held_by, locks_of, nobody_else, not_locked
from deployments.models import Release
from deployments.policies import demand_of
from environments.arrivals import note_arrival
from environments.deployed import set_aside
from environments.drivers import DRIVERS
from environments.drivers.base import Adoptable, Leaving, Running
from environments.locks import hold_still
from environments.models import Environment, Placement
from environments.targets import target_of

KIND = "adoption"


@dataclass(frozen=True)
class Adoption:
    """What would become the truth, before anybody asked for it."""

    placement: Placement
    release: Release
    plan: Plan
    gates: list[Gate]


def adoption_plan(placement: Placement, release: Release, running: list[Running]) -> Plan:
    """One step, which sees that it still runs. Pure."""
    environment, service = placement.environment.slug, placement.service.slug
    beside = _beside(placement, running)
    arguments = {
        "environment": environment,
        "service": service,
        "version": release.version,
        "digest": release.digest,
        "instances": {one.instance: one.digest for one in running if one.version or one.digest},
        **({"left": beside.left} if beside else {}),
    }
    title = f"see that {release.version} still runs"
    step = StepSpec("see", title, "adoption.see", arguments, service, retry=Retry(3, 1.0), safe_point=True)
    was = f"{placement.version} {placement.digest}".strip() or "nothing"
    change = {"what": "written down as deployed", "from": was, "to": f"{release.version} {release.digest}"}
    words = f"Take {service} {release.version}, which runs in {environment}, for what was deployed there."
    return Plan(words, (step,), changes=(change, *(beside.changes if beside else ())))


def _beside(placement: Placement, running: list[Running]) -> Adoptable | None:
    """How it runs beside the release, where the driver remembers that."""
    driver = DRIVERS[placement.environment.driver]
    target = target_of(placement, configuration="")
    return driver.adoptable(target, running) if isinstance(driver, Leaving) else None


def look_at(placement: Placement) -> Adoption:
    """What could be adopted there now. Raises StepError when the place cannot be asked, Invalid, in words."""
    running = _running(placement)
    release = _release_of(placement, running)
    plan = adoption_plan(placement, release, running)
    return Adoption(placement, release, plan, gates_for(placement.environment))


def gates_for(environment: Environment, operation_id: int | None = None) -> list[Gate]:
    """Nothing is brought there, so only who may change something is asked."""
    return [
        not_locked(environment, locks_of(environment)),
        nobody_else(environment, held_by(environment, operation_id)),
    ]


def _running(placement: Placement) -> list[Running]:
    """What runs there, less what was left on another release on purpose. Raises StepError."""
    aside = set_aside([placement]).get(placement.pk, frozenset())
    running = DRIVERS[placement.environment.driver].running(target_of(placement))
    return [one for one in running if one.instance not in aside]


def _release_of(placement: Placement, running: list[Running]) -> Release:
    digests = {one.digest for one in running if one.version or one.digest}
    if not digests:
        raise Invalid(f"Nothing runs of {placement}, so there is nothing to adopt. Deploy it again instead.")
    if len(digests) > 1:
        raise Invalid(f"Different images run of {placement}. Adopting takes one; deploy the right one instead.")
    (digest,) = digests
    versions = [one.version for one in running]
    release = releases_with(placement.service_id, [digest], versions).first() if digest else None
    if release is None:
        words = f"No known release has the image that runs of {placement} ({digest or 'its digest is not known'})."
        raise Invalid(f"{words} Add the release first, or deploy again what should run.")
    beside = _beside(placement, running)
    if digest == placement.digest and not (beside and beside.changes):
        words = f"{release.version}, which was deployed, runs already: no other image is there to be adopted."
        how = " Nor did somebody ask for it otherwise than it was deployed: what is missing can only be deployed again."
        raise Invalid(words + (how if beside else ""))
    return release


def request_adoption(
    actor: Actor, placement: Placement, *, reason: str, plan_digest: str = "", made: Adoption | None = None
) -> Operation:
    """Ask for it. plan_digest: of the plan that the person read, "" for none.

    made: what was looked at before a transaction in which the network must not be asked.

    Raises PermissionDenied or Http404 (who), Invalid, Conflict (something else runs by now), StepError.
    """
    environment = placement.environment
    require(actor, Role.OPERATOR, [environment.slug], f"adopt what runs in {environment.slug}")
    found = made or look_at(placement)
    if plan_digest and plan_digest != found.plan.digest:
        raise Conflict("What runs there has changed since you read this. Read it again, then ask.")
    demand = demand_of(environment)
    return request(
        actor,
        kind=KIND,
        title=f"Adopt {placement.service.slug} {found.release.version} in {environment.slug}",
        scopes=[environment.slug],
        plan=found.plan,
        gates=found.gates,
        reason=reason,
        approvals_required=demand.count,
        approver_groups=demand.groups,
    )


# --- what the engine asks -----------------------------------------------------------------------------


def _arguments(operation: Operation) -> Mapping[str, Any]:
    arguments: Mapping[str, Any] = operation.plan["steps"][0]["arguments"]
    return arguments


def _placement(arguments: Mapping[str, Any]) -> Placement:
    places = Placement.objects.select_related("environment", "service")
    return places.get(environment__slug=arguments["environment"], service__slug=arguments["service"])


def _facts(operation: Operation) -> Mapping[str, Any]:
    placement = _placement(_arguments(operation))
    return {"running": _running(placement)}


def _plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    arguments = _arguments(operation)
    placement = _placement(arguments)
    release = Release.objects.get(service=placement.service, version=arguments["version"])
    return adoption_plan(placement, release, facts["running"])


def _gates(operation: Operation, facts: Mapping[str, Any]) -> list[Gate]:
    environment = _placement(_arguments(operation)).environment
    hold_still([environment.slug])
    return gates_for(environment, operation.pk)


def _demand(operation: Operation) -> Demand:
    return demand_of(_placement(_arguments(operation)).environment)


def _see(
    context: StepContext,
    *,
    environment: str,
    service: str,
    version: str,
    digest: str,
    instances: dict[str, str],
    left: dict[str, Any] | None = None,
) -> None:
    placement = _placement({"environment": environment, "service": service})
    running = _running(placement)
    others = sorted(one.instance for one in running if (one.version or one.digest) and one.digest != digest)
    if others or not any(one.digest == digest for one in running):
        words = f"{version} does not run on {', '.join(others) or service} any more: nothing was adopted."
        raise StepError(words, permanent=True)
    beside = _beside(placement, running)
    if beside and beside.left != left:
        words = f"{version} runs otherwise by now than when this was asked for: nothing was adopted."
        raise StepError(words, permanent=True)
    context.log(f"{version} runs on {', '.join(instances)}; from now on that is what was deployed")


def _finished(operation: Operation) -> None:
    if operation.state == State.SUCCEEDED:
        wanted = _arguments(operation)
        place = Placement.objects.filter(pk=_placement(wanted).pk)
        note_arrival(place, operation, version=wanted["version"], digest=wanted["digest"], left=wanted.get("left", {}))


STEPS = {"adoption.see": StepFunction(act=_see)}
ADOPTION = Kind(
    key=KIND,
    label="adoption",
    facts=_facts,
    plan=_plan,
    gates=_gates,
    demand=_demand,
    finished=_finished,
)
