"""What the clock does for backups: what is due is started once, what was missed is made up for, and it is said."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from backups import duties
from backups.models import Backup, BackupAlert, BackupRun, Cleanup, Policy, PolicyClock, Restore
from backups.services import pause, request_backup
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import engine
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.backups.company import Make, back_up
from tests.backups.history import entry, proven

pytestmark = pytest.mark.django_db(transaction=True)
EACH, SCHEDULE = Policy.Proof.EACH, Policy.Proof.SCHEDULE


def due(policy: Policy, ago: timedelta = timedelta(seconds=1), field: str = "due_at") -> datetime:
    """Set when it was due."""
    at = timezone.now() - ago
    PolicyClock.objects.filter(policy=policy).update(**{field: at})
    return at


def clock_of(policy: Policy) -> PolicyClock:
    return PolicyClock.objects.get(policy=policy)


def open_alerts(policy: Policy) -> dict[str, str]:
    return dict(BackupAlert.objects.filter(policy=policy, resolved_at=None).values_list("kind", "words"))


def at_once(function: Callable[[], object], count: int = 2) -> None:
    """In so many threads at the same time, each with a connection of its own."""
    barrier = threading.Barrier(count)

    def run() -> None:
        try:
            barrier.wait()
            function()
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class TestStarting:
    def test_a_new_policy_waits_for_its_first_time(self, policy: Policy) -> None:
        duties.start_due()
        at = clock_of(policy).due_at
        assert at is not None and at > timezone.now() and (at.hour, at.minute) == (2, 0)
        assert not Operation.objects.exists()

    def test_what_is_due_is_started_and_the_next_time_set(self, policy: Policy) -> None:
        at = due(policy)
        assert duties.start_due() == 1
        run = BackupRun.objects.get()
        assert (run.cause, run.due_at) == (BackupRun.Cause.SCHEDULE, at)
        assert run.operation.state == State.QUEUED, "no approval is needed"
        assert run.operation.requested_by_name == "system: clock" and "0 2 * * *, UTC" in run.operation.reason
        following = clock_of(policy).due_at
        assert following is not None and following > timezone.now()
        assert open_alerts(policy) == {}
        assert duties.start_due() == 0

    def test_two_clocks_start_it_once(self, make_policy: Make) -> None:
        for number in range(4):
            due(make_policy(f"p{number}"))
        at_once(duties.start_due, 3)
        assert sorted(BackupRun.objects.values_list("policy__slug", flat=True)) == ["p0", "p1", "p2", "p3"]

    def test_a_clock_that_asks_for_the_same_time_again_starts_nothing(self, policy: Policy) -> None:
        at = due(policy)
        duties.start_due()
        Operation.objects.update(state=State.SUCCEEDED, finished_at=Now())
        PolicyClock.objects.filter(policy=policy).update(due_at=at)
        duties.start_due()
        assert Operation.objects.count() == 1

    def test_a_run_that_was_missed_is_made_up_for_at_once_and_said(self, policy: Policy) -> None:
        at = due(policy, timedelta(days=2, hours=12))
        duties.start_due()
        run = BackupRun.objects.get()
        words = open_alerts(policy)[BackupAlert.Kind.MISSED]
        assert f"the run of {at:%Y-%m-%d %H:%M} UTC and " in words and "was missed" in words
        assert run.due_at == at and "made up for" in run.operation.reason
        assert Entry.objects.filter(action="backup.alert").count() == 1

    def test_a_run_that_still_goes_on_is_not_doubled(self, policy: Policy, alice: Person) -> None:
        busy = request_backup(Actor(alice), policy, reason="because")
        at = due(policy)
        duties.start_due()
        assert Operation.objects.get() == busy
        alert = BackupAlert.objects.get()
        assert alert.kind == BackupAlert.Kind.OVERRUN and alert.operation_id == busy.pk
        assert alert.words == f"the run of {at:%Y-%m-%d %H:%M} UTC was left out: operation {busy.pk} was still at it"
        due(policy, timedelta(seconds=2))
        duties.start_due()
        assert BackupAlert.objects.count() == 1 and Operation.objects.count() == 1

    def test_a_paused_policy_does_nothing(self, policy: Policy, alice: Person) -> None:
        pause(Actor(alice), policy, "the storage is being moved", paused=True)
        due(policy, timedelta(days=3))
        due(policy, field="proof_due_at")
        entry(policy)
        assert duties.start_due() == duties.prove_due() == 0
        assert not Operation.objects.exists() and not BackupAlert.objects.exists()

    def test_going_on_makes_up_for_nothing_of_the_pause(self, policy: Policy, alice: Person) -> None:
        pause(Actor(alice), policy, "the storage is being moved", paused=True)
        due(policy, timedelta(days=3))
        pause(Actor(alice), policy, "it has moved", paused=False)
        duties.start_due()
        following = clock_of(policy).due_at
        assert following is not None and following > timezone.now()
        assert not Operation.objects.exists()

    @pytest.mark.parametrize(
        ("duty", "field"),
        [(duties.start_due, "due_at"), (duties.prove_due, "proof_due_at"), (duties.clean_due, "cleanup_due_at")],
    )
    def test_one_that_is_broken_delays_no_other(
        self, make_policy: Make, duty: Callable[[], int], field: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken, whole = make_policy("broken", proof=SCHEDULE), make_policy("whole", proof=SCHEDULE)
        Policy.objects.filter(pk=broken.pk).update(time_zone="Nowhere/Land")
        for policy in (broken, whole):
            entry(policy, age=timedelta(days=90))
            entry(policy)
            due(policy, field=field)
        assert duty() == 1
        assert "Nowhere/Land" in caplog.text
        assert [operation.lock_names[0].rpartition("/")[0] for operation in Operation.objects.all()] in (
            ["production/backups"], ["production/whole"],
        )  # fmt: skip
        assert "whole" in Operation.objects.get().title


class TestProving:
    def test_after_each_backup(self, make_policy: Make, alice: Person) -> None:
        policy = make_policy(proof=EACH)
        assert duties.prove_due() == 0
        back_up(alice, policy)
        assert duties.prove_due() == 1
        operation = Restore.objects.get(target=Restore.Target.TEST).operation
        engine.run(operation.pk, "w1")
        backup = Backup.objects.get()
        assert backup.verdict == Backup.Verdict.PROVEN and backup.tested_in == operation.pk
        assert duties.prove_due() == 0, "once for each"

    def test_never(self, policy: Policy, alice: Person) -> None:
        back_up(alice, policy)
        assert duties.prove_due() == 0

    def test_by_schedule(self, make_policy: Make) -> None:
        policy = make_policy(proof=SCHEDULE, proof_schedule="0 4 * * 0")
        entry(policy, age=timedelta(days=1))
        newest = entry(policy)
        duties.prove_due()
        at = clock_of(policy).proof_due_at
        assert at is not None and at > timezone.now() and at.isoweekday() == 7 and not Restore.objects.exists()
        due(policy, field="proof_due_at")
        duties.prove_due()
        assert Restore.objects.get().backup == newest
        following = clock_of(policy).proof_due_at
        assert following is not None and following > timezone.now()

    def test_two_clocks_test_it_once(self, make_policy: Make) -> None:
        policy = make_policy(proof=SCHEDULE)
        entry(policy)
        due(policy, field="proof_due_at")
        at_once(duties.prove_due, 3)
        assert Restore.objects.count() == 1

    def test_not_two_tests_at_once_but_one_after_the_other(self, make_policy: Make) -> None:
        policy = make_policy(proof=EACH)
        entry(policy, age=timedelta(hours=1))
        due(policy, field="proof_due_at")
        duties.prove_due()
        newer = entry(policy)
        due(policy, field="proof_due_at")
        duties.prove_due()
        assert Restore.objects.count() == 1
        at = clock_of(policy).proof_due_at
        assert at is not None and at > timezone.now()
        Operation.objects.update(state=State.SUCCEEDED, finished_at=Now())
        due(policy, field="proof_due_at")
        duties.prove_due()
        assert Restore.objects.latest("pk").backup == newer

    @pytest.mark.parametrize("state", [Backup.State.DELETED, Backup.State.DAMAGED])
    def test_what_is_not_there_is_not_tested(self, make_policy: Make, state: str) -> None:
        policy = make_policy(proof=SCHEDULE)
        entry(policy, state=state)
        proven(policy, age=timedelta(days=1))
        due(policy, field="proof_due_at")
        duties.prove_due()
        assert not Restore.objects.exists()


class TestCleaning:
    def test_each_is_told_why_and_only_what_goes_goes(self, policy: Policy) -> None:
        old, good = entry(policy, age=timedelta(days=40)), proven(policy, age=timedelta(days=35))
        held, new = entry(policy, age=timedelta(days=50), hold_reason="the audit"), entry(policy)
        due(policy, field="cleanup_due_at")
        assert duties.clean_due() == 1
        words = dict(Backup.objects.values_list("pk", "kept_because"))
        assert words == {
            old.pk: "nothing: it goes with the next clean-up", good.pk: "the last one proven by a restore",
            held.pk: "held: the audit", new.pk: "younger than 30 days",
        }  # fmt: skip
        assert Backup.objects.get(pk=new.pk).expires_at == new.as_of + timedelta(days=30)
        assert Cleanup.objects.get().backups == [old.pk]
        assert duties.clean_due() == 0, "again tomorrow"

    def test_nothing_to_delete_asks_for_nothing(self, policy: Policy) -> None:
        entry(policy)
        due(policy, field="cleanup_due_at")
        duties.clean_due()
        assert not Operation.objects.exists()

    def test_two_clocks_ask_once(self, policy: Policy) -> None:
        entry(policy, age=timedelta(days=90))
        entry(policy)
        due(policy, field="cleanup_due_at")
        at_once(duties.clean_due, 3)
        assert Cleanup.objects.count() == 1

    def test_while_a_clean_up_waits_no_second_one_is_asked_for(self, policy: Policy) -> None:
        entry(policy, age=timedelta(days=90))
        entry(policy)
        for _ in range(2):
            due(policy, field="cleanup_due_at")
            duties.clean_due()
        assert Cleanup.objects.count() == 1

    def test_also_while_it_is_paused(self, make_policy: Make) -> None:
        policy = make_policy(paused=True)
        entry(policy, age=timedelta(days=90))
        entry(policy)
        due(policy, field="cleanup_due_at")
        duties.clean_due()
        assert Cleanup.objects.count() == 1

    def test_it_does_not_write_what_is_there_already(self, policy: Policy) -> None:
        entry(policy)
        due(policy, field="cleanup_due_at")
        duties.clean_due()
        before = list(Backup.objects.values_list("pk", "kept_because", "expires_at"))
        due(policy, field="cleanup_due_at")
        duties.clean_due()
        assert list(Backup.objects.values_list("pk", "kept_because", "expires_at")) == before
