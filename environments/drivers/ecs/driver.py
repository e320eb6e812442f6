"""The ecs driver: a service of Amazon ECS gets a new revision of its task definition, with the image by digest.

What the guide's deploy job does (update-service, wait until stable, ask /health), by steps that can be repeated:

1. register a copy of the revision that runs, with the image replaced, marked with the operation's number;
2. update the service to it, guarded by ECS's circuit breaker;
3. wait until it is stable, as `aws ecs wait services-stable` does, and tell what ECS says meanwhile;
4. check health. If 2, 3 or 4 fail, the service is updated back to the revision that ran before.

A plan names the revision that runs by what is in it, not by its number: one that waits behind another deployment
stays true. The number is noted by the first step, before anything is changed. docs/drivers-ecs.md has the rest.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import ALREADY, Arguments, Retry, StepSpec
from controlplane.operations.registry import StepFunction
from environments.drivers.base import Document, Rollout, Running, Scaling, Software, Target
from environments.drivers.ecs.scale import STEPS as SCALING_STEPS
from environments.drivers.ecs.service import VERSION, EcsService
from environments.drivers.ecs.steps import FORMER, NEW, SAME, STEPS
from environments.image_names import digest_in, repository_of

ACCOUNT: Arguments = {"region": "", "endpoint_url": "", "access_key": "", "secret_key": "", "answer_seconds": 20.0}
DEFAULTS: Arguments = {
    **ACCOUNT,
    "cluster": "",
    "service": "",
    "container": "",
    "force_new_deployment": False,
    "stable_seconds": 900.0,  # a rollout that is not stable by then goes back
    "poll_seconds": 5.0,
    "checks": 3,
    "failures": 3,
    "check_interval": 5.0,
    "retry_seconds": 2.0,
}
REQUIRED = ("region", "cluster")
TIMEOUT = 120.0
ATTEMPTS = 5


@dataclass(frozen=True)
class RunningRevision(Running):
    """What runs, with what a deployment leaves alone: the family, and a digest of all but the image."""

    family: str = ""
    shape: str = ""


class EcsDriver:
    """See `base.Driver`."""

    name = "ecs"
    addressed = False

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = {**STEPS, **SCALING_STEPS}

    def running(self, target: Target) -> list[Running]:
        """What the service runs, as one row. reference: the revision's ARN, which no plan depends on."""
        service = EcsService.at(place_of(target))
        definition = service.definition(service.state().definition)
        digest = digest_in(definition.image)
        if not digest:
            digests = service.running_digests(definition.chosen["name"])
            digest = digests.pop() if len(digests) == 1 else ""
        return [
            RunningRevision(
                instance_name(target), definition.version, digest, definition.image, definition.arn,
                family=definition.family, shape=definition.shape,
            )
        ]  # fmt: skip

    def rollout(self, target: Target, running: list[Running], to: Software) -> Rollout:
        """A new revision, or with `force_new_deployment` the same one again, whose tag decides what comes."""
        now = running[0]
        if not isinstance(now, RunningRevision):
            raise TypeError("ecs plans from what ecs found")
        if _setting(target, "force_new_deployment"):
            return _forced(target, now, to)
        if now.digest and now.digest == to.digest:
            return Rollout((), (), ({"what": now.instance, "from": _named(now), "to": ALREADY},))
        return _renewal(target, now, to)

    def scale(self, target: Target, count: int, software: Software | None, *, key: str) -> Scaling:
        """The steps to so many tasks; see `base.Scalable`. Software without a digest leaves the image as it is."""
        return _scaling(target, count, software if count else None, key)

    def documents(self, target: Target, software: Software, variables: Mapping[str, str]) -> list[Document]:
        """The task definition that would be registered: what is in service now, with the release's image.

        Its variables are its own, secrets by reference; those of the environment are not among them.
        """
        service = EcsService.at(place_of(target))
        definition = service.definition(service.state().definition)
        image = f"{repository_of(software.image or definition.image)}@{software.digest}"
        request = service.as_sent(definition.request(image, {VERSION: software.version}))
        return [Document("task-definition.json", json.dumps(request, indent=2, sort_keys=True, default=str) + "\n")]

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with driver settings, in words, by key."""
        wrong = {key: f"is no setting of it; there are {', '.join(DEFAULTS)}" for key in given.keys() - DEFAULTS.keys()}
        return wrong | {key: words for key in given if key in DEFAULTS and (words := _wrong(key, given[key]))}

    def address_for(self, environment: str, instance: str) -> str:
        """ECS gives out none: a service answers at its environment's URL. Raises StepError."""
        words = f"A service of ECS has no address for {instance}: leave it out, and give {environment} its url."
        raise StepError(words, permanent=True)


def _wrong(key: str, value: Any) -> str:
    kind = type(DEFAULTS[key])
    if kind is float:
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400
        return "" if good else "has to be a number of seconds above 0"
    if kind is int:
        good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100
        return "" if good else "has to be a whole number from 1 to 100"
    if not isinstance(value, kind):
        return "has to be true or false" if kind is bool else "has to be text"
    return "" if value or key not in REQUIRED else "must not be empty"


# --- the plan: pure -----------------------------------------------------------------------------------


def _setting(target: Target, key: str) -> Any:
    return target.settings.get(key, DEFAULTS[key])


