"""The local driver: instances are real processes of this computer, rolled out one after the other.

Each instance is taken out of rotation, drained, stopped, started on the new release, checked and put back, as
the guide's rolling update does. If one fails, it and the ones before it go back to what they ran, and those
after it are never touched. `instance_folder` says why no worker, dead or late, can start or stop twice.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from controlplane.operations.errors import StepError
from controlplane.operations.plans import ALREADY, Retry, StepSpec
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed, pending
from environments.addresses import NoAnswer, get
from environments.drivers.base import Instance, Rollout, Running, Software, Target
from environments.drivers.instance_folder import InstanceFolder
from environments.drivers.ports import address_for
from environments.models import Environment
from environments.secrets import fingerprint, variables

Arguments = dict[str, Any]

# What a process is started with; another program is named in the driver settings as `program`.
PROGRAM = [
    "{python}", "-I", "-S", "{base}/controlplane/embedded/sample_service.py",
    "--state-dir", "{folder}", "--name", "{instance}", "--port", "{port}", "--version", "{version}",
    "--digest", "{digest}", "--health-status", "{health_status}",
    "--operation", "{operation}", "--fence", "{fence}", "--step", "{step}",
]  # fmt: skip
# The guide's container check asks three times; everything else is short, since nothing real has to drain here.
DEFAULTS: dict[str, Any] = {
    "checks": 3,
    "failures": 3,
    "check_interval": 1.0,
    "drain_seconds": 2.0,
    "broken_versions": {},
}
TIMEOUT = 60.0
PLACE = re.compile(r"\{(\w+)\}")
AGAIN = Retry(attempts=3, wait=1.0)
OUT_OF_ROTATION = "out of rotation"


class LocalDriver:
    """See `base.Driver`."""

    name = "local"

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = {
            "local.out": StepFunction(observe=_is_out, act=_take_out, verify=_answers_not_ready, poll=0.1),
            "local.drain": StepFunction(act=_drain),
            "local.stop": StepFunction(observe=_is_stopped, act=_stop),
            "local.start": StepFunction(observe=_is_started, act=_start, verify=_is_up, poll=0.05),
            "local.check": StepFunction(act=_check),
            "local.back": StepFunction(observe=_is_back, act=_put_back, verify=_answers_ready, poll=0.1),
            "local.verify": StepFunction(act=_verify_all),
        }

    def running(self, target: Target) -> list[Running]:
        """What runs at each instance; reference says whether it is out of rotation."""
        return [_running(target, instance) for instance in target.instances]

    def rollout(self, target: Target, running: list[Running], to: Software) -> Rollout:
        """One instance after the other. Those that are on the release already are left alone."""
        now = {one.instance: one for one in running}
        steps: list[StepSpec] = []
        recovery: list[StepSpec] = []
        changes = []
        undo: tuple[str, ...] = ()
        for instance in target.instances:
            before = now.get(instance.name, Running(instance.name, "", ""))
            if before.digest == to.digest and before.reference != OUT_OF_ROTATION:
                changes.append({"what": instance.name, "from": _named(before), "to": ALREADY})
                continue
            back = _recovery(target, instance, before, to)
            undo = (*(step.key for step in back), *undo)
            steps += _renewal(target, instance, before, to, undo)
            recovery += back
            changes.append({"what": instance.name, "from": _named(before), "to": _named(to)})
        if steps:
            steps.append(_verification(target, to, undo))
        return Rollout(tuple(steps), tuple(recovery), tuple(changes))

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with driver settings, in words, by key."""
        wrong = {key: f"is no setting of it; there are {', '.join(sorted(CHECKED))}" for key in given.keys() - CHECKED}
        return wrong | {key: words for key, (good, words) in CHECKED.items() if key in given and not good(given[key])}

    def address_for(self, environment: str, instance: str) -> str:
        """A loopback address of its own for an instance whose address is "auto"; the same each time."""
        return address_for(environment, instance)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 3600


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100


