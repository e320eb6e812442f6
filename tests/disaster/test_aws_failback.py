"""Home again on the simulated AWS, after a real failover: the whole plan, with what goes wrong on the way."""

import pytest

from controlplane.operations import boundaries
from controlplane.operations.errors import StepError
from controlplane.operations.states import Answer, State
from tests.aws.layer import LOST_AFTER, denied
from tests.disaster.aws_world import die_once_at
from tests.disaster.kit_world import EAST, NEW, OLD, SNAPSHOT, WEST
from tests.disaster.night import Night, night

__all__ = ["night"]
pytest_plugins = ["tests.aws.fixtures", "tests.disaster.kit_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

# The fence and its restart there; the old one set aside, a new one made and opened at home.
COMMON = {"RebootDBInstance": 1, "ModifyDBInstance": 3, "UpdateService": 2, "ChangeResourceRecordSets": 1}
WAYS = {
    "snapshot": {**COMMON, "CreateDBSnapshot": 1, "CopyDBSnapshot": 1, "RestoreDBInstanceFromDBSnapshot": 1},
    "replica": {**COMMON, "CreateDBInstanceReadReplica": 1, "PromoteReadReplica": 1},
}


@pytest.fixture
def there(night: Night) -> Night:
    """People are served by the standby since a failover. The database at home lies behind its security groups."""
    night.set("database", replace="rename", primary={**night.plan.database["primary"], "fence": "security-groups"})
    assert night.run(night.ask(SNAPSHOT)).state == State.SUCCEEDED
    night.is_over_there()
    night.begin()
    return night


def is_home(night: Night) -> None:
    """People are served at home, and by nobody else."""
    assert night.world.address() == [OLD]
    assert night.status(EAST, "pitchey") == ("available", ["sg-open"])
    assert night.status(WEST, "pitchey-dr") == ("available", ["sg-shut"])
    assert (night.running(EAST), night.running(WEST)) == (3, 0)
    assert night.plan.active == "primary"


@pytest.mark.parametrize("way", WAYS)
def test_everything_comes_home(there: Night, way: str) -> None:
    there.set("database", reverse=way)
    operation = there.run(there.ask_home())
    assert operation.state == State.SUCCEEDED, operation.outcome
    is_home(there)
    assert dict(there.changes) == WAYS[way]
    assert there.status(EAST, f"pitchey-before-{operation.pk}") is not None, "what was left at home is kept"
    assert there.recovery(operation).fence_proven is True


def test_every_answer_is_lost_once_and_every_change_is_made_once(there: Night) -> None:
    there.will({action: [LOST_AFTER] for action in WAYS["snapshot"]})
    operation = there.run(there.ask_home())
    assert operation.state == State.SUCCEEDED, operation.outcome
    is_home(there)
    assert dict(there.changes) == WAYS["snapshot"]


@pytest.mark.parametrize("boundary", ["intent_written", "effect_done"])
def test_a_worker_dies_at_every_step(there: Night, boundary: str) -> None:
    die_once_at(boundary)
    operation = there.run(there.ask_home())
    assert operation.state == State.SUCCEEDED, operation.outcome
    is_home(there)
    assert dict(there.changes) == WAYS["snapshot"]


def test_home_is_away_in_the_middle_and_nobody_is_sent_there(there: Night) -> None:
    cloud = there.world.aws.cloud
    there.world.aws.on_taken = lambda action: cloud.cut(EAST) if action == "CreateDBSnapshot" else None
    operation = there.run(there.ask_home())
    assert operation.state == State.NEEDS_OPERATOR
    assert (there.world.address(), there.plan.active) == ([NEW], "standby")
    there.world.aws.on_taken = lambda action: None
    cloud.mend(EAST)
    there.answer(operation, Answer.RETRY)
    assert operation.state == State.SUCCEEDED, operation.outcome
    is_home(there)


def test_names_that_may_not_be_changed_keep_people_there_and_are_put_to_a_person(there: Night) -> None:
    there.will({"ChangeResourceRecordSets": [denied("route53:ChangeResourceRecordSets")]})
    operation = there.run(there.ask_home())
    assert operation.state == State.NEEDS_OPERATOR
    assert (there.world.address(), there.plan.active) == ([NEW], "standby")
    there.answer(operation, Answer.RETRY)
    assert operation.state == State.SUCCEEDED, operation.outcome
    is_home(there)


def test_a_way_home_that_fails_lets_people_back_in_where_they_were(there: Night) -> None:
    """No room for a database at home: nothing of it was opened there."""
    there.world.aws.cloud.quotas["rds", "instances"] = 1
    operation = there.run(there.ask_home())
    assert operation.state == State.NEEDS_OPERATOR
    assert there.answer(operation, Answer.ROLL_BACK) == "database/make"
    assert operation.state == State.FAILED, operation.outcome
    there.is_over_there()
    there.world.aws.cloud.quotas["rds", "instances"] = 40
    assert there.run(there.ask_home()).state == State.SUCCEEDED
    is_home(there)


@pytest.mark.parametrize("boundary", ["", "intent_written", "effect_done"])
def test_home_that_was_opened_is_shut_before_people_are_let_back_in(there: Night, boundary: str) -> None:
    broken: list[str] = []

    def breaks(reached: str, operation_id: int, key: str) -> None:
        if (reached, key) == ("effect_done", "database/verify") and not broken:
            broken.append(key)
            raise StepError("the newest rows are not there", permanent=True)

    boundaries.listeners.append(breaks)
    operation = there.run(there.ask_home())
    assert (operation.state, there.status(EAST, "pitchey")) == (State.NEEDS_OPERATOR, ("available", ["sg-open"]))
    if boundary:
        die_once_at(boundary)
    there.answer(operation, Answer.ROLL_BACK)
    assert operation.state == State.FAILED, operation.outcome
    there.is_over_there()
    assert there.status(EAST, "pitchey") == ("available", ["sg-shut"])
    closed, opened = (operation.steps.get(key=key).finished_at for key in ("back/closed", "back/open"))
    assert closed is not None and opened is not None
    assert closed < opened


def test_there_and_back_and_there_again(there: Night) -> None:
    """The database of the first time is still there: it is set aside, and nothing of it is taken for the new one."""
    assert there.run(there.ask_home()).state == State.SUCCEEDED
    there.world.old_site.usual = 503
    there.world.aws.cloud.rds.automated_snapshot(EAST, "pitchey", "rds:pitchey-after")
    again = there.run(there.ask("copy:rds:rds:pitchey-after"))
    assert again.state == State.SUCCEEDED, again.outcome
    there.is_over_there()
    assert there.status(WEST, f"pitchey-dr-before-{again.pk}") is not None
