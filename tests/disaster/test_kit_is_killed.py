"""Whoever kills the kit's script, anywhere: started again, it goes on, and does nothing twice."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.disaster.kit_world import ANSWERS, EAST, NEW, WEST, World, journal

pytest_plugins = ["tests.aws.fixtures", "tests.disaster.kit_fixtures"]

# Runs the script, and ends the process when the given entry of this process is on the disk, or half of it.
DYING = """
import os, runpy, sys
left, half = [int(sys.argv.pop(1))], sys.argv.pop(1) == "half"
write, sync = os.write, os.fsync
def dying_write(file, content):
    if half and left[0] == 1:
        write(file, bytes(content)[: len(content) // 2])
        os._exit(137)
    return write(file, content)
def dying_sync(file):
    sync(file)
    left[0] -= os.fstat(file).st_size > 0 and not os.path.isdir(f"/proc/self/fd/{file}")
    if not left[0]:
        os._exit(137)
os.write, os.fsync = dying_write, dying_sync
sys.argv[0] = "recover.py"
runpy.run_path("recover.py", run_name="__main__")
"""


def run_dying(world: World, kit: Path, entries: int, how: str, answers: list[str]) -> subprocess.CompletedProcess[str]:
    process = world.start(kit, script=("-c", DYING, str(entries), how))
    said, _ = process.communicate("".join(f"{one}\n" for one in answers), 50)
    return subprocess.CompletedProcess(process.args, process.returncode, said)


def assert_it_went_well(world: World) -> None:
    assert (world.desired(EAST), world.desired(WEST)) == (0, 3)
    assert world.aws.cloud.rds.instance(EAST, "pitchey").status == "stopped"
    assert world.aws.cloud.rds.instance(WEST, "pitchey-dr").status == "available"
    assert world.address() == [NEW]
    assert world.aws.taken["RestoreDBInstanceFromDBSnapshot"] == 1
    assert world.aws.taken["StopDBInstance"] == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["whole", "half"])
def test_after_every_entry_of_the_journal(world: World, kit: Path, how: str) -> None:
    """Each process dies one entry later than the one before."""
    deaths = 0
    while True:
        done = run_dying(world, kit, _entries(kit, how), how, _left(kit))
        if done.returncode == 0:
            break
        assert done.returncode == 137, done.stdout
        deaths += 1
        assert deaths < 60
    assert deaths > 15
    assert_it_went_well(world)
    assert journal(kit)[-1]["kind"] == "end"


def _entries(kit: Path, how: str) -> int:
    """At which entry of its own the next process dies; its first one says that it goes on.

    An intent is written again by whoever takes it up, so after one the process gets as far as what came of it.
    """
    cut = how == "half"
    if not (kit / "journal.jsonl").exists():
        return 1 + cut
    return 2 + cut + int(journal(kit)[-1]["kind"] == "begin")


def _left(kit: Path) -> list[str]:
    """What is still asked for."""
    there = (kit / "journal.jsonl").exists()
    decided = [one for one in journal(kit) if one["kind"] == "decided"] if there else []
    return {0: ANSWERS, 1: ANSWERS[2:], 2: []}[len(decided)]


def test_right_after_aws_took_a_change(world: World, kit: Path) -> None:
    process: list[subprocess.Popen[str]] = []
    killed: list[str] = []

    def kill(action: str) -> None:
        if killed.count(action) < (2 if action == "UpdateService" else 1):
            killed.append(action)
            os.kill(process[-1].pid, signal.SIGKILL)

    world.aws.on_taken = kill
    for _ in range(10):
        process.append(world.start(kit))
        said, _errors = process[-1].communicate("".join(f"{one}\n" for one in _left(kit)), 50)
        if process[-1].returncode != -signal.SIGKILL:
            break
    assert process[-1].returncode == 0, said
    assert sorted(killed) == [
        "ChangeResourceRecordSets", "ModifyDBInstance", "RestoreDBInstanceFromDBSnapshot", "StopDBInstance",
        "UpdateService", "UpdateService",
    ]  # fmt: skip
    assert_it_went_well(world)


def test_two_at_once_are_refused(world: World, kit: Path) -> None:
    first = world.start(kit)
    try:
        assert first.stdout is not None
        while "Type dr to go on" not in first.stdout.readline():
            pass
        second = world.run(kit, answers=[])
        assert (second.returncode, "Another recover.py is at work" in second.stdout) == (3, True)
    finally:
        first.kill()
        first.communicate()
