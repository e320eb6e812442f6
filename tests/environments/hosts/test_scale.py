"""So many instances run, or none: proven by asking the engine, and held so that nobody starts one late."""

import pytest

from controlplane.operations.errors import Invalid, LeaseLost, Unknown
from environments.drivers.base import Scaling, Software
from tests.environments.fleet import Mortal, Worker
from tests.environments.hosts.conftest import BOTH_ENGINES, MakePark
from tests.environments.hosts.paper_balancer import PaperBalancer
from tests.environments.hosts.park import DRIVER, Park

pytestmark = BOTH_ENGINES

PAPER = {"kind": "paper", "pool": "web"}


def scale(park: Park, count: int, software: Software | None = None) -> Scaling:
    found: Scaling = DRIVER.scale(park.target, count, software, key="switch")
    return found


def do(scaling: Scaling, worker: Worker) -> Worker:
    for step in (*scaling.begin, *scaling.wait):
        worker.checkpoint = {}
        worker.do(step)
    return worker


def test_none_of_it_runs_and_nobody_starts_one_late(park: MakePark, balancer: PaperBalancer) -> None:
    production = park(2, balancer=PAPER)
    production.deploy("1.4.0")
    planned = production.rollout("1.5.0")
    late = production.worker()
    worker = do(scale(production, 0), production.worker())
    assert production.versions() == ["", ""]
    assert balancer.members == {}
    assert production.effects(1) == production.effects(2) == [("start", "1.4.0"), ("stop", "1.4.0")]
    assert "production-2: no container runs and nothing answers" in worker.said
    held = production.container()
    assert held is not None and held.is_held and held.is_fresh and held.version == "1.4.0"
    with pytest.raises(LeaseLost):
        late.do(next(step for step in planned.steps if step.key == "production-1/run"))
    again = do(scale(production, 0), production.worker())
    assert ("stopped", "production-1") not in [(what, subject) for what, subject, _ in again.effects]


def test_it_comes_up_with_what_it_ran_last_or_with_a_release(park: MakePark, balancer: PaperBalancer) -> None:
    production = park(2, balancer=PAPER)
    production.deploy("1.4.0")
    do(scale(production, 0), production.worker())
    do(scale(production, 2), production.worker())
    assert production.versions() == ["1.4.0", "1.4.0"]
    worker = do(scale(production, 1, production.images.release("1.5.0")), production.worker())
    assert production.versions() == ["1.5.0", ""]
    assert sorted(balancer.members) == ["production-1"]
    assert {(what, subject) for what, subject, _ in worker.effects} >= {
        ("stopped", "production-1"), ("started", "production-1"), ("stopped", "production-2"),
    }  # fmt: skip


def test_what_it_did_is_told_once_though_its_workers_die_before_they_tell(
    park: MakePark, balancer: PaperBalancer
) -> None:
    production = park(1, balancer=PAPER)
    production.deploy("1.4.0")
    others = scale(production, 1, production.images.release("1.5.0"))
    for scaling, wanted in (
        (others, ["deregistered", "stopped", "started", "registered"]),
        (scale(production, 0), ["deregistered", "stopped"]),
        (scale(production, 1), ["started", "registered"]),
    ):
        worker = Mortal(fence=production.fence + 1, operation_id=90_100 + production.fence)
        do(scaling, worker)
        production.fence = worker.fence
        assert [what for what, *_ in worker.effects if what != "pulled"] == wanted
        assert len(worker.deaths) == len(worker.effects)
    assert production.effects()[-1] == ("start", "1.5.0")


def test_a_place_that_cannot_be_reached_is_told_to_end_and_asked_of_a_person(park: MakePark) -> None:
    production = park(1, hosts={"server1": {"engine": "unix:///tmp/nobody-there.sock"}})
    scaling = scale(production, 0)
    worker = production.worker()
    for step in scaling.begin:
        worker.do(step)
    assert "Whether it runs is seen later" in worker.said[-1]
    with pytest.raises(Unknown, match="production-1 cannot be looked at: server1: The engine's socket"):
        worker.do(scaling.wait[0])


def test_it_cannot_be_more_than_are_declared(park: MakePark) -> None:
    with pytest.raises(Invalid, match="production has 1 instances of pitchey-backend, not 3"):
        scale(park(1), 3)
