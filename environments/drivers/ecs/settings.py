"""The driver settings of `ecs`: what they are where nothing is said, what is wrong with them, and what they name."""

from collections.abc import Mapping
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from environments.drivers.base import Target

ACCOUNT: Arguments = {"region": "", "endpoint_url": "", "access_key": "", "secret_key": "", "answer_seconds": 20.0}
DEFAULTS: Arguments = {
    **ACCOUNT,
    "cluster": "",
    "service": "",
    "container": "",
    "force_new_deployment": False,
    "stable_seconds": 900.0,  # a rollout that is not stable by then goes back
    "poll_seconds": 5.0,
    "checks": 3,
    "failures": 3,
    "check_interval": 5.0,
    "retry_seconds": 2.0,
}
REQUIRED = ("region", "cluster")


def problems(given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with driver settings, in words, by key."""
    wrong = {key: f"is no setting of it; there are {', '.join(DEFAULTS)}" for key in given.keys() - DEFAULTS.keys()}
    return wrong | {key: words for key in given if key in DEFAULTS and (words := _wrong(key, given[key]))}


def _wrong(key: str, value: Any) -> str:
    kind = type(DEFAULTS[key])
    if kind is float:
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400
        return "" if good else "has to be a number of seconds above 0"
    if kind is int:
        good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100
        return "" if good else "has to be a whole number from 1 to 100"
    if not isinstance(value, kind):
        return "has to be true or false" if kind is bool else "has to be text"
    return "" if value or key not in REQUIRED else "must not be empty"


def setting(target: Target, key: str) -> Any:
    """One of them, or what is usual."""
    return target.settings.get(key, DEFAULTS[key])


def instance_name(target: Target) -> str:
    """What the service's one row is called."""
    return target.instances[0].name if target.instances else target.service


def place_of(target: Target) -> Arguments:
    """Which service it is, and how to ask. Raises StepError when the settings do not say."""
    given = {key: value for key, value in target.settings.items() if key in DEFAULTS}
    wrong = {key: "is missing" for key in REQUIRED if key not in given} | problems(given)
    if wrong:
        words = "; ".join(f"{key} {reason}" for key, reason in wrong.items())
        raise StepError(f"The driver settings of {target.environment} need a correction: {words}.", permanent=True)
    keys = (*ACCOUNT, "cluster", "container")
    return {**{key: setting(target, key) for key in keys}, "service": given.get("service") or target.service}
