"""What runs on hosts beside what was deployed, and what would be run as a compose file."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from environments.balancers.base import Standing
from environments.drivers.base import (
    LOOK_SECONDS,
    Difference,
    Document,
    Instance,
    Kept,
    PartlyUnknown,
    Software,
    Target,
    Unheard,
)
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
    recipe_of,
    setting,
)
from environments.drivers.hosts.steps import BEFORE, called, shape_of
from environments.image_names import repository_of
from environments.secrets import Reference
from environments.side_by_side import ask_all

AT_ONCE = 16
NOBODY = (Standing.ABSENT, Standing.DRAINING, Standing.ELSEWHERE)


class ComparableHostsDriver(ScalableHostsDriver):
    """See `base.Driver`, `base.Scalable`, `base.Comparable`, `base.Exportable` and `base.Keeping`."""

    def differences(self, target: Target, deployed: Software) -> list[Difference]:
        """By host: of its instances, then containers of the service that no instance is declared for.

        A host that cannot be asked hides nothing of the others.
        """
        checked(target)
        hosts = list(dict.fromkeys(host_of(target, instance) for instance in target.instances))
        looks = ask_all(lambda host: _look_at(target, host, deployed), hosts, "differences", AT_ONCE)
        found = [one for look in looks for one in look.differences]
        unheard = [one for look in looks for one in look.unheard]
        if unheard:
            raise PartlyUnknown(found, unheard)
        return found

    def documents(self, target: Target, software: Software, variables: Mapping[str, str]) -> list[Document]:
        """A compose file for each host."""
        checked(target)
        hosts = dict.fromkeys(host_of(target, instance) for instance in target.instances)
        return [Document(f"compose-{host}.yaml", _compose(target, host, software, variables)) for host in hosts]

    def kept(self, target: Target, software: Software) -> Kept:
        """Whether each host has its image, or the registry."""
        return kept_on_hosts(target, software)


# --- differences --------------------------------------------------------------------------------------


@dataclass
class _Look:
    """What one host said, and the load balancer of its instances."""

    differences: list[Difference] = field(default_factory=list)
    unheard: list[Unheard] = field(default_factory=list)


def _look_at(target: Target, host: str, deployed: Software) -> _Look:
    look = _Look()
    here = [one for one in target.instances if host_of(target, one) == host]
    settings = engine_of(target, host)
    settings["answer_seconds"] = min(LOOK_SECONDS, settings["answer_seconds"])
    try:
        with Engine.at(settings) as engine:
            image_id = engine.image_id(f"{repository_of(deployed.image)}@{deployed.digest}")
            there = [(one, engine.find(name_of(target, one))) for one in here]
            digests = {one.id: engine.digests_of(one) for _, one in there if one is not None and not one.is_ours}
            surplus = list(_surplus(target, host, engine))
    except StepError as error:
        names = ", ".join(one.name for one in here)
        why = f"{names}: {host}: {error}"
        return _Look(unheard=[Unheard(subject, why) for subject in (*(one.name for one in here), host)])
    for instance, found in there:
        if found is not None and found.is_running and not found.is_ours:
            look.differences.append(_other_container(instance, found, deployed, digests[found.id]))
        else:
            look.differences += _differences(target, instance, found, deployed, image_id)
    running = [one for one, found in there if found is not None and found.is_running]
    _compare_registrations(target, running, look)
    look.differences += surplus
    return look


def _differences(
    target: Target, instance: Instance, found: Container | None, deployed: Software, image_id: str
) -> Iterator[Difference]:
    if found is None or not found.is_running:
        yield Difference("count", instance.name, f"{deployed.version} runs", _absence(found))
        return
    yield from _other_image(instance, found, deployed, image_id)
    yield from _other_environment(target, instance, found)


def _absence(found: Container | None) -> str:
    if found is None:
        return "nothing runs"
    if not found.is_ours:
        return f"{called(found)}, which somebody else started, has its name and ended"
    return f"stopped on purpose, {found.version} ran" if found.is_held else f"{found.version} ended ({found.end})"


def _other_container(instance: Instance, found: Container, deployed: Software, digests: list[str]) -> Difference:
    """One that somebody else started under the instance's name: what is in it is known by its digest, if at all.

    With the image of the release it is the release; but with which variables and settings, nobody knows.
    """
    words = f"{called(found)}, which somebody else started"
    if deployed.digest in digests:
        return Difference("environment", instance.name, "started with the configuration and settings of now", words)
    return Difference("image", instance.name, f"{deployed.version} {deployed.digest}", f"{digests[0]}, {words}")


def _other_image(instance: Instance, found: Container, deployed: Software, image_id: str) -> Iterator[Difference]:
    wanted = f"{deployed.version} {deployed.digest}"
    if found.digest != deployed.digest:
        yield Difference("image", instance.name, wanted, f"{found.version} {found.digest}")
    elif image_id and found.image_id and image_id != found.image_id:
        yield Difference("image", instance.name, wanted, f"it says so, and runs the image {found.image_id}")


def _other_environment(target: Target, instance: Instance, found: Container) -> Iterator[Difference]:
    wanted, had = target.settings.get("configuration", ""), found.labels.get("configuration", "")
    if wanted and had != wanted:
        yield Difference("environment", instance.name, f"the configuration {wanted}", f"the configuration {had}")
    recipe = recipe_of(target, instance, image="", version=found.version, digest=found.digest)
    if shape_of(recipe) != found.labels.get("shape"):
        former = found.recipe
        others = sorted(key for key in recipe if key != "image" and recipe[key] != former.get(key))
        words = ", ".join(others) or "other settings"
        yield Difference("environment", instance.name, "the container settings of now", f"other {words}")


def _compare_registrations(target: Target, running: Iterable[Instance], look: _Look) -> None:
    """A load balancer that does not answer is not asked again for the next one."""
    why = ""
    for instance in running:
        balancer = balancer_of(target, instance)
        if balancer is None:
            continue
        try:
            seen = None if why else standing(balancer)
        except StepError as error:
            seen, why = None, f"the load balancer: {error}"
        if seen is None:
            look.unheard.append(Unheard(instance.name, why, "registration"))
        elif seen.standing in NOBODY:
            words = seen.standing.value + (f" ({seen.words})" if seen.words else "")
            look.differences.append(Difference("registration", instance.name, "registered at the load balancer", words))


def _surplus(target: Target, host: str, engine: Engine) -> Iterator[Difference]:
    """Containers of this service in this environment that run and belong to no instance of it."""
    names = {name_of(target, instance) for instance in (*target.instances, *target.beside)}
    for name in engine.names_of_running({"environment": target.environment, "service": target.service}):
        if name not in names and name.removesuffix(BEFORE) not in names:
            yield Difference("count", host, "no such container", f"{name} runs")


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
