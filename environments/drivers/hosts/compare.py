"""What runs on hosts beside what was deployed, and what would be run as a compose file."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import yaml

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from environments.balancers.base import Standing
from environments.drivers.base import Difference, Document, Instance, Kept, Software, Target
from environments.drivers.hosts.engine import Container, Engine
from environments.drivers.hosts.kept import kept_on_hosts
from environments.drivers.hosts.scale import ScalableHostsDriver
from environments.drivers.hosts.serving import standing
from environments.drivers.hosts.settings import (
    balancer_of,
    checked,
    engine_of,
    host_of,
    name_of,
    place_of,
    recipe_of,
    setting,
)
from environments.drivers.hosts.steps import BEFORE, shape_of
from environments.image_names import repository_of
from environments.secrets import Reference

AT_ONCE = 16
NOBODY = (Standing.ABSENT, Standing.DRAINING, Standing.ELSEWHERE)


class ComparableHostsDriver(ScalableHostsDriver):
    """See `base.Driver`, `base.Scalable`, `base.Comparable`, `base.Exportable` and `base.Keeping`."""

    def differences(self, target: Target, deployed: Software) -> list[Difference]:
        """By instance; then containers of the service that no instance is declared for."""
        checked(target)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="differences") as pool:
            found = list(pool.map(lambda instance: list(_differences(target, instance, deployed)), target.instances))
        return [one for each in found for one in each] + list(_surplus(target))

    def documents(self, target: Target, software: Software, variables: Mapping[str, str]) -> list[Document]:
        """A compose file for each host."""
        checked(target)
        hosts = dict.fromkeys(host_of(target, instance) for instance in target.instances)
        return [Document(f"compose-{host}.yaml", _compose(target, host, software, variables)) for host in hosts]

    def kept(self, target: Target, software: Software) -> Kept:
        """Whether each host has its image, or the registry."""
        return kept_on_hosts(target, software)


# --- differences --------------------------------------------------------------------------------------


def _differences(target: Target, instance: Instance, deployed: Software) -> Iterator[Difference]:
    place = place_of(target, instance)
    with _asked(place) as engine:
        found = engine.find(place["name"])
        image_id = engine.image_id(f"{repository_of(deployed.image)}@{deployed.digest}")
    if found is None or not found.is_running:
        yield Difference("count", instance.name, f"{deployed.version} runs", _absence(found))
        return
    yield from _other_image(instance, found, deployed, image_id)
    yield from _other_environment(target, instance, found)
    yield from _other_registration(target, instance)


def _absence(found: Container | None) -> str:
    if found is None:
        return "nothing runs"
    return f"stopped on purpose, {found.version} ran" if found.is_held else f"{found.version} ended ({found.end})"


def _other_image(instance: Instance, found: Container, deployed: Software, image_id: str) -> Iterator[Difference]:
    wanted = f"{deployed.version} {deployed.digest}"
    if not found.is_ours:
        # Nothing that could be adopted: what is in it is not known, and nobody's container is touched.
        words = "a container of its name that was not started by this control plane: rename or remove it"
        yield Difference("count", instance.name, f"{deployed.version} runs", words)
    elif found.digest != deployed.digest:
        yield Difference("image", instance.name, wanted, f"{found.version} {found.digest}")
    elif image_id and found.image_id and image_id != found.image_id:
        yield Difference("image", instance.name, wanted, f"it says so, and runs the image {found.image_id}")


def _other_environment(target: Target, instance: Instance, found: Container) -> Iterator[Difference]:
    if not found.is_ours:
        return
    wanted, had = target.settings.get("configuration", ""), found.labels.get("configuration", "")
    if wanted and had != wanted:
        yield Difference("environment", instance.name, f"the configuration {wanted}", f"the configuration {had}")
    recipe = recipe_of(target, instance, image="", version=found.version, digest=found.digest)
    if shape_of(recipe) != found.labels.get("shape"):
        former = found.recipe
        others = sorted(key for key in recipe if key != "image" and recipe[key] != former.get(key))
        words = ", ".join(others) or "other settings"
        yield Difference("environment", instance.name, "the container settings of now", f"other {words}")


def _other_registration(target: Target, instance: Instance) -> Iterator[Difference]:
    balancer = balancer_of(target, instance)
    if balancer is None:
        return
    seen = standing(balancer)
    if seen.standing in NOBODY:
        words = seen.standing.value + (f" ({seen.words})" if seen.words else "")
        yield Difference("registration", instance.name, "registered at the load balancer", words)


def _surplus(target: Target) -> Iterator[Difference]:
    """Containers of this service in this environment that run and belong to no instance of it."""
    names = {name_of(target, instance) for instance in (*target.instances, *target.beside)}
    for host in dict.fromkeys(host_of(target, instance) for instance in target.instances):
        with _asked({"host": host, "engine": engine_of(target, host)}) as engine:
            labels = {"environment": target.environment, "service": target.service}
            for name in engine.names_of_running(labels):
                if name not in names and name.removesuffix(BEFORE) not in names:
                    yield Difference("count", host, "no such container", f"{name} runs")


class _asked:  # noqa: N801 - used as a function
    """An engine to look at; what goes wrong names the host."""

    def __init__(self, place: Arguments) -> None:
        self._host = place["host"]
        self._engine = Engine.at(place["engine"])

    def __enter__(self) -> Engine:
        try:
            return self._engine.__enter__()
        except StepError as error:
            raise StepError(f"{self._host}: {error}", permanent=error.permanent) from error

    def __exit__(self, *problem: Any) -> None:
        self._engine.__exit__(*problem)


# --- a compose file -----------------------------------------------------------------------------------


def _compose(target: Target, host: str, software: Software, variables: Mapping[str, str]) -> str:
    services = {
        name_of(target, one): _service(target, one, software, variables)
        for one in target.instances
        if host_of(target, one) == host
    }
    first = f"# {target.service} {software.version} in {target.environment}, as it is run on {host}.\n"
    return first + str(yaml.safe_dump({"services": services}, sort_keys=False, allow_unicode=True, width=120))


def _service(target: Target, instance: Instance, software: Software, variables: Mapping[str, str]) -> dict[str, Any]:
    image = f"{repository_of(software.image)}@{software.digest}"
    recipe = recipe_of(target, instance, image=image, version=software.version, digest=software.digest)
    found = {
        "container_name": name_of(target, instance),
        "image": image,
        "command": list(map(_literally, recipe["command"])),
        "entrypoint": list(map(_literally, recipe["entrypoint"])),
        "environment": {name: _value(name, variables) for name in variables},
        "ports": [f"{recipe['published']}:{recipe['port']}"] if recipe["published"] else [],
        "network_mode": recipe["network"],
        "mem_limit": f"{recipe['memory_mb']}m" if recipe["memory_mb"] else "",
        "cpus": recipe["cpus"],
        "pids_limit": recipe["pids"],
        "restart": recipe["restart"],
        "user": recipe["user"],
        "read_only": recipe["read_only"],
        "volumes": list(map(_literally, recipe["volumes"])),
        "stop_signal": recipe["stop_signal"],
        "stop_grace_period": f"{setting(target, 'stop_seconds')}s",
        "healthcheck": _healthcheck(recipe),
    }
    return {key: value for key, value in found.items() if value}


def _healthcheck(recipe: Arguments) -> dict[str, Any]:
    if not recipe["health_command"]:
        return {}
    spans = ("interval", "timeout", "start_period")
    return {
        "test": ["CMD", *map(_literally, recipe["health_command"])],
        **{key: f"{recipe[f'health_{key}']:g}s" for key in spans},
        "retries": recipe["health_retries"],
    }


def _literally(text: str) -> str:
    """Compose reads a dollar as the beginning of a variable."""
    return text.replace("$", "$$")


def _value(name: str, variables: Mapping[str, str]) -> str:
    """A plain value as it is; a secret as a variable that compose refuses to do without, saying where it comes from."""
    value = variables[name]
    if isinstance(value, Reference):
        return f"${{{name}:?{value.replace('$', '').replace('{', '').replace('}', '')}}}"
    return _literally(value)
