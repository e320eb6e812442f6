"""Whether two people have set aside, for an incident, what may wait."""

from controlplane.operations.gates import Outcome
from environments.conditions import ask
from environments.models import Environment


def emergency(environment: Environment) -> str:
    """Who set it aside and why, in words; "" where nobody has."""
    said = ask("emergency", environment, {})
    return said[1] if said is not None and said[0] is Outcome.PASSED else ""
