"""The hosts driver: containers on Docker or Podman hosts, renewed as the guide's rolling update does, and done right.

For each batch of hosts, the canary alone and first:

1. pull the image by digest, while the old one still serves; see that enough others serve;
2. deregister from the load balancer, and wait until it says that nothing is open any more;
3. stop, keeping a copy of what ran, and run the new one; wait for its health, `/health` and `/ready`;
4. register, wait until the load balancer finds it healthy, soak.

If one fails, it and those before it go back to what they ran, with the variables that they had, each once enough others
serve, and those after it are never touched. `steps` says why no worker, dead or late, starts or stops anything
twice.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import ALREADY, StepSpec
from controlplane.operations.registry import StepFunction
from environments.drivers.base import Instance, Rollout, Running, Software, Target
from environments.drivers.hosts.back import STEPS as BACK_STEPS
from environments.drivers.hosts.engine import Container
from environments.drivers.hosts.health import STEPS as HEALTH_STEPS
from environments.drivers.hosts.plan import AGAIN, TIMEOUT, Steps, asked, check_of, check_timeout, run_arguments
from environments.drivers.hosts.pull import STEPS as PULL_STEPS
from environments.drivers.hosts.serving import KNOWN, standing
from environments.drivers.hosts.serving import STEPS as SERVING_STEPS
from environments.drivers.hosts.settings import (
    balancer_of,
    checked,
    place_of,
    problems,
    recipe_of,
    setting,
)
from environments.drivers.hosts.steps import STEPS as CONTAINER_STEPS
from environments.drivers.hosts.steps import at_host, called, shape_of
from environments.drivers.ports import address_for

ASKED_AT_ONCE = 16
OTHERWISE = "with other settings"
OUT = "not registered"
ENDED = "it has ended"


class HostsDriver:
    """See `base.Driver`."""

    name = "hosts"
    addressed = True

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = {
            **PULL_STEPS,
            **SERVING_STEPS,
            **CONTAINER_STEPS,
            **HEALTH_STEPS,
            **BACK_STEPS,
        }

    def running(self, target: Target) -> list[Running]:
        """What runs at each instance; reference says what is not as it ought to be there."""
        checked(target)
        with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="hosts") as pool:
            return list(pool.map(lambda instance: _running(target, instance), target.instances))

    def rollout(self, target: Target, running: list[Running], to: Software) -> Rollout:
        """One batch after the other. Those that are on the release already, and as they ought to be, are left alone."""
        checked(target)
        _has_digest(to)
        now = {one.instance: one for one in running}
        before = {one.name: now.get(one.name, Running(one.name, "", "")) for one in target.instances}
        moved = [one for one in ordered(target) if _moves(before[one.name], to)]
        # Nobody misses those where nothing runs, and from then on they serve.
        moved.sort(key=lambda one: _runs(before[one.name]))
        serving = {one.name for one in target.instances if _is_to_serve(before[one.name])}
        # Where each is to be found; what was not renewed yet may still be where it was before its address moved.
        there = {one.name: _as_it_is(one, before[one.name]) for one in target.instances}
        steps: list[StepSpec] = []
        recovery: list[StepSpec] = []
        undo: tuple[str, ...] = ()
        for batch in batches(target, moved):
            stay = [there[one.name] for one in target.instances if one.name in serving] + [*target.beside]
            restoring = [step for one in batch for step in _recovery(target, one, before[one.name], to, stay)]
            begun = tuple(step.key for step in restoring)
            steps += _renewal(target, batch, before, to, back=((*begun, *undo), undo), stay=stay)
            recovery += restoring
            undo = (*begun, *undo)
            serving |= {one.name for one in batch}
            there |= {one.name: one for one in batch}
        if steps:
            steps.append(_verification(target, to, undo))
        changes = tuple(
            {"what": one.name, "from": named(before[one.name]), "to": named(to) if one in moved else ALREADY}
            for one in target.instances
        )
        return Rollout(tuple(steps), tuple(recovery), changes)

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with driver settings, in words, by key."""
        return problems(given)

    def address_for(self, environment: str, instance: str) -> str:
        """For an engine of this computer: a loopback address of its own; the same each time."""
        return address_for(environment, instance)


# --- what runs ----------------------------------------------------------------------------------------


