"""A rollout renews one host after the other; a failure puts back what was touched, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from controlplane.embedded.processes import free_port
from controlplane.operations.errors import StepError
from controlplane.operations.registry import Verify, step_function
from environments.drivers.hosts.pull import PULLED
from environments.drivers.hosts.steps import labels_of
from environments.models import ConfigEntry
from tests.environments.hosts.conftest import BOTH_ENGINES, MakePark
from tests.environments.hosts.paper_balancer import PaperBalancer
from tests.environments.hosts.park import DRIVER, carry_out

pytestmark = BOTH_ENGINES

DRIVER_ROOM: Verify = step_function("hosts.room").verify  # type: ignore[assignment]
PAPER = {"kind": "paper", "pool": "web"}


def test_each_host_leaves_the_balancer_before_it_is_touched_and_comes_back_well(
    park: MakePark, balancer: PaperBalancer
) -> None:
    production = park(3, balancer=PAPER)
    assert production.deploy("1.4.0") is None
    balancer.drains, balancer.fewest = 3, 99
    balancer.done.clear()
    worker = production.worker()
    assert production.deploy("1.5.0", worker) is None
    assert production.versions() == ["1.5.0"] * 3
    assert balancer.done == [(what, f"production-{number}") for number in (1, 2, 3) for what in ("remove", "add")]
    assert balancer.fewest == 2
    first = [what for what, subject, _ in worker.effects if subject == "production-1" and what != PULLED]
    assert first == ["deregistered", "stopped", "started", "registered"]
    assert "production-1: 2 still open" in worker.said
    assert worker.said.index("production-1: drained") < worker.said.index(
        "production-1: stopped 1.4.0, and keeps a copy of it to go back to"
    )
    for number in (1, 2, 3):
        assert production.effects(number) == [("start", "1.4.0"), ("stop", "1.4.0"), ("start", "1.5.0")]


def test_a_bad_image_is_put_back_on_the_first_host_and_touches_no_other(
    park: MakePark, balancer: PaperBalancer
) -> None:
    production = park(3, balancer=PAPER, start_seconds=1.5)
    production.deploy("1.4.0")
    worker = production.worker()
    error = production.deploy("1.6.0", worker)
    assert str(error) == "/health answered 503 at production-1"
    assert production.versions() == ["1.4.0"] * 3
    assert production.running()[0].reference == ""
    assert production.effects(1) == [
        ("start", "1.4.0"), ("stop", "1.4.0"), ("start", "1.6.0"), ("stop", "1.6.0"), ("start", "1.4.0"),
    ]  # fmt: skip
    assert production.effects(2) == production.effects(3) == [("start", "1.4.0")]
    assert sorted(balancer.members) == ["production-1", "production-2", "production-3"]
    assert "production-1 | release 1.6.0 cannot reach its database" in worker.said


def test_what_ends_at_once_says_why(park: MakePark) -> None:
    production = park(1)
    production.deploy("1.4.0")
    worker = production.worker()
    error = production.deploy("1.7.0", worker)
    assert "exit code 3" in str(error)
    assert "production-1 | release 1.7.0 no such table" in worker.said
    assert production.versions() == ["1.4.0"]


def test_a_release_without_its_readiness_address_does_not_pass_unless_the_settings_say_so(park: MakePark) -> None:
    production = park(1, start_seconds=1.5, ready_path="/it-has-none")
    error = production.deploy("1.5.0")
    assert str(error) == "/it-has-none answered 404 at production-1"
    assert production.versions() == [""]
    production.settings(ready_path="")
    assert production.deploy("1.5.0") is None
    assert production.versions() == ["1.5.0"]


def test_a_failure_at_the_second_host_puts_back_the_first_too(park: MakePark) -> None:
    production = park(3)
    production.deploy("1.4.0")
    rollout = production.rollout("1.5.0")
    worker, recovery = production.worker(), {step.key: step for step in rollout.recovery}
    last = next(step for step in rollout.steps if step.key == "production-2/check")
    for step in rollout.steps[: rollout.steps.index(last)]:
        worker.checkpoint = {}
        worker.do(step)
    assert production.versions() == ["1.5.0", "1.5.0", "1.4.0"]
    for key in last.on_failure:
        worker.checkpoint = {}
        worker.do(recovery[key])
    assert production.versions() == ["1.4.0"] * 3
    assert production.effects(3) == [("start", "1.4.0")]


def test_an_instance_whose_port_moved_is_drained_where_it_is_and_put_back_there(
    park: MakePark, balancer: PaperBalancer
) -> None:
    production = park(1, balancer=PAPER, start_seconds=1.5)
    production.deploy("1.4.0")
    instance = production.placement.instances[0]
    former, instance["address"] = instance["address"], f"http://127.0.0.1:{free_port()}"
    production.placement.save()
    assert production.running()[0].address == former
    assert production.deploy("1.6.0") is not None
    assert (production.versions(), production.running()[0].address) == (["1.4.0"], former)
    assert balancer.members["production-1"].port == urlsplit(former).port
    assert production.deploy("1.5.0") is None
    assert (production.versions(), production.running()[0].address) == (["1.5.0"], "")
    assert balancer.members["production-1"].port == urlsplit(instance["address"]).port
    assert [one.port for one in balancer.removed] == [urlsplit(former).port] * 2


def test_a_copy_of_another_release_is_not_taken_for_what_ran(park: MakePark) -> None:
    production = park(1, start_seconds=1.5)
    production.deploy("1.4.0")
    production.deploy("1.5.0")
    rollout, found = production.rollout("1.6.0"), production.container()
    assert found is not None
    with production.engine() as engine:  # somebody's mistake; the copy of 1.4.0 is still there
        engine.stop(found.id, 5)
        engine.remove(found.id)
    worker = production.worker()
    assert carry_out(worker, rollout) is not None
    assert production.versions() == ["1.5.0"]
    assert "production-1: no copy of 1.5.0 is kept, it is made anew" in worker.said


def test_where_nothing_ran_a_failure_leaves_nothing_but_a_name_that_is_taken(park: MakePark) -> None:
    production = park(1, start_seconds=1.5)
    assert production.deploy("1.6.0") is not None
    assert production.versions() == [""]
    found = production.container()
    assert found is not None and found.is_held and found.is_fresh
    assert production.deploy("1.5.0") is None
    assert production.versions() == ["1.5.0"]


def test_going_back_brings_the_variables_back_that_it_had(park: MakePark, data_dir: Path) -> None:
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "db").write_text("correct-horse\n")
    production = park(1, start_seconds=1.5)
    entries = production.placement.environment.configuration
    entries.create(key="DB_PASSWORD", secret="file:db")
    entries.create(key="DATABASE_URL", value="postgresql://u:${DB_PASSWORD}@db/p")
    worker = production.worker()
    assert production.deploy("1.4.0", worker) is None
    before = production.container()
    assert before is not None
    assert before.variables == {"DATABASE_URL": "postgresql://u:correct-horse@db/p", "DB_PASSWORD": "correct-horse"}
    assert {"correct-horse", "postgresql://u:correct-horse@db/p"} <= worker.masked
    assert not [line for line in worker.said if "correct-horse" in line]
    assert "correct-horse" not in str(before) + str(worker.effects) + str(worker.checkpoint)
    ConfigEntry.objects.filter(key="DATABASE_URL").update(value="postgresql://wrong")
    assert production.deploy("1.6.0") is not None
    after = production.container()
    assert after is not None and after.id != before.id
    assert (after.variables, after.labels["configuration"]) == (before.variables, before.labels["configuration"])


@pytest.mark.parametrize("labelled", [True, False])
def test_what_it_says_at_its_end_never_shows_a_secret_that_was_rotated_since(
    park: MakePark, data_dir: Path, monkeypatch: pytest.MonkeyPatch, labelled: bool
) -> None:
    (data_dir / "secrets").mkdir()
    secret = data_dir / "secrets" / "db"
    secret.write_text("correct-horse\n")
    production = park(1)
    entries = production.placement.environment.configuration
    entries.create(key="DB_PASSWORD", secret="file:db")
    entries.create(key="DATABASE_URL", value="postgresql://u:${DB_PASSWORD}@db/p")
    entries.create(key="LOG_LEVEL", value="info")
    if not labelled:  # as it was made before there was the label
        monkeypatch.setattr("environments.drivers.hosts.steps.labels_of", without_secrets(labels_of))
    assert production.deploy("1.4.0") is None
    back = next(step for step in production.rollout("1.6.0").recovery if step.key == "put-back/production-1/check")
    secret.write_text("battery-staple\n")
    if labelled:
        ConfigEntry.objects.filter(key="DB_PASSWORD").delete()
    with production.engine() as engine:
        engine.stop("pitchey-backend.production-1", 5)
    worker = production.worker()
    with pytest.raises(StepError, match="it ended"):
        worker.do(back)
    assert [line for line in worker.said if line.startswith("production-1 | release 1.4.0")]
    assert worker.masked == {"correct-horse", "postgresql://u:correct-horse@db/p"}


def without_secrets(made: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
    """The labels of a container, but for the names of its secrets."""

    def labels(*arguments: Any, secrets: str, **more: str) -> dict[str, str]:
        return made(*arguments, **more)

    return labels


def test_a_changed_configuration_stops_a_planned_start_and_is_a_reason_to_renew(park: MakePark) -> None:
    production = park(1)
    production.deploy("1.4.0")
    stale = production.rollout("1.5.0")
    ConfigEntry.objects.create(environment=production.placement.environment, key="LOG_LEVEL", value="debug")
    worker = production.worker()
    assert [one.reference for one in production.running()] == ["with other settings"]
    assert production.rollout("1.4.0").steps
    recovery = {step.key: step for step in stale.recovery}
    run = next(step for step in stale.steps if step.key == "production-1/run")
    words = ""
    try:
        for step in stale.steps:
            worker.do(step)
    except StepError as error:
        words = str(error)
        for key in run.on_failure:
            worker.checkpoint = {}
            worker.do(recovery[key])
    assert "configuration of production has changed" in words
    assert production.versions() == ["1.4.0"]


def test_what_is_on_the_release_already_is_left_alone(park: MakePark, balancer: PaperBalancer) -> None:
    production = park(2, balancer=PAPER)
    production.deploy("1.5.0")
    rollout = production.rollout("1.5.0")
    assert rollout.steps == rollout.recovery == ()
    assert [row["to"] for row in rollout.changes] == ["already on it"] * 2
    del balancer.members["production-2"]
    again = production.rollout("1.5.0")
    assert {step.group for step in again.steps} == {"production-2", ""}
    assert production.deploy("1.5.0") is None
    assert sorted(balancer.members) == ["production-1", "production-2"]


def test_another_release_than_the_plan_says_is_never_stopped(park: MakePark) -> None:
    production = park(1)
    production.deploy("1.4.0")
    stale = production.rollout("1.5.0")
    production.deploy("1.3.0")
    worker = production.worker()
    stop = next(step for step in stale.steps if step.key == "production-1/stop")
    with pytest.raises(StepError, match=r"1\.3\.0 runs at production-1, not 1\.4\.0\. Ask for it again\."):
        worker.do(stop)
    assert production.versions() == ["1.3.0"]


def test_no_more_than_may_are_away_at_once(park: MakePark, balancer: PaperBalancer) -> None:
    production = park(3, balancer=PAPER, room_seconds=0.2)
    production.deploy("1.4.0")
    room = next(step for step in production.rollout("1.5.0").steps if step.key == "production-1/room")
    balancer.unhealthy.add("production-3")
    worker = production.worker()
    verdict = DRIVER_ROOM(worker, **room.arguments)
    assert (verdict.outcome, verdict.reason) == (
        "pending", "production-3 away already, and no more than 1 may be at once",
    )  # fmt: skip
    balancer.unhealthy = {"production-1", "production-2", "production-3"}
    assert DRIVER_ROOM(worker, **room.arguments).outcome == "passed"  # whoever is away costs nothing


def test_who_is_well_goes_back_only_once_the_others_serve(park: MakePark, balancer: PaperBalancer) -> None:
    production = park(3, balancer=PAPER, soak_seconds=0)
    production.deploy("1.4.0")
    rollout, worker = production.rollout("1.5.0"), production.worker()
    recovery = {step.key: step for step in rollout.recovery}
    room = next(step for step in rollout.steps if step.key == "production-2/room")
    for step in rollout.steps[: rollout.steps.index(room)]:
        worker.do(step)
    balancer.unhealthy.add("production-3")
    balancer.done.clear()
    first = recovery[room.on_failure[0]]
    verdict = DRIVER_ROOM(worker, **first.arguments)
    assert (first.key, verdict.outcome) == ("put-back/production-1/room", "pending")
    assert verdict.reason == "production-3 away already, and no more than 1 may be at once"
    never = recovery["put-back/production-2/room"]
    assert DRIVER_ROOM(worker, **never.arguments).outcome == "passed", "what was never stopped need not leave"
    balancer.unhealthy.clear()
    for key in room.on_failure:
        worker.do(recovery[key])
    assert production.versions() == ["1.4.0"] * 3
    assert balancer.done == [("remove", "production-1"), ("add", "production-1")]


def test_who_is_not_well_goes_back_whoever_is_away(park: MakePark, balancer: PaperBalancer) -> None:
    production = park(2, balancer=PAPER, start_seconds=1.5, soak_seconds=0)
    production.deploy("1.4.0")
    rollout, worker = production.rollout("1.6.0"), production.worker()
    check = next(step for step in rollout.steps if step.key == "production-1/check")
    for step in rollout.steps[: rollout.steps.index(check)]:
        worker.do(step)
    balancer.unhealthy.add("production-2")
    back = next(step for step in rollout.recovery if step.key == "put-back/production-1/room")
    assert DRIVER_ROOM(worker, **back.arguments).outcome == "passed"


def test_what_has_ended_is_told_from_what_was_stopped_on_purpose(park: MakePark) -> None:
    production = park(2, soak_seconds=0)
    production.deploy("1.4.0")
    with production.engine() as engine:
        engine.stop("pitchey-backend.production-2", 5)
    assert [one.reference for one in production.running()] == ["", "it has ended"]
    worker = production.worker()
    scaling = DRIVER.scale(production.target, 1, None, key="switch")
    for step in (*scaling.begin, *scaling.wait):
        worker.do(step)
    assert [(one.version, one.reference) for one in production.running()] == [("1.4.0", ""), ("", "")]
    assert production.deploy("1.5.0") is None
    assert production.versions() == ["1.5.0"] * 2


def test_limits_and_labels_are_what_the_settings_say(park: MakePark) -> None:
    production = park(1)
    container = production.placement.environment.driver_settings["container"]
    production.settings(
        container={**container, "memory_mb": 64, "cpus": 0.5, "pids": 40, "restart": "on-failure:3", "read_only": True,
                   "health_command": ["/usr/bin/true"]}
    )  # fmt: skip
    assert production.deploy("1.5.0") is None
    with production.engine() as engine:
        told = engine._client.inspect_container("pitchey-backend.production-1")
    host, labels = told["HostConfig"], told["Config"]["Labels"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 * 2**20, 500_000_000, 40)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host["ReadonlyRootfs"] is True
    assert told["Config"]["Healthcheck"]["Test"] == ["CMD", "/usr/bin/true"]
    assert labels["controlplane.version"] == "1.5.0"
    assert {"operation", "fence", "digest", "configuration"} <= {key.removeprefix("controlplane.") for key in labels}
