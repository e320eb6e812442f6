"""The steps of the hosts driver that go back: what this operation brought is ended, and what ran before runs again."""

from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction
from environments.drivers.hosts.steps import (
    end_and_hold,
    engine_at,
    is_new,
    is_up,
    look,
    make,
    take_name,
    waits_for_name,
)
from environments.drivers.telling import STARTED, STOPPED, intend, tell_once


def _is_cleared(context: StepContext, *, place: Arguments, version: str, digest: str, seconds: int, hold: bool) -> Seen:
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
        if is_new(context, found) or (hold and found is None and waits_for_name(engine, place)):
            return Seen.NOT_DONE
    if context.checkpoint.get("meant"):
        tell_once(context, STOPPED, place["instance"], version=version, digest=digest)
    return Seen.DONE


def _clear(context: StepContext, *, place: Arguments, version: str, digest: str, seconds: int, hold: bool) -> None:
    """End what this operation brought, and nothing else. hold: nothing ran before, so nobody starts anything late."""
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
        if found is None and hold:
            take_name(context, engine, place)  # whoever ended it died before that
        if found is not None and is_new(context, found):
            intend(context)
            if hold:
                end_and_hold(context, engine, place, found, seconds)
            else:
                engine.stop(found.id, seconds)
                context.check()
                engine.remove(found.id)
    if context.checkpoint.get("meant"):
        tell_once(context, STOPPED, place["instance"], version=version, digest=digest)
        context.log(f"{place['instance']}: stopped {version}")


def _is_returned(context: StepContext, *, place: Arguments, version: str, digest: str, **rest: Any) -> Seen:
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
    if found is None or not found.is_running or found.digest != digest or is_new(context, found):
        return Seen.NOT_DONE
    if context.checkpoint.get("meant"):
        tell_once(context, STARTED, place["instance"], version=version, digest=digest)
    return Seen.DONE


def _return(context: StepContext, *, place: Arguments, version: str, digest: str, **rest: Any) -> None:
    """The copy of what ran gets the name and is started. Where there is none of it, the release is started anew."""
    with engine_at(context, place) as engine:
        found, kept = look(context, engine, place)
        if kept is not None and kept.digest != digest:
            kept = None  # of what ran before that: its own had gone before one could be made
        if kept is None and (found is None or not found.is_kept or found.digest != digest):
            context.log(f"{place['instance']}: no copy of {version} is kept, it is made anew", level="warning")
            intend(context)
            make(context, engine, place, version=version, digest=digest, kept="yes", **rest)
            tell_once(context, STARTED, place["instance"], version=version, digest=digest)
            return
        if kept is not None:
            if found is not None:
                if found.is_running:
                    words = f"{found.version} runs at {place['instance']}, so {version} is not started."
                    raise StepError(words, permanent=True)
                context.check()
                engine.remove(found.id)
            intend(context)
            engine.rename(kept.id, place["name"])
            found = kept
        if found is None:
            raise StepError(f"{place['name']} has just gone from {place['host']}.")
        context.check()
        engine.start(found.id)
    tell_once(context, STARTED, place["instance"], version=version, digest=digest)
    context.log(f"{place['instance']}: started {version} again, with the variables that it had")


STEPS = {
    "hosts.clear": StepFunction(observe=_is_cleared, act=_clear),
    "hosts.return": StepFunction(observe=_is_returned, act=_return, verify=is_up, poll=0.2),
}