def _running(target: Target, instance: Instance) -> Running:
    place = place_of(target, instance)
    with at_host(place["host"], place["engine"]) as engine:
        found = engine.find(place["name"])
        if found is not None and not found.is_ours:
            return _stranger(target, instance, found, engine.digests_of(found)[0])
    if found is None or not found.is_running:
        return Running(instance.name, "", "", "", "" if found is None or found.is_held else ENDED)
    image = f"{found.labels.get('image', '')}@{found.digest}"
    how = otherwise(target, instance, found)
    return Running(instance.name, found.version, found.digest, image, how, _other_address(instance, found))


def _other_address(instance: Instance, found: Container) -> str:
    address = found.labels.get("address", "")
    return address if address != instance.address else ""


def _stranger(target: Target, instance: Instance, found: Container, digest: str) -> Running:
    """What somebody put under the instance's name. Its version is not known, and nobody could make it again."""
    how = f"{called(found)}, which somebody else started"
    if _is_out(target, instance):
        how += f", {OUT}"
    return Running(instance.name, "", digest if found.is_running else "", found.image, how, stranger=found.id)


def otherwise(target: Target, instance: Instance, found: Container) -> str:
    """How what runs differs from what the settings say, the release aside; "" for not at all."""
    recipe = recipe_of(target, instance, image="", version=found.version, digest=found.digest)
    wanted = target.settings.get("configuration", "")
    if shape_of(recipe) != found.labels.get("shape") or (wanted and wanted != found.labels.get("configuration")):
        return OTHERWISE
    return OUT if _is_out(target, instance) else ""


def _is_out(target: Target, instance: Instance) -> bool:
    balancer = balancer_of(target, instance)
    return balancer is not None and standing(balancer).standing not in KNOWN


# --- the plan: pure -----------------------------------------------------------------------------------


def named(software: Running | Software) -> str:
    """Version and digest, as a row of the changes says them."""
    how = f", {software.reference}" if isinstance(software, Running) and software.reference else ""
    return (f"{software.version} {software.digest}".strip() or "nothing") + how


def _has_digest(to: Software) -> None:
    if to.digest:
        return
    words = f"{to.version} has no image digest, so nobody could say what would run. Add the release with its digest."
    raise StepError(words, permanent=True)


def _moves(before: Running, to: Software) -> bool:
    return before.digest != to.digest or bool(before.reference)


def _runs(before: Running) -> bool:
    """Whether something runs there, of whatever version."""
    return bool(before.version or before.digest)


def _is_to_serve(before: Running) -> bool:
    """Whether it serves, or would if it had not ended; not where nothing ever ran or it was stopped on purpose."""
    return _runs(before) or bool(before.stranger) or before.reference == ENDED


def _as_it_is(instance: Instance, before: Running) -> Instance:
    """The instance at the address where what runs answers."""
    return replace(instance, address=before.address) if before.address else instance


def ordered(target: Target) -> list[Instance]:
    """The canary, then those that the settings name, then the others as they were declared."""
    first = [name for name in (setting(target, "canary"), *setting(target, "order")) if name]
    place = {name: number for number, name in reversed(list(enumerate(first)))}
    return sorted(target.instances, key=lambda one: place.get(one.name, len(first)))


def batches(target: Target, moved: Sequence[Instance]) -> list[list[Instance]]:
    """Those that are renewed side by side; the canary is alone."""
    alone = [one for one in moved if one.name == setting(target, "canary")]
    others = [one for one in moved if one not in alone]
    size = setting(target, "batch_size")
    return [[one] for one in alone] + [others[start : start + size] for start in range(0, len(others), size)]