def _statuses(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, int) and 100 <= one <= 599 for one in value.values())


def _words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


CHECKED = {
    "checks": (_count, "has to be a whole number from 1 to 100"),
    "failures": (_count, "has to be a whole number from 1 to 100"),
    "check_interval": (_number, "has to be a number of seconds from 0 to 3600"),
    "drain_seconds": (_number, "has to be a number of seconds from 0 to 3600"),
    "broken_versions": (_statuses, 'has to name an HTTP status for each version, as in {"1.6.0" = 503}'),
    "program": (_words, 'has to be a list of words, as in ["{python}", "service.py", "--port", "{port}"]'),
    "folder": (lambda value: isinstance(value, str) and bool(value), "has to be the path of a folder"),
}


# --- the plan: pure -----------------------------------------------------------------------------------


def _setting(target: Target, key: str) -> Any:
    return target.settings.get(key, DEFAULTS[key])


def _named(software: Running | Software) -> str:
    return f"{software.version} {software.digest}".strip() or "nothing"


def folder_of(target: Target, instance: Instance) -> str:
    """The instance's folder; a relative one is below DATA_DIR."""
    base = target.settings.get("folder") or f"instances/{target.environment}"
    return f"{base}/{instance.name}"


def _place(target: Target, instance: Instance) -> Arguments:
    return {"folder": folder_of(target, instance), "address": instance.address}


def start_arguments(target: Target, instance: Instance, version: str, digest: str) -> Arguments:
    """Everything that decides how a release is started on an instance."""
    return {
        **_place(target, instance),
        "environment": target.environment,
        "version": version,
        "digest": digest,
        "health_status": _setting(target, "broken_versions").get(version, 200),
        "program": list(target.settings.get("program", [])),
    }


def _check_arguments(target: Target, version: str) -> Arguments:
    return {
        "version": version,
        "health_path": target.health_path,
        "checks": _setting(target, "checks"),
        "failures": _setting(target, "failures"),
        "interval": _setting(target, "check_interval"),
    }


def _check_timeout(target: Target) -> float:
    tries = _setting(target, "checks") + _setting(target, "failures")
    return TIMEOUT + float(tries * (_setting(target, "check_interval") + 6))


def _renewal(
    target: Target, instance: Instance, before: Running, to: Software, undo: tuple[str, ...]
) -> list[StepSpec]:
    name, place = instance.name, _place(target, instance)
    drain = _setting(target, "drain_seconds")
    start = start_arguments(target, instance, to.version, to.digest)
    # The plan was approved for these variables; putting back takes those that are there.
    start["configuration"] = target.settings.get("configuration", "")
    check = _check_arguments(target, to.version)

    def step(key: str, title: str, arguments: Arguments, timeout: float = TIMEOUT, *, safe: bool = False) -> StepSpec:
        return StepSpec(
            f"{name}/{key}", title, f"local.{key}", arguments, name, timeout, AGAIN, on_failure=undo, safe_point=safe
        )

    stop = {**place, "version": before.version, "digest": before.digest}
    return [
        step("out", "take out of rotation", place, safe=True),
        *([step("drain", "drain", {**place, "seconds": drain}, TIMEOUT + drain)] if before.version and drain else []),
        *([step("stop", f"stop {before.version}", stop)] if before.version else []),
        step("start", f"start {to.version}", start),
        step("check", "check health", {**place, **check}, _check_timeout(target)),
        step("back", "put back in rotation", place),
    ]


