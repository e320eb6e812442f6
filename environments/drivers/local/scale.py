"""Starting so many instances of a service on this computer, or stopping all of it, for disaster recovery.

To stop is to tell each at once, and then to prove for each that nothing runs and nothing answers. What was stopped is
held: a restart of the whole stack does not bring it back, only a step of an approved plan does. Whatever is found
running, the hand that stops it leaves its fence in the folder, so no worker of an earlier plan starts anything later.
"""

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from controlplane.operations.errors import Invalid, StepError, Unknown
from controlplane.operations.plans import Arguments, Retry, StepSpec
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed, pending
from environments.drivers.base import Instance, Scaling, Software, Target
from environments.drivers.local.driver import (
    LocalDriver,
    check_arguments,
    check_timeout,
    place_of,
    start_arguments,
)
from environments.drivers.local.instance_folder import InstanceFolder
from environments.drivers.local.steps import ask, instance_folder
from environments.drivers.telling import DEREGISTERED, STARTED, STOPPED, intend, tell_if_meant

TIMEOUT = 60.0
CONNECT_SECONDS = 2.0
AT_ONCE = 16
TOLD_TO_END = "told to end"
AGAIN = Retry(attempts=3, wait=1.0)


class ScalableLocalDriver(LocalDriver):
    """See `base.Driver` and `base.Scalable`."""

    def __init__(self) -> None:
        super().__init__()
        start = self.steps["local.start"]
        resume = _Resume(start)
        # `launch` is `start` without waiting until it is up: all of them come up side by side.
        ours = {
            "local.halt": StepFunction(act=_halt),
            "local.gone": StepFunction(act=_end, verify=_is_gone, poll=0.1),
            "local.clear": StepFunction(act=_clear),
            "local.check-all": StepFunction(act=_check_all),
            "local.launch": StepFunction(observe=start.observe, act=start.act),
            "local.resume": StepFunction(observe=_runs_at_all, act=resume.act),
            "local.resumed": StepFunction(observe=_runs_at_all, act=resume.act, verify=_is_up, poll=0.05),
        }
        self.steps: Mapping[str, StepFunction] = {**self.steps, **ours}

    def scale(self, target: Target, count: int, software: Software | None, *, key: str) -> Scaling:
        """The first `count` instances run and are in rotation, the others are stopped and held.

        software None, or one without a digest: what each ran last. Raises Invalid when there are not so many.
        """
        if count > len(target.instances):
            words = f"{target.environment} has {len(target.instances)} instances of {target.service}, not {count}."
            raise Invalid(f"{words} Declare more there, or want fewer.")
        up, down = target.instances[:count], target.instances[count:]
        known = software if software is not None and software.digest else None
        begin = [step for one in down for step in _halting(target, one, key)]
        wait = [step for one in down for step in _proving(target, one, key)]
        for one in up:
            begin += _launching(target, one, known, key)
        if up:
            wait += _coming_up(target, up, known, key)
        return Scaling(tuple(begin), tuple(wait))


# --- the plan: pure -----------------------------------------------------------------------------------


def _halting(target: Target, one: Instance, key: str) -> list[StepSpec]:
    title = f"take {one.name} out of rotation and tell it to end"
    return [StepSpec(f"{key}/{one.name}/halt", title, "local.halt", place_of(target, one), one.name, TIMEOUT, AGAIN)]


def _proving(target: Target, one: Instance, key: str) -> list[StepSpec]:
    title = f"see that nothing runs at {one.name}"
    return [StepSpec(f"{key}/{one.name}/gone", title, "local.gone", place_of(target, one), one.name, TIMEOUT, AGAIN)]