def _renewal(
    target: Target,
    batch: Sequence[Instance],
    before: Mapping[str, Running],
    to: Software,
    *,
    back: tuple[tuple[str, ...], tuple[str, ...]],
    stay: Sequence[Instance],
) -> list[StepSpec]:
    """One batch, step by step side by side. back: what puts back, and what does before this batch has changed.

    stay: those that are to serve as it begins.
    """
    undo, untouched = back
    group = batch[0].name if len(batch) == 1 else ", ".join(one.name for one in batch)
    configuration = target.settings.get("configuration", "")
    former = [_as_it_is(one, before[one.name]) for one in batch]
    each = [Steps(target, one, group=group, undo=undo, stranger=before[one.name].stranger) for one in batch]
    early = [Steps(target, one, group=group, undo=untouched) for one in batch]
    leaving = [Steps(target, one, group=group, undo=undo) for one in former]
    leave = [one for one in former if _runs(before[one.name])]
    return [
        *(replace(one.pull(to), safe_point=number == 0) for number, one in enumerate(early)),
        *_room(target, batch[0].name, leave, stay, group=group, on_failure=untouched, safe_point=True),
        *(step for one in leaving for step in one.leave()),
        *(step for one in leaving for step in one.drained()),
        *(one.stop(before[one.instance.name]) for one in each),
        *(one.spec("run", f"run {to.version}", "run", run_arguments(target, one.instance, to, configuration))
          for one in each),
        *(one.check(to.version, to.digest) for one in each),
        *(step for one in each for step in one.come()),
        *(step for one in each for step in one.serving()),
        *_soak(target, batch, to, undo, group),
    ]  # fmt: skip


def _room(
    target: Target,
    key: str,
    leave: Sequence[Instance],
    stay: Sequence[Instance],
    *,
    only_new: bool = False,
    **more: Any,
) -> list[StepSpec]:
    """Where others are to serve, no more than so many may be away with those that leave.

    only_new: of those that leave just what this operation brought.
    """
    leavers = {one.name for one in leave}
    others = [one for one in stay if one.name not in leavers]
    if not others or not leave:
        return []
    arguments = {
        "leave": asked(target, leave),
        "stay": asked(target, others),
        "most": setting(target, "max_unavailable"),
        "check": check_of(target, "", ""),
        "poll": float(setting(target, "poll_seconds")),
        "only_new": only_new,
    }
    seconds = float(setting(target, "room_seconds"))
    title = "see that the others serve"
    return [StepSpec(f"{key}/room", title, "hosts.room", arguments, timeout=seconds, retry=AGAIN, **more)]


def _soak(target: Target, batch: Sequence[Instance], to: Software, undo: tuple[str, ...], group: str) -> list[StepSpec]:
    seconds = float(setting(target, "soak_seconds"))
    if not seconds:
        return []
    arguments = {
        "instances": asked(target, batch),
        "check": check_of(target, to.version, to.digest),
        "seconds": seconds,
    }
    timeout = seconds + check_timeout(target) * len(batch)
    return [StepSpec(f"{batch[0].name}/soak", f"soak for {seconds:g} s", "hosts.soak", arguments, group, timeout, AGAIN,
                     on_failure=undo)]  # fmt: skip


def _recovery(
    target: Target, instance: Instance, before: Running, to: Software, stay: Sequence[Instance]
) -> list[StepSpec]:
    """Whatever the instance has come to: afterwards it runs what it ran, or nothing if nothing ran.

    What somebody else started stays where it was not removed yet; else nothing runs. stay: those that were to serve
    when its batch began.
    """
    steps = Steps(target, instance, prefix="put-back/", stranger=before.stranger)
    clear = {"version": to.version, "digest": to.digest, "seconds": setting(target, "stop_seconds"),
             "hold": not before.version}  # fmt: skip
    away = [
        *steps.leave(only_new=True),
        *steps.drained(only_new=True),
        steps.spec("clear", f"stop {to.version}", "clear", clear, timeout=TIMEOUT + clear["seconds"]),
    ]
    if before.stranger:
        return away + ([] if not _runs(before) or before.reference.endswith(OUT) else steps.come_if_there())
    if not before.version:
        return away
    # Only where no copy of what ran is left it is made anew, with the variables that there are.
    software = Software(before.version, before.image, before.digest)
    former = _as_it_is(instance, before)
    back = Steps(target, former, prefix="put-back/")
    return [
        *_room(target, f"put-back/{instance.name}", [instance], stay, only_new=True, group=instance.name),
        *away,
        back.spec("return", f"start {before.version} again", "return", run_arguments(target, former, software, "")),
        back.check(before.version, before.digest),
        *back.come(),
        *back.serving(),
    ]


def _verification(target: Target, to: Software, undo: tuple[str, ...]) -> StepSpec:
    arguments = {"instances": asked(target, target.instances), "check": check_of(target, to.version, to.digest)}
    timeout = TIMEOUT + 15.0 * len(target.instances)
    return StepSpec("verify", "verify from outside", "hosts.verify", arguments, "", timeout, AGAIN, on_failure=undo)
