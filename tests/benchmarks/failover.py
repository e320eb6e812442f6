"""A failover of the guide's company on the simulated AWS: our plan, the bare calls side by side, the guide's script.

All have a cloud of their own with the same virtual durations (a database restored in 20 minutes, tasks started in 8,
names spread in 1). The first three start from the same snapshot; then our plan as it is proposed where the guide's read
replica is there, from what is newest. Real time is SPEED times slower than the cloud's, so what our engine
does between the waits counts as it would in the middle of a real one.
"""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.conf import settings

from backups.disaster.readiness import candidates
from backups.disaster.services import request_drill, request_failover
from backups.models import Recovery, RecoveryPlan
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.operations import engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from environments.models import Environment, Placement, Service
from tests.aws.layer import Server
from tests.aws.site import Site
from tests.disaster.kit_world import CLUSTERS, EAST, NAME, NEW, SERVICE, SNAPSHOT, WEST, World, record

SPEED = 60.0  # virtual seconds in a real one
POLL_SECONDS = 0.05  # 3 virtual seconds: AWS's own waiters look every 15 to 30
DRILLS = 2
INSTANCE = "pitchey-dr"


def run() -> dict[str, Any]:
    """The figures of `bin/bench failover`."""
    os.environ |= {"TEST_AWS_ACCESS_KEY": "access-of-bench", "TEST_AWS_SECRET_KEY": "secret-of-bench"}
    settings.CLOUD_POLL_SECONDS = POLL_SECONDS
    people = [_person(name, role) for name, role in
              (("asks", Role.OPERATOR), ("first", Role.APPROVER), ("second", Role.APPROVER))]  # fmt: skip
    bare = _in_a_cloud(lambda world: _virtual(world, lambda: _bare(world)))
    script = _in_a_cloud(lambda world: _virtual(world, lambda: _script(world)))
    ours, real, predicted = _in_a_cloud(lambda world: _ours(world, people))
    steps = Operation.objects.get(kind="failover").steps.count()
    promoted = _in_a_cloud(lambda world: _by_the_newest(world, people))
    return {
        "bare_s": round(bare),
        "script_s": round(script),
        "ours_s": round(ours),
        "ratio": round(ours / bare, 3),
        "prediction_error": round(abs(predicted - real) / real, 3),
        "steps": steps,
        "newest_s": round(promoted),
        "ratio_to_script": round(promoted / script, 3),
        "snapshot_ratio_to_script": round(ours / script, 3),
    }


def _person(name: str, role: Role) -> Actor:
    person = Person.objects.create(username=name)
    Grant.objects.create(person=person, scope="*", role=role)
    return Actor(person)


def _in_a_cloud(do: Callable[[World], Any]) -> Any:
    """With a company of its own in both regions; the old one answers nobody."""
    for model in (Operation, Recovery, RecoveryPlan, Placement, Environment, Service):
        model.objects.all().delete()
    with ExitStack() as stack:
        server = Server()
        stack.callback(server.close)
        server.layer.reset()  # moto's world is this process's
        old, new = Site(), Site()
        stack.callback(old.close)
        stack.callback(new.close)
        old.usual = 503
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = World(server.layer, old, new, folder).build()
        RecoveryPlan.objects.update(checks=[])
        server.layer.cloud.start(speed=SPEED)
        return do(world)


def _virtual(world: World, do: Callable[[], object]) -> float:
    """How many seconds passed in the cloud."""
    began = world.aws.cloud.clock.seconds()
    do()
    return world.aws.cloud.clock.seconds() - began


# --- the bare calls -----------------------------------------------------------------------------------


def _bare(world: World) -> None:
    """Nothing but AWS's calls and waits, side by side as far as they can be: what no orchestration could undercut."""
    _restore(world)
    _scale(world, EAST, 0)
    _scale(world, WEST, 3)
    _until(lambda: _running(world, EAST) == 0)
    _until(lambda: _is_available(world))
    _until(lambda: _running(world, WEST) == 3)
    _switch(world)


def _script(world: World) -> None:
    """The guide's scripts/disaster-recovery.sh, step by step, each waited for before the next."""
    _switch(world)
    _restore(world)
    _until(lambda: _is_available(world))
    _scale(world, WEST, 3)
    _until(lambda: _running(world, WEST) == 3)


def _restore(world: World) -> None:
    world.client("rds", WEST).restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier=INSTANCE, DBSnapshotIdentifier=SNAPSHOT
    )


def _is_available(world: World) -> bool:
    found = world.client("rds", WEST).describe_db_instances(DBInstanceIdentifier=INSTANCE)["DBInstances"]
    return bool(found[0]["DBInstanceStatus"] == "available")


def _scale(world: World, region: str, count: int) -> None:
    world.client("ecs", region).update_service(cluster=CLUSTERS[region], service=SERVICE, desiredCount=count)


def _running(world: World, region: str) -> int:
    found = world.client("ecs", region).describe_services(cluster=CLUSTERS[region], services=[SERVICE])["services"]
    return int(found[0]["runningCount"])


def _switch(world: World) -> None:
    route53 = world.client("route53", EAST)
    change = route53.change_resource_record_sets(
        HostedZoneId=world.zone,
        ChangeBatch={"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record(NEW)}]},
    )["ChangeInfo"]["Id"]
    _until(lambda: route53.get_change(Id=change)["ChangeInfo"]["Status"] == "INSYNC")


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(POLL_SECONDS)


# --- ours ---------------------------------------------------------------------------------------------


def _ours(world: World, people: list[Actor]) -> tuple[float, float, float]:
    """Virtual seconds of a failover; its real seconds and those that were predicted, after some drills."""
    plan = RecoveryPlan.objects.select_related("primary", "standby").get()
    for _ in range(DRILLS):
        drill = request_drill(people[0], plan, reason="bench")
        _run(drill)
    point = next(one.key for one in candidates(plan) if SNAPSHOT in one.key)
    operation = request_failover(people[0], plan, point=point, words="down", reason="bench")
    for person in people[1:]:
        transitions.approve(operation.pk, person, operation.plan_digest)
    took = _virtual(world, lambda: _run(operation))
    assert world.aws.cloud.names.lookup(NAME) == [NEW]
    operation.refresh_from_db()
    assert operation.finished_at and operation.started_at
    real = (operation.finished_at - operation.started_at).total_seconds()
    return took, real, float(Recovery.objects.get(operation=operation).predicted["seconds"])


def _by_the_newest(world: World, people: list[Actor]) -> float:
    """Virtual seconds of the plan as proposed for the guide's drawing: its read replica is the newest there is."""
    live = world.client("rds", EAST).describe_db_instances(DBInstanceIdentifier="pitchey")["DBInstances"][0]
    world.client("rds", WEST).create_db_instance_read_replica(
        DBInstanceIdentifier=INSTANCE, SourceDBInstanceIdentifier=live["DBInstanceArn"], SourceRegion=EAST,
        VpcSecurityGroupIds=["sg-shut"],
    )  # fmt: skip
    world.aws.cloud.advance(1300)
    _until(lambda: _is_available(world))
    plan = RecoveryPlan.objects.select_related("primary", "standby").get()
    plan.database["standby"]["replica"] = True
    plan.save(update_fields=["database"])
    operation = request_failover(people[0], plan, point="", words="down", reason="bench")
    assert "replica" in Recovery.objects.get(operation=operation).point["key"]
    for person in people[1:]:
        transitions.approve(operation.pk, person, operation.plan_digest)
    return _virtual(world, lambda: _run(operation))


def _run(operation: Operation) -> None:
    engine.run(operation.pk, "bench")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED, operation.outcome