def _recovery(target: Target, instance: Instance, before: Running, to: Software) -> list[StepSpec]:
    """Whatever the instance has come to: afterwards it runs what it ran, or nothing if nothing ran."""
    name, place = instance.name, _place(target, instance)

    def step(key: str, title: str, arguments: Arguments, timeout: float = TIMEOUT) -> StepSpec:
        return StepSpec(f"put-back/{name}/{key}", title, f"local.{key}", arguments, name, timeout, AGAIN)

    stop = step("stop", f"stop {to.version}", {**place, "version": to.version, "digest": to.digest})
    if not before.version:
        return [step("out", "take out of rotation", place), stop]
    start = {**start_arguments(target, instance, before.version, before.digest), "configuration": ""}
    check = {**place, **_check_arguments(target, before.version)}
    return [
        step("out", "take out of rotation", place),
        *([stop] if before.digest != to.digest else []),
        step("start", f"start {before.version}", start),
        step("check", "check health", check, _check_timeout(target)),
        step("back", "put back in rotation", place),
    ]


def _verification(target: Target, to: Software, undo: tuple[str, ...]) -> StepSpec:
    arguments = {
        **_check_arguments(target, to.version),
        "checks": 1,
        "digest": to.digest,
        "instances": [_place(target, instance) for instance in target.instances],
    }
    timeout = TIMEOUT + len(target.instances) * _check_timeout(target)
    return StepSpec("verify", "verify from outside", "local.verify", arguments, "", timeout, AGAIN, on_failure=undo)


# --- the steps ----------------------------------------------------------------------------------------


def instance_folder(folder: str) -> InstanceFolder:
    """The folder as steps name it."""
    return InstanceFolder(Path(settings.DATA_DIR).absolute() / folder)


def _running(target: Target, instance: Instance) -> Running:
    folder = instance_folder(folder_of(target, instance))
    wanted = folder.wanted
    if not wanted or not folder.occupied:
        return Running(instance.name, "", "")
    out = OUT_OF_ROTATION if folder.marker.exists() else ""
    return Running(instance.name, wanted["version"], wanted["digest"], reference=out)


def _is_out(context: StepContext, *, folder: str, address: str) -> Seen:
    return Seen.DONE if instance_folder(folder).marker.exists() else Seen.NOT_DONE


def _take_out(context: StepContext, *, folder: str, address: str) -> None:
    instance = instance_folder(folder)
    with instance.control(context):
        instance.take_out()
    context.log(f"{instance.name}: took out of rotation")


def _answers_not_ready(context: StepContext, *, folder: str, address: str) -> Verdict:
    try:
        status = get(f"{address}/ready").status
    except NoAnswer:
        return passed("it does not answer")
    return pending("/ready still answers 200") if status == 200 else passed(f"/ready answers {status}")


def _drain(context: StepContext, *, folder: str, address: str, seconds: float) -> None:
    name = instance_folder(folder).name
    context.log(f"{name}: draining for {seconds:g} s")
    context.wait(seconds)
    context.log(f"{name}: drained")


def _is_stopped(context: StepContext, *, folder: str, address: str, version: str, digest: str) -> Seen:
    instance = instance_folder(folder)
    return Seen.NOT_DONE if instance.occupied or instance.wanted else Seen.DONE


def _stop(context: StepContext, *, folder: str, address: str, version: str, digest: str) -> None:
    instance = instance_folder(folder)
    with instance.control(context):
        seconds = instance.stop(context, digest)
    if seconds is None:
        context.log(f"{instance.name}: {version} does not run, nothing to stop")
    else:
        context.log(f"{instance.name}: stopped {version} (exit after {seconds:.1f} s)")


def _is_started(context: StepContext, *, folder: str, digest: str, **rest: Any) -> Seen:
    return Seen.DONE if instance_folder(folder).runs(digest) else Seen.NOT_DONE


