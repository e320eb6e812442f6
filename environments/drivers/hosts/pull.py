"""The step of the hosts driver that fetches an image, by its digest."""

from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction
from environments.drivers.hosts.settings import login_for
from environments.drivers.hosts.steps import engine_at
from environments.drivers.telling import intend, tell_once
from environments.secrets import resolve

PULLED = "pulled"


def _is_pulled(context: StepContext, *, place: Arguments, repository: str, digest: str, **rest: Any) -> Seen:
    with engine_at(context, place) as engine:
        if not engine.image_id(f"{repository}@{digest}"):
            return Seen.NOT_DONE
    if context.checkpoint.get("meant"):
        tell_once(context, PULLED, place["instance"], digest=digest)
    else:
        context.log(f"{place['instance']}: {place['host']} has {digest[:19]} already")
    return Seen.DONE


def _pull(
    context: StepContext, *, place: Arguments, repository: str, digest: str, registry: Arguments, seconds: float
) -> None:
    login = {}
    if given := login_for(repository, registry):
        login = {"username": given["username"], "password": resolve(given["password"])}
        context.mask(login["password"])
    elif registry:
        context.log(f"{place['instance']}: without a password, as the registry of the settings is another one")
    heard: list[str] = []

    def hear(words: str) -> None:
        context.check()
        if context.remaining() <= 0:
            raise StepError(f"{digest[:19]} was not pulled within its time. Raise pull_seconds ({seconds:g}).")
        if words and words not in heard:
            heard.append(words)
            context.log(f"{place['instance']}: {words}")

    with engine_at(context, place) as engine:
        intend(context)
        engine.pull(repository, digest, login, seconds, hear)
        if not engine.image_id(f"{repository}@{digest}"):
            raise StepError(f"{place['host']} says it has pulled {repository}@{digest}, and does not have it.")
    tell_once(context, PULLED, place["instance"], digest=digest)


STEPS = {"hosts.pull": StepFunction(observe=_is_pulled, act=_pull)}
