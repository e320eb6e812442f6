"""The plans of the ecs driver: pure functions from what runs and what is wanted to steps.

A service that runs the release already, but not as it was deployed, is put back: a copy of the revision that was
deployed is registered and brought into service, with the load balancers that it had, and then as many tasks are asked
for as it had. Where only tasks are missing, or are not registered, a new deployment is forced: ECS registers what it
starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments, Retry, StepSpec
from environments.drivers.base import Rollout, Running, Scaling, Software, Target
from environments.drivers.ecs.service import short
from environments.drivers.ecs.settings import place_of, setting
from environments.drivers.ecs.standing import names_of, taken_off
from environments.drivers.ecs.steps import FORMER, NEW, SAME
from environments.image_names import repository_of

TIMEOUT = 120.0
ATTEMPTS = 5
BACK = "put-back/"  # begins the key of each step on the way back


@dataclass(frozen=True)
class RunningRevision(Running):
    """What runs, with what a deployment leaves alone: the family, and a digest of all but the image.

    count: how many tasks are asked for. deployed_count: how many were when it was deployed, where somebody changed it
    by hand since; else None. balancers: those of the service. anew: why its tasks have to be started anew, in words
    that are the same each time; "" where they do not.
    """

    family: str = ""
    shape: str = ""
    count: int = 0
    deployed_count: int | None = None
    balancers: tuple[Arguments, ...] = ()
    anew: str = ""

    def after(self, target: Target, to: Software) -> Running:
        """See `base.Running`: the release that runs already is put back to how it was deployed."""
        done = replace(
            self, version=to.version, digest=to.digest, image=to.image, reference="", address="", anew=""
        )  # fmt: skip
        if to.digest != self.digest:
            return done
        return replace(
            done,
            shape=as_deployed(target, to.digest).get("shape", self.shape),
            count=self.count if self.deployed_count is None else self.deployed_count,
            deployed_count=None,
            balancers=(*self.balancers, *taken_off(target.left, self.balancers)),
        )


def named(software: Running | Software) -> str:
    """What it is, in words."""
    return f"{software.version} {software.digest}".strip()


def as_deployed(target: Target, digest: str) -> Mapping[str, Any]:
    """What is remembered of the revision that was deployed; nothing where another image was."""
    return target.left if digest and target.left.get("digest") == digest else {}


# --- another release ----------------------------------------------------------------------------------


def renewal(target: Target, now: RunningRevision, to: Software) -> Rollout:
    """A copy of the revision that runs with the release's image, brought into service. Raises StepError."""
    if not to.digest:
        words = (
            f"{to.version} has no image digest, so nobody could say what would run. Add the release with its digest."
        )
        raise StepError(words, permanent=True)
    place, runs = place_of(target), _what_runs(now)
    image = f"{repository_of(to.image or now.image)}@{to.digest}"
    back = _back_to_former(target, now)
    undo = tuple(step.key for step in back)
    steps = (
        _register(target, now, to, image),
        _spec(target, "update", f"update service to {to.version}", "ecs.update",
              {"place": place, "runs": runs, "to": NEW}, safe_point=True, on_failure=undo),
        *_arrival(target, place, "", NEW, undo),
    )  # fmt: skip
    changes = (
        {"what": now.instance, "from": named(now), "to": named(to)},
        {"what": "task definition", "from": f"{runs['family']} as it runs", "to": f"a copy of it with {image}"},
    )
    return Rollout(steps, back, changes)


