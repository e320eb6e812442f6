"""The steps of the hosts driver that change containers: observe → act → verify, each resumed after any crash.

How a late worker is kept from doing harm, without a lock on the host:

1. A container has one life: created, started, stopped, removed. Its id is never used again, so what a late worker
   still sends to an id is no change, or meets a container that is about to be removed.
2. There is one container of a name, which the engine itself sees to. Who creates one after somebody else did is
   refused, and who finds one with a higher fence than its own stops at once.
3. What ran before is not started again: a copy of it is made before it is stopped, never started, and kept beside it
   ("NAME.before"). Going back is to give that copy the name and to start it, with the variables that it had.
4. Where nothing is to run, a container that is never started keeps the name.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from controlplane.operations.errors import LeaseLost, StepError
from controlplane.operations.masking import SHORTEST
from controlplane.operations.plans import Arguments, digest_of
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed, pending
from environments.drivers.hosts.engine import Container, Engine
from environments.drivers.telling import REMOVED, STARTED, STOPPED, intend, tell_once
from environments.models import Environment
from environments.secrets import Reference, fingerprint, referenced_variables, variables

BEFORE, HOLD = ".before", ".hold"
# What a copy of a container has written on it as the container itself has.
STAYS = ("address", "version", "digest", "image", "configuration", "variables", "secrets")
# A container that an earlier attempt made and did not start is taken when these labels are as they would be now.
ALIKE = ("digest", "shape", "configuration", "kept", "held")


@contextmanager
def at_host(host: str, settings: Arguments) -> Iterator[Engine]:
    """The engine of a host, for a block; what goes wrong with it names the host. Raises StepError."""
    try:
        with Engine.at(settings) as engine:
            yield engine
    except StepError as error:
        if str(error).startswith(host):
            raise
        raise StepError(f"{host}: {error}", permanent=error.permanent) from error


@contextmanager
def engine_at(context: StepContext, place: Arguments) -> Iterator[Engine]:
    """The engine of a place, for a block. Raises StepError, in words, when it cannot be reached."""
    with at_host(place["host"], place["engine"]) as engine:
        context.mask(*engine.secrets)
        yield engine


def called(found: Container) -> str:
    """A container that is not ours, in words."""
    return f"container {found.id[:12]} of {found.image[:150] or found.image_id}"


def look(context: StepContext, engine: Engine, place: Arguments) -> tuple[Container | None, Container | None]:
    """What has the place's name, and what is kept beside it. Raises LeaseLost for a worker that is too late.

    Raises StepError for what is not ours, but for the one container that the plan names.
    """
    found, kept = engine.find(place["name"]), engine.find(place["name"] + BEFORE)
    for one in (found, kept):
        if one is None:
            continue
        if not one.is_ours and one.id == place.get("stranger"):
            continue
        if not one.is_ours:
            words = f"{one.name} is {called(one)}, which somebody else started and the plan does not name."
            raise StepError(f"{words} Ask for it again, or rename or remove that one.", permanent=True)
        if one.labels.get("environment") != place["environment"]:
            words = f"{one.name} belongs to {one.labels.get('environment')}: give one another name."
            raise StepError(words, permanent=True)
        if one.fence > context.fence:
            raise LeaseLost(f"{place['instance']}: fence {context.fence} is too late, {one.fence} was here")
    return found, kept


def is_new(context: StepContext, found: Container | None) -> bool:
    """This operation brought it, as opposed to what ran before."""
    return (
        found is not None
        and found.labels.get("operation") == str(context.operation_id)
        and not found.is_kept
        and not found.is_held
    )


def restarts_of(context: StepContext, found: Container, *, early: bool = False) -> int:
    """How often it was restarted on this operation's account; what it did not start has its own from before.

    early: it was started before what it needs was there, so just those since the step's first look count.
    """
    if found.labels.get("operation") != str(context.operation_id):
        return 0
    if not early:
        return found.restarts
    seen = context.checkpoint.get("restarts", {})
    if found.id not in seen:
        seen = {**seen, found.id: found.restarts}
        context.save_checkpoint(restarts=seen)
    return max(0, found.restarts - int(seen[found.id]))


def labels_of(context: StepContext, place: Arguments, recipe: Arguments, **more: str) -> dict[str, str]:
    """What is written on a container."""
    return {
        "environment": place["environment"],
        "service": place["service"],
        "instance": place["instance"],
        "address": place["address"],
        "operation": str(context.operation_id),
        "fence": str(context.fence),
        "recipe": json.dumps(recipe, sort_keys=True),
        "shape": shape_of(recipe),
        "kept": "",
        "held": "",
        **more,
    }


def shape_of(recipe: Mapping[str, Any]) -> str:
    """Changes when a container of the same release would be made otherwise."""
    return digest_of({key: value for key, value in recipe.items() if key != "image"})[:16]


def mask_secrets(context: StepContext, place: Arguments, found: Container) -> None:
    """Never show the secrets that it was given: they may have been rotated since, and only it still has them."""
    named = found.labels.get("secrets")
    # One from before there was this label: those that are secret now.
    names = named.split(",") if named is not None else secret_names(place["environment"])
    given = (found.variables.get(name, "") for name in names)
    context.mask(*(value for value in given if len(value) >= SHORTEST))


def secret_names(environment: str) -> list[str]:
    """The names of an environment's variables that are secret, or contain one."""
    given = referenced_variables(Environment.objects.get(slug=environment))
    return [name for name, value in given.items() if isinstance(value, Reference)]


