"""A night on the simulated AWS: the whole plan of a failover, or of the way home, run by the engine in virtual time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from backups.disaster.readiness import candidates
from backups.disaster.services import request_failback, request_failover
from backups.models import Recovery, RecoveryPlan
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, engine, transitions
from controlplane.operations.context import Context
from controlplane.operations.models import Event, Operation
from controlplane.operations.states import Answer, State
from tests.aws.company import Killed, lose_the_worker
from tests.aws.layer import Fault
from tests.disaster.kit_world import CLUSTERS, EAST, NEW, OLD, SERVICE, WEST, World

RISK = "the power of the whole region is off, says AWS's status page"
TURNS = 120  # workers until it must have come to an end
HOURS = 3600.0
LOOK = 120.0  # virtual seconds between two looks


@dataclass
class Night:
    """The company, and who is awake: alice asks, the others approve. look: virtual seconds between two looks."""

    world: World
    alice: Person
    others: tuple[Person, Person]
    look: float = LOOK
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Count time and changes from here on."""
        self.world.aws.cloud.settle()
        self.world.aws.taken.clear()
        self.began = self.world.aws.cloud.clock.seconds()

    def set(self, part: str, **values: Any) -> None:
        """Settings of the plan's database or traffic, for both sides."""
        plan = self.plan
        setattr(plan, part, {**getattr(plan, part), **values})
        plan.save()

    @property
    def plan(self) -> RecoveryPlan:
        """As it stands now."""
        return RecoveryPlan.objects.select_related("primary", "standby").get()

    @property
    def took(self) -> float:
        """Virtual seconds since it began."""
        return self.world.aws.cloud.clock.seconds() - self.began

    @property
    def changes(self) -> Counter[str]:
        """How often AWS changed what."""
        return Counter(self.world.aws.changes)

    def will(self, faults: dict[str, list[Fault]]) -> None:
        """Line up what goes wrong, by action."""
        for action, these in faults.items():
            self.world.aws.will(action, *these)

    # --- both ways ----------------------------------------------------------------------------------

    def ask(self, point: str = "") -> Operation:
        """A failover from the newest candidate whose key has this in it, approved by both."""
        key = next(one.key for one in candidates(self.plan) if point in one.key)
        return self._approved(
            request_failover(Actor(self.alice), self.plan, point=key, words="all is red", reason="region down")
        )

    def ask_home(self) -> Operation:
        """A failback, approved by both. The site at home is there again."""
        self.world.old_site.usual = 200
        return self._approved(request_failback(Actor(self.alice), self.plan, reason="the region is back"))

    def _approved(self, operation: Operation) -> Operation:
        for person in self.others:
            transitions.approve(operation.pk, Actor(person), operation.plan_digest)
        return operation

    def run(self, operation: Operation) -> Operation:
        """Workers come and die until it has ended or waits for a person."""
        for turn in range(TURNS):
            try:
                engine.run(operation.pk, f"w{turn}")
            except Killed:
                lose_the_worker(operation)
            operation.refresh_from_db()
            if operation.is_finished or operation.state == State.NEEDS_OPERATOR:
                return operation
        raise AssertionError(f"still {operation.state}: {operation.outcome}")

    def answer(self, operation: Operation, answer: Answer, words: str = "I looked") -> str:
        """Alice answers the question that is open, and workers go on; returns the key of the step it was about."""
        step = operation.steps.get(state="unknown")
        transitions.resolve(operation.pk, Actor(self.alice), step.key, answer, words)
        self.run(operation)
        return str(step.key)

    # --- what came of it ----------------------------------------------------------------------------

    def status(self, region: str, name: str) -> tuple[str, list[str]] | None:
        """A database's state and security groups, None when there is none."""
        self.world.aws.cloud.settle()
        rows = self.world.client("rds", region).describe_db_instances()["DBInstances"]
        row = next((one for one in rows if one["DBInstanceIdentifier"] == name), None)
        return None if row is None else (
            row["DBInstanceStatus"], [one["VpcSecurityGroupId"] for one in row["VpcSecurityGroups"]]
        )  # fmt: skip

    def state_of(self, region: str, name: str) -> str:
        """A database's state, "" when there is none."""
        found = self.status(region, name)
        return found[0] if found else ""

    def running(self, region: str) -> int:
        """Tasks that run there."""
        found = self.world.client("ecs", region).describe_services(cluster=CLUSTERS[region], services=[SERVICE])
        return int(found["services"][0]["runningCount"])

    def is_over_there(self) -> None:
        """People are served by the standby, and by nobody else."""
        assert self.world.address() == [NEW]
        assert self.status(WEST, "pitchey-dr") == ("available", ["sg-open"])
        assert (self.running(EAST), self.running(WEST)) == (0, 3)
        assert self.plan.active == "standby"

    def is_untouched(self) -> None:
        """People are where they were, and nobody could write at the other side."""
        assert self.world.address() == [OLD]
        assert self.world.desired(EAST) == 3
        assert self.plan.active == "primary"
        found = self.status(WEST, "pitchey-dr")
        assert found is None or found[1] == ["sg-shut"]

    def recovery(self, operation: Operation) -> Recovery:
        """What was kept of it."""
        return Recovery.objects.get(operation=operation)


def said(operation: Operation) -> str:
    """The whole log."""
    return "\n".join(Event.objects.filter(operation=operation).order_by("seq").values_list("text", flat=True))


@pytest.fixture
def night(  # noqa: PLR0917 (fixtures)
    world: World, alice: Person, bob: Person, ada: Person, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Night]:
    """Production is red. Nobody waits: whoever would finds the cloud a look later instead."""

    def wait(context: Context, seconds: float) -> None:
        if seconds > 0:
            world.aws.cloud.advance(made.look)
        context.check()

    monkeypatch.setattr(Context, "wait", wait)
    settings.CLOUD_POLL_SECONDS = 0.01
    world.plan.checks = []  # nobody's rows are behind the simulated databases
    world.plan.save()
    world.aws.cloud.start()
    made = Night(world, alice, (bob, ada))
    yield made
    boundaries.listeners.clear()
