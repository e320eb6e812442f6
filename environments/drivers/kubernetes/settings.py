"""The settings of the kubernetes driver: what is wrong with them in words, and how a plan names the place.

What is usual is the guide's: three replicas, its requests and limits, its probes, its load balancer.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from environments.drivers.base import Target
from environments.drivers.kubernetes.access import WAYS, problem_with_server
from environments.secrets import problem_with as problem_with_secret

Check = tuple[Callable[[Any], bool], str]

NONE = "none"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET_KEY = re.compile(r"[a-z0-9][-a-z0-9.]*/[-._a-zA-Z0-9]+")

DEFAULTS: Arguments = {
    "access": "kubeconfig",
    "context": "",
    "namespace": "",
    "name": "",
    "container": "",
    "force": False,
    "replicas": 3,
    "port": 8000,
    "service_port": 80,
    "service_type": "LoadBalancer",
    "ready_path": "/ready",
    "liveness_delay": 30,
    "liveness_period": 10,
    "readiness_delay": 5,
    "readiness_period": 5,
    "max_surge": 1,
    "max_unavailable": 0,
    "grace_seconds": 30,
    "history": 10,
    "service_account": "",
    "pull_secret": "",
    "rollout_seconds": 900.0,
    "progress_seconds": 600,
    "poll_seconds": 5.0,
    "answer_seconds": 20.0,
    "retry_seconds": 2.0,
    "restarts": 3,
    "log_lines": 20,
    "checks": 3,
    "failures": 3,
    "check_interval": 5.0,
}
RESOURCES: dict[str, dict[str, str]] = {
    "requests": {"memory": "2Gi", "cpu": "1000m"},
    "limits": {"memory": "4Gi", "cpu": "2000m"},
}
AUTOSCALE = {"min": 3, "max": 10, "cpu": 70, "memory": 80}
ACCESS = ("kubeconfig", "server", "ca", "token", "cluster", "region", "access_key", "secret_key")
TABLES = ("resources", "autoscale", "secrets")
# What each way of access needs.
NEEDED = {
    "kubeconfig": ("kubeconfig",),
    "in-cluster": (),
    "eks": ("server", "ca", "cluster", "region"),
    "token": ("server", "token"),
}


def _seconds() -> Check:
    return (
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400,
        "has to be a number of seconds above 0",
    )


def _count(least: int, most: int) -> Check:
    return (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
        f"has to be a whole number from {least} to {most}",
    )


def _one_of(*values: str) -> Check:
    return lambda value: value in values, f"has to be one of: {', '.join(values)}"


def _name(empty: bool = True) -> Check:
    return (
        lambda value: isinstance(value, str) and ((empty and not value) or bool(NAME.fullmatch(value))),
        "has to be a name as Kubernetes takes it: small letters, digits and hyphens",
    )


TEXT: Check = (lambda value: isinstance(value, str), "has to be text")
CHECKED: dict[str, Check] = {
    "access": _one_of(*WAYS),
    "context": TEXT,
    "namespace": _name(empty=False),
    **{key: _name() for key in ("name", "container", "service_account", "pull_secret")},
    "force": (lambda value: isinstance(value, bool), "has to be true or false"),
    "replicas": _count(0, 1000),
    **{key: _count(1, 65_535) for key in ("port", "service_port")},
    "service_type": _one_of("LoadBalancer", "ClusterIP", "NodePort", NONE),
    "ready_path": (lambda value: isinstance(value, str) and value[:1] in ("", "/"), "has to begin with a slash"),
    **{key: _count(0, 3600) for key in ("liveness_delay", "readiness_delay", "grace_seconds")},
    **{key: _count(1, 3600) for key in ("liveness_period", "readiness_period")},
    **{key: _count(0, 100) for key in ("max_surge", "max_unavailable", "log_lines")},
    "history": _count(1, 100),  # the former template is kept there
    **{key: _seconds() for key in ("rollout_seconds", "poll_seconds", "answer_seconds", "retry_seconds")},
    "check_interval": _seconds(),
    "progress_seconds": _count(1, 86_400),
    **{key: _count(1, 100) for key in ("restarts", "checks", "failures")},
}


def problems(given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with driver settings, in words, by key; empty for nothing."""
    known = {*DEFAULTS, *ACCESS, *TABLES}
    wrong = {key: f"is no setting of it; there are {', '.join(sorted(known))}" for key in given.keys() - known}
    wrong |= {key: words for key, (good, words) in CHECKED.items() if key in given and not good(given[key])}
    wrong |= {key: words for key in ACCESS if key in given and (words := _wrong_access(key, given[key]))}
    tables = {"resources": _resources, "autoscale": _autoscale, "secrets": _secrets}
    for key, check in tables.items():
        if key in given:
            words = check(given[key]) if isinstance(given[key], dict) else "has to be a table"
            wrong |= {key: words} if words else {}
    surge, away = (given.get(key, DEFAULTS[key]) for key in ("max_surge", "max_unavailable"))
    if not wrong and surge == 0 and away == 0:
        wrong["max_surge"] = "and max_unavailable must not both be 0: no pod could ever be renewed"
    return wrong


