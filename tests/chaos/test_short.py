"""Short chaos runs, in every test run. Long: `bin/chaos --rounds 300`, `bin/chaos backups --rounds 200` …"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import fleets
from tests.chaos.__main__ import WRONG, WRONG_BACKUPS, WRONG_INCIDENTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_bad_luck_changes_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--rounds", "24", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stdout, run.stderr
    figures = json.loads(run.stdout)
    assert {key: figures[key] for key in WRONG} == dict.fromkeys(WRONG, 0), run.stderr
    assert figures["rounds"] == 24
    assert figures["struck"] > 12, "the faults hit nothing"


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_bad_luck_makes_no_backup_green_that_is_none() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "backups", "--rounds", "10", "--fleets", "4", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stdout, run.stderr
    figures = json.loads(run.stdout)
    assert {key: figures[key] for key in WRONG_BACKUPS} == dict.fromkeys(WRONG_BACKUPS, 0), run.stderr
    assert figures["rounds"] == 10
    assert figures["over"] and figures["moments"], "nothing was restored over a database in use, or to a moment"
    assert figures["struck"] > 4 and figures["judged"] > 4, "the faults hit nothing, or there was nothing to judge"


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_bad_luck_pages_nobody_twice_or_afterwards_and_loses_no_page() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "incidents", "--rounds", "12", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stdout, run.stderr
    figures = json.loads(run.stdout)
    assert {key: figures[key] for key in WRONG_INCIDENTS} == dict.fromkeys(WRONG_INCIDENTS, 0), run.stderr
    assert figures["rounds"] == 12
    assert figures["acknowledged"] == figures["cases"]
    assert figures["pages"] > 60 and figures["struck"] > 0, "hardly anything was paged, or nothing was struck"


def start(instance: str, operation: int, fence: int, digest: str = "d") -> dict[str, object]:
    return {"event": "start", "instance": instance, "operation": operation, "fence": fence, "digest": digest}


def test_the_judge_sees_a_second_start() -> None:
    assert fleets.repeated([start("a", 1, 1), start("b", 1, 1), start("a", 2, 2)]) == 0
    assert fleets.repeated([start("a", 1, 1), start("a", 1, 2)]) == 1


def test_the_judge_sees_a_start_by_a_worker_that_was_lost() -> None:
    assert fleets.stale([start("a", 1, 1), start("a", 1, 2), start("b", 1, 1)]) == 0
    assert fleets.stale([start("a", 1, 2), start("a", 1, 1)]) == 1
