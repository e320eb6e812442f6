"""The kit's script carries the plan out in the simulated cloud, as a process that has nothing of the control plane."""

import re
from pathlib import Path

from backups.disaster.kit.importing import import_journal
from controlplane.audit.record import SYSTEM
from tests.aws.layer import throttled
from tests.disaster.kit_world import EAST, NEW, OLD, SNAPSHOT, WEST, World, journal

pytest_plugins = ["tests.aws.fixtures", "tests.disaster.kit_fixtures"]


def order_of(world: World) -> list[str]:
    """Note the changes as AWS takes them."""
    taken: list[str] = []
    world.aws.on_taken = taken.append
    return taken


def test_from_the_newest_snapshot(world: World, kit: Path) -> None:
    done = world.run(kit)
    assert done.returncode == 0, done.stdout
    assert world.desired(EAST) == 0
    assert world.desired(WEST) == 3
    assert world.aws.cloud.rds.instance(EAST, "pitchey").status == "stopped"
    assert world.aws.cloud.rds.instance(WEST, "pitchey-dr").status == "available"
    assert world.address() == [NEW]
    end = journal(kit)[-1]
    assert (end["kind"], end["data"]["outcome"], end["data"]["unproven"]) == ("end", "succeeded", [])
    assert end["data"]["rto_seconds"] > 0
    assert "rpo_seconds" in end["data"]
    imported = import_journal((kit / "journal.jsonl").read_bytes(), world.plan, SYSTEM("manage.py"))
    assert (imported.run.outcome, imported.words) == ("succeeded", "dr serves people now, not production.")


def test_what_takes_long_is_waited_for_in_order(world: World, kit: Path) -> None:
    taken = order_of(world)
    world.aws.cloud.start(speed=2000)
    done = world.run(kit)
    assert done.returncode == 0, done.stdout
    # The restore begins at once; nothing is started for people before the old side is stopped.
    assert taken == [
        "RestoreDBInstanceFromDBSnapshot", "UpdateService", "StopDBInstance", "ModifyDBInstance", "UpdateService",
        "ChangeResourceRecordSets",
    ]  # fmt: skip
    assert "pitchey-dr is creating" in done.stdout
    assert world.aws.cloud.rds.instance(WEST, "pitchey-dr").status == "available"
    assert world.aws.taken["ChangeResourceRecordSets"] == 1
    assert world.address() == [NEW]


def test_the_newest_of_several_snapshots_is_offered_first(world: World, kit: Path) -> None:
    world.aws.cloud.rds.instance(EAST, "pitchey")
    world.aws.cloud.advance(1800)
    world.copy_snapshot("pitchey-later")
    assert world.run(kit, "--newest", answers=["dr", "Alice saw the status page"]).returncode == 0
    restored = world.aws.bodies["RestoreDBInstanceFromDBSnapshot"][0]
    assert restored["DBSnapshotIdentifier"] == "pitchey-later"


def test_an_older_snapshot_can_be_chosen(world: World, kit: Path) -> None:
    world.aws.cloud.advance(1800)
    world.copy_snapshot("pitchey-later")
    assert world.run(kit, answers=["dr", "Alice saw the status page", "7", "2"]).returncode == 0
    assert world.aws.bodies["RestoreDBInstanceFromDBSnapshot"][0]["DBSnapshotIdentifier"] == SNAPSHOT


def test_a_replica_is_promoted_after_the_fence_only(world: World, kit: Path) -> None:
    source = f"arn:aws:rds:{EAST}:123456789012:db:pitchey"
    world.client("rds", WEST).create_db_instance_read_replica(
        DBInstanceIdentifier="pitchey-dr", SourceDBInstanceIdentifier=source, SourceRegion=EAST
    )
    taken = order_of(world)
    done = world.run(kit)
    assert done.returncode == 0, done.stdout
    assert taken.index("StopDBInstance") < taken.index("PromoteReadReplica")
    assert "RestoreDBInstanceFromDBSnapshot" not in taken
    assert not world.aws.cloud.rds.instance(WEST, "pitchey-dr").is_replica


