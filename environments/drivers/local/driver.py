"""The local driver: instances are real processes of this computer, rolled out one after the other.

Each instance is taken out of rotation, drained, stopped, started on the new release, checked and put back, as
the guide's rolling update does. If one fails, it and the ones before it go back to what they ran, and those
after it are never touched. `instance_folder` says why no worker, dead or late, can start or stop twice.
"""

from collections.abc import Mapping
from typing import Any

from controlplane.operations.plans import ALREADY, Arguments, Retry, StepSpec
from controlplane.operations.registry import StepFunction
from environments.drivers.base import Instance, Rollout, Running, Software, Target
from environments.drivers.local.instance_folder import InstanceFolder
from environments.drivers.local.settings import DEFAULTS, problems
from environments.drivers.local.steps import STEPS, instance_folder
from environments.drivers.ports import address_for

TIMEOUT = 60.0
AGAIN = Retry(attempts=3, wait=1.0)
OUT_OF_ROTATION = "out of rotation"
OTHER_VARIABLES = "other variables"


class LocalDriver:
    """See `base.Driver`."""

    name = "local"
    addressed = True

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = STEPS

    def running(self, target: Target) -> list[Running]:
        """What runs at each instance; reference says what else is not as a deployment would leave it."""
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
            if before.digest == to.digest and not before.reference:
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
        return problems(given)

    def address_for(self, environment: str, instance: str) -> str:
        """A loopback address of its own for an instance whose address is "auto"; the same each time."""
        return address_for(environment, instance)


# --- the plan: pure -----------------------------------------------------------------------------------


def _setting(target: Target, key: str) -> Any:
    return target.settings.get(key, DEFAULTS[key])


def _named(software: Running | Software) -> str:
    return f"{software.version} {software.digest}".strip() or "nothing"


def folder_of(target: Target, instance: Instance) -> str:
    """The instance's folder; a relative one is below DATA_DIR."""
    base = target.settings.get("folder") or f"instances/{target.environment}"
    return f"{base}/{instance.name}"


def place_of(target: Target, instance: Instance) -> Arguments:
    """Where an instance is, as steps name it."""
    return {"folder": folder_of(target, instance), "address": instance.address}


def start_arguments(target: Target, instance: Instance, version: str, digest: str) -> Arguments:
    """Everything that decides how a release is started on an instance."""
    return {
        **place_of(target, instance),
        "environment": target.environment,
        "version": version,
        "digest": digest,
        "health_status": _setting(target, "broken_versions").get(version, 200),
        "program": list(target.settings.get("program", [])),
    }


def check_arguments(target: Target, version: str) -> Arguments:
    """How an instance's health is asked for. version: which has to answer, "" for whichever it is."""
    return {
        "version": version,
        "health_path": target.health_path,
        "checks": _setting(target, "checks"),
        "failures": _setting(target, "failures"),
        "interval": _setting(target, "check_interval"),
    }


def check_timeout(target: Target) -> float:
    """Seconds that the checks of one instance may take."""
    tries = _setting(target, "checks") + _setting(target, "failures")
    return TIMEOUT + float(tries * (_setting(target, "check_interval") + 6))


def _renewal(
    target: Target, instance: Instance, before: Running, to: Software, undo: tuple[str, ...]
) -> list[StepSpec]:
    name, place = instance.name, place_of(target, instance)
    drain = _setting(target, "drain_seconds")
    start = start_arguments(target, instance, to.version, to.digest)
    # The plan was approved for these variables; putting back takes those that are there.
    start["configuration"] = target.settings.get("configuration", "")
    check = check_arguments(target, to.version)

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
        step("check", "check health", {**place, **check}, check_timeout(target)),
        step("back", "put back in rotation", place),
    ]


def _recovery(target: Target, instance: Instance, before: Running, to: Software) -> list[StepSpec]:
    """Whatever the instance has come to: afterwards it runs what it ran, or nothing if nothing ran."""
    name, place = instance.name, place_of(target, instance)

    def step(key: str, title: str, arguments: Arguments, timeout: float = TIMEOUT) -> StepSpec:
        return StepSpec(f"put-back/{name}/{key}", title, f"local.{key}", arguments, name, timeout, AGAIN)

    stop = step("stop", f"stop {to.version}", {**place, "version": to.version, "digest": to.digest})
    if not before.version:
        return [step("out", "take out of rotation", place), stop]
    start = {**start_arguments(target, instance, before.version, before.digest), "configuration": ""}
    check = {**place, **check_arguments(target, before.version)}
    return [
        step("out", "take out of rotation", place),
        *([stop] if before.digest != to.digest else []),
        step("start", f"start {before.version}", start),
        step("check", "check health", check, check_timeout(target)),
        step("back", "put back in rotation", place),
    ]


def _verification(target: Target, to: Software, undo: tuple[str, ...]) -> StepSpec:
    arguments = {
        **check_arguments(target, to.version),
        "checks": 1,
        "digest": to.digest,
        "instances": [place_of(target, instance) for instance in target.instances],
    }
    timeout = TIMEOUT + len(target.instances) * check_timeout(target)
    return StepSpec("verify", "verify from outside", "local.verify", arguments, "", timeout, AGAIN, on_failure=undo)


# --- what runs ----------------------------------------------------------------------------------------


def _running(target: Target, instance: Instance) -> Running:
    folder = instance_folder(folder_of(target, instance))
    wanted = folder.wanted
    if not wanted or not folder.occupied:
        return Running(instance.name, "", "")
    return Running(instance.name, wanted["version"], wanted["digest"], reference=_odd(target, folder))


def _odd(target: Target, folder: InstanceFolder) -> str:
    """What differs from how a deployment would leave it, though the release may be the right one; "" for nothing."""
    if folder.marker.exists():
        return OUT_OF_ROTATION
    return OTHER_VARIABLES if has_other_variables(target, folder) else ""


def has_other_variables(target: Target, folder: InstanceFolder) -> bool:
    """Whether it was started with another configuration than that of now; False where nobody wrote it down."""
    now, then = target.settings.get("configuration", ""), folder.wanted.get("configuration", "")
    return bool(now and then and now != then)
