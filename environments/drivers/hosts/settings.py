"""Settings of the hosts driver: what may be said, what holds where nothing is said, and how a plan names it.

    [environments.production.settings]              how a rollout goes
    [environments.production.settings.hosts.NAME]   a host's engine, how to reach it, and which instances it runs
    [environments.production.settings.container]    how a container is run
    [environments.production.settings.registry]     whom to log in as when an image is pulled from it
    [environments.production.settings.balancer]     who sends requests to the instances

All pure: nothing here asks a clock, a network or a database. docs/drivers-hosts.md explains each.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from environments.balancers import BALANCERS
from environments.drivers.base import Instance, Target
from environments.drivers.hosts.connect import problem_with_host_key
from environments.registries import host_of as registry_of
from environments.registries import parts_of
from environments.secrets import problem_with as problem_with_secret

Check = tuple[Callable[[Any], bool], str]

NO_BALANCER = "none"
SCHEMES = ("unix", "ssh", "tls")
SOCKET = "/var/run/docker.sock"
HOST_NAME = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")
PLACE = re.compile(r"\{(\w+)\}")
RESTART = re.compile(r"no|always|unless-stopped|on-failure(:[1-9]\d?)?")

# The guide waits 30 s for the drain and 60 s before the next instance, both blindly; here the drain is seen.
DEFAULTS: Arguments = {
    "batch_size": 1,
    "max_unavailable": 1,
    "order": [],
    "canary": "",
    "answer_seconds": 30.0,
    "pull_seconds": 600.0,
    "room_seconds": 60.0,
    "drain_seconds": 300.0,
    "cut_after_drain": False,
    "stop_seconds": 10,
    "start_seconds": 60.0,
    "serving_seconds": 120.0,
    "soak_seconds": 60.0,
    "checks": 3,
    "failures": 3,
    "check_interval": 2.0,
    "poll_seconds": 1.0,
    "ready_path": "/ready",
    "log_lines": 20,
}
# The health check's times are those of the guide's HEALTHCHECK.
CONTAINER: Arguments = {
    "port": 8000,
    "network": "bridge",
    "memory_mb": 0,
    "cpus": 0.0,
    "pids": 0,
    "restart": "unless-stopped",
    "command": [],
    "entrypoint": [],
    "user": "",
    "read_only": False,
    "volumes": [],
    "stop_signal": "",
    "health_command": [],
    "health_interval": 30.0,
    "health_timeout": 3.0,
    "health_start_period": 5.0,
    "health_retries": 3,
}
HOST: Arguments = {"engine": "", "socket": SOCKET, "host_key": "", "key": "", "ca": "", "certificate": "",
                   "instances": []}  # fmt: skip
REGISTRY: Arguments = {"host": "", "username": "", "password": ""}
NEEDED = {"unix": (), "ssh": ("host_key", "key"), "tls": ("ca", "certificate", "key")}


def _number(most: float) -> Check:
    def good(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most

    return good, f"has to be a number from 0 to {most:g}"


def _count(least: int, most: int) -> Check:
    def good(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return good, f"has to be a whole number from {least} to {most}"


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


def _is_path(value: Any) -> bool:
    return value == "" or (isinstance(value, str) and value.startswith("/"))


WORDS: Check = (_is_words, 'has to be a list of words, as in ["deno", "run"]')
TEXT: Check = (lambda value: isinstance(value, str), "has to be text")
CHECKED: dict[str, Check] = {
    "batch_size": _count(1, 100),
    "max_unavailable": _count(1, 100),
    "checks": _count(1, 100),
    "failures": _count(1, 100),
    "log_lines": _count(0, 200),
    "stop_seconds": _count(0, 3600),
    "order": WORDS,
    "canary": TEXT,
    "ready_path": (_is_path, 'has to begin with a slash, or be "" where there is none'),
    "cut_after_drain": (lambda value: isinstance(value, bool), "has to be true or false"),
    **{key: _number(86_400) for key, value in DEFAULTS.items() if isinstance(value, float)},
}
CONTAINER_CHECKED: dict[str, Check] = {
    "port": _count(1, 65_535),
    "network": (
        lambda value: isinstance(value, str) and bool(value),
        'has to be "bridge", "host" or another name',
    ),
    "memory_mb": _number(1_048_576),
    "cpus": _number(1024),
    "pids": _count(0, 1_000_000),
    "restart": (
        lambda value: isinstance(value, str) and bool(RESTART.fullmatch(value)),
        'has to be "no", "always", "unless-stopped" or "on-failure:3"',
    ),
    "command": WORDS,
    "entrypoint": WORDS,
    "user": TEXT,
    "read_only": (lambda value: isinstance(value, bool), "has to be true or false"),
    "volumes": (
        lambda value: _is_words(value) and all(2 <= len(one.split(":")) <= 3 for one in value),
        'has to be a list as in ["/srv/uploads:/app/uploads:ro"]',
    ),
    "stop_signal": TEXT,
    "health_command": WORDS,
    "health_retries": _count(1, 100),
    **{key: _number(3600) for key in ("health_interval", "health_timeout", "health_start_period")},
}


# --- what is wrong with them --------------------------------------------------------------------------


def problems(given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with driver settings, in words, by key; empty for nothing."""
    known = {**DEFAULTS, "hosts": {}, "container": {}, "registry": {}, "balancer": {}}
    wrong = {key: f"is no setting of it; there are {', '.join(sorted(known))}" for key in given.keys() - known.keys()}
    wrong |= {key: words for key, (good, words) in CHECKED.items() if key in given and not good(given[key])}
    below = {"hosts": _hosts, "container": _container, "registry": _registry, "balancer": _balancer}
    for key, check in below.items():
        if key in given:
            words = check(given[key]) if isinstance(given[key], dict) else "has to be a table"
            wrong |= {key: words} if words else {}
    batch, most = (given.get(key, DEFAULTS[key]) for key in ("batch_size", "max_unavailable"))
    if not wrong and batch > most:
        wrong["batch_size"] = f"is {batch}, and no more than max_unavailable ({most}) may be away at once"
    return wrong


