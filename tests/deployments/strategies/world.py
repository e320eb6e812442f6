"""A driver and a load balancer of paper, and a hand that carries out plans of strategies with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Plan, StepSpec
from deployments.strategies.situation import Balanced, Situation, member_at
from environments.balancers.base import Counted, Member, Seen, Standing
from environments.drivers.base import Instance, Rollout, Running, Software, Target

OLD = Software("1.4.0", "registry/api", "sha256:" + "4" * 64)
NEW = Software("1.5.0", "registry/api", "sha256:" + "5" * 64)
NAMED = {"kind": "haproxy", "settings": {"socket": "/run/haproxy.sock", "backend": "api"}}


class PaperDriver:
    """One step an instance, which puts back itself and those before it; then one over all."""

    name = "local"
    steps: Mapping[str, Any] = {}

    def running(self, target: Target) -> list[Running]:
        raise NotImplementedError

    def rollout(self, target: Target, running: list[Running], to: Software) -> Rollout:
        now = {one.instance: one for one in running}
        moved = [now[one.name] for one in target.instances if now[one.name].digest != to.digest]
        steps, recovery = [], []
        undo: tuple[str, ...] = ()
        for one in moved:
            key = f"put-back/{one.instance}"
            undo = (key, *undo)
            swap = {"instance": one.instance, "version": to.version, "digest": to.digest}
            back = {"instance": one.instance, "version": one.version, "digest": one.digest}
            steps.append(StepSpec(f"{one.instance}/swap", "swap", "paper.swap", swap, one.instance,
                                  on_failure=undo, safe_point=True))  # fmt: skip
            recovery.append(StepSpec(key, "swap back", "paper.swap", back, one.instance))
        if moved:
            names = [one.name for one in target.instances]
            steps.append(StepSpec("verify", "verify", "paper.verify", {"instances": names}, on_failure=undo))
        changes = tuple({"what": one.instance, "from": one.version, "to": to.version} for one in moved)
        return Rollout(tuple(steps), tuple(recovery), changes)


DRIVER = PaperDriver()


def situation(
    count: int = 4, *, runs: Sequence[Software] = (), balanced: bool = True, weights: Mapping[str, int] | None = None,
    prometheus: bool = False, careful: bool = True, driver: str = "local", second: Sequence[str] = (),
) -> Situation:  # fmt: skip
    """So many instances, api-1 and on. runs: what each runs; the old release, if it says nothing.

    second: those in the second of two target groups, where weights are those of groups.
    """
    instances = tuple(Instance(f"api-{number}", f"http://10.0.0.{number}:8000") for number in range(1, count + 1))
    software = list(runs) or [OLD] * count
    running = [
        Running(one.name, what.version, what.digest, what.image) for one, what in zip(instances, software, strict=True)
    ]
    members = {one.name: member_at(one) for one in instances}
    has = {one.name: (weights or {}).get(one.name, 100) for one in instances}
    first = [name for name in members if name not in second]
    groups = (frozenset(first), frozenset(second)) if second else ()
    return Situation(
        target=Target("production", "api", instances, "", "/health", {}),
        running=running,
        driver=driver,
        balanced=Balanced(NAMED, members, weighs=True, counts=True, weights=has, groups=groups) if balanced else None,
        prometheus=prometheus,
        careful=careful,
    )


@dataclass
class World:
    """What runs and what weighs how much, as steps change it. touched: instances in the order of their first change."""

    runs: dict[str, tuple[str, str]]
    weights: dict[str, int]
    touched: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, start: Situation) -> "World":
        weights = start.balanced.weights if start.balanced else {}
        return cls(
            {one.instance: (one.version, one.digest) for one in start.running},
            {name: weight or 0 for name, weight in weights.items()},
        )

    def do(self, step: StepSpec) -> None:
        self.done.append(step.key)
        if step.function == "paper.swap":
            instance = step.arguments["instance"]
            if instance not in self.touched:
                self.touched.append(instance)
            self.runs[instance] = (step.arguments["version"], step.arguments["digest"])
        elif step.function == "strategy.weigh":
            self.weights |= step.arguments["weights"]

    def carry_out(self, plan: Plan, fails_at: int | None = None) -> None:
        """Step after step. fails_at: the step of this number has its effect, fails all the same, and is put back."""
        recovery = {step.key: step for step in plan.recovery}
        for number, step in enumerate(plan.steps):
            self.do(step)
            if number == fails_at:
                for key in step.on_failure:
                    self.do(recovery[key])
                return


@dataclass
class PaperBalancer:
    """A load balancer whose counters a test moves. traffic: comes between two looks at them.

    refuses: how many of the next calls get no answer.
    """

    kind: str = "haproxy"
    weights: dict[str, int] = field(default_factory=dict)
    counters: dict[str, Counted] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    calls: list[dict[str, int]] = field(default_factory=list)
    refuses: int = 0
    traffic: Callable[[], None] = lambda: None

    def problems(self, settings: Mapping[str, Any]) -> dict[str, str]:
        return {}

    def look(self, settings: Mapping[str, Any], member: Member) -> Seen:
        self._answer()
        standing = self.standings.get(member.name, Standing.SERVING)
        return Seen(standing, "L7STS 503", weight=self.weights.get(member.name, 100))

    def remove(self, settings: Mapping[str, Any], member: Member) -> None: ...

    def add(self, settings: Mapping[str, Any], member: Member) -> None: ...

    def weigh(self, settings: Mapping[str, Any], weights: Mapping[Member, int]) -> None:
        self._answer()
        self.calls.append({member.name: weight for member, weight in weights.items()})
        self.weights |= {member.name: weight for member, weight in weights.items()}

    def counted(self, settings: Mapping[str, Any], members: Sequence[Member]) -> dict[str, Counted]:
        self._answer()
        self.traffic()
        return {one.name: self.counters[one.name] for one in members if one.name in self.counters}

    def got(self, name: str, requests: int, errors: int = 0, mean_ms: float | None = None) -> None:
        """So many more."""
        had = self.counters.get(name, Counted(0, 0))
        self.counters[name] = replace(
            had, requests=had.requests + requests, errors=had.errors + errors, mean_ms=mean_ms
        )  # fmt: skip

    def _answer(self) -> None:
        if self.refuses:
            self.refuses -= 1
            raise StepError("HAProxy does not answer at /run/haproxy.sock: connection refused")
