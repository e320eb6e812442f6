"""Running so many instances of a service on hosts, or none of it, for disaster recovery.

To stop is to take each out of the load balancer and to end it, and then to prove for each that no container runs and
nothing answers. What was stopped leaves a container behind that is never started: it keeps the name under the fence of
whoever stopped it, so no worker of an earlier plan creates anything later, and it says what ran there last.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from controlplane.operations.errors import Invalid, StepError, Unknown
from controlplane.operations.plans import Arguments, StepSpec
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, passed, pending
from environments.drivers.base import Scaling, Software, Target
from environments.drivers.hosts.driver import HostsDriver
from environments.drivers.hosts.plan import TIMEOUT, Steps, run_arguments
from environments.drivers.hosts.serving import IN_SOMEHOW, balancer_at, standing
from environments.drivers.hosts.settings import checked, setting
from environments.drivers.hosts.steps import (
    end_and_hold,
    engine_at,
    is_up,
    look,
    make,
    say_last_words,
    take_name,
)
from environments.drivers.local.scale import heard
from environments.drivers.telling import DEREGISTERED, STARTED, STOPPED, intend, tell_if_meant, tell_once


class ScalableHostsDriver(HostsDriver):
    """See `base.Driver` and `base.Scalable`."""

    def __init__(self) -> None:
        super().__init__()
        up = partial(is_up, early=True)
        ours = {
            "hosts.halt": StepFunction(act=_halt),
            "hosts.gone": StepFunction(act=_end, verify=_is_gone, poll=0.2),
            "hosts.make-room": StepFunction(act=_make_room),
            "hosts.launch": StepFunction(observe=_is_launched, act=_launch),
            "hosts.resume": StepFunction(observe=_runs_at_all, act=_resume),
            "hosts.launched": StepFunction(observe=_is_launched, act=_launch, verify=up, poll=0.2),
            "hosts.resumed": StepFunction(observe=_runs_at_all, act=_resume, verify=up, poll=0.2),
        }
        self.steps: Mapping[str, StepFunction] = {**self.steps, **ours}

    def scale(self, target: Target, count: int, software: Software | None, *, key: str) -> Scaling:
        """The first `count` instances run and are registered, the others are stopped and held.

        software None, or one without a digest: what each ran last. Raises Invalid when there are not so many.
        """
        if count > len(target.instances):
            words = f"{target.environment} has {len(target.instances)} instances of {target.service}, not {count}."
            raise Invalid(f"{words} Declare more there, or want fewer.")
        checked(target)
        known = software if software is not None and software.digest else None
        down = [Steps(target, one, prefix=f"{key}/") for one in target.instances[count:]]
        up = [Steps(target, one, prefix=f"{key}/") for one in target.instances[:count]]
        begin = [_ending(steps, "halt", f"take {steps.instance.name} out and end it") for steps in down]
        begin += [step for steps in up for step in _launching(steps, known)]
        wait = [_ending(steps, "gone", f"see that nothing runs at {steps.instance.name}") for steps in down]
        wait += [step for steps in up for step in _coming_up(steps, known)]
        return Scaling(tuple(begin), tuple(wait))


# --- the plan: pure -----------------------------------------------------------------------------------


def _ending(steps: Steps, key: str, title: str) -> StepSpec:
    seconds = setting(steps.target, "stop_seconds")
    arguments = {"balancer": steps.balancer, "seconds": seconds}
    return steps.spec(key, title, key, arguments, timeout=TIMEOUT + seconds)


def _launching(steps: Steps, known: Software | None) -> list[StepSpec]:
    room = {"balancer": steps.balancer, "digest": known.digest if known else "",
            "seconds": setting(steps.target, "stop_seconds")}  # fmt: skip
    what = known.version if known else "what it ran last"
    return [
        *([steps.pull(known)] if known else []),
        steps.spec("room", f"make {steps.instance.name} ready", "make-room", room, timeout=TIMEOUT + room["seconds"]),
        steps.spec("launch", f"start {what}", "launch" if known else "resume", _start(steps, known)),
    ]


def _coming_up(steps: Steps, known: Software | None) -> list[StepSpec]:
    """What ended since it was started is started again here; what restarted, for what it needs was not there, may."""
    version, digest = (known.version, known.digest) if known else ("", "")
    function = "launched" if known else "resumed"
    return [
        steps.spec("up", f"wait until {version or 'it'} is up", function, _start(steps, known)),
        steps.check(version, digest, early=True),
        *steps.come(),
        *steps.serving(),
    ]


def _start(steps: Steps, known: Software | None) -> Arguments:
    """A recovery takes the variables that are there: what it depends on must not go stale in the worst night."""
    if known is None:
        return {"version": "", "lines": setting(steps.target, "log_lines")}
    return run_arguments(steps.target, steps.instance, known, "")


# --- the steps ----------------------------------------------------------------------------------------


def _take_out(context: StepContext, place: Arguments, balancer: Arguments | None) -> None:
    if balancer is not None and standing(balancer).standing in IN_SOMEHOW:
        kind, settings, member = balancer_at(balancer)
        intend(context, DEREGISTERED)
        kind.remove(settings, member)
        context.log(f"{place['instance']}: deregistered")
    tell_if_meant(context, DEREGISTERED, place["instance"], part=DEREGISTERED)


def _halt(context: StepContext, *, place: Arguments, balancer: Arguments | None, seconds: int) -> None:
    """Acts each time it is asked: what is there already must also get this plan's fence."""
    try:
        _take_out(context, place, balancer)
    except StepError as error:
        context.log(f"{place['instance']} cannot be deregistered: {error}", level="warning")
    try:
        _stop_and_hold(context, place, seconds)
    except StepError as error:
        context.log(f"{place['instance']} cannot be ended: {error} Whether it runs is seen later.", level="warning")