def _start(
    context: StepContext,
    *,
    folder: str,
    address: str,
    environment: str,
    version: str,
    digest: str,
    health_status: int,
    program: list[str],
    configuration: str,
) -> None:
    instance = instance_folder(folder)
    owner = Environment.objects.get(slug=environment)
    if configuration and configuration != fingerprint(owner):
        words = f"The configuration of {environment} has changed since this was planned. Ask for it again."
        raise StepError(words, permanent=True)
    given = variables(owner)
    hidden = [variable for variable in given if variable.secret]
    context.mask(*(variable.value for variable in hidden))
    facts = {
        "python": sys.executable, "base": settings.BASE_DIR, "folder": instance.path, "instance": instance.name,
        "port": urlsplit(address).port, "version": version, "digest": digest, "health_status": health_status,
        "operation": context.operation_id, "fence": context.fence, "step": context.step_key,
    }  # fmt: skip
    command = [PLACE.sub(lambda found: str(facts.get(found[1], found[0])), part) for part in program or PROGRAM]
    values = {variable.name: variable.value for variable in given}
    with instance.control(context):
        started = instance.start(context, command, values, version=version, digest=digest)
    if not started:
        context.log(f"{instance.name}: {version} runs already")
        return
    masked = "".join(f", {variable.name}=••••••••" for variable in hidden)
    context.log(f"{instance.name}: started {version}{masked}")


def _is_up(context: StepContext, *, folder: str, version: str, digest: str, **rest: Any) -> Verdict:
    instance = instance_folder(folder)
    if instance.runs(digest):
        return passed()
    if instance.occupied:
        return pending(f"{version} is starting on {instance.name}")
    return failed(f"{version} ended right after its start on {instance.name}: {instance.last_words()}")


def _check(
    context: StepContext,
    *,
    folder: str,
    address: str,
    version: str,
    health_path: str,
    checks: int,
    failures: int,
    interval: float,
) -> None:
    """So many good answers in a row pass, so many bad ones in a row fail."""
    name = instance_folder(folder).name
    good = bad = 0
    while True:
        wrong, said = _ask(address, health_path, version)
        good, bad = (good + 1, 0) if not wrong else (0, bad + 1)
        count = f"({good} of {checks})" if not wrong else f"({bad} of {failures} bad)"
        context.log(f"{name}: GET {health_path} → {said} {count}", level="warning" if wrong else "line")
        context.progress(good, checks, "checks")
        if good >= checks:
            return
        if bad >= failures or context.remaining() <= interval:
            raise StepError(f"{wrong or 'not healthy within its time'} on {name}", permanent=True)
        context.wait(interval)


def _ask(address: str, health_path: str, version: str) -> tuple[str, str]:
    """What is wrong ("" for nothing), and what was heard."""
    try:
        answer = get(f"{address}{health_path}")
        if answer.status != 200:
            return f"{health_path} answered {answer.status}", f"{answer.status} in {answer.latency_ms:.0f} ms"
        heard = str(get(f"{address}/version").json().get("version", "nobody knows what"))
    except NoAnswer as error:
        return f"{health_path} got no answer ({error})", str(error)
    if heard != version:
        return f"{heard} answers, not {version},", f"{answer.status}, but from {heard}"
    return "", f"{answer.status} in {answer.latency_ms:.0f} ms"


def _is_back(context: StepContext, *, folder: str, address: str) -> Seen:
    return Seen.NOT_DONE if instance_folder(folder).marker.exists() else Seen.DONE


def _put_back(context: StepContext, *, folder: str, address: str) -> None:
    instance = instance_folder(folder)
    with instance.control(context):
        instance.put_back()
    context.log(f"{instance.name}: put back in rotation")


def _answers_ready(context: StepContext, *, folder: str, address: str) -> Verdict:
    try:
        status = get(f"{address}/ready").status
    except NoAnswer as error:
        return pending(f"/ready got no answer ({error})")
    return passed() if status == 200 else pending(f"/ready answers {status}")


def _verify_all(context: StepContext, *, instances: list[Arguments], digest: str, **check: Any) -> None:
    for number, place in enumerate(instances, start=1):
        if not instance_folder(place["folder"]).runs(digest):
            raise StepError(f"{instance_folder(place['folder']).name} does not run {check['version']}", permanent=True)
        _check(context, **place, **check)
        context.progress(number, len(instances), "instances")
    context.log(f"all {len(instances)} instances answer with {check['version']}")
