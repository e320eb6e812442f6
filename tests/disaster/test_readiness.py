"""Ready or not, and because of what: looked at by the clock, said on the board and as an alert."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from backups.disaster import duties
from backups.disaster.prediction import predict
from backups.disaster.readiness import latest, look
from backups.disaster.services import request_drill, set_clock
from backups.models import Readiness, Recovery, RecoveryClock, RecoveryPlan
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.models import Operation
from controlplane.operations.plans import StepSpec
from environments.models import ConfigEntry, Placement
from incidents.intake import grouping
from incidents.models import Alert
from incidents.recoveries import watch_recoveries
from tests.disaster.paper import PRIMARY, STANDBY, plan, world

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)


def rehearsed(plan: RecoveryPlan, who: Person) -> Operation:
    """A drill from beginning to end."""
    operation = request_drill(Actor(who), plan, reason="monthly")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def wrong(seen: Readiness) -> dict[str, str]:
    """What is not ready, by key."""
    return {one["key"]: one["words"] for one in seen.checks if one["outcome"] != "ready"}


def test_what_was_never_rehearsed_is_not_known_to_be_in_time(plan: RecoveryPlan, alice: Person) -> None:
    seen = look(plan)
    assert (seen.ready, list(wrong(seen))) == (False, ["in-time"])
    rehearsed(plan, alice)
    seen = look(plan)
    assert (seen.ready, wrong(seen)) == (True, {})
    assert seen.predicted_seconds is not None
    assert seen.restorable_to == world.newest["replica"]
    assert latest([plan]) == {plan.pk: seen}


def test_each_part_says_what_it_lacks(plan: RecoveryPlan, alice: Person) -> None:
    rehearsed(plan, alice)
    world.newest = {name: at - timedelta(hours=2) for name, at in world.newest.items()}
    world.ttl_is_low = False
    ConfigEntry.objects.create(environment=plan.standby, key="JWT_SECRET", secret="file:nowhere")
    Placement.objects.update(version="")
    assert wrong(look(plan)).keys() == {"restorable", "ttl", "applications", "secrets"}
    world.newest = {}
    assert "There is no snapshot" in wrong(look(plan))["restorable"]


def test_a_side_that_cannot_be_asked_is_not_known_and_so_not_ready(plan: RecoveryPlan) -> None:
    world.newest.pop("replica")
    world.away = {PRIMARY}
    seen = look(plan)
    assert next(one for one in seen.checks if one["key"] == "restorable")["outcome"] == "unknown"
    assert not seen.ready


def test_the_clock_looks_every_ten_minutes(plan: RecoveryPlan) -> None:
    set_clock(plan)
    assert [duties.look_due(), duties.look_due()] == [1, 0]
    RecoveryClock.objects.update(readiness_due_at=Now() - timedelta(seconds=1))
    assert duties.look_due() == 1
    assert Readiness.objects.count() == 2


def test_the_clock_rehearses_when_it_is_time_and_once(plan: RecoveryPlan) -> None:
    set_clock(plan)
    RecoveryClock.objects.update(drill_due_at=Now() - timedelta(seconds=1))
    assert [duties.rehearse_due(), duties.rehearse_due()] == [1, 0]
    drill = Recovery.objects.get()
    assert (drill.kind, drill.by_schedule) == ("drill", True)
    due = RecoveryClock.objects.get().drill_due_at
    assert due
    assert due > drill.operation.requested_at


def test_a_drill_that_cannot_begin_is_owed_and_tried_again(plan: RecoveryPlan) -> None:
    set_clock(plan)
    world.newest = {}
    RecoveryClock.objects.update(drill_due_at=Now() - timedelta(seconds=1))
    duties.rehearse_due()
    clock = RecoveryClock.objects.get()
    assert clock.overdue_said_at is not None
    assert clock.drill_due_at is not None
    assert not Operation.objects.exists()
    watch_recoveries()
    assert set(Alert.objects.values_list("name", flat=True)) == {"DrillOverdue", "RecoveryNotReady"}


def test_alerts_begin_once_and_end(plan: RecoveryPlan, alice: Person) -> None:
    look(plan)
    assert watch_recoveries() == 1
    assert watch_recoveries() == 0
    assert Alert.objects.get().state == "firing"
    rehearsed(plan, alice)
    look(plan)
    assert watch_recoveries() == 1
    assert Alert.objects.get().state == "resolved"
    grouping.group_due()


def test_the_prediction_is_what_the_steps_took(plan: RecoveryPlan, alice: Person) -> None:
    operation = rehearsed(plan, alice)
    operation.steps.filter(key="applications/api/start").update(
        finished_at=Now(), started_at=Now() - timedelta(hours=5)
    )
    seen = look(plan)
    assert "It would take 300 min" in wrong(seen)["in-time"]
    assert "database/restore" in seen.predicted["estimated"], f"only a failover restores into {STANDBY}"


def test_steps_that_were_never_done_count_too(plan: RecoveryPlan, alice: Person) -> None:
    """By their like, or by what is declared; and of what nobody knows anything, it is at least so long."""
    specs = (
        StepSpec("assess", "", "recovery.assess", {}),
        StepSpec("database/again", "", "sites.effect", {}),
        StepSpec("names", "", "route53.spread", {}),
    )
    assert predict(plan, specs).seconds is None, "a plan that was never rehearsed is not guessed at"
    drill = request_drill(Actor(alice), plan, reason="monthly")
    engine.run(drill.pk, "w1")
    took = {"assess": 4, "database/scratch": 100, "database/drop": 100}
    for step in drill.steps.filter(state="succeeded"):
        seconds = timedelta(seconds=took.get(step.key, 100))
        drill.steps.filter(pk=step.pk).update(finished_at=F("started_at") + seconds)
    known = predict(plan, specs)
    assert (known.seconds, known.unknown, known.is_least) == (4 + 100 + 60, (), False)
    assert known.estimated == ("database/again", "names")
    more = predict(plan, (*specs, StepSpec("magic", "", "nobody.knows", {})))
    assert (more.seconds, more.unknown, more.is_least) == (164, ("magic",), True)