def _end(context: StepContext, *, place: Arguments, balancer: Arguments | None, seconds: int) -> None:
    try:
        _take_out(context, place, balancer)
        _stop_and_hold(context, place, seconds)
    except StepError as error:
        raise Unknown(f"{place['instance']} cannot be looked at: {error} Does anything run there?") from error


def _stop_and_hold(context: StepContext, place: Arguments, seconds: int) -> None:
    with engine_at(context, place) as engine:
        found, kept = look(context, engine, place)
        if found is None:
            take_name(context, engine, place)
            found = look(context, engine, place)[0] or kept
        ours = found is not None and found.labels.get("operation") == str(context.operation_id)
        if found is not None and not (found.is_held and ours):
            if found.is_running:
                intend(context, STOPPED, version=found.version, digest=found.digest)
                context.log(f"{place['instance']}: stopping {found.version}")
            end_and_hold(context, engine, place, found, seconds)
    ran = {name: context.checkpoint.get(name) for name in ("version", "digest")}
    tell_if_meant(context, STOPPED, place["instance"], part=STOPPED, **ran)


def _is_gone(context: StepContext, *, place: Arguments, balancer: Arguments | None, seconds: int) -> Verdict:
    """Seen twice: no container of the name runs, and nobody takes a connection at the address."""
    try:
        with engine_at(context, place) as engine:
            found, _ = look(context, engine, place)
    except StepError as error:
        raise Unknown(f"{place['instance']} cannot be looked at: {error} Does anything run there?") from error
    if found is not None and not found.is_fresh and found.status != "exited":
        return pending(f"a container still runs at {place['instance']}")
    answers = heard(place["address"])
    if answers is None:
        raise Unknown(f"{place['address']} neither answers nor refuses. Does anything run at {place['instance']}?")
    if answers:
        return pending(f"nothing of ours runs at {place['instance']}, and yet somebody answers at {place['address']}")
    context.log(f"{place['instance']}: no container runs and nothing answers")
    return passed()


def _make_room(
    context: StepContext, *, place: Arguments, balancer: Arguments | None, digest: str, seconds: int
) -> None:
    """Out of the balancer until it was checked; another release makes room. digest "": whatever runs stays."""
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
        runs = found is not None and found.is_running
        if found is None or not (runs and (not digest or found.digest == digest)):
            _take_out(context, place, balancer)
            if found is not None and runs:
                # The plan names what is to run, not what makes room for it.
                intend(context, STOPPED, ran=f"{found.version} {found.digest}".strip())
                engine.stop(found.id, seconds)
                context.log(f"{place['instance']}: stopped {found.version}")
    tell_if_meant(context, STOPPED, place["instance"], part=STOPPED, ran=context.checkpoint.get("ran"))


def _is_launched(context: StepContext, *, place: Arguments, version: str, digest: str, **rest: Any) -> Seen:
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
    if found is None or not found.is_running or found.digest != digest:
        return Seen.NOT_DONE
    tell_if_meant(context, STARTED, place["instance"], version=version, digest=digest)
    return Seen.DONE


def _launch(context: StepContext, *, place: Arguments, version: str, digest: str, **rest: Any) -> None:
    with engine_at(context, place) as engine:
        make(context, engine, place, version=version, digest=digest, **rest)
    tell_once(context, STARTED, place["instance"], version=version, digest=digest)


def _runs_at_all(context: StepContext, *, place: Arguments, version: str, lines: int) -> Seen:
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
    if found is None or not found.is_running:
        return Seen.NOT_DONE
    tell_if_meant(context, STARTED, place["instance"], version=found.version, digest=found.digest)
    return Seen.DONE


def _resume(context: StepContext, *, place: Arguments, version: str, lines: int) -> None:
    """What ran there last, as the container says that keeps the name, or the copy beside it."""
    with engine_at(context, place) as engine:
        last = next((one for one in look(context, engine, place) if one is not None and one.digest), None)
        if last is None:
            raise StepError(f"Nobody knows what {place['instance']} is to run: deploy a release there.", permanent=True)
        ran = {"version": last.version, "digest": last.digest, "image": last.labels.get("image", "")}
        if last.status == "exited":
            say_last_words(context, engine, place, last, lines)
        make(context, engine, place, recipe=last.recipe, configuration="", lines=lines, **ran)
    tell_once(context, STARTED, place["instance"], version=ran["version"], digest=ran["digest"])
