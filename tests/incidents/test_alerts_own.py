"""What others recorded becomes an alert, once, and is over when its cause is gone."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from backups.services import BACKUP
from controlplane.clock.database import database_time
from controlplane.operations.models import Operation, OperationLock
from environments.models import HealthSample, Placement, ProbeSchedule
from environments.probes import probe_due
from incidents.intake import watching
from incidents.intake.own import OwnAlert, say, source
from incidents.models import Alert
from tests.estate import Estate
from tests.incidents.alerting import rule, the_incident, tick

pytestmark = pytest.mark.django_db


def operation(
    state: str, kind: str = "deployment", scopes: tuple[str, ...] = ("production",), ago: float = 1
) -> Operation:
    return Operation.objects.create(
        kind=kind, title="Deploy api 1.6.0", scopes=list(scopes), lock_names=list(scopes), state=state, reason="x",
        plan={"steps": [], "recovery": []}, plan_digest="0" * 64, requested_by_name="Alice", outcome="failed, put back",
        finished_at=database_time() - timedelta(minutes=ago),
    )  # fmt: skip


def states(name: str) -> list[str]:
    return list(Alert.objects.filter(name=name).order_by("pk").values_list("state", flat=True))


def test_a_failed_operation_is_an_alert_until_the_same_succeeds(estate: Estate) -> None:
    rule()
    failed = operation("failed", ago=3)
    assert watching.watch() == 1
    assert watching.watch() == 0, "it is said once"
    alert = Alert.objects.get()
    assert (alert.name, alert.environment, alert.severity, alert.count) == (
        "OperationFailed",
        estate.production,
        "critical",
        1,
    )
    assert f"/operations/{failed.pk}" in alert.url
    tick()
    assert the_incident().title == "OperationFailed in production"
    operation("succeeded", scopes=("staging",), ago=2)
    watching.watch()
    assert states("OperationFailed") == ["firing"]
    operation("succeeded", ago=1)
    watching.watch()
    assert states("OperationFailed") == ["resolved"]
    assert watching.watch() == 0
    operation("failed", ago=0)
    watching.watch()
    assert states("OperationFailed") == ["firing"]


def test_a_failure_stays_one_after_the_first_hour_and_is_history_after_a_day(estate: Estate) -> None:
    failed = operation("failed")
    watching.watch()
    Operation.objects.filter(pk=failed.pk).update(finished_at=Now() - timedelta(hours=2))
    watching.watch()
    assert states("OperationFailed") == ["firing"]
    Alert.objects.update(started_at=Now() - timedelta(hours=25))
    watching.watch()
    assert states("OperationFailed") == ["resolved"]


def test_failed_backups_are_told_by_backups(estate: Estate) -> None:
    operation("failed", kind=BACKUP)
    assert watching.watch() == 0


# --- instances ----------------------------------------------------------------------------------------


def heard(estate: Estate, name: str, *answers: bool, every: float = 5) -> None:
    """Probes of one instance, oldest first; the last one is of now."""
    placement = Placement.objects.get(environment=estate.production)
    now = database_time()
    for number, well in enumerate(reversed(answers)):
        sample = HealthSample.objects.create(
            placement=placement, instance=name, healthy=well, words="/health answered 503"
        )
        HealthSample.objects.filter(pk=sample.pk).update(at=now - timedelta(seconds=every * number))


def test_one_bad_answer_is_chance_and_two_are_trouble(estate: Estate) -> None:
    heard(estate, "production-1", True, False)
    heard(estate, "production-2", True, True)
    assert watching.watch() == 0
    heard(estate, "production-1", False, every=1)
    assert watching.watch() == 1
    alert = Alert.objects.get()
    assert alert.labels["instance"] == "production-1" and alert.environment == estate.production
    assert "1 of 3 of api do" in alert.summary
    assert watching.watch() == 0


def test_an_instance_that_answers_again_is_over_and_one_nobody_asks_is_not(estate: Estate) -> None:
    heard(estate, "production-1", False, False)
    watching.watch()
    HealthSample.objects.update(at=Now() - timedelta(hours=1))
    watching.watch()
    assert states("InstanceDown") == ["firing"], "no answer is not a good answer"
    heard(estate, "production-1", True)
    watching.watch()
    assert states("InstanceDown") == ["resolved"]


def test_an_instance_that_is_meant_to_be_gone_is_over(estate: Estate) -> None:
    heard(estate, "production-1", False, False)
    watching.watch()
    Placement.objects.filter(environment=estate.production).update(version="")
    watching.watch()
    assert states("InstanceDown") == ["resolved"]


def test_during_an_operation_it_has_to_be_down_for_longer(estate: Estate) -> None:
    running = operation("failed", scopes=("staging",))
    OperationLock.objects.create(name="production", operation=running)
    heard(estate, "production-1", False, False, False)
    watching.watch_instances()
    assert states("InstanceDown") == []
    heard(estate, "production-2", *[False] * 20, every=8)
    watching.watch_instances()
    assert states("InstanceDown") == ["firing"]


def test_trouble_is_looked_at_again_soon(estate: Estate) -> None:
    placement = Placement.objects.get(environment=estate.production)
    placement.instances = [{"name": "production-1", "address": "http://127.0.0.1:9"}]
    placement.save()
    schedule = ProbeSchedule.objects.create(placement=placement, due_at=Now() - timedelta(minutes=1))
    assert probe_due() == 1
    schedule.refresh_from_db()
    assert schedule.due_at - database_time() < timedelta(seconds=6)


# --- what others say ----------------------------------------------------------------------------------


def test_what_is_said_twice_is_one_alert_also_with_another_severity(estate: Estate) -> None:
    at = database_time()
    for severity in ("warning", "critical"):
        say(
            [
                OwnAlert(
                    "X", severity, "s", firing=True, started_at=at, environment="staging", labels={"notify": severity}
                )
            ]
        )
    alert = Alert.objects.get()
    assert (alert.severity, alert.count, alert.source) == ("critical", 2, source())
    say([OwnAlert("X", "critical", "s", firing=False, started_at=at, environment="staging")])
    assert states("X") == ["resolved"]
    assert say([]) == 0
