"""What goes wrong in the cloud while the kit's script is at work: answers lost, requests refused, the region gone."""

import json
from pathlib import Path

import pytest

from tests.aws.layer import LOST_AFTER, LOST_BEFORE, broken, refused, throttled
from tests.disaster.kit_world import ANSWERS, EAST, NEW, OLD, WEST, World, journal

pytest_plugins = ["tests.aws.fixtures", "tests.disaster.kit_fixtures"]

RISK = "the region is dark since an hour"
CHANGES = (
    "RestoreDBInstanceFromDBSnapshot", "UpdateService", "StopDBInstance", "ModifyDBInstance",
    "ChangeResourceRecordSets",
)  # fmt: skip
QUICK = ("--fence-seconds", "0.1")


def test_an_answer_that_is_lost_after_every_change(world: World, kit: Path) -> None:
    for action in CHANGES:
        world.aws.will(action, LOST_AFTER)
    done = world.run(kit)
    assert done.returncode == 0, done.stdout
    assert world.address() == [NEW]
    assert world.aws.taken["RestoreDBInstanceFromDBSnapshot"] == 1
    assert world.aws.taken["UpdateService"] == 2
    assert world.aws.taken["StopDBInstance"] == 1


def test_connections_that_break_before_every_change(world: World, kit: Path) -> None:
    for action in CHANGES:
        world.aws.will(action, LOST_BEFORE, broken())
    done = world.run(kit)
    assert done.returncode == 0, done.stdout
    assert (world.desired(EAST), world.desired(WEST), world.address()) == (0, 3, [NEW])


def test_route_53_is_slow_and_refuses_for_a_while(world: World, kit: Path) -> None:
    world.aws.will("ChangeResourceRecordSets", throttled(), throttled(), refused("PriorRequestNotComplete", "wait"))
    done = world.run(kit)
    assert done.returncode == 0, done.stdout
    assert "PriorRequestNotComplete" in done.stdout
    assert world.address() == [NEW]


def test_what_iam_forbids_is_put_to_the_person(world: World, kit: Path) -> None:
    world.aws.will("ChangeResourceRecordSets", refused("AccessDenied", "not authorized", 403))
    done = world.run(kit, answers=[*ANSWERS, "stop"])
    assert (done.returncode, "AWS says AccessDenied" in done.stdout) == (3, True)
    assert world.address() == [OLD]
    again = world.run(kit, answers=[])
    assert again.returncode == 0, again.stdout
    assert world.address() == [NEW]


def test_the_old_region_is_gone_and_nobody_takes_the_risk(world: World, kit: Path) -> None:
    world.aws.cloud.cut(EAST)
    done = world.run(kit, *QUICK, answers=[*ANSWERS, "stop"])
    assert done.returncode == 3, done.stdout
    assert "NOT PROVEN" in done.stdout
    # What lets nobody write is under way; nothing was opened.
    assert set(world.aws.changes) == {"RestoreDBInstanceFromDBSnapshot"}
    assert (world.desired(WEST), world.address()) == (0, [OLD])


def test_the_risk_is_taken_in_words_by_name(world: World, kit: Path) -> None:
    world.aws.cloud.cut(EAST)
    done = world.run(kit, *QUICK, answers=[*ANSWERS, "risk", "yes", RISK, "risk", RISK])
    assert done.returncode == 0, done.stdout
    risks = [one for one in journal(kit) if one["kind"] == "risk"]
    assert [(one["words"], one["data"]["by"]) for one in risks] == [(RISK, "Alice")] * 2
    assert journal(kit)[-1]["data"]["unproven"] == [RISK, RISK]
    assert (world.desired(EAST), world.desired(WEST), world.address()) == (3, 3, [NEW])


def test_the_old_region_comes_back_in_the_middle_and_is_fenced(world: World, kit: Path) -> None:
    world.aws.cloud.cut(EAST)
    world.aws.on_taken = lambda action: world.aws.cloud.mend(EAST) if action == "ChangeResourceRecordSets" else None
    done = world.run(kit, "--fence-seconds", "3", answers=[*ANSWERS, "risk", RISK, "risk", RISK])
    assert done.returncode == 0, done.stdout
    assert world.desired(EAST) == 0
    assert world.aws.cloud.rds.instance(EAST, "pitchey").status == "stopped"
    assert journal(kit)[-1]["data"]["unproven"] == []


def test_a_region_that_takes_calls_and_never_answers(world: World, kit: Path) -> None:
    world.aws.cloud.cut(EAST, "hangs")
    done = world.run(
        kit, *QUICK, answers=[*ANSWERS, "risk", RISK, "risk", RISK], answer_seconds="0.2"
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert world.address() == [NEW]


def test_a_restore_that_fails_asks_and_goes_on(world: World, kit: Path) -> None:
    world.aws.cloud.start(speed=2000)
    world.aws.cloud.rds.breaks["pitchey-dr"] = "failed"
    done = world.run(kit, answers=[*ANSWERS, "stop"])
    assert (done.returncode, "pitchey-dr is failed" in done.stdout) == (3, True)
    assert world.desired(WEST) == 0
    assert world.address() == [OLD]


def test_tasks_that_do_not_start_keep_people_where_they_are(world: World, kit: Path) -> None:
    world.aws.cloud.start(speed=2000)
    world.aws.cloud.ecs(WEST).blocked = "RESOURCE:MEMORY"
    process = world.start(kit)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(f"{one}\n" for one in ANSWERS))
    process.stdin.flush()
    while "3 desired, 0 running" not in (line := process.stdout.readline()):
        assert line
    assert world.address() == [OLD]
    world.aws.cloud.ecs(WEST).blocked = ""
    said, _ = process.communicate(timeout=40)
    assert process.returncode == 0, said
    assert world.address() == [NEW]


def test_a_fence_by_security_groups_is_proven_by_a_restart(world: World) -> None:
    world.plan.database["primary"]["fence"] = "security-groups"
    world.plan.save()
    kit = world.unpack()
    world.aws.cloud.start(speed=200)
    done = world.run(kit)
    assert done.returncode == 0, done.stdout
    assert world.aws.taken["RebootDBInstance"] == 1
    assert "behind sg-shut, and was restarted since" in done.stdout


@pytest.mark.parametrize("changed", ["plan.json", "recover.py", "RUNBOOK.md", "MANIFEST", "MANIFEST.sig"])
def test_a_kit_that_was_changed_is_not_carried_out(world: World, kit: Path, changed: str) -> None:
    path = kit / changed
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0", b"1", 1) if changed.startswith("MANIFEST") else content + b"\n")
    for options in (("--verify",), ()):
        done = world.run(kit, *options)
        assert done.returncode == 2, done.stdout
    assert world.aws.changes == {}


def test_a_journal_that_was_changed_is_not_taken_up(world: World, kit: Path) -> None:
    world.run(kit, answers=["dr", "Alice saw the status page", "stop"])
    lines = (kit / "journal.jsonl").read_text().splitlines()
    entry = json.loads(lines[1])
    lines[1] = json.dumps({**entry, "words": "Bob said so"})
    (kit / "journal.jsonl").write_text("\n".join(lines) + "\n")
    done = world.run(kit)
    assert (done.returncode, "it was changed" in done.stdout) == (2, True)
    assert world.aws.changes == {}
