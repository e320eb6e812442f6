"""A worker that froze and wakes late, whatever it was about to do, changes nothing that others brought about."""

import pytest

from controlplane.operations.errors import LeaseLost, StepError
from controlplane.operations.plans import StepSpec
from environments.drivers.base import Rollout
from environments.drivers.hosts.engine import NameTaken
from tests.environments.fleet import Worker
from tests.environments.hosts.conftest import BOTH_ENGINES, MakePark
from tests.environments.hosts.park import Park, carry_out

pytestmark = BOTH_ENGINES


@pytest.fixture
def production(park: MakePark) -> Park:
    """One host with 1.4.0."""
    production = park(1, soak_seconds=0, start_seconds=2.0)
    assert production.deploy("1.4.0") is None
    return production


def step(rollout: Rollout, key: str) -> StepSpec:
    return next(one for one in (*rollout.steps, *rollout.recovery) if one.key == f"production-1/{key}")


@pytest.mark.parametrize("key", ["stop", "run", "check"])
def test_a_lower_fence_than_the_one_on_the_container_does_not_act(production: Park, key: str) -> None:
    rollout = production.rollout("1.5.0")
    late = production.worker()
    assert carry_out(production.worker(operation_id=late.operation_id), rollout) is None
    before = production.effects()
    with pytest.raises(LeaseLost, match="fence 2 is too late, 3 was here"):
        late.do(step(rollout, key))
    assert production.effects() == before
    assert production.versions() == ["1.5.0"]


def test_the_copy_beside_it_keeps_a_late_worker_from_the_gap_between_stop_and_run(production: Park) -> None:
    rollout = production.rollout("1.5.0")
    late, other = production.worker(), production.worker()
    other.operation_id = late.operation_id
    other.do(step(rollout, "stop"))
    assert production.container() is None
    with pytest.raises(LeaseLost):
        late.do(step(rollout, "run"))
    assert production.container() is None


def test_what_a_late_worker_still_sends_to_an_id_is_no_change(production: Park) -> None:
    old = production.container()
    assert old is not None
    assert production.deploy("1.5.0") is None
    with production.engine() as engine:
        engine.stop(old.id, 1)
        engine.remove(old.id)
        with pytest.raises(StepError, match=r"(?i)no (such )?container"):
            engine.start(old.id)
        with pytest.raises(NameTaken):
            engine.create("pitchey-backend.production-1", old.recipe, {}, {})
    assert production.versions() == ["1.5.0"]


def test_what_a_late_worker_created_in_a_gap_makes_room(production: Park) -> None:
    """Between stop and run it got the name: the one with the lease removes it, and starts its own."""
    rollout = production.rollout("1.5.0")
    old = production.container()
    assert old is not None
    worker = production.worker()
    worker.do(step(rollout, "pull"))
    worker.do(step(rollout, "stop"))
    with production.engine() as engine:
        labels = {**old.labels, "operation": "1", "fence": "0"}
        engine.create("pitchey-backend.production-1", old.recipe, {}, labels)
    worker.checkpoint = {}
    worker.do(step(rollout, "run"))
    worker.do(step(rollout, "check"))
    assert production.versions() == ["1.5.0"]


def test_a_worker_whose_lease_is_gone_does_nothing(production: Park) -> None:
    rollout = production.rollout("1.5.0")
    with pytest.raises(LeaseLost):
        production.worker(lost=True).do(step(rollout, "stop"))
    assert production.effects() == [("start", "1.4.0")]


def test_a_container_that_is_not_ours_is_never_touched_by_a_plan_that_does_not_name_it(production: Park) -> None:
    found, rollout = production.container(), production.rollout("1.5.0")
    assert found is not None
    with production.engine() as engine:
        engine.remove(found.id)
        stranger = engine.create("pitchey-backend.production-1", found.recipe, {}, {})
    for key in ("stop", "run"):
        with pytest.raises(StepError, match="which somebody else started and the plan does not name"):
            Worker(fence=98).do(step(rollout, key))
    there = production.container()
    assert there is not None and there.id == stranger
    with pytest.raises(StepError, match="belongs to staging"):
        belongs_elsewhere(production)


def belongs_elsewhere(production: Park) -> None:
    found = production.container()
    assert found is not None
    with production.engine() as engine:
        engine.remove(found.id)
    rollout = production.rollout("1.5.0")
    Worker(fence=99).do(step(rollout, "pull"))
    recipe = step(rollout, "run").arguments["recipe"]
    with production.engine() as engine:
        engine.create("pitchey-backend.production-1", recipe, {}, {"environment": "staging", "fence": "1"})
    Worker(fence=99).do(step(rollout, "stop"))
