"""How a plan of the hosts driver names its steps; pure. `driver` and `scale` put them together."""

from collections.abc import Sequence
from typing import Any

from controlplane.operations.plans import Arguments, Retry, StepSpec
from environments.drivers.base import Instance, Running, Software, Target
from environments.drivers.hosts.settings import balancer_of, place_of, recipe_of, setting
from environments.image_names import repository_of

TIMEOUT = 60.0
AGAIN = Retry(attempts=3, wait=1.0)


def check_of(target: Target, version: str, digest: str, *, early: bool = False) -> Arguments:
    """How an instance is asked whether it is well. version, digest: which have to be there.

    early: it was started before what it needs was there, so it may have been restarted meanwhile.
    """
    return {
        "version": version,
        "digest": digest,
        "health_path": target.health_path,
        "ready_path": setting(target, "ready_path"),
        "checks": setting(target, "checks"),
        "failures": setting(target, "failures"),
        "interval": float(setting(target, "check_interval")),
        "lines": setting(target, "log_lines"),
        "early": early,
    }


def check_timeout(target: Target) -> float:
    """Seconds that the checks of one instance may take, its start aside."""
    tries = setting(target, "checks") + setting(target, "failures")
    return TIMEOUT + float(tries * (setting(target, "check_interval") + 10))


def run_arguments(target: Target, instance: Instance, software: Software, configuration: str) -> Arguments:
    """Everything that decides how a release is started at an instance."""
    image = repository_of(software.image)
    recipe = recipe_of(
        target, instance, image=f"{image}@{software.digest}", version=software.version, digest=software.digest
    )
    return {
        "place": place_of(target, instance),
        "recipe": recipe,
        "version": software.version,
        "digest": software.digest,
        "image": image,
        "configuration": configuration,
        "lines": setting(target, "log_lines"),
    }


class Steps:
    """Steps of one instance. prefix: before each key. group: the heading.

    stranger: of `Running`; just that container is let be, or removed, and any other that is not ours stops a step.
    """

    def __init__(
        self,
        target: Target,
        instance: Instance,
        *,
        prefix: str = "",
        group: str = "",
        undo: Any = (),
        stranger: str = "",
    ) -> None:
        self.target, self.instance = target, instance
        self.prefix, self.group, self.undo = prefix, group or instance.name, undo
        self.place = place_of(target, instance) | ({"stranger": stranger} if stranger else {})
        self.balancer = balancer_of(target, instance)

    def spec(self, key: str, title: str, function: str, arguments: Arguments, **more: Any) -> StepSpec:
        """One step at the place."""
        words = title if self.group == self.instance.name else f"{title} ({self.instance.name})"
        values = {"timeout": TIMEOUT, "retry": AGAIN, "on_failure": self.undo, **more}
        return StepSpec(f"{self.prefix}{self.instance.name}/{key}", words, f"hosts.{function}",
                        {"place": self.place, **arguments}, self.group, **values)  # fmt: skip

    def pull(self, software: Software) -> StepSpec:
        """Fetch the image, if it is not there."""
        seconds = float(setting(self.target, "pull_seconds"))
        arguments = {"repository": repository_of(software.image), "digest": software.digest, "seconds": seconds,
                     "registry": dict(self.target.settings.get("registry", {}))}  # fmt: skip
        return self.spec("pull", f"pull {software.version} by digest", "pull", arguments, timeout=TIMEOUT + seconds)

    def leave(self, *, only_new: bool = False) -> list[StepSpec]:
        """Out of the load balancer."""
        arguments = {"balancer": self.balancer, "only_new": only_new}
        return [self.spec("deregister", "deregister", "deregister", arguments)] if self.balancer else []

    def drained(self, *, only_new: bool = False) -> list[StepSpec]:
        """Until nothing is open any more."""
        if not self.balancer:
            return []
        cut = only_new or setting(self.target, "cut_after_drain")
        poll = float(setting(self.target, "poll_seconds"))
        arguments = {"balancer": self.balancer, "only_new": only_new, "cut": cut, "poll": poll}
        return [self.spec("drain", "wait until it is drained", "drain", arguments,
                          timeout=float(setting(self.target, "drain_seconds")))]  # fmt: skip

    def stop(self, before: Running) -> StepSpec:
        """End what runs, keeping a copy; where nothing of ours runs, what is there makes room."""
        version, digest = (before.version, before.digest) if before.version else ("", "")
        arguments = {"version": version, "digest": digest, "seconds": setting(self.target, "stop_seconds")}
        title = f"stop {version}, keep a copy" if version else "make room"
        if before.stranger:
            what = f"{before.stranger[:12]} of {before.image[:150]}"
            title = f"remove the container {what}, which somebody else started, without a copy"
        return self.spec("stop", title, "stop", arguments, timeout=TIMEOUT + arguments["seconds"])

    def check(self, version: str, digest: str, *, early: bool = False) -> StepSpec:
        """Wait for `/health` and `/ready`. early: see `check_of`."""
        start = float(setting(self.target, "start_seconds"))
        arguments = {"check": check_of(self.target, version, digest, early=early), "start_seconds": start}
        return self.spec("check", "check health", "check", arguments, timeout=start + check_timeout(self.target))

    def come(self) -> list[StepSpec]:
        """Into the load balancer."""
        return [self.spec("register", "register", "register", {"balancer": self.balancer})] if self.balancer else []

    def come_if_there(self) -> list[StepSpec]:
        """Into the load balancer again, where what somebody else started was not removed yet."""
        arguments = {"balancer": self.balancer, "only_stranger": True}
        return [self.spec("register", "register what ran", "register", arguments)] if self.balancer else []

    def serving(self) -> list[StepSpec]:
        """Until the load balancer finds it healthy."""
        if not self.balancer:
            return []
        arguments = {"balancer": self.balancer, "poll": float(setting(self.target, "poll_seconds"))}
        return [self.spec("serving", "wait until it serves", "serving", arguments,
                          timeout=float(setting(self.target, "serving_seconds")))]  # fmt: skip


def asked(target: Target, instances: Sequence[Instance]) -> list[Arguments]:
    """Instances as steps that ask several name them."""
    return [{"place": place_of(target, one), "balancer": balancer_of(target, one)} for one in instances]