def _launching(target: Target, one: Instance, known: Software | None, key: str) -> list[StepSpec]:
    clear = {**place_of(target, one), "digest": known.digest if known else ""}
    what = known.version if known else "what it ran last"
    return [
        StepSpec(f"{key}/{one.name}/clear", f"make {one.name} ready", "local.clear", clear, one.name, TIMEOUT, AGAIN),
        StepSpec(f"{key}/{one.name}/launch", f"start {what} on {one.name}",
                 "local.launch" if known else "local.resume", _start(target, one, known), one.name, TIMEOUT, AGAIN),
    ]  # fmt: skip


def _start(target: Target, one: Instance, known: Software | None) -> Arguments:
    """A recovery takes the variables that are there: what it depends on must not go stale in the worst night."""
    if known is None:
        return {"start": start_arguments(target, one, "", ""), "broken": target.settings.get("broken_versions", {})}
    return {**start_arguments(target, one, known.version, known.digest), "configuration": ""}


def _coming_up(target: Target, up: Sequence[Instance], known: Software | None, key: str) -> list[StepSpec]:
    """What ended since it was started is started again here; all are checked at the same time, then put in rotation."""
    version = known.version if known else ""
    places = [place_of(target, one) for one in up]
    check = {**check_arguments(target, version), "instances": places}
    title = f"check the health of {'all ' if len(up) > 1 else ''}{len(up)}"
    return [
        *(StepSpec(f"{key}/{one.name}/up", f"wait until {version or 'it'} is up on {one.name}",
                   "local.start" if known else "local.resumed", _start(target, one, known), one.name, TIMEOUT, AGAIN)
          for one in up),
        StepSpec(f"{key}/check", title, "local.check-all", check, target.service, check_timeout(target), AGAIN),
        *(StepSpec(f"{key}/{one.name}/back", f"put {one.name} in rotation", "local.back", place, one.name, TIMEOUT,
                   AGAIN)
          for one, place in zip(up, places, strict=True)),
    ]  # fmt: skip


# --- the steps ----------------------------------------------------------------------------------------


def _halt(context: StepContext, *, folder: str, address: str) -> None:
    """Acts each time it is asked: what is there already must also get this plan's fence."""
    instance = instance_folder(folder)
    try:
        with instance.control(context):
            instance.hold()
            _take_out(context, instance)
            if instance.occupied:
                intend(context, TOLD_TO_END)
            told = instance.ask_to_end(context)
    except (StepError, OSError) as error:
        words = f"{instance.name} cannot be told to end: {_said(error)}. Whether it runs is seen later."
        context.log(words, level="warning")
        return
    tell_if_meant(context, TOLD_TO_END, instance.name, part=TOLD_TO_END)
    context.log(f"{instance.name}: out of rotation, told to end" if told else f"{instance.name}: nothing runs")


def _end(context: StepContext, *, folder: str, address: str) -> None:
    instance = instance_folder(folder)
    try:
        with instance.control(context):
            instance.hold()
            _take_out(context, instance)
            if instance.occupied:
                intend(context, STOPPED)
            seconds = instance.stop(context, instance.wanted.get("digest", ""))
    except OSError as error:
        raise Unknown(f"{instance.name} cannot be looked at: {_said(error)}. Does anything run there?") from error
    tell_if_meant(context, STOPPED, instance.name, part=STOPPED)
    if seconds is not None:
        context.log(f"{instance.name}: ended after {seconds:.1f} s")


def _take_out(context: StepContext, instance: InstanceFolder) -> None:
    if not instance.marker.exists():
        intend(context, DEREGISTERED)
        instance.take_out()
    tell_if_meant(context, DEREGISTERED, instance.name, part=DEREGISTERED)


def _is_gone(context: StepContext, *, folder: str, address: str) -> Verdict:
    """Seen twice: no process holds the folder's lock, and nobody takes a connection at the address."""
    instance = instance_folder(folder)
    try:
        if instance.occupied:
            return pending(f"a process still runs at {instance.name}")
    except OSError as error:
        raise Unknown(f"{instance.name} cannot be looked at: {_said(error)}. Does anything run there?") from error
    answers = heard(address)
    if answers is None:
        raise Unknown(f"{address} neither answers nor refuses. Does anything run at {instance.name}?")
    if answers:
        return pending(f"nothing of ours runs at {instance.name}, and yet somebody answers at {address}")
    context.log(f"{instance.name}: no process runs and nothing answers")
    return passed()