def say_last_words(context: StepContext, engine: Engine, place: Arguments, found: Container | None, lines: int) -> None:
    """The end of its log, into the operation's."""
    if found is None or not lines:
        return
    mask_secrets(context, place, found)
    for line in engine.last_words(found.id, lines):
        context.log(f"{place['instance']} | {line}", level="warning")


# --- stop, and keep a copy ----------------------------------------------------------------------------


def _is_retired(context: StepContext, *, place: Arguments, version: str, digest: str, seconds: int) -> Seen:
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
    if found is not None and not is_new(context, found):
        return Seen.NOT_DONE
    if context.checkpoint.get("meant"):
        _tell_end(context, place, version, digest)
    return Seen.DONE


def _retire(context: StepContext, *, place: Arguments, version: str, digest: str, seconds: int) -> None:
    """Keep a copy of what runs, then end it. version "": nothing was to run; what is left over makes room."""
    with engine_at(context, place) as engine:
        found, kept = look(context, engine, place)
        if found is None or is_new(context, found):
            context.log(f"{place['instance']}: {version or 'nothing'} does not run, nothing to stop")
            return
        if found.is_ours and found.is_running and found.digest != digest:
            words = f"{found.version} runs at {place['instance']}, not {version or 'nothing'}. Ask for it again."
            raise StepError(words, permanent=True)
        if version and not found.is_held:
            _keep(context, engine, place, found, kept)
        intend(context)
        engine.stop(found.id, seconds)
        context.check()
        engine.remove(found.id)
    _tell_end(context, place, version, digest)
    if version:
        context.log(f"{place['instance']}: stopped {version}, and keeps a copy of it to go back to")
    elif not found.is_ours:
        context.log(f"{place['instance']}: removed {called(found)}, which somebody else started")


def _tell_end(context: StepContext, place: Arguments, version: str, digest: str) -> None:
    if version:
        tell_once(context, STOPPED, place["instance"], version=version, digest=digest)
    elif stranger := place.get("stranger"):
        tell_once(context, REMOVED, place["instance"], stranger=stranger)


def _keep(context: StepContext, engine: Engine, place: Arguments, found: Container, kept: Container | None) -> None:
    """A copy of what runs, never started: its image stays on the host, and its variables stay as they were."""
    if kept is not None and kept.labels.get("of") == found.id and kept.is_fresh:
        return
    if kept is not None:
        context.check()
        engine.remove(kept.id)
    mask_secrets(context, place, found)
    recipe = {**found.recipe, "image": found.image_id}
    stays = {key: found.labels[key] for key in STAYS if key in found.labels}
    labels = labels_of(context, place, found.recipe, **stays, kept="yes", of=found.id)
    context.check()
    engine.create(place["name"] + BEFORE, recipe, found.variables, labels)


# --- run ----------------------------------------------------------------------------------------------


def _is_run(context: StepContext, *, place: Arguments, version: str, digest: str, **rest: Any) -> Seen:
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
    if found is None or not found.is_running or found.digest != digest or not is_new(context, found):
        return Seen.NOT_DONE
    tell_once(context, STARTED, place["instance"], version=version, digest=digest)
    return Seen.DONE


def _run(context: StepContext, *, place: Arguments, version: str, digest: str, **rest: Any) -> None:
    """A container of the release, unless it is there. Raises StepError when another release runs."""
    with engine_at(context, place) as engine:
        make(context, engine, place, version=version, digest=digest, **rest)
    tell_once(context, STARTED, place["instance"], version=version, digest=digest)


