"""The company in two regions of the simulated AWS, and parts of a recovery run by the real engine against it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import boto3

from backups.disaster.base import Part, Side
from backups.disaster.databases.rds import RdsDatabase
from backups.disaster.databases.rds_calls import OPERATION
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, engine, registry, transitions
from controlplane.operations.models import Event, Operation
from controlplane.operations.plans import Plan, Retry, StepSpec
from controlplane.operations.registry import Kind
from tests.aws.company import Killed, lose_the_worker
from tests.aws.layer import Fault, Layer

EAST, WEST = "us-east-1", "us-west-2"
LIVE, STANDBY = "pitchey", "pitchey-dr"
SNAPSHOT = "rds:pitchey-2026-11-28-03-00"
SPEED = 30_000.0  # virtual seconds in a real one
BOUNDARIES = ("intent_written", "effect_done", "verified", "state_written")

_plans: dict[int, Plan] = {}
_KIND = Kind(
    key="recovery-part",
    label="part of a recovery",
    facts=lambda operation: {},
    plan=lambda operation, facts: _plans[operation.pk],
    gates=lambda operation, facts: [],
)


@dataclass
class World:
    """Both regions. Alice asks; workers come and go."""

    aws: Layer
    alice: Person
    database: RdsDatabase

    def client(self, service: str, region: str = EAST) -> Any:
        """A client of the test's own."""
        make: Any = boto3.client  # the stubs want the service's name written out
        return make(
            service, region_name=region, endpoint_url=self.aws.url, aws_access_key_id="a", aws_secret_access_key="b"
        )

    def side(self, region: str, **more: Any) -> Side:
        """One side of the plan's database, as the plan's settings make it."""
        east = region == EAST
        settings = {
            "region": region,
            "endpoint_url": self.aws.url,
            "access_key": "env:TEST_AWS_ACCESS_KEY",
            "secret_key": "env:TEST_AWS_SECRET_KEY",
            "instance": LIVE if east else STANDBY,
            "security_groups": [f"sg-open-{region}"],
            "fenced_security_groups": [f"sg-closed-{region}"],
            "retry_seconds": 0.01,
        }
        return Side("production" if east else "dr", {**settings, **more})

    def ask(self, *steps: StepSpec) -> Operation:
        """An operation of these steps."""
        quick = tuple(replace(step, retry=Retry(step.retry.attempts, 0.01)) for step in steps)
        plan = Plan("a part of a recovery", quick)
        operation = transitions.request(
            Actor(self.alice), kind=_KIND.key, title="Part", scopes=("production",), plan=plan, approvals_required=0,
            reason="because", gates=[],
        )  # fmt: skip
        _plans[operation.pk] = plan
        return operation

    def run(self, *steps: StepSpec) -> Operation:
        """Have them run, by as many workers as it takes."""
        return self.finish(self.ask(*steps))

    def finish(self, operation: Operation) -> Operation:
        """Workers come and die until it has ended or waits for a person."""
        for number in range(60):
            try:
                engine.run(operation.pk, f"w{number}")
            except Killed:
                lose_the_worker(operation)
            operation.refresh_from_db()
            if operation.is_finished or operation.state == "needs_operator":
                return operation
        raise AssertionError(f"still {operation.state}: {operation.outcome}")

    def instance(self, region: str, name: str) -> dict[str, Any] | None:
        """A database as AWS tells of it, None when there is none."""
        self.aws.cloud.settle()
        rows = self.client("rds", region).describe_db_instances()["DBInstances"]
        return next((dict(row) for row in rows if row["DBInstanceIdentifier"] == name), None)

    def groups(self, region: str, name: str) -> list[str]:
        """The security groups of a database."""
        found = self.instance(region, name)
        return [one["VpcSecurityGroupId"] for one in found["VpcSecurityGroups"]] if found else []

    def made_by(self, region: str, name: str) -> str:
        """Which operation a database is marked with."""
        found = self.instance(region, name)
        tags = {one["Key"]: one["Value"] for one in found["TagList"]} if found else {}
        return str(tags.get(OPERATION, ""))

    def replica(self) -> None:
        """Make the standby's database a replica of the live one, and let it become available."""
        arn = self.instance(EAST, LIVE)["DBInstanceArn"]  # type: ignore[index]
        self.client("rds", WEST).create_db_instance_read_replica(
            DBInstanceIdentifier=STANDBY, SourceDBInstanceIdentifier=arn, SourceRegion=EAST,
            VpcSecurityGroupIds=[f"sg-open-{WEST}"],
        )  # fmt: skip
        self.aws.cloud.advance(1300)
        self.aws.cloud.settle()
        self.forget_changes()

    def forget_changes(self) -> None:
        """Count changes from here on."""
        self.aws.taken.clear()
        self.aws.asked.clear()
        self.aws.bodies.clear()

    def once(self, action: str, fault: Fault) -> None:
        """The next call of this action meets the fault."""
        self.aws.will(action, fault)


def steps_of(part: Part) -> tuple[StepSpec, ...]:
    """A part's phases one after the other, as a plan has them; without the cleanup."""
    return (*part.begin, *part.wait, *part.open, *part.verify)


def die_once_at(boundary: str) -> Callable[[], int]:
    """A worker dies at this boundary of every step, once each; the result says how many died."""
    died: set[str] = set()

    def listener(reached: str, operation_id: int, key: str) -> None:
        if reached == boundary and key and key not in died:
            died.add(key)
            raise Killed

    boundaries.listeners.append(listener)
    return lambda: len(died)


def lines(operation: Operation) -> list[str]:
    """The log, in order."""
    return list(Event.objects.filter(operation=operation).order_by("seq").values_list("text", flat=True))


def register(functions: Iterable[Mapping[str, registry.StepFunction]]) -> None:
    """Make the kind and these steps known; harmless the second time."""
    registry.register_kind(_KIND)
    for steps in functions:
        for name, function in steps.items():
            registry.register_step(name, function)


def build(aws: Layer, alice: Person, database: RdsDatabase) -> World:
    """The live database in us-east-1 with a snapshot of half an hour ago; time runs."""
    world = World(aws, alice, database)
    world.client("rds").create_db_instance(
        DBInstanceIdentifier=LIVE, DBInstanceClass="db.r5.2xlarge", Engine="postgres", MasterUsername="prod",
        MasterUserPassword="very-secret", AllocatedStorage=500, VpcSecurityGroupIds=[f"sg-open-{EAST}"],
    )  # fmt: skip
    for made_with_it in aws.cloud.rds.snapshots(EAST):
        world.client("rds").delete_db_snapshot(DBSnapshotIdentifier=made_with_it)
    aws.cloud.rds.automated_snapshot(EAST, LIVE, SNAPSHOT, age=1800)
    aws.cloud.start(speed=SPEED)
    world.forget_changes()
    return world
