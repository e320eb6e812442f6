"""What the local driver's steps do to an instance: observe, act, verify."""

import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed, pending
from environments.addresses import NoAnswer, get
from environments.drivers.local.instance_folder import InstanceFolder
from environments.drivers.telling import (
    DEREGISTERED,
    REGISTERED,
    STARTED,
    STOPPED,
    intend,
    tell_if_meant,
    tell_once,
)
from environments.models import Environment
from environments.secrets import fingerprint, variables

# What a process is started with; another program is named in the driver settings as `program`.
PROGRAM = [
    "{python}", "-I", "-S", "{base}/controlplane/embedded/sample_service.py",
    "--state-dir", "{folder}", "--name", "{instance}", "--port", "{port}", "--version", "{version}",
    "--digest", "{digest}", "--health-status", "{health_status}",
    "--operation", "{operation}", "--fence", "{fence}", "--step", "{step}",
]  # fmt: skip
PLACE = re.compile(r"\{(\w+)\}")


def instance_folder(folder: str) -> InstanceFolder:
    """The folder as steps name it."""
    return InstanceFolder(Path(settings.DATA_DIR).absolute() / folder)


def _is_out(context: StepContext, *, folder: str, address: str) -> Seen:
    instance = instance_folder(folder)
    if not instance.marker.exists():
        return Seen.NOT_DONE
    tell_if_meant(context, DEREGISTERED, instance.name)
    return Seen.DONE


def _take_out(context: StepContext, *, folder: str, address: str) -> None:
    instance = instance_folder(folder)
    with instance.control(context):
        intend(context)
        instance.take_out()
    tell_once(context, DEREGISTERED, instance.name)
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
    if instance.occupied or instance.wanted:
        return Seen.NOT_DONE
    tell_if_meant(context, STOPPED, instance.name, version=version, digest=digest)
    return Seen.DONE


def _stop(context: StepContext, *, folder: str, address: str, version: str, digest: str) -> None:
    instance = instance_folder(folder)
    with instance.control(context):
        if instance.occupied and instance.wanted.get("digest") == digest:
            intend(context)
        seconds = instance.stop(context, digest)
    if seconds is not None:
        tell_once(context, STOPPED, instance.name, version=version, digest=digest)
    if seconds is None:
        context.log(f"{instance.name}: {version} does not run, nothing to stop")
    else:
        context.log(f"{instance.name}: stopped {version} (exit after {seconds:.1f} s)")


def _is_started(context: StepContext, *, folder: str, version: str, digest: str, **rest: Any) -> Seen:
    instance = instance_folder(folder)
    if not instance.runs(digest):
        return Seen.NOT_DONE
    tell_if_meant(context, STARTED, instance.name, version=version, digest=digest)
    return Seen.DONE


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
        if not instance.occupied:
            intend(context)
        started = instance.start(
            context, command, values, version=version, digest=digest, configuration=fingerprint(owner)
        )
    tell_if_meant(context, STARTED, instance.name, version=version, digest=digest)
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
        wrong, said = ask(address, health_path, version)
        good, bad = (good + 1, 0) if not wrong else (0, bad + 1)
        count = f"({good} of {checks})" if not wrong else f"({bad} of {failures} bad)"
        context.log(f"{name}: GET {health_path} → {said} {count}", level="warning" if wrong else "line")
        context.progress(good, checks, "checks")
        if good >= checks:
            return
        if bad >= failures or context.remaining() <= interval:
            raise StepError(f"{wrong or 'not healthy within its time'} on {name}", permanent=True)
        context.wait(interval)


def ask(address: str, health_path: str, version: str) -> tuple[str, str]:
    """What is wrong ("" for nothing), and what was heard. version: "" for whichever it is."""
    try:
        answer = get(f"{address}{health_path}")
        if answer.status != 200:
            return f"{health_path} answered {answer.status}", f"{answer.status} in {answer.latency_ms:.0f} ms"
        heard = str(get(f"{address}/version").json().get("version", "nobody knows what"))
    except NoAnswer as error:
        return f"{health_path} got no answer ({error})", str(error)
    if version and heard != version:
        return f"{heard} answers, not {version},", f"{answer.status}, but from {heard}"
    return "", f"{answer.status} in {answer.latency_ms:.0f} ms"


def _is_back(context: StepContext, *, folder: str, address: str) -> Seen:
    instance = instance_folder(folder)
    if instance.marker.exists():
        return Seen.NOT_DONE
    tell_if_meant(context, REGISTERED, instance.name)
    return Seen.DONE


def _put_back(context: StepContext, *, folder: str, address: str) -> None:
    instance = instance_folder(folder)
    with instance.control(context):
        intend(context)
        instance.put_back()
    tell_once(context, REGISTERED, instance.name)
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


STEPS = {
    "local.out": StepFunction(observe=_is_out, act=_take_out, verify=_answers_not_ready, poll=0.1),
    "local.drain": StepFunction(act=_drain),
    "local.stop": StepFunction(observe=_is_stopped, act=_stop),
    "local.start": StepFunction(observe=_is_started, act=_start, verify=_is_up, poll=0.05),
    "local.check": StepFunction(act=_check),
    "local.back": StepFunction(observe=_is_back, act=_put_back, verify=_answers_ready, poll=0.1),
    "local.verify": StepFunction(act=_verify_all),
}
