"""What the engine has to know of deployments."""

from collections.abc import Mapping
from typing import Any

from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan
from controlplane.operations.registry import Demand, Kind
from controlplane.operations.states import State
from deployments.gates import way_back
from deployments.gates.asking import gates_for
from deployments.gates.emergency import emergency
from deployments.models import Deployment
from deployments.plans import deployment_plan, makes_backup, serving
from deployments.policies import demand_of, policy_of
from deployments.services import KIND, as_the_rules_ask, software_of
from deployments.strategies.asking import settings_of, situation_of
from environments.arrivals import note_arrival
from environments.drivers import DRIVERS
from environments.drivers.base import Running, Software
from environments.locks import hold_still
from environments.models import Placement
from environments.secrets import secrets_of


def _deployment(operation: Operation) -> Deployment:
    related = Deployment.objects.select_related("environment", "release__service")
    return related.get(operation=operation)


def _placement(deployment: Deployment) -> Placement:
    related = Placement.objects.select_related("environment", "service")
    return related.get(environment=deployment.environment, service=deployment.release.service)


def _facts(operation: Operation) -> Mapping[str, Any]:
    deployment = _deployment(operation)
    placement = _placement(deployment)
    policy = policy_of(deployment.environment)
    situation = situation_of(placement, policy)
    settings = settings_of(placement)
    goes_on = deployment.kind == Deployment.Kind.DEPLOY
    seen = way_back.look(placement, policy, way_back.former_at(placement)) if goes_on else None
    return {"target": situation.target, "running": situation.running, "situation": situation, "settings": settings,
            "way_back": seen}  # fmt: skip


def _plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    deployment = _deployment(operation)
    driver = DRIVERS[deployment.environment.driver]
    to = software_of(deployment.release)
    plan = deployment_plan(driver, facts["situation"], to, facts["settings"], deployment.strategy)
    return as_the_rules_ask(plan, policy_of(deployment.environment), deployment.kind)


def _moved(operation: Operation, fresh: Plan) -> str:
    made, is_made = makes_backup(operation.plan), makes_backup(fresh.as_json())
    if made == is_made:
        return ""
    if is_made:
        return "a backup is to be made first: nobody's broken glass sets it aside any more, or the rules were changed"
    why = emergency(_deployment(operation).environment) or "the rules were changed"
    return f"no backup is made first any more ({why})"


def _gates(operation: Operation, facts: Mapping[str, Any]) -> list[Gate]:
    deployment = _deployment(operation)
    hold_still([deployment.environment.slug])
    return gates_for(
        deployment.environment, deployment.release, kind=deployment.kind, operation_id=operation.pk,
        seen=facts.get("way_back"), makes_backup=makes_backup(operation.plan),
    )  # fmt: skip


def _demand(operation: Operation) -> Demand:
    return demand_of(_deployment(operation).environment)


def _secrets(operation: Operation) -> list[str]:
    return secrets_of(_deployment(operation).environment)


def _finished(operation: Operation) -> None:
    """What runs where since when changes only by what succeeded."""
    if operation.state != State.SUCCEEDED:
        return
    deployment = _deployment(operation)
    release = deployment.release
    placements = Placement.objects.filter(environment=deployment.environment, service=release.service)
    found = Software(deployment.from_version, "", deployment.from_digest)
    note_arrival(placements, operation, version=release.version, digest=release.digest, found=found)


def _result(operation: Operation) -> list[str]:
    """Where something else runs than the release that was deployed, in words."""
    deployment = _deployment(operation)
    placement, to = _placement(deployment), software_of(deployment.release)
    situation = situation_of(placement, policy_of(deployment.environment))
    found = serving(situation, settings_of(placement), deployment.strategy)
    wrong = [one for one in found if not _is(one, to)]
    return [f"{one.instance} runs {one.version or 'nothing'} {one.digest}".rstrip() + f", not {to.version} {to.digest}"
            for one in wrong]  # fmt: skip


def _is(running: Running, to: Software) -> bool:
    """By its digest; by its version where no digest can be seen."""
    return running.digest == to.digest if running.digest else running.version == to.version


DEPLOYMENT = Kind(
    key=KIND,
    label="deployment",
    facts=_facts,
    plan=_plan,
    moved=_moved,
    gates=_gates,
    demand=_demand,
    secrets=_secrets,
    finished=_finished,
    result=_result,
    facts_template="deployments/_operation_facts.html",
)