def heard(address: str) -> bool | None:
    """Whether somebody takes a connection there; None when that cannot be told."""
    if not address:
        return False
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return None
    return True


def _clear(context: StepContext, *, folder: str, address: str, digest: str) -> None:
    """Out of rotation until it was checked; another release than the wanted one makes room. "": whatever runs stays."""
    instance = instance_folder(folder)
    with instance.control(context):
        _take_out(context, instance)
        other, seconds = instance.wanted.get("digest", ""), None
        if instance.occupied and digest and other != digest:
            intend(context, STOPPED, ran=other)
            seconds = instance.stop(context, other)
        if instance.occupied:
            instance.let_go()
    tell_if_meant(context, STOPPED, instance.name, part=STOPPED, ran=context.checkpoint.get("ran"))
    if seconds is not None:
        context.log(f"{instance.name}: stopped what ran there ({seconds:.1f} s)")


def _check_all(
    context: StepContext,
    *,
    instances: list[Arguments],
    version: str,
    health_path: str,
    checks: int,
    failures: int,
    interval: float,
) -> None:
    """Each needs so many good answers in a row; so many bad ones in a row of any of them fail."""
    good, bad = dict.fromkeys(range(len(instances)), 0), dict.fromkeys(range(len(instances)), 0)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="check") as pool:
        while True:
            asked = [number for number in good if good[number] < checks]
            answers = pool.map(lambda number: ask(instances[number]["address"], health_path, version), asked)
            for number, (wrong, heard) in zip(asked, list(answers), strict=True):
                name = instance_folder(instances[number]["folder"]).name
                good[number], bad[number] = (0, bad[number] + 1) if wrong else (good[number] + 1, 0)
                count = f"({bad[number]} of {failures} bad)" if wrong else f"({good[number]} of {checks})"
                level = "warning" if wrong else "line"
                context.log(f"{name}: GET {health_path} → {heard} {count}", level=level)
                if bad[number] >= failures or (wrong and context.remaining() <= interval):
                    raise StepError(f"{wrong} on {name}", permanent=True)
            context.progress(sum(good.values()), checks * len(instances), "checks")
            if min(good.values()) >= checks:
                return
            context.wait(interval)


def _runs_at_all(context: StepContext, *, start: Arguments, broken: Mapping[str, int]) -> Seen:
    instance = instance_folder(start["folder"])
    if not instance.occupied:
        return Seen.NOT_DONE
    runs = instance.wanted
    tell_if_meant(context, STARTED, instance.name, version=runs.get("version", ""), digest=runs.get("digest", ""))
    return Seen.DONE


def _is_up(context: StepContext, *, start: Arguments, broken: Mapping[str, int]) -> Verdict:
    instance = instance_folder(start["folder"])
    if not instance.occupied:
        return failed(f"it ended right after its start on {instance.name}: {instance.last_words()}")
    return passed() if instance.pid is not None else pending(f"it is starting on {instance.name}")


class _Resume:
    """Starts what an instance ran last, as its folder remembers it."""

    def __init__(self, start: StepFunction) -> None:
        self._start = start

    def act(self, context: StepContext, *, start: Arguments, broken: Mapping[str, int]) -> None:
        instance = instance_folder(start["folder"])
        last = instance.ran_last
        if not last.get("digest"):
            words = f"Nobody knows what {instance.name} is to run: deploy a release there."
            raise StepError(words, permanent=True)
        self._start.act(context, **start | _of(last, broken))


def _of(last: Mapping[str, Any], broken: Mapping[str, int]) -> Arguments:
    return {"version": last["version"], "digest": last["digest"], "health_status": broken.get(last["version"], 200),
            "configuration": ""}  # fmt: skip


def _said(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
