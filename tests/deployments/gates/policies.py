"""How gates are asked for in the tests of gates."""

from typing import Any

from controlplane.operations.gates import Gate
from deployments.gates.asking import gates_for
from deployments.models import Deployment, Policy
from tests.estate import Estate


def rule(estate: Estate, **fields: Any) -> Policy:
    """The policy of production."""
    return Policy.objects.update_or_create(environment=estate.production, defaults=fields)[0]


def asked(estate: Estate, version: str = "1.5.0", **more: Any) -> dict[str, Gate]:
    """The gates of a deployment to production, by key."""
    more.setdefault("kind", Deployment.Kind.DEPLOY)
    return {gate.key: gate for gate in gates_for(estate.production, estate.releases[version], **more)}


def outcome(gate: Gate) -> str:
    """How it stands."""
    return str(gate.outcome)
