"""Two sites on paper: a database, traffic and applications whose whole state is a few names, and every effect counted.

The drivers' own tests have real servers and AWS's simulator; here it is the plan, the engine and the rules.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from backups.disaster.base import NOT_READY, READY, Candidate, Check, Fence, Part, Side
from backups.disaster.databases import DATABASES
from backups.disaster.traffic import TRAFFIC
from backups.models import RecoveryPlan
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.plans import StepSpec
from controlplane.operations.registry import Seen, StepContext, StepFunction, register_step
from environments.drivers import DRIVERS
from environments.drivers.base import Running, Scaling, Software, Target
from environments.models import Environment, Placement, Service

PRIMARY, STANDBY = "production", "dr"


@dataclass
class World:
    """running: instances by environment. writable: databases that take writes. people: where they are sent.

    both: whether two databases ever took writes at once. away: environments nobody reaches.
    """

    running: dict[str, int] = field(default_factory=lambda: {PRIMARY: 3, STANDBY: 0})
    writable: set[str] = field(default_factory=lambda: {PRIMARY})
    scratch: set[str] = field(default_factory=set)
    restored: set[str] = field(default_factory=set)
    people: str = PRIMARY
    away: set[str] = field(default_factory=set)
    both: bool = False
    order: list[str] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)
    errors: dict[str, list[BaseException]] = field(default_factory=dict)
    newest: dict[str, datetime] = field(default_factory=dict)
    ttl_is_low: bool = True

    def effect(self, name: str) -> None:
        self.effects[name] += 1
        self.order.append(name)
        self.both = self.both or len(self.writable & {PRIMARY, STANDBY}) > 1


world = World()


def _effect(context: StepContext, *, do: str, where: str) -> None:
    if errors := world.errors.get(f"{do} {where}"):
        raise errors.pop(0)
    if where in world.away and do in ("stop", "fence"):
        context.log(f"{where} cannot be reached: {do} is not proven", level="warning")
        return
    _do(do, where)
    world.effect(f"{do} {where}")


def _seen(context: StepContext, *, do: str, where: str) -> Seen:
    return Seen.DONE if _is_done(do, where) else Seen.NOT_DONE


def _prove(context: StepContext, *, do: str, where: str) -> None:
    if where in world.away:
        raise Unknown(f"{where} cannot be reached: nobody knows whether {do} holds.")
    if not _is_done(do, where):
        raise StepError(f"{do} does not hold in {where}")
    world.order.append(f"proven {do} {where}")


def _do(do: str, where: str) -> None:
    match do:
        case "stop" | "start":
            world.running[where] = 3 if do == "start" else 0
        case "fence":
            world.writable.discard(where)
        case "open":
            world.writable.add(where)
        case "restore":
            world.restored.add(where)
        case "scratch":
            world.scratch.add(where)
        case "drop":
            world.scratch.discard(where)
        case _:
            world.people = where


def _is_done(do: str, where: str) -> bool:
    match do:
        case "stop" | "start":
            return world.running[where] == (3 if do == "start" else 0)
        case "fence" | "open":
            return (where in world.writable) == (do == "open")
        case "restore":
            return where in world.restored
        case "scratch" | "drop":
            return (where in world.scratch) == (do == "scratch")
        case _:
            return world.people == where


STEPS = {
    "sites.effect": StepFunction(observe=_seen, act=_effect),
    "sites.prove": StepFunction(act=_prove),
}


def _step(key: str, do: str, where: str, group: str, function: str = "sites.effect") -> StepSpec:
    return StepSpec(key, f"{do} {where}", function, {"do": do, "where": where}, group)


class Database:
    """See `base.Database`."""

    kind = "paper"
    steps: Mapping[str, StepFunction] = {}

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        return {}

    def candidates(self, source: Side, target: Side) -> list[Candidate]:
        if source.environment in world.away and "replica" not in world.newest:
            raise StepError(f"{source.environment} cannot be reached")
        return [Candidate(key, f"the {key}", as_of) for key, as_of in world.newest.items()]

    def readiness(self, source: Side, target: Side) -> list[Check]:
        return [Check("replica", "Replica", READY, "follows")]

    def fence(self, source: Side) -> Fence:
        where = source.environment
        return Fence((_step("database/fence", "fence", where, "Database"),),
                     (_step("database/prove", "fence", where, "Database", "sites.prove"),))  # fmt: skip

    def restore(self, source: Side, target: Side, candidate: Candidate, *, scratch: str = "") -> Part:
        where = target.environment
        if scratch:
            return Part(begin=(_step("database/scratch", "scratch", scratch, "Database"),),
                        cleanup=(_step("database/drop", "drop", scratch, "Database"),))  # fmt: skip
        return Part(begin=(_step("database/restore", "restore", where, "Database"),),
                    open=(_step("database/open", "open", where, "Database"),))  # fmt: skip

    def reverse(self, source: Side, target: Side) -> Part:
        return self.restore(source, target, Candidate("", "", database_time()))

    def newest(self, side: Side) -> Candidate:
        if side.environment in world.away:
            raise StepError(f"{side.environment} cannot be reached")
        return Candidate("newest", "newest row", world.newest["replica"])


class Traffic:
    """See `base.Traffic`."""

    kind = "paper"
    steps: Mapping[str, StepFunction] = {}

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        return {}

    def readiness(self, source: Side, target: Side) -> list[Check]:
        return [Check("ttl", "TTL", READY if world.ttl_is_low else NOT_READY, "60 s")]

    def withdraw(self, source: Side) -> Fence:
        return Fence()

    def switch(self, source: Side, target: Side, *, drill: str = "") -> Part:
        if drill:
            return Part()
        return Part(begin=(_step("traffic/switch", "send people to", target.environment, "Traffic"),))


@dataclass
class Applications:
    """A driver that can be scaled; see `drivers.base.Scalable`."""

    name: str = "sites"
    steps: Mapping[str, StepFunction] = field(default_factory=dict)

    def running(self, target: Target) -> list[Running]:
        return []

    def scale(self, target: Target, count: int, software: Software | None, *, key: str) -> Scaling:
        do = "start" if count else "stop"
        proof = () if count else (_step(f"{key}/stopped", do, target.environment, "", "sites.prove"),)
        return Scaling((_step(f"{key}/{do}", do, target.environment, ""),), proof)


@pytest.fixture
def plan(db: None, monkeypatch: pytest.MonkeyPatch) -> RecoveryPlan:
    """Production and DR, and a plan for them. Its replica is a minute behind, its snapshot half an hour."""
    monkeypatch.setitem(DATABASES, "paper", Database())
    monkeypatch.setitem(TRAFFIC, "paper", Traffic())
    monkeypatch.setitem(DRIVERS, "sites", Applications())
    for name, function in STEPS.items():
        register_step(name, function)
    world.__dict__.update(World().__dict__)
    now = database_time()
    world.newest = {"snapshot": now - timedelta(minutes=30), "replica": now - timedelta(minutes=1)}
    service = Service.objects.create(slug="api", name="The API")
    made = {}
    for position, slug in enumerate((PRIMARY, STANDBY)):
        made[slug] = Environment.objects.create(slug=slug, name=slug.title(), driver="sites", position=position)
        Placement.objects.create(environment=made[slug], service=service, instances=[])
    Placement.objects.filter(environment=made[PRIMARY]).update(version="1.4.0", digest="sha256:" + "4" * 64)
    return RecoveryPlan.objects.create(
        slug="main", name="Production to DR", primary=made[PRIMARY], standby=made[STANDBY],
        database={"kind": "paper"}, traffic={"kind": "paper"}, services={"api": 3},
    )  # fmt: skip
