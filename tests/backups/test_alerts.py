"""What is wrong with backups is said once, kept up to date, and over when its cause is."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from backups.alerts import raise_alert, resolve, watch
from backups.models import Backup, BackupAlert, BackupRun, Kind, Policy, PolicyClock, Restore, WalStream
from backups.services import pause, request_backup, request_proof
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.backups.company import Make
from tests.backups.history import base, entry, wal
from tests.backups.test_duties import at_once

pytestmark = pytest.mark.django_db(transaction=True)
AlertKind = BackupAlert.Kind
DAY = timedelta(days=1)


def open_alerts(policy: Policy | None = None) -> dict[str, str]:
    rows = BackupAlert.objects.filter(resolved_at=None)
    return dict((rows if policy is None else rows.filter(policy=policy)).values_list("kind", "words"))


def ended(operation: Operation, state: State, outcome: str = "") -> Operation:
    Operation.objects.filter(pk=operation.pk).update(state=state, outcome=outcome, finished_at=Now())
    return operation


def ran(person: Person, policy: Policy, state: State, outcome: str = "") -> Operation:
    """A run that ended so."""
    return ended(request_backup(Actor(person), policy, reason="because"), state, outcome)


def actions() -> list[str]:
    return list(Entry.objects.filter(action__startswith="backup.alert").order_by("pk").values_list("action", flat=True))


class TestARunThatFailed:
    def test_once_up_to_date_and_over_with_the_next_good_one(self, policy: Policy, alice: Person) -> None:
        first = ran(alice, policy, State.FAILED, "the disk is full")
        assert (watch(), watch()) == (1, 0)
        alert = BackupAlert.objects.get()
        assert (alert.kind, alert.words, alert.operation_id) == ("failed", "the disk is full", first.pk)
        second = ran(alice, policy, State.FAILED, "the bucket is gone")
        assert watch() == 0
        alert.refresh_from_db()
        assert (alert.words, alert.operation_id) == ("the bucket is gone", second.pk)
        ran(alice, policy, State.SUCCEEDED)
        assert watch() == 1
        alert.refresh_from_db()
        assert alert.resolved_at is not None and open_alerts() == {}
        assert actions() == ["backup.alert", "backup.alert_resolved"]
        (entry_of_it,) = Entry.objects.filter(action="backup.alert")
        assert (entry_of_it.scopes, entry_of_it.reason) == (["production"], "the disk is full")

    def test_it_may_be_raised_again(self, policy: Policy, alice: Person) -> None:
        for state in (State.FAILED, State.SUCCEEDED, State.FAILED):
            ran(alice, policy, state)
            watch()
        assert BackupAlert.objects.count() == 2 and list(open_alerts()) == ["failed"]

    def test_a_run_that_was_cancelled_is_nobodys_failure(self, policy: Policy, alice: Person) -> None:
        ran(alice, policy, State.CANCELLED)
        assert watch() == 0

    def test_of_one_that_runs_nothing_is_said_yet(self, policy: Policy, alice: Person) -> None:
        ran(alice, policy, State.FAILED, "the disk is full")
        request_backup(Actor(alice), policy, reason="again")
        watch()
        assert open_alerts() == {"failed": "the disk is full"}


class TestATestThatFailed:
    def test_until_one_succeeds(self, policy: Policy, alice: Person) -> None:
        backup = entry(policy)
        for state, words in ((State.FAILED, {"unproven": "row 7 differs"}), (State.SUCCEEDED, {})):
            ended(request_proof(Actor(alice), backup, reason="because"), state, "row 7 differs")
            watch()
            assert open_alerts() == words

    def test_a_restore_that_failed_is_no_test(self, policy: Policy, alice: Person) -> None:
        operation = ended(request_proof(Actor(alice), entry(policy), reason="because"), State.FAILED)
        Restore.objects.filter(operation=operation).update(target=Restore.Target.SCRATCH)
        assert watch() == 0


class TestItsWindow:
    def test_no_success_within_it(self, make_policy: Make) -> None:
        policy = make_policy(rpo_seconds=3600)
        old = entry(policy, age=timedelta(minutes=61))
        assert watch() == 1
        words = f"the last good backup is of {old.as_of:%Y-%m-%d %H:%M} UTC, longer ago than its window allows"
        assert open_alerts() == {"stale": words}
        entry(policy)
        assert watch() == 1 and open_alerts() == {}

    def test_never_one(self, make_policy: Make) -> None:
        policy = make_policy(rpo_seconds=3600)
        assert watch() == 0
        PolicyClock.objects.update(since=timezone.now() - timedelta(minutes=61))
        watch()
        assert open_alerts(policy) == {"stale": "there is no backup yet, and its window is over"}

    @pytest.mark.parametrize("values", [{"verdict": "failed"}, {"state": "deleted"}, {"state": "damaged"}])
    def test_one_that_is_no_good_does_not_count(self, make_policy: Make, values: dict[str, Any]) -> None:
        policy = make_policy(rpo_seconds=3600)
        entry(policy, age=timedelta(hours=2))
        entry(policy, **values)
        watch()
        assert list(open_alerts()) == ["stale"]

    def test_while_it_is_paused_nobody_is_alarmed(self, make_policy: Make, alice: Person) -> None:
        policy = make_policy(rpo_seconds=3600)
        entry(policy, age=timedelta(hours=2))
        watch()
        pause(Actor(alice), policy, "the storage is being moved", paused=True)
        assert watch() == 1 and open_alerts() == {}


class TestWhatWasSeenHappening:
    def test_a_missed_run_is_over_with_the_next_backup(self, policy: Policy) -> None:
        entry(policy, age=timedelta(minutes=5))
        with transaction.atomic():
            raise_alert(policy, AlertKind.MISSED, "the run of 02:00 was missed")
        assert watch() == 0 and list(open_alerts()) == ["missed"]
        entry(policy)
        assert watch() == 1 and open_alerts() == {}

    def test_an_overrun_is_over_with_the_run(self, policy: Policy, alice: Person) -> None:
        busy = request_backup(Actor(alice), policy, reason="because")
        with transaction.atomic():
            raise_alert(policy, AlertKind.OVERRUN, "still at it", operation_id=busy.pk)
        assert watch() == 0 and list(open_alerts()) == ["overrun"]
        ended(busy, State.SUCCEEDED)
        assert watch() == 1 and open_alerts() == {}


class TestTheLog:
    @pytest.fixture
    def cluster_policy(self, make_policy: Make) -> Policy:
        policy = make_policy("cluster", kind=Kind.PITR)
        PolicyClock.objects.update(since=timezone.now() - DAY)
        return policy

    def test_never_received(self, cluster_policy: Policy) -> None:
        base(cluster_policy, age=DAY, segment=10)
        watch()
        assert open_alerts() == {"wal_lag": "no WAL was ever received. Is `manage.py wal_receiver` running?"}

    def test_silence_lag_and_why(self, cluster_policy: Policy) -> None:
        now = timezone.now()
        base(cluster_policy, age=DAY, segment=10)
        stream = wal(cluster_policy, (8, 99, now - 2 * DAY, now))
        assert watch() == 0
        late = now - timedelta(seconds=90)
        WalStream.objects.update(archived_until=late, lag_bytes=77, problem="The bucket is gone.")
        watch()
        assert "s behind, by 77 bytes: The bucket is gone" in open_alerts()["wal_lag"]
        WalStream.objects.update(seen_at=late)
        watch()
        assert f"no WAL is received since {late:%Y-%m-%d %H:%M:%S} UTC" in open_alerts()["wal_lag"]
        WalStream.objects.filter(pk=stream.pk).update(seen_at=Now(), archived_until=Now(), problem="")
        watch()
        assert open_alerts() == {}

    def test_a_gap_until_there_is_a_new_base(self, cluster_policy: Policy) -> None:
        now = timezone.now()
        base(cluster_policy, age=2 * DAY, segment=10)
        wal(cluster_policy, (8, 40, now - 3 * DAY, now - DAY), (55, 99, now - timedelta(hours=23), now))
        watch()
        assert open_alerts()["wal_gap"].startswith(f"WAL is missing from {now - DAY:%Y-%m-%d %H:%M:%S} to ")
        base(cluster_policy, age=timedelta(), segment=60)
        watch()
        assert open_alerts() == {}


def test_two_clocks_raise_and_resolve_it_once(policy: Policy, alice: Person) -> None:
    for state in (State.FAILED, State.SUCCEEDED):
        ran(alice, policy, state)
        at_once(watch, 3)
    assert actions() == ["backup.alert", "backup.alert_resolved"] and BackupAlert.objects.count() == 1


def test_what_is_not_open_cannot_be_resolved(policy: Policy) -> None:
    with transaction.atomic():
        assert resolve(policy, [AlertKind.FAILED]) == 0
    assert actions() == []


def test_it_costs_the_same_however_many_policies_there_are(
    make_policy: Make, alice: Person, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(12):
        policy = make_policy(f"p{number}")
        ran(alice, policy, State.SUCCEEDED)
        entry(policy)
    for number in range(5):
        policy = make_policy(f"c{number}", kind=Kind.PITR)
        now = timezone.now()
        base(policy, age=DAY, segment=10)
        wal(policy, (8, 99, now - 2 * DAY, now))
    with django_assert_max_num_queries(15):
        assert watch() == 0
    assert Backup.objects.count() == 17 and BackupRun.objects.count() == 12
