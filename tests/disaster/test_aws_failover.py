"""The whole plan on the simulated AWS: what takes hours, what is refused, who cannot be reached, and who dies at it.

Time is the cloud's, and each wait of a step is a look later there: a failover of four hours runs in moments.
"""

from typing import Any

import pytest

from backups.disaster import duties
from backups.models import Recovery
from controlplane.operations import engine
from controlplane.operations.models import Operation
from controlplane.operations.states import Answer, State
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, broken, denied, refused, throttled
from tests.disaster.aws_world import die_once_at
from tests.disaster.kit_world import EAST, NEW, OLD, SERVICE, SNAPSHOT, WEST
from tests.disaster.night import HOURS, RISK, Night, night, said

__all__ = ["night"]
pytest_plugins = ["tests.aws.fixtures", "tests.disaster.kit_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

EACH_ONCE = {
    "RestoreDBInstanceFromDBSnapshot": 1, "StopDBInstance": 1, "ModifyDBInstance": 1, "UpdateService": 2,
    "ChangeResourceRecordSets": 1,
}  # fmt: skip


def test_people_are_served_within_four_hours_and_what_takes_long_goes_on_side_by_side(night: Night) -> None:
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()
    assert night.state_of(EAST, "pitchey") == "stopped"
    assert dict(night.changes) == EACH_ONCE
    assert 1260 <= night.took < 1260 + 480, "the restore and the names, with the tasks started meanwhile"
    recovery = night.recovery(operation)
    assert (recovery.fence_proven, recovery.accepted_risk) == (True, "")
    assert recovery.recovered_at is not None


def test_a_failover_of_four_hours(night: Night) -> None:
    """Nothing there but a snapshot in the old region, and everything slow."""
    night.look = 600.0
    night.world.aws.cloud.start(
        copy=1.5 * HOURS, restore=2 * HOURS, tasks_start=0.4 * HOURS, stop=0.2 * HOURS, dns=900.0
    )
    operation = night.run(night.ask("copy:"))
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()
    assert 3.75 * HOURS <= night.took < 4.75 * HOURS
    assert night.changes["CopyDBSnapshot"] == 1
    assert operation.steps.exclude(state="succeeded").count() == 0


def test_a_snapshot_that_is_gone_by_then_leaves_people_where_they_are(night: Night) -> None:
    operation = night.ask(f"snapshot:rds:{SNAPSHOT}")
    night.world.client("rds", WEST).delete_db_snapshot(DBSnapshotIdentifier=SNAPSHOT)
    night.run(operation)
    assert operation.state == State.NEEDS_OPERATOR
    assert SNAPSHOT in operation.outcome
    night.is_untouched()
    assert night.answer(operation, Answer.ROLL_BACK) == "database/make"
    assert operation.state == State.FAILED
    night.is_untouched()
    other = night.run(night.ask("copy:"))
    assert other.state == State.SUCCEEDED, other.outcome
    night.is_over_there()


def test_a_quota_that_is_reached_is_said_and_raised_and_it_goes_on(night: Night) -> None:
    night.world.aws.cloud.quotas["rds", "instances"] = 0
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.NEEDS_OPERATOR
    assert "quota" in operation.outcome.lower()
    night.is_untouched()
    night.world.aws.cloud.quotas["rds", "instances"] = 40
    assert night.answer(operation, Answer.RETRY) == "database/make"
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()


def test_a_restore_that_fails_lets_nobody_in(night: Night) -> None:
    night.set("database", deletion_protection=False)
    night.world.aws.cloud.rds.breaks["pitchey-dr"] = "failed"
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.NEEDS_OPERATOR
    assert "pitchey-dr" in operation.outcome
    assert night.world.address() == [OLD]
    assert night.status(WEST, "pitchey-dr") == ("failed", ["sg-shut"])
    assert night.answer(operation, Answer.ROLL_BACK) == "database/available"
    assert operation.state == State.FAILED
    west = night.world.client("rds", WEST)
    west.delete_db_instance(DBInstanceIdentifier="pitchey-dr", SkipFinalSnapshot=True)
    night.world.aws.cloud.advance(300)
    other = night.run(night.ask(SNAPSHOT))
    assert other.state == State.SUCCEEDED, other.outcome
    night.is_over_there()


def test_tasks_that_do_not_start_for_an_hour_keep_people_where_they_are_until_they_do(night: Night) -> None:
    cloud = night.world.aws.cloud
    cloud.ecs(WEST).blocked = "RESOURCE:MEMORY"
    before: list[list[str]] = []

    def capacity_comes() -> None:
        before.append(night.world.address())
        cloud.ecs(WEST).blocked = ""

    night.look = 300.0
    cloud.later(HOURS, capacity_comes)
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert before == [[OLD]]
    assert night.took > HOURS
    night.is_over_there()


def test_tasks_that_never_start_are_put_to_a_person(night: Night) -> None:
    standby = night.plan.standby
    standby.driver_settings["stable_seconds"] = 0.5
    standby.save()
    night.world.aws.cloud.ecs(WEST).blocked = "RESOURCE:MEMORY"
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.NEEDS_OPERATOR
    assert "3 desired, 0 running" in operation.outcome
    assert night.world.address() == [OLD]
    night.world.aws.cloud.ecs(WEST).blocked = ""
    night.answer(operation, Answer.RETRY)
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()


def test_route_53_is_slow_and_refuses_for_a_while(night: Night) -> None:
    night.will({
        "ChangeResourceRecordSets": [throttled(), LOST_BEFORE, refused("PriorRequestNotComplete", "wait")],
        "GetChange": [throttled()] * 3,
    })  # fmt: skip
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()
    assert night.changes["ChangeResourceRecordSets"] == 1


def test_what_route_53_forbids_is_put_to_a_person_and_people_stay(night: Night) -> None:
    night.will({"ChangeResourceRecordSets": [denied("route53:ChangeResourceRecordSets")]})
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.NEEDS_OPERATOR
    assert "add route53:ChangeResourceRecordSets to the policy" in operation.outcome
    assert (night.world.address(), night.plan.active) == ([OLD], "primary")
    night.answer(operation, Answer.RETRY)
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_a_region_that_is_gone_is_left_by_somebodys_word_and_fenced_when_it_is_back(night: Night, how: Any) -> None:
    if how == "hangs":
        night.set("database", answer_seconds=0.1)
        primary = night.plan.primary
        primary.driver_settings["answer_seconds"] = 0.1
        primary.save()
    night.world.aws.cloud.cut(EAST, how)
    operation = night.run(night.ask(SNAPSHOT))
    asked = []
    while operation.state == State.NEEDS_OPERATOR:
        assert night.world.address() == [OLD], "nobody is sent there before somebody answers for it"
        found = night.status(WEST, "pitchey-dr")
        assert found is not None
        assert found[1] == ["sg-shut"], "nobody can write there either"
        asked.append(night.answer(operation, Answer.SKIP, RISK))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert asked == [f"fence/{SERVICE}/down", "database/fence-proof"]
    recovery = night.recovery(operation)
    assert (recovery.fence_proven, recovery.accepted_risk_by_name) == (False, "Alice")
    assert recovery.accepted_risk.count(RISK) == 2
    assert (night.world.address(), night.world.desired(EAST)) == ([NEW], 3)
    assert duties.fence_late() == 0
    night.world.aws.cloud.mend(EAST)
    assert duties.fence_late() == 1
    late = Recovery.objects.select_related("operation").get(kind="fence")
    assert night.run(late.operation).state == State.SUCCEEDED, late.operation.outcome
    night.is_over_there()
    assert night.state_of(EAST, "pitchey") == "stopped"
    late.refresh_from_db()
    assert late.fence_proven is True


def test_a_region_that_comes_back_before_anybody_answers_is_fenced_and_proven(night: Night) -> None:
    night.world.aws.cloud.cut(EAST)
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.NEEDS_OPERATOR
    night.world.aws.cloud.mend(EAST)
    while operation.state == State.NEEDS_OPERATOR:
        night.answer(operation, Answer.RETRY)
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()
    assert night.recovery(operation).fence_proven is True


def told(operation: Operation, what: str) -> int:
    return operation.effects.filter(what=what).count()


@pytest.mark.parametrize("fault", [LOST_AFTER, LOST_BEFORE, broken()],
                         ids=["answer lost", "request lost", "broken"])  # fmt: skip
def test_every_change_goes_wrong_once_and_is_made_once(night: Night, fault: Any) -> None:
    night.will({action: [fault] for action in EACH_ONCE})
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()
    assert dict(night.changes) == EACH_ONCE
    assert told(operation, "scaled") == EACH_ONCE["UpdateService"]


@pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
def test_a_worker_dies_at_every_step(night: Night, boundary: str) -> None:
    dead = die_once_at(boundary)
    operation = night.run(night.ask(SNAPSHOT))
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()
    assert dict(night.changes) == EACH_ONCE
    assert told(operation, "scaled") == EACH_ONCE["UpdateService"]
    assert dead() >= operation.steps.count() - 6, "steps that find their effect there have no such boundary"


def test_the_standbys_region_is_away_in_the_middle_for_an_hour(night: Night) -> None:
    cloud = night.world.aws.cloud

    def cut_off(action: str) -> None:
        if action == "RestoreDBInstanceFromDBSnapshot":
            cloud.cut(WEST)

    night.world.aws.on_taken = cut_off
    operation = night.ask(SNAPSHOT)
    engine.run(operation.pk, "w0")
    operation.refresh_from_db()
    assert operation.state == State.NEEDS_OPERATOR, "what would be made there cannot be seen"
    night.world.aws.on_taken = lambda action: None
    cloud.advance(HOURS)
    cloud.mend(WEST)
    night.answer(operation, Answer.RETRY)
    assert operation.state == State.SUCCEEDED, operation.outcome
    night.is_over_there()
    assert night.changes["RestoreDBInstanceFromDBSnapshot"] == 1, said(operation)