def test_nothing_is_changed_without_the_name_of_the_side(world: World, kit: Path) -> None:
    done = world.run(kit, answers=["yes"])
    assert (done.returncode, "Nothing was changed" in done.stdout) == (3, True)
    assert world.aws.changes == {}


def test_a_rehearsal_changes_nothing_and_writes_nothing(world: World, kit: Path) -> None:
    done = world.run(kit, "--dry-run", answers=[])
    assert done.returncode == 0, done.stdout
    assert "Restore pitchey-dr in us-west-2\n    not begun: there is no instance pitchey-dr" in done.stdout
    assert f"not begun: api.pitchey.com A → {OLD}" in done.stdout
    assert world.aws.changes == {}
    assert not (kit / "journal.jsonl").exists()


def test_an_instance_that_is_there_already_is_put_to_the_person(world: World, kit: Path) -> None:
    world.client("rds", WEST).restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier="pitchey-dr", DBSnapshotIdentifier=SNAPSHOT
    )
    done = world.run(kit, answers=["dr", "Alice saw the status page", "1", "stop"])
    assert (done.returncode, "was not made by this run" in done.stdout) == (3, True)
    assert world.desired(EAST) == 3
    again = world.run(kit, answers=["done", "I looked at it, it is the right one"])
    assert again.returncode == 0, again.stdout
    by_hand = next(one for one in journal(kit) if one["data"].get("by_hand"))
    assert by_hand["data"]["by"] == "Alice"


def test_weights_move_from_one_side_to_the_other(world: World) -> None:
    world.plan.traffic |= {"weighted": True, "names": ["www.pitchey.com"]}
    world.plan.save()
    kit = world.unpack()
    done = world.run(kit)
    assert done.returncode == 0, done.stdout
    zone = world.client("route53", EAST).list_resource_record_sets(HostedZoneId=world.zone)["ResourceRecordSets"]
    weights = {one["SetIdentifier"]: one["Weight"] for one in zone if one["Name"] == "www.pitchey.com."}
    assert weights == {"dr": 100, "production": 0}


def test_a_flag_needs_nothing_of_route_53(world: World) -> None:
    bucket = "pitchey-dr-flags"
    world.client("s3", WEST).create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": WEST}
    )  # fmt: skip
    world.plan.traffic = {
        "kind": "flag", "bucket": bucket, "key": "serve-from-dr", "url": f"{world.new_site.url}/health",
        **world.account(WEST), "primary": {"raised": False}, "standby": {"raised": True},
    }  # fmt: skip
    world.plan.save()
    kit = world.unpack()
    world.aws.cloud.cut("route53")
    world.aws.will("PutObject", throttled())
    done = world.run(kit)
    assert done.returncode == 0, done.stdout
    assert world.client("s3", WEST).head_object(Bucket=bucket, Key="serve-from-dr")["ContentLength"] > 0


def test_the_runbook_has_the_guide_s_commands_filled_in(kit: Path) -> None:
    text = (kit / "RUNBOOK.md").read_text()
    commands = text.replace(" \\\n     ", "")
    at = r"--region us-west-2 --endpoint-url \S+"
    for pattern in (
        rf"aws rds restore-db-instance-from-db-snapshot {at} --db-instance-identifier pitchey-dr --db-snapshot-id",
        rf"aws rds wait db-instance-available {at} --db-instance-identifier pitchey-dr\n",
        rf"aws ecs update-service {at} --cluster pitchey-dr --service pitchey-backend --desired-count 3\n",
        r"aws route53 change-resource-record-sets --endpoint-url \S+ --hosted-zone-id \w+ --change-batch file://dr-dns",
    ):
        assert re.search(pattern, commands), pattern
