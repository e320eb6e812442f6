"""What a plan depends on, asked before anything is planned: the strategies themselves are pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from controlplane.operations.errors import Invalid
from controlplane.operations.plans import Arguments, StepSpec
from environments.balancers.base import member_of
from environments.drivers.base import Driver, Instance, Rollout, Running, Software, Target

# Drivers whose rollout of a target that is narrowed to some instances touches only those.
BY_INSTANCE = ("local", "hosts")
# Load balancers that share requests by weights: always, or once that setting names a second group to share with.
WEIGHING = {"haproxy": "", "target_group": "second_group"}
# Those that count what each instance, or each of two groups, got. AWS counts requests of Application Load Balancers.
COUNTING = {"haproxy": "", "target_group": "/app/"}


@dataclass(frozen=True)
class Balanced:
    """The load balancer before a target. named: its kind and its settings, as steps name it. members: by instance.

    weighs: whether it shares requests by weights. counts: whether it tells what each side got.
    weights: those that it has now, by instance; None where unknown. groups: where weights are those of whole groups,
    their two sets of instances: a group that gets requests and has nobody to answer them answers with errors.
    """

    named: Arguments
    members: Mapping[str, Arguments]
    weighs: bool
    counts: bool
    weights: Mapping[str, int | None] = field(default_factory=dict)
    groups: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True)
class Situation:
    """What runs where, and what it could be judged by.

    careful: approvals are needed here, as in production. prometheus: there is a server to ask. deployed: the digest of
    what the last deployment left there, "" for none.
    """

    target: Target
    running: list[Running]
    driver: str
    balanced: Balanced | None = None
    prometheus: bool = False
    careful: bool = True
    deployed: str = ""

    @property
    def names(self) -> list[str]:
        """All instances, in their order."""
        return [one.name for one in self.target.instances]

    def at(self, names: Collection[str]) -> list[Running]:
        """What runs at these."""
        return [one for one in self.running if one.instance in names]


def member_at(instance: Instance) -> Arguments:
    """An instance as the steps name it, where no load balancer says otherwise. Raises Invalid without an address."""
    member = member_of(instance.name, instance.address)
    if member is None:
        raise Invalid(f"{instance.name} has no address, so nobody could tell its requests from others'. Add it.")
    return asdict(member)


def can_weigh(named: Arguments) -> bool:
    """Whether a load balancer, with these settings, shares requests by weights."""
    needed = WEIGHING.get(named["kind"])
    return needed is not None and (not needed or bool(named["settings"].get(needed)))


def can_count(named: Arguments) -> bool:
    """Whether a load balancer, with these settings, counts what either side of a canary got."""
    needed = COUNTING.get(named["kind"])
    return needed is not None and (not needed or needed in str(named["settings"].get("listener", "")))


def groups_of(named: Arguments) -> tuple[frozenset[str], ...]:
    """The groups whose members have one weight in common; none where each instance has its own."""
    if not WEIGHING.get(named["kind"]) or not can_weigh(named):
        return ()
    return tuple(frozenset(named["settings"][key]) for key in ("first", "second"))


def fits_groups(balanced: Balanced | None, some: Collection[str], others: Collection[str], who: str) -> None:
    """Raises Invalid where weights are those of groups, and these are not the two groups."""
    if balanced is None or not balanced.groups or {frozenset(some), frozenset(others)} == {*balanced.groups}:
        return
    first, second = (", ".join(sorted(one)) for one in balanced.groups)
    raise Invalid(
        f"{who} has to be one of the two target groups, and the others the other: {first} are the first, {second} the "
        "second. Mend the strategy's table or the load balancer's."
    )


def can_be_narrowed(driver: str, strategy: str) -> str:
    """Why the driver cannot deploy to some of the instances only, in words; "" when it can."""
    if driver in BY_INSTANCE:
        return ""
    able = " and ".join(BY_INSTANCE)
    return (
        f"{strategy} needs a driver that deploys instance by instance: {able} do, {driver} brings a release to the "
        f"whole service at once. Choose rolling."
    )


def narrowed(target: Target, names: Collection[str], beside: Collection[str] = ()) -> Target:
    """The same service, as if it had only these instances. beside: those that are to serve meanwhile."""
    kept, others = (tuple(one for one in target.instances if one.name in those) for those in (names, beside))
    return replace(target, instances=kept, beside=others)


def part(
    driver: Driver,
    situation: Situation,
    names: Collection[str],
    to: Software,
    *,
    key: str,
    beside: Collection[str] = (),
) -> Rollout:
    """The driver's way to the release on these instances alone; each step's key begins with `key`.

    beside: others that are to serve meanwhile, so that never too many of all are away.
    """
    rollout = driver.rollout(narrowed(situation.target, names, beside), situation.at(names), to)
    return replace(
        rollout,
        steps=tuple(_renamed(step, key) for step in rollout.steps),
        recovery=tuple(_renamed(step, key) for step in rollout.recovery),
    )


def _renamed(step: StepSpec, key: str) -> StepSpec:
    return replace(step, key=f"{key}/{step.key}", on_failure=tuple(f"{key}/{one}" for one in step.on_failure))


def undo_of(rollout: Rollout) -> tuple[str, ...]:
    """What puts back all of it, in order: what its last step would need, then whatever that leaves out."""
    last = next((step.on_failure for step in reversed(rollout.steps) if step.on_failure), ())
    return (*last, *(step.key for step in rollout.recovery if step.key not in last))


def also_undo(steps: Iterable[StepSpec], more: Sequence[str]) -> tuple[StepSpec, ...]:
    """The steps, each of which puts back more when it fails, after its own."""
    return tuple(
        replace(step, on_failure=(*step.on_failure, *(key for key in more if key not in step.on_failure)))
        for step in steps
    )


def without_safe_points(steps: Iterable[StepSpec]) -> tuple[StepSpec, ...]:
    """The steps, none of which lets the operation be stopped before it."""
    return tuple(replace(step, safe_point=False) for step in steps)


def known(situation: Situation, names: Collection[str], where: str) -> None:
    """Raises Invalid for names that are no instances of the target."""
    if unknown := sorted(set(names) - set(situation.names)):
        places = ", ".join(situation.names)
        raise Invalid(f"{where} names {', '.join(unknown)}; the instances are {places}. Mend the configuration.")