def _wrong_access(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        return "has to be text"
    if key == "server":
        return problem_with_server(value)
    return problem_with_secret(value) if key in ("kubeconfig", "ca", "token", "access_key", "secret_key") else ""


def _resources(given: Mapping[str, Any]) -> str:
    wrong = [f"{key} is no key of it; there are requests, limits" for key in sorted(given.keys() - RESOURCES.keys())]
    for key, amounts in given.items():
        if key not in RESOURCES:
            continue
        good = isinstance(amounts, dict) and all(
            name in ("memory", "cpu", "ephemeral-storage") and isinstance(amount, str) and QUANTITY.fullmatch(amount)
            for name, amount in amounts.items()
        )
        if not good:
            wrong.append(f'{key} has to be a table as in {{ memory = "2Gi", cpu = "1000m" }}')
    return "; ".join(wrong)


def _autoscale(given: Mapping[str, Any]) -> str:
    if unknown := sorted(given.keys() - AUTOSCALE.keys()):
        return f"{', '.join(unknown)} is no key of it; there are {', '.join(AUTOSCALE)}"
    if any(not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1000 for value in given.values()):
        return "has to hold whole numbers from 0 to 1000"
    values = {**AUTOSCALE, **given}
    if not 1 <= values["min"] <= values["max"]:
        return f"has min {values['min']} and max {values['max']}: 1 ≤ min ≤ max has to hold"
    return "" if values["cpu"] or values["memory"] else "needs cpu or memory above 0 to go by"


def _secrets(given: Mapping[str, Any]) -> str:
    wrong = [
        key
        for key, value in given.items()
        if not KEY.fullmatch(key) or not isinstance(value, str) or not SECRET_KEY.fullmatch(value)
    ]
    words = 'has to name a Secret and its key, as in DATABASE_URL = "pitchey-secrets/database-url"'
    return f"{', '.join(sorted(wrong))} {words}" if wrong else ""


# --- how a plan names it ------------------------------------------------------------------------------


def setting(target: Target, key: str) -> Any:
    """What holds, said or not."""
    return target.settings.get(key, DEFAULTS[key])


def name_of(target: Target) -> str:
    """What the Deployment is called, and all that belongs to it."""
    return str(setting(target, "name") or target.service)


def container_of(target: Target) -> str:
    """The container whose image is deployed."""
    return str(setting(target, "container") or target.service)


def autoscale_of(target: Target) -> dict[str, int] | None:
    """The bounds and the goals; None where nothing scales by itself."""
    given = target.settings.get("autoscale")
    return {**AUTOSCALE, **given} if given is not None else None


def place_of(target: Target) -> Arguments:
    """Where it is and how to ask, with references for secrets. Raises StepError when the settings do not say."""
    given = {key: value for key, value in target.settings.items() if key != "configuration"}
    wrong = problems(given)
    if not given.get("namespace"):
        wrong = {"namespace": "is missing", **wrong}
    way = setting(target, "access")
    wrong |= {key: f"is missing, which access {way} needs" for key in NEEDED.get(way, ()) if not given.get(key)}
    if wrong:
        words = "; ".join(f"{key} {reason}" for key, reason in wrong.items())
        raise StepError(f"The driver settings of {target.environment} need a correction: {words}.", permanent=True)
    return {
        "environment": target.environment,
        "service": target.service,
        "instance": target.instances[0].name if target.instances else target.service,
        "namespace": given["namespace"],
        "name": name_of(target),
        "container": container_of(target),
        "answer_seconds": float(setting(target, "answer_seconds")),
        "access": {"way": way, "context": setting(target, "context"), **{k: given[k] for k in ACCESS if k in given}},
    }