def forced(target: Target, now: RunningRevision, to: Software) -> Rollout:
    """The definition stays, so there is no former one to go back to: ECS's breaker alone guards the rollout."""
    place, runs = place_of(target), _what_runs(now)
    update = {"place": place, "runs": runs, "to": SAME}
    stable, *check = _arrival(target, place, "", SAME, ())
    image = {"place": place, "digest": to.digest}
    checks = [_spec(target, "image", "check the image", "ecs.image", image)] if to.digest else []
    steps = (
        _spec(target, "update", "force a new deployment", "ecs.update", update, safe_point=True),
        stable, *checks, *check,
    )  # fmt: skip
    change = {
        "what": now.instance,
        "from": named(now),
        "to": f"{named(to)}, if the tag in {runs['family']} points to it",
    }
    tag = f"the tag in {runs['family']} decides what runs there (force_new_deployment)"
    return Rollout(steps, (), (change,), unforeseen=f"{tag}; point it to {to.version}, then deploy that")


# --- the same release, as it was deployed -------------------------------------------------------------


def restoration(target: Target, now: RunningRevision, to: Software) -> Rollout | None:
    """The steps for what differs from how the release was deployed, and only for that; None where nothing does."""
    deployed = as_deployed(target, to.digest)
    revised = deployed.get("shape", now.shape) != now.shape
    gone = taken_off(target.left, now.balancers)
    counted = now.deployed_count
    if not revised and not gone and not now.anew and counted is None:
        return None
    steps: list[StepSpec] = []
    back: list[StepSpec] = []
    changes = [{"what": now.instance, "from": named(now), "to": f"{named(to)}, as it was deployed"}]
    if revised or gone or now.anew:
        steps, back = _revision_back(target, now, to, revised=deployed if revised else {}, gone=gone)
    if revised:
        of = f"a copy of {short(deployed['definition'])}, as it was deployed"
        changes.append({"what": "task definition", "from": f"{now.family} as it runs", "to": of})
    if gone:
        all_of_them = names_of((*now.balancers, *gone))
        changes.append({"what": "load balancers", "from": names_of(now.balancers), "to": all_of_them})
    if now.anew:
        changes.append({"what": "tasks", "from": now.anew, "to": "started anew, and registered as they start"})
    if counted is not None:
        steps, back = _count_back(target, now, counted, steps, back)
        changes.append({"what": "tasks", "from": f"{now.count} asked for", "to": f"{counted} asked for"})
    return Rollout(tuple(steps), tuple(back), tuple(changes))


def _revision_back(
    target: Target, now: RunningRevision, to: Software, *, revised: Mapping[str, Any], gone: tuple[Arguments, ...]
) -> tuple[list[StepSpec], list[StepSpec]]:
    """revised: what is remembered of the revision, where another is in service. gone: load balancers taken off."""
    place, runs = place_of(target), _what_runs(now)
    which = NEW if revised else SAME
    # Where the revision stays, and its load balancers do, there is nothing to go back to but what ECS goes back to.
    back = _back_to_former(target, now, list(now.balancers) if gone else None) if revised or gone else ()
    undo = tuple(step.key for step in back)
    update: Arguments = {"place": place, "runs": runs, "to": which}
    if gone:
        update["balancers"] = [*now.balancers, *gone]
    title = f"update service to {to.version} as it was deployed" if revised or gone else "force a new deployment"
    steps = [
        _spec(target, "update", title, "ecs.update", update, safe_point=True, on_failure=undo),
        *_arrival(target, place, "", which, undo),
    ]
    if revised:
        image = f"{repository_of(to.image or now.image)}@{to.digest}"
        steps.insert(0, _register(target, now, to, image, source=revised["definition"]))
    return steps, list(back)


def _count_back(
    target: Target, now: RunningRevision, count: int, before: list[StepSpec], undo: list[StepSpec]
) -> tuple[list[StepSpec], list[StepSpec]]:
    """After those steps, ask for the count; where that fails, for the one that is asked for now, and undo them too."""
    there, back = scaling(target, count, None, "count"), scaling(target, now.count, None, f"{BACK}count")
    recovery = [*back.begin, *back.wait, *undo]
    keys = tuple(step.key for step in recovery)
    begin = [replace(step, safe_point=True, on_failure=keys) for step in there.begin]
    return [*before, *begin, *(replace(step, on_failure=keys) for step in there.wait)], recovery


