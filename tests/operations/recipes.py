"""A small kind of operation for the engine's tests: its world is a set of names, its effects are counted."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.operations import registry
from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan, Retry, StepSpec
from controlplane.operations.registry import Kind, Seen, StepContext, StepFunction, Verdict, failed, passed, pending


@dataclass
class World:
    """What the steps change and what they meet."""

    there: set[str] = field(default_factory=set)
    effects: Counter[str] = field(default_factory=Counter)
    errors: dict[str, list[BaseException]] = field(default_factory=dict)  # raised by act, one a call
    bad: dict[str, str] = field(default_factory=dict)  # verify fails with these words
    slow: dict[str, int] = field(default_factory=dict)  # verify is pending so many times
    doubt: dict[str, BaseException] = field(default_factory=dict)  # raised by observe
    lines: dict[str, list[str]] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    long: set[str] = field(default_factory=set)  # act goes on until somebody stops it
    plan: Plan = field(default_factory=lambda: Plan("nothing", ()))
    gates: list[Gate] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)


world = World()


def reset() -> World:
    """A new world, in place: the registered functions look at `world`."""
    world.__dict__.update(World().__dict__)
    return world


def _observe(context: StepContext, *, name: str) -> Seen:
    if doubt := world.doubt.pop(name, None):
        raise doubt
    return Seen.DONE if name in world.there else Seen.NOT_DONE


def _act(context: StepContext, *, name: str) -> None:
    for line in world.lines.get(name, []):
        context.log(line)
    while name in world.long:
        context.wait(0.01)
    if errors := world.errors.get(name):
        raise errors.pop(0)
    world.effects[name] += 1
    world.there.add(name)


def _verify(context: StepContext, *, name: str) -> Verdict:
    if name in world.bad:
        return failed(world.bad[name])
    if world.slow.get(name, 0) > 0:
        world.slow[name] -= 1
        return pending("not yet")
    return passed()


def _nothing(context: StepContext) -> None:
    """A step without an effect."""


def step(name: str, **values: Any) -> StepSpec:
    """A step that brings `name` about; it is a safe point of its own group."""
    values = {"retry": Retry(attempts=3, wait=0.0), "safe_point": True, "group": name, **values}
    return StepSpec(key=name, title=f"bring {name}", function="sample.bring", arguments={"name": name}, **values)


def plan_of(*names: str, recovery: bool = False) -> Plan:
    """A plan of such steps; with recovery, each one that fails is put back."""
    back = tuple(step(f"undo-{name}", safe_point=False) for name in names) if recovery else ()
    steps = tuple(step(name, on_failure=(f"undo-{name}",) if recovery else ()) for name in names)
    return Plan(summary="sample", steps=steps, recovery=back)


def empty_plan(count: int) -> Plan:
    """A plan of steps that do nothing, to see what the engine itself costs."""
    return Plan("empty", tuple(StepSpec(f"s{n}", f"step {n}", "sample.nothing") for n in range(count)))


def _facts(operation: Operation) -> Mapping[str, Any]:
    return {}


SAMPLE = Kind(
    key="sample",
    label="sample",
    facts=_facts,
    plan=lambda operation, facts: world.plan,
    gates=lambda operation, facts: world.gates,
    secrets=lambda operation: world.secrets,
    finished=lambda operation: world.finished.append(operation.state),
)
BRING = StepFunction(act=_act, observe=_observe, verify=_verify, poll=0.01)
NOTHING = StepFunction(act=_nothing)


def register() -> None:
    """Make the sample kind known; harmless the second time."""
    registry.register_kind(SAMPLE)
    registry.register_step("sample.bring", BRING)
    registry.register_step("sample.nothing", NOTHING)
