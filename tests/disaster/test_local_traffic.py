"""People and the local name switch: withdrawn from one site and seen to be, sent to the other, a drill beside them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backups.disaster.base import Part, Side
from backups.disaster.traffic.local import LocalTraffic, address_of
from backups.disaster.traffic.names import changing, entry_of
from controlplane.embedded import name_switch
from controlplane.embedded.processes import wait_until
from controlplane.operations.errors import LeaseLost, StepError, Unknown
from controlplane.operations.plans import StepSpec
from environments.addresses import NoAnswer, get
from tests.environments.conftest import MakeFleet, fleet
from tests.environments.fleet import Worker

__all__ = ["fleet"]
NAME = "api.pitchey.com"
TRAFFIC = LocalTraffic()
SETTINGS = {"name": NAME, "ttl": 0.05}
PRODUCTION = Side("production", {**SETTINGS, "database": "file:production/orders-url"})
DR = Side("dr", {**SETTINGS, "database": "file:dr/orders-url"})


@pytest.fixture
def switch(data_dir: Path, fleet: MakeFleet) -> Iterator["subprocess.Popen[bytes]"]:
    """Both sites run, and the name stands for production."""
    for slug in ("production", "dr"):
        assert fleet(2, slug).deploy("1.5.0") is None
    carry_out(TRAFFIC.switch(DR, PRODUCTION), Worker(), verify=False)
    command = [sys.executable, "-I", "-S", name_switch.__file__, "--folder", str(data_dir)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    assert wait_until(lambda: served_by() == "production", 40)
    yield process
    process.kill()
    process.wait()


def act(step: StepSpec, worker: Worker) -> None:
    """Without verify: as far as it can go while no switch runs."""
    function = TRAFFIC.steps[step.function]
    function.act(worker, **step.arguments)


def carry_out(part: Part, worker: Worker, *, verify: bool = True) -> None:
    for step in (*part.begin, *part.wait, *part.open, *part.verify) if verify else part.open:
        if verify:
            worker.do(step)
        else:
            act(step, worker)


def served_by(name: str = NAME) -> str:
    """Which site answers people now; "" for none."""
    try:
        answer = get(f"{address_of(name)}/health")
    except NoAnswer:
        return ""
    return answer.headers["x-site"] if answer.status == 200 else ""


def test_people_are_sent_to_the_other_side_and_that_is_seen_from_outside(switch: Any) -> None:
    worker = Worker(fence=3)
    carry_out(TRAFFIC.switch(PRODUCTION, DR), worker)
    assert served_by() == "dr"
    assert worker.said[0] == "api.pitchey.com: production → dr"
    assert worker.said[-1].startswith("api.pitchey.com/health → 200 from dr in ")
    assert get(TRAFFIC.outside(DR, "")).headers["x-site"] == "dr"


def test_a_repeated_switch_changes_nothing(switch: Any, data_dir: Path) -> None:
    for fence in (3, 4):
        carry_out(TRAFFIC.switch(PRODUCTION, DR), Worker(fence=fence))
    assert entry_of(NAME)["fence"] == 3  # the second one saw that it was done


def test_the_old_side_is_taken_out_and_that_is_proven(switch: Any) -> None:
    fence, worker = TRAFFIC.withdraw(PRODUCTION), Worker(fence=3)
    for step in (*fence.act, *fence.prove):
        worker.do(step)
    assert worker.said == ["api.pitchey.com stands for nobody", "api.pitchey.com leads to nobody"]
    assert served_by() == ""
    assert get(f"{address_of(NAME)}/health").status == 503
    carry_out(TRAFFIC.switch(PRODUCTION, DR), Worker(fence=4))
    assert served_by() == "dr"


def test_a_withdrawal_that_comes_late_takes_nobody_from_the_new_side(switch: Any) -> None:
    carry_out(TRAFFIC.switch(PRODUCTION, DR), Worker(fence=5))
    Worker(fence=6).do(TRAFFIC.withdraw(PRODUCTION).act[0])
    assert served_by() == "dr"


def test_a_switch_that_does_not_answer_proves_nothing(switch: Any) -> None:
    fence, worker = TRAFFIC.withdraw(PRODUCTION), Worker(fence=3)
    worker.do(fence.act[0])
    switch.send_signal(19)  # SIGSTOP: it holds its port and says nothing
    with pytest.raises(Unknown, match=r"The name switch does not answer for api\.pitchey\.com"):
        worker.do(fence.prove[0])


def test_a_switch_that_is_gone_sends_nobody_anywhere(switch: Any) -> None:
    fence, worker = TRAFFIC.withdraw(PRODUCTION), Worker(fence=3)
    switch.kill()
    switch.wait()
    with pytest.raises(Unknown):  # it would come back with what the file still says
        worker.do(fence.prove[0])
    worker.do(fence.act[0])
    worker.do(fence.prove[0])


def test_a_late_worker_changes_no_name(switch: Any) -> None:
    carry_out(TRAFFIC.switch(PRODUCTION, DR), Worker(fence=5))
    with pytest.raises(LeaseLost, match="fence 4 is too late, 5 was here"):
        act(TRAFFIC.switch(DR, PRODUCTION).open[0], Worker(fence=4))
    with pytest.raises(LeaseLost):
        act(TRAFFIC.switch(DR, PRODUCTION).open[0], Worker(fence=9, lost=True))
    assert entry_of(NAME)["site"] == "dr"


def test_people_who_were_sent_somewhere_else_meanwhile_are_not_moved(switch: Any) -> None:
    with changing(NAME, Worker(fence=3)) as entry:
        entry["site"] = "elsewhere"
    with pytest.raises(StepError, match="stands for elsewhere by now"):
        Worker(fence=4).do(TRAFFIC.switch(PRODUCTION, DR).open[0])


def test_a_drill_has_a_name_of_its_own_and_leaves_the_public_one_alone(switch: Any) -> None:
    part, worker = TRAFFIC.switch(PRODUCTION, DR, drill="pitchey-drill"), Worker(fence=3)
    carry_out(part, worker)
    assert (served_by("pitchey-drill"), served_by()) == ("dr", "production")
    assert TRAFFIC.outside(DR, "pitchey-drill") == f"{address_of('pitchey-drill')}/health"
    assert entry_of("pitchey-drill")["sites"]["dr"]["database"] == ""
    for _ in range(2):
        for step in part.cleanup:
            worker.do(step)
    with pytest.raises(NoAnswer):
        get(TRAFFIC.outside(DR, "pitchey-drill"))
    with pytest.raises(LeaseLost):  # and nobody late brings it back
        act(part.open[0], Worker(fence=2))


def test_no_drill_no_cleanup() -> None:
    assert TRAFFIC.switch(PRODUCTION, DR).cleanup == ()


def test_it_is_ready_while_the_switch_sends_people_to_the_source(switch: Any) -> None:
    assert [(one.key, one.outcome) for one in TRAFFIC.readiness(PRODUCTION, DR)] == [
        ("name-switch", "ready"), ("ttl", "ready"), ("name-instances", "ready"),
    ]  # fmt: skip
    back = TRAFFIC.readiness(DR, PRODUCTION)[0]
    assert (back.outcome, back.words[:53]) == ("not ready", "api.pitchey.com stands for production, not for dr. Pu")
    switch.kill()
    switch.wait()
    assert TRAFFIC.readiness(PRODUCTION, DR)[0].outcome == "unknown"


def test_resolvers_that_believe_the_old_side_for_hours_are_not_ready(data_dir: Path, db: None) -> None:
    (data_dir / "names.json").write_text(json.dumps({NAME: {"ttl": 3600}}))
    found = {one.key: one for one in TRAFFIC.readiness(PRODUCTION, DR)}
    assert found["ttl"].words == "Resolvers believe the old side for 3600 s. Lower the ttl to 60 s at most."
    assert found["name-instances"].words == "dr has no instances with an address. Declare them."


def test_a_broken_file_is_said_and_never_written_over(data_dir: Path, db: None) -> None:
    (data_dir / "names.json").write_text("{")
    worker = Worker()
    worker.do(TRAFFIC.withdraw(PRODUCTION).act[0])
    assert "cannot be changed" in worker.said[0]
    with pytest.raises(StepError, match=r"names\.json cannot be read"):
        worker.do(TRAFFIC.switch(PRODUCTION, DR).open[0])
    assert (data_dir / "names.json").read_text() == "{"


def test_the_file_is_the_old_one_or_the_new_one(data_dir: Path) -> None:
    """Somebody who fails in the middle of a change has changed nothing, and leaves the way free."""
    with pytest.raises(ZeroDivisionError), changing(NAME, Worker(fence=2)) as entry:
        entry["site"] = 1 / 0
    assert entry_of(NAME) == {}
    with changing(NAME, Worker(fence=1)) as entry:
        entry["site"] = "production"
    assert entry_of(NAME) == {"site": "production", "fence": 1}
    assert [name for name in os.listdir(data_dir) if name.startswith(".")] == []


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"name": NAME}, {}),
        ({"name": NAME, "ttl": 5, "primary": {"database": "file:production/orders-url"}, "standby": {}}, {}),
        ({}, {"name"}),
        ({"name": ""}, {"name"}),
        ({"name": NAME, "ttl": True}, {"ttl"}),
        ({"name": NAME, "primary": {"database": "postgres://secret"}}, {"primary.database"}),
        ({"name": NAME, "primary": 3}, {"primary"}),
        ({"name": NAME, "zone": "Z1"}, {"zone"}),
    ],
)
def test_settings_are_checked_in_words(given: dict[str, Any], wrong: set[str]) -> None:
    found = TRAFFIC.check_settings(given)
    assert found.keys() == set(wrong)
    assert all(words.startswith(("has to", "is ")) for words in found.values())


def test_the_plan_is_the_same_each_time() -> None:
    assert TRAFFIC.switch(PRODUCTION, DR) == TRAFFIC.switch(PRODUCTION, DR)
    assert TRAFFIC.switch(PRODUCTION, DR).changes == ({"what": NAME, "from": "production", "to": "dr"},)
