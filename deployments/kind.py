"""What the engine has to know of deployments."""

from collections.abc import Mapping
from typing import Any

from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan
from controlplane.operations.registry import Kind
from controlplane.operations.states import State
from deployments.gates import gates_for
from deployments.models import Deployment
from deployments.plans import deployment_plan
from deployments.services import KIND, software_of
from environments.arrivals import note_arrival
from environments.drivers import DRIVERS
from environments.models import Placement
from environments.secrets import secrets_of
from environments.targets import target_of


def _deployment(operation: Operation) -> Deployment:
    related = Deployment.objects.select_related("environment", "release__service")
    return related.get(operation=operation)


def _placement(deployment: Deployment) -> Placement:
    related = Placement.objects.select_related("environment", "service")
    return related.get(environment=deployment.environment, service=deployment.release.service)


def _facts(operation: Operation) -> Mapping[str, Any]:
    target = target_of(_placement(_deployment(operation)))
    driver = DRIVERS[_deployment(operation).environment.driver]
    return {"target": target, "running": driver.running(target)}


def _plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    deployment = _deployment(operation)
    driver = DRIVERS[deployment.environment.driver]
    return deployment_plan(driver, facts["target"], facts["running"], software_of(deployment.release))


def _gates(operation: Operation, facts: Mapping[str, Any]) -> list[Gate]:
    deployment = _deployment(operation)
    return gates_for(deployment.environment, deployment.release, kind=deployment.kind, operation_id=operation.pk)


def _secrets(operation: Operation) -> list[str]:
    return secrets_of(_deployment(operation).environment)


def _finished(operation: Operation) -> None:
    """What runs where since when changes only by what succeeded."""
    if operation.state != State.SUCCEEDED:
        return
    deployment = _deployment(operation)
    release = deployment.release
    placements = Placement.objects.filter(environment=deployment.environment, service=release.service)
    note_arrival(placements, operation, version=release.version, digest=release.digest)


DEPLOYMENT = Kind(
    key=KIND,
    label="deployment",
    facts=_facts,
    plan=_plan,
    gates=_gates,
    secrets=_secrets,
    finished=_finished,
    facts_template="deployments/_operation_facts.html",
)