def instance_name(target: Target) -> str:
    """What the service's one row is called."""
    return target.instances[0].name if target.instances else target.service


def place_of(target: Target) -> Arguments:
    """Which service it is, and how to ask. Raises StepError when the settings do not say."""
    given = {key: value for key, value in target.settings.items() if key in DEFAULTS}
    wrong = {key: "is missing" for key in REQUIRED if key not in given} | EcsDriver().check_settings(given)
    if wrong:
        words = "; ".join(f"{key} {reason}" for key, reason in wrong.items())
        raise StepError(f"The driver settings of {target.environment} need a correction: {words}.", permanent=True)
    keys = (*ACCOUNT, "cluster", "container")
    return {**{key: _setting(target, key) for key in keys}, "service": given.get("service") or target.service}


def _named(software: Running | Software) -> str:
    return f"{software.version} {software.digest}".strip()


def _spec(target: Target, key: str, title: str, function: str, arguments: Arguments, **values: Any) -> StepSpec:
    retry = Retry(attempts=ATTEMPTS, wait=_setting(target, "retry_seconds"))
    return StepSpec(key, title, function, arguments, retry=retry, **{"timeout": TIMEOUT, **values})


def _arrival(target: Target, place: Arguments, prefix: str, to: str, on_failure: tuple[str, ...]) -> list[StepSpec]:
    """Wait until stable, then ask the health URL, if there is one."""
    wait = {"place": place, "poll": _setting(target, "poll_seconds"), "to": to}
    check = {
        "place": place,
        "url": (target.url or next((one.address for one in target.instances), "")).rstrip("/") + target.health_path,
        **{key: _setting(target, key) for key in ("checks", "failures")},
        "interval": _setting(target, "check_interval"),
    }
    timeout = TIMEOUT + (check["checks"] + check["failures"]) * (check["interval"] + 6)
    stable = _spec(
        target, f"{prefix}stable", "wait until stable", "ecs.stable", wait,
        timeout=_setting(target, "stable_seconds"), on_failure=on_failure,
    )  # fmt: skip
    health = _spec(target, f"{prefix}check", "check health", "ecs.check", check, timeout=timeout, on_failure=on_failure)
    return [stable, health] if "://" in check["url"] else [stable]


def _what_runs(now: RunningRevision) -> Arguments:
    return {"family": now.family, "shape": now.shape, "digest": now.digest}


def _renewal(target: Target, now: RunningRevision, to: Software) -> Rollout:
    if not to.digest:
        words = (
            f"{to.version} has no image digest, so nobody could say what would run. Add the release with its digest."
        )
        raise StepError(words, permanent=True)
    place, runs = place_of(target), _what_runs(now)
    image = f"{repository_of(to.image or now.image)}@{to.digest}"
    register = {"place": place, "runs": runs, "image": image, "version": to.version}
    back = (
        _spec(target, "put-back/update", f"update service back to {now.version}", "ecs.update",
              {"place": place, "runs": runs, "to": FORMER}),
        *_arrival(target, place, "put-back/", FORMER, ()),
    )  # fmt: skip
    undo = tuple(step.key for step in back)
    steps = (
        _spec(target, "register", "register task definition revision", "ecs.register", register, safe_point=True),
        _spec(target, "update", f"update service to {to.version}", "ecs.update",
              {"place": place, "runs": runs, "to": NEW}, safe_point=True, on_failure=undo),
        *_arrival(target, place, "", NEW, undo),
    )  # fmt: skip
    changes = (
        {"what": now.instance, "from": _named(now), "to": _named(to)},
        {"what": "task definition", "from": f"{runs['family']} as it runs", "to": f"a copy of it with {image}"},
    )
    return Rollout(steps, back, changes)


def _forced(target: Target, now: RunningRevision, to: Software) -> Rollout:
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
        "from": _named(now),
        "to": f"{_named(to)}, if the tag in {runs['family']} points to it",
    }
    tag = f"the tag in {runs['family']} decides what runs there (force_new_deployment)"
    return Rollout(steps, (), (change,), unforeseen=f"{tag}; point it to {to.version}, then deploy that")


# --- how many tasks, for disaster recovery ------------------------------------------------------------


def _scaling(target: Target, count: int, software: Software | None, key: str) -> Scaling:
    place = place_of(target)
    digest = software.digest if software else ""
    wanted = {"place": place, "count": count, "digest": digest}
    name = target.service
    begin = [_spec(target, f"{key}/scale", f"ask for {count} tasks of {name}", "ecs.scale", wanted)]
    if digest and software:
        register = {"place": place, "digest": digest, "version": software.version}
        title = f"register {name} {software.version} by its digest"
        begin.insert(0, _spec(target, f"{key}/register", title, "ecs.scale-register", register))
    seconds = _setting(target, "stable_seconds")
    if count == 0:
        down = _spec(target, f"{key}/down", f"see that no task of {name} runs", "ecs.down", {"place": place},
                     timeout=seconds)  # fmt: skip
        return Scaling(tuple(begin), (down,))
    url = target.url.rstrip("/") + target.health_path if "://" in target.url else ""
    up = _spec(target, f"{key}/up", f"wait until {count} tasks of {name} are well", "ecs.scaled",
               {**wanted, "url": url, "checks": _setting(target, "checks")}, timeout=seconds)  # fmt: skip
    return Scaling(tuple(begin), (up,))