# --- what they are made of ----------------------------------------------------------------------------


def _spec(target: Target, key: str, title: str, function: str, arguments: Arguments, **values: Any) -> StepSpec:
    retry = Retry(attempts=ATTEMPTS, wait=setting(target, "retry_seconds"))
    return StepSpec(key, title, function, arguments, retry=retry, **{"timeout": TIMEOUT, **values})


def _arrival(target: Target, place: Arguments, prefix: str, to: str, on_failure: tuple[str, ...]) -> list[StepSpec]:
    """Wait until stable, then ask the health URL, if there is one."""
    wait = {"place": place, "poll": setting(target, "poll_seconds"), "to": to}
    check = {
        "place": place,
        "url": (target.url or next((one.address for one in target.instances), "")).rstrip("/") + target.health_path,
        **{key: setting(target, key) for key in ("checks", "failures")},
        "interval": setting(target, "check_interval"),
    }
    timeout = TIMEOUT + (check["checks"] + check["failures"]) * (check["interval"] + 6)
    stable = _spec(
        target, f"{prefix}stable", "wait until stable", "ecs.stable", wait,
        timeout=setting(target, "stable_seconds"), on_failure=on_failure,
    )  # fmt: skip
    health = _spec(target, f"{prefix}check", "check health", "ecs.check", check, timeout=timeout, on_failure=on_failure)
    return [stable, health] if "://" in check["url"] else [stable]


def _what_runs(now: RunningRevision) -> Arguments:
    return {"family": now.family, "shape": now.shape, "digest": now.digest}


def _register(target: Target, now: RunningRevision, to: Software, image: str, source: str = "") -> StepSpec:
    """source: the revision that is copied; "" for the one that runs."""
    register: Arguments = {"place": place_of(target), "runs": _what_runs(now), "image": image, "version": to.version}
    if source:
        register["source"] = source
    return _spec(target, "register", "register task definition revision", "ecs.register", register, safe_point=True)


def _back_to_former(
    target: Target, now: RunningRevision, balancers: list[Arguments] | None = None
) -> tuple[StepSpec, ...]:
    """balancers: those that it had, where the way there changes them."""
    place = place_of(target)
    update: Arguments = {"place": place, "runs": _what_runs(now), "to": FORMER}
    if balancers is not None:
        update["balancers"] = balancers
    return (
        _spec(target, f"{BACK}update", f"update service back to {now.version}", "ecs.update", update),
        *_arrival(target, place, BACK, FORMER, ()),
    )


# --- how many tasks -----------------------------------------------------------------------------------


def scaling(target: Target, count: int, software: Software | None, key: str) -> Scaling:
    """The steps to so many tasks, of this software; None: of what is in service. key: begins every step's."""
    place = place_of(target)
    digest = software.digest if software else ""
    wanted = {"place": place, "count": count, "digest": digest}
    name = target.service
    begin = [_spec(target, f"{key}/scale", f"ask for {count} tasks of {name}", "ecs.scale", wanted)]
    if digest and software:
        register = {"place": place, "digest": digest, "version": software.version}
        title = f"register {name} {software.version} by its digest"
        begin.insert(0, _spec(target, f"{key}/register", title, "ecs.scale-register", register))
    seconds = setting(target, "stable_seconds")
    if count == 0:
        down = _spec(target, f"{key}/down", f"see that no task of {name} runs", "ecs.down", {"place": place},
                     timeout=seconds)  # fmt: skip
        return Scaling(tuple(begin), (down,))
    url = target.url.rstrip("/") + target.health_path if "://" in target.url else ""
    up = _spec(target, f"{key}/up", f"wait until {count} tasks of {name} are well", "ecs.scaled",
               {**wanted, "url": url, "checks": setting(target, "checks")}, timeout=seconds)  # fmt: skip
    return Scaling(tuple(begin), (up,))