def _hosts(given: Mapping[str, Any]) -> str:
    runs = [one for host in given.values() if isinstance(host, dict) for one in host.get("instances", [])]
    if twice := sorted({one for one in runs if runs.count(one) > 1}):
        return f"names {', '.join(twice)} more than once: an instance runs on one host"
    return "; ".join(f"{name}: {words}" for name, host in given.items() for words in _host(host))


def _host(given: Any) -> list[str]:
    if not isinstance(given, dict):
        return ['has to be a table, as in { engine = "ssh://deploy@server1" }']
    wrong = _unknown(given, HOST)
    if words := _engine(str(given.get("engine", ""))):
        return [*wrong, f"engine {words}"]
    scheme = urlsplit(given["engine"]).scheme
    wrong += [f"{key} is missing, which {scheme}:// needs" for key in NEEDED[scheme] if not given.get(key)]
    for key in ("key", "ca", "certificate"):
        if key in given and (words := problem_with_secret(str(given[key]))):
            wrong.append(f"{key} {words}")
    if given.get("host_key") and (words := problem_with_host_key(str(given["host_key"]))):
        wrong.append(f"host_key {words}")
    if not str(given.get("socket", SOCKET)).startswith("/"):
        wrong.append("socket has to be the path of the engine's socket on the host")
    return wrong if _is_words(given.get("instances", [])) else [*wrong, "instances has to be a list of their names"]


