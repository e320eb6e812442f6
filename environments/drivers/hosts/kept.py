"""Whether a release could be run again on hosts: its image is on each of them, or in the registry, by its digest."""

from concurrent.futures import ThreadPoolExecutor

from controlplane.operations.errors import StepError
from controlplane.operations.gates import Outcome
from environments.drivers.base import KEPT_SECONDS, Kept, Software, Target
from environments.drivers.hosts.engine import Engine
from environments.drivers.hosts.settings import checked, engine_of, host_of, login_for
from environments.image_names import repository_of
from environments.registries import Login, has_image, parts_of
from environments.secrets import resolve

AT_ONCE = 16


def kept_on_hosts(target: Target, software: Software) -> Kept:
    """A host that does not have it any more would pull it, so then the registry is asked. Raises StepError."""
    checked(target)
    hosts = list(dict.fromkeys(host_of(target, instance) for instance in target.instances))
    repository = repository_of(software.image)
    reference = f"{repository}@{software.digest}"
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kept") as pool:
        there = list(pool.map(lambda host: _is_on(target, host, reference), hosts))
    without = [host for host, is_there in zip(hosts, there, strict=True) if not is_there]
    if not without:
        return Kept(Outcome.PASSED, f"its image is on {', '.join(hosts)}, by its digest")
    who = ", ".join(without)
    try:
        found = has_image(repository, software.digest, _login(target, repository))
    except StepError as error:
        remedy = "Pull it there, or give the driver settings a registry with host, username and password."
        words = f"{who} does not have the image of {software.version}, and {error} {remedy}"
        raise StepError(words, permanent=error.permanent) from error
    host = parts_of(repository)[0]
    if found:
        return Kept(Outcome.PASSED, f"its image is in the registry {host}, from which {who} would pull it again")
    words = f"neither {who} nor the registry {host} has the image of {software.version} any more. Push it again."
    return Kept(Outcome.FAILED, words)


def _is_on(target: Target, host: str, reference: str) -> bool:
    settings = engine_of(target, host)
    try:
        with Engine.at({**settings, "answer_seconds": min(KEPT_SECONDS, settings["answer_seconds"])}) as engine:
            return bool(engine.image_id(reference))
    except StepError as error:
        raise StepError(f"{host}: {error}", permanent=error.permanent) from error


def _login(target: Target, repository: str) -> Login | None:
    given = login_for(repository, target.settings.get("registry", {}))
    return Login(given["username"], resolve(given["password"])) if given else None