def make(
    context: StepContext,
    engine: Engine,
    place: Arguments,
    *,
    recipe: Arguments,
    version: str,
    digest: str,
    image: str,
    configuration: str,
    lines: int,
    kept: str = "",
) -> None:
    """Create and start a container of the release, unless one of this operation waits there to be started.

    kept: "yes" where it stands for what ran before. Raises StepError when another release runs, or for a late plan.
    """
    found, _ = look(context, engine, place)
    if found is not None and found.is_running:
        words = f"{found.version} runs at {place['instance']}, so {version} is not started."
        raise StepError(words, permanent=True)
    given, marks = variables_of(context, place, configuration)
    labels = labels_of(context, place, recipe, version=version, digest=digest, image=image, kept=kept, **marks)
    ours = found is not None and found.is_fresh and found.labels.get("operation") == labels["operation"]
    if found is not None and ours and all(found.labels.get(key) == labels[key] for key in ALIKE):
        made = found.id
    else:
        if found is not None:
            context.check()
            engine.remove(found.id)
        intend(context)
        made = engine.create(place["name"], recipe, given, labels)
    context.check()
    engine.start(made)
    context.log(f"{place['instance']}: started {version} as {made[:12]} on {place['host']}")


def variables_of(context: StepContext, place: Arguments, configuration: str) -> tuple[dict[str, str], dict[str, str]]:
    """The environment's variables with every secret in place, and what is written on the container of them."""
    owner = Environment.objects.get(slug=place["environment"])
    mark = fingerprint(owner)
    if configuration and configuration != mark:
        words = f"The configuration of {owner.slug} has changed since this was planned. Ask for it again."
        raise StepError(words, permanent=True)
    given = variables(owner)
    hidden = [variable for variable in given if variable.secret]
    context.mask(*(variable.value for variable in hidden))
    if hidden:
        masked = ", ".join(f"{variable.name}=••••••••" for variable in hidden)
        context.log(f"{place['instance']}: with {masked}")
    marks = {
        "configuration": mark,
        "variables": ",".join(variable.name for variable in given),
        "secrets": ",".join(variable.name for variable in hidden),
    }
    return {one.name: one.value for one in given}, marks


def is_up(
    context: StepContext, *, place: Arguments, version: str, lines: int, early: bool = False, **rest: Any
) -> Verdict:
    """Whether its container runs. early: see `restarts_of`."""
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
        restarts = restarts_of(context, found, early=early) if found else 0
        if found is not None and found.is_running and not restarts:
            return passed()
        if found is not None and found.is_fresh:
            return pending(f"{version} is starting at {place['instance']}")
        say_last_words(context, engine, place, found, lines)
    if found is None:
        return failed(f"somebody has removed {place['name']} on {place['host']}")
    how = f"was restarted {restarts} times" if restarts else f"ended right after its start ({found.end})"
    return failed(f"{version} {how} at {place['instance']}")


# --- end, and hold the name ------------------------------------------------------------------------------------------


def end_and_hold(context: StepContext, engine: Engine, place: Arguments, was: Container, seconds: int) -> None:
    """End it, and have a container that is never started keep the name, with what ran there last written on it.

    That one is made first, so that whoever goes on after a crash still knows what ran.
    """
    waits = engine.find(place["name"] + HOLD)
    if waits is None or waits.labels.get("of") != was.id:
        context.check()
        if waits is not None:
            engine.remove(waits.id)
        stays = {key: was.labels.get(key, "") for key in ("version", "digest", "image", "configuration")}
        labels = labels_of(context, place, was.recipe, **stays, held="yes", of=was.id)
        recipe = {**was.recipe, "image": was.image_id, "restart": "no"}
        engine.create(place["name"] + HOLD, recipe, {}, labels)
    context.check()
    engine.stop(was.id, seconds)
    context.check()
    engine.remove(was.id)
    take_name(context, engine, place)


def waits_for_name(engine: Engine, place: Arguments) -> bool:
    """Whether a container is there that is to keep the name and has not got it yet."""
    return engine.find(place["name"] + HOLD) is not None


def take_name(context: StepContext, engine: Engine, place: Arguments) -> None:
    """Give the name to the container that is to keep it, if one waits for that."""
    waits = engine.find(place["name"] + HOLD)
    if waits is not None:
        context.check()
        engine.rename(waits.id, place["name"])


STEPS = {
    "hosts.stop": StepFunction(observe=_is_retired, act=_retire),
    "hosts.run": StepFunction(observe=_is_run, act=_run, verify=is_up, poll=0.2),
}