def _engine(text: str) -> str:
    """What is wrong with the address of an engine, in words; "" for nothing."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme not in SCHEMES:
        return "has to be unix:///path/of/the.sock, ssh://user@host or tls://host"
    if parts.password is not None:
        return "must not carry a password: SSH takes a key"
    if parts.scheme == "unix":
        return "" if parts.path.startswith("/") and not parts.netloc else "has to be unix:///path/of/the.sock"
    return "" if parts.hostname else "has to name a host"


def _container(given: Mapping[str, Any]) -> str:
    wrong = _unknown(given, CONTAINER)
    for key, (good, words) in CONTAINER_CHECKED.items():
        if key in given and not good(given[key]):
            wrong.append(f"{key} {words}")
    return "; ".join(wrong)


def _unknown(given: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    return [f"{key} is no key of it; there are {', '.join(known)}" for key in sorted(given.keys() - known.keys())]


def _registry(given: Mapping[str, Any]) -> str:
    wrong = [
        f"{key} is no key of it; there are {', '.join(REGISTRY)}" for key in sorted(given.keys() - REGISTRY.keys())
    ]
    wrong += [f"{key} is missing" for key in REGISTRY if not given.get(key)]
    host = str(given.get("host", ""))
    if host and not (HOST_NAME.fullmatch(host) and registry_of(host)):
        wrong.append('host has to be how names of its images begin, up to the slash: "ghcr.io", "docker.io"')
    if given.get("password") and (words := problem_with_secret(str(given["password"]))):
        wrong.append(f"password {words}")
    return "; ".join(wrong)


def _balancer(given: Mapping[str, Any]) -> str:
    kind = str(given.get("kind", ""))
    if kind == NO_BALANCER:
        return ""
    if kind not in BALANCERS:
        return f"kind has to be one of: {', '.join(sorted({NO_BALANCER, *BALANCERS}))}"
    settings = {key: value for key, value in given.items() if key != "kind"}
    return "; ".join(f"{key} {words}" for key, words in BALANCERS[kind].problems(settings).items())


# --- how a plan names it ------------------------------------------------------------------------------


def setting(target: Target, key: str) -> Any:
    """What holds, said or not."""
    return target.settings.get(key, DEFAULTS[key])


def checked(target: Target) -> None:
    """Raises StepError when the settings do not say where the instances run."""
    given = {key: value for key, value in target.settings.items() if key != "configuration"}
    wrong = problems(given)
    if not given.get("hosts"):
        wrong = {"hosts": "is missing; name a host and its engine", **wrong}
    if wrong:
        words = "; ".join(f"{key} {reason}" for key, reason in wrong.items())
        raise StepError(f"The driver settings of {target.environment} need a correction: {words}.", permanent=True)


def login_for(repository: str, registry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `registry` of the settings where an image comes from there; empty where its name leads elsewhere.

    Whoever names an image chooses who is asked for it, and must not choose who is shown the password.
    """
    return registry if parts_of(repository)[0] == registry_of(str(registry.get("host", ""))) else {}


def name_of(target: Target, instance: Instance) -> str:
    """The container's name. Slugs have no dot, so no two instances share one."""
    return f"{target.service}.{instance.name}"


def host_of(target: Target, instance: Instance) -> str:
    """The host it runs on; the only one there is needs no list of its instances. Raises StepError."""
    hosts = target.settings.get("hosts", {})
    found: list[str] = [name for name, host in hosts.items() if instance.name in host.get("instances", [])]
    if not found and len(hosts) == 1:
        found = [name for name, host in hosts.items() if not host.get("instances")]
    if not found:
        words = f"No host of {target.environment} runs {instance.name}: add it to the instances of one in its settings."
        raise StepError(words, permanent=True)
    return found[0]


def engine_of(target: Target, host: str) -> Arguments:
    """How to reach a host's engine."""
    given = {**HOST, **target.settings["hosts"][host]}
    return {key: given[key] for key in HOST if key != "instances"} | {
        "answer_seconds": float(setting(target, "answer_seconds"))
    }


def place_of(target: Target, instance: Instance) -> Arguments:
    """Where an instance is and what it is called, as steps name it."""
    host = host_of(target, instance)
    return {
        "instance": instance.name,
        "name": name_of(target, instance),
        "environment": target.environment,
        "service": target.service,
        "host": host,
        "engine": engine_of(target, host),
        "address": instance.address,
    }


def balancer_of(target: Target, instance: Instance) -> Arguments | None:
    """Who sends requests to it, and how it is known there; None where nobody does."""
    given = target.settings.get("balancer", {})
    if given.get("kind", NO_BALANCER) == NO_BALANCER:
        return None
    host = urlsplit(instance.address).hostname
    if not host:
        raise StepError(f"{instance.name} needs an address, so that the load balancer can send to it.", permanent=True)
    return {
        "kind": given["kind"],
        "settings": {key: value for key, value in given.items() if key != "kind"},
        "member": {"name": instance.name, "host": host, "port": port_of(instance)},
    }


def port_of(instance: Instance) -> int:
    """The port of its address."""
    parts = urlsplit(instance.address)
    return parts.port or {"https": 443}.get(parts.scheme, 80)


def recipe_of(target: Target, instance: Instance, *, image: str, version: str, digest: str) -> Arguments:
    """Everything that a container is made from, but its variables. image: by its digest."""
    given = {**CONTAINER, **target.settings.get("container", {})}
    port = port_of(instance)
    facts = {
        "instance": instance.name,
        "environment": target.environment,
        "service": target.service,
        "port": str(port if given["network"] == "host" else given["port"]),
        "version": version,
        "digest": digest,
    }
    command = [PLACE.sub(lambda found: facts.get(found[1], found[0]), word) for word in given["command"]]
    published = port if instance.address and given["network"] != "host" else None
    return {**given, "command": command, "image": image, "published": published}
