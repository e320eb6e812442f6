"""A rollout renews one instance after the other; a failure puts back what was touched, and nothing else."""

from typing import Any

import pytest

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Plan
from environments.addresses import get
from environments.drivers.base import Rollout, Running
from environments.models import ConfigEntry
from environments.targets import target_of
from tests.environments.conftest import MakeFleet
from tests.environments.fleet import DRIVER, Worker, release


def titles(rollout: Rollout) -> list[str]:
    return [f"{step.group}: {step.title}" for step in rollout.steps]


def test_it_rolls_one_instance_after_the_other(fleet: MakeFleet) -> None:
    production = fleet(2)
    assert production.deploy("1.4.0") is None
    worker = Worker(fence=2)
    assert production.deploy("1.5.0", worker) is None
    assert production.versions() == ["1.5.0", "1.5.0"]
    assert production.effects(1) == [("start", "1.4.0"), ("stop", "1.4.0"), ("start", "1.5.0")]
    first, second = (next(n for n, line in enumerate(worker.said) if line.startswith(start)) for start in (
        "production-1: put back in rotation", "production-2: took out of rotation",
    ))  # fmt: skip
    assert first < second
    for one in production.placement.instances:
        assert get(f"{one['address']}/ready").status == 200


def test_the_plan_says_each_step_of_each_instance(fleet: MakeFleet) -> None:
    production = fleet(1)
    production.deploy("1.4.0")
    rollout = production.rollout("1.5.0")
    assert titles(rollout) == [
        "production-1: take out of rotation",
        "production-1: drain",
        "production-1: stop 1.4.0",
        "production-1: start 1.5.0",
        "production-1: check health",
        "production-1: put back in rotation",
        ": verify from outside",
    ]
    old, new = release("1.4.0"), release("1.5.0")
    assert rollout.changes == ({"what": "production-1", "from": f"1.4.0 {old.digest}", "to": f"1.5.0 {new.digest}"},)
    assert [step.safe_point for step in rollout.steps] == [True] + [False] * 6


def test_a_release_with_bad_health_is_put_back_and_the_others_are_never_touched(fleet: MakeFleet) -> None:
    production = fleet(3)
    production.deploy("1.5.0")
    error = production.deploy("1.6.0")
    assert str(error) == "/health answered 503 on production-1"
    assert production.versions() == ["1.5.0"] * 3
    assert production.effects(1) == [
        ("start", "1.5.0"), ("stop", "1.5.0"), ("start", "1.6.0"), ("stop", "1.6.0"), ("start", "1.5.0"),
    ]  # fmt: skip
    assert production.effects(2) == production.effects(3) == [("start", "1.5.0")]
    assert get(f"{production.placement.instances[0]['address']}/ready").status == 200


def test_a_late_failure_puts_back_every_instance_that_was_renewed(fleet: MakeFleet) -> None:
    production = fleet(3)
    production.deploy("1.4.0")
    rollout = production.rollout("1.5.0")
    last = next(step for step in rollout.steps if step.key == "production-2/check")
    backs = [key for key in last.on_failure if key.endswith("/back")]
    assert backs == ["put-back/production-2/back", "put-back/production-1/back"]
    worker, recovery = Worker(fence=9), {step.key: step for step in rollout.recovery}
    for step in rollout.steps[: rollout.steps.index(last)]:
        worker.do(step)
    assert production.versions() == ["1.5.0", "1.5.0", "1.4.0"]
    for key in last.on_failure:
        worker.do(recovery[key])
    assert production.versions() == ["1.4.0"] * 3
    assert production.effects(3) == [("start", "1.4.0")]


def test_where_nothing_ran_a_failure_leaves_nothing(fleet: MakeFleet) -> None:
    production = fleet(2)
    assert production.deploy("1.6.0") is not None
    assert production.versions() == ["", ""]


def test_what_is_on_the_release_already_is_left_alone(fleet: MakeFleet) -> None:
    production = fleet(2)
    production.deploy("1.5.0")
    rollout = production.rollout("1.5.0")
    assert rollout.steps == rollout.recovery == ()
    assert [row["to"] for row in rollout.changes] == ["already on it"] * 2
    production.folders[1].take_out()
    again = production.rollout("1.5.0")
    assert {step.group for step in again.steps} == {"production-2", ""}
    assert Worker(fence=2).carry_out(again) is None
    assert production.running()[1].reference == ""


def test_a_process_that_ends_at_once_says_why(fleet: MakeFleet) -> None:
    production = fleet(1, program=["/bin/sh", "-c", "echo no such database; exit 1"])
    error = production.deploy("1.5.0")
    assert str(error) == "1.5.0 ended right after its start on production-1: no such database"


def test_another_release_than_the_plan_says_is_never_stopped(fleet: MakeFleet) -> None:
    production = fleet(1)
    production.deploy("1.4.0")
    stale = production.rollout("1.5.0")
    production.deploy("1.3.0")
    worker = Worker(fence=9)
    *before, start = stale.steps[:4]
    for step in before:
        worker.do(step)
    with pytest.raises(StepError, match=r"1\.3\.0 runs on production-1, so 1\.5\.0 is not started\."):
        worker.do(start)
    assert "production-1: 1.4.0 does not run, nothing to stop" in worker.said
    assert production.versions() == ["1.3.0"]


def test_the_configuration_reaches_the_process_and_its_secrets_no_line(fleet: MakeFleet, data_dir: Any) -> None:
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "db").write_text("correct-horse\n")
    production = fleet(1, program=["/bin/sh", "-c", "echo $DATABASE_URL $LOG_LEVEL${SECRET_KEY:-}; exit 1"])
    entries = production.placement.environment.configuration
    entries.create(key="DB_PASSWORD", secret="file:db")
    entries.create(key="DATABASE_URL", value="postgresql://u:${DB_PASSWORD}@db/p")
    entries.create(key="LOG_LEVEL", value="info")
    worker = Worker()
    production.deploy("1.5.0", worker)
    assert production.folders[0].last_words() == "postgresql://u:correct-horse@db/p info"
    assert not [line for line in worker.said if "correct-horse" in line]
    assert "production-1: started 1.5.0, DATABASE_URL=••••••••, DB_PASSWORD=••••••••" in worker.said
    assert {"correct-horse", "postgresql://u:correct-horse@db/p"} <= worker.masked


def test_a_changed_configuration_changes_the_plan_and_stops_a_planned_start(fleet: MakeFleet) -> None:
    production = fleet(1)
    production.deploy("1.4.0")
    before = production.rollout("1.5.0")
    ConfigEntry.objects.create(environment=production.placement.environment, key="LOG_LEVEL", value="debug")
    after = production.rollout("1.5.0")
    assert before.steps != after.steps
    error = Worker(fence=9).carry_out(before)
    assert "configuration of production has changed" in str(error)
    assert production.versions() == ["1.4.0"]


def test_the_plan_is_pure(fleet: MakeFleet) -> None:
    target = target_of(fleet(2).placement)
    running = [Running("production-1", "1.4.0", "sha256:a"), Running("production-2", "", "")]
    plans = [DRIVER.rollout(target, running, release("1.5.0")) for _ in range(2)]
    digests = {Plan("same", plan.steps, plan.recovery, plan.changes).digest for plan in plans}
    assert len(digests) == 1
