"""The clock rings again for what nobody heard, ends what nobody approved, and starts what is due."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import doorbell, ticks, transitions
from controlplane.operations.claims import claim
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.operations.conftest import Ask
from tests.operations.test_claims import lose_the_worker

pytestmark = pytest.mark.django_db(transaction=True)


def quiet(operation: Operation) -> None:
    """Nobody has rung for a while."""
    Operation.objects.filter(pk=operation.pk).update(rung_at=Now() - timedelta(seconds=9))


def test_a_lost_ring_is_rung_again(ask: Ask) -> None:
    quiet(ask())
    assert ticks.hand_on() == 1
    assert ticks.hand_on() == 0


def test_a_lost_worker_is_noticed_and_a_living_one_left_alone(ask: Ask) -> None:
    lost, living = ask(scopes=("a",)), ask(scopes=("b",))
    for operation in (lost, living):
        claim(operation.pk, "w1")
        quiet(operation)
    lose_the_worker(lost)
    assert ticks.hand_on() == 1
    lost.refresh_from_db()
    assert lost.rung_at and lost.rung_at > timezone.now() - timedelta(seconds=5)


def test_approvals_have_a_deadline(ask: Ask) -> None:
    late, fresh = ask(approvals=1), ask(approvals=1)
    Operation.objects.filter(pk=late.pk).update(approval_deadline=Now() - timedelta(seconds=1))
    assert ticks.expire_approvals() == 1
    late.refresh_from_db()
    fresh.refresh_from_db()
    assert (late.state, fresh.state) == (State.EXPIRED, State.AWAITING_APPROVAL)


def test_a_planned_start_waits_for_its_time(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1, scheduled_for=timezone.now() + timedelta(hours=1))
    operation = transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    assert operation.state == State.SCHEDULED
    assert ticks.start_scheduled() == 0
    Operation.objects.filter(pk=operation.pk).update(scheduled_for=Now())
    assert ticks.start_scheduled() == 1
    operation.refresh_from_db()
    assert operation.state == State.QUEUED


def test_approvals_that_count_again_let_it_go(ask: Ask, bob: Person, ada: Person) -> None:
    operation = ask(approvals=2)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    Person.objects.filter(pk=bob.pk).update(is_active=False)
    transitions.approve(operation.pk, Actor(ada), operation.plan_digest)
    assert ticks.recount_approvals() == 0
    Person.objects.filter(pk=bob.pk).update(is_active=True)
    assert ticks.recount_approvals() == 1
    operation.refresh_from_db()
    assert operation.state == State.QUEUED


def test_what_has_waited_for_long_is_rung_for_less_often(ask: Ask) -> None:
    operation = ask()
    rung = Operation.objects.filter(pk=operation.pk)
    rung.update(queued_at=Now() - timedelta(hours=1), rung_at=Now() - timedelta(seconds=10))
    assert ticks.hand_on() == 0
    rung.update(rung_at=Now() - timedelta(seconds=31))
    assert ticks.hand_on() == 1


def test_approvals_that_count_again_too_late_are_none(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1)
    transitions.approve(ask(approvals=2).pk, Actor(bob), operation.plan_digest)
    late = Operation.objects.latest("pk")
    Operation.objects.filter(pk=late.pk).update(approvals_required=1, approval_deadline=Now() - timedelta(seconds=1))
    assert ticks.recount_approvals() == 0
    late.refresh_from_db()
    assert late.state == State.AWAITING_APPROVAL


def test_a_ring_that_nobody_heard_is_not_noted(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = ask()
    Operation.objects.update(rung_at=None)
    monkeypatch.setattr(doorbell, "redis_answers", lambda: False)
    doorbell.ring_workers(operation.pk)
    operation.refresh_from_db()
    assert operation.rung_at is None


def test_a_ring_that_could_not_be_sent_is_not_noted(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Redis answers, and writes nothing any more."""
    operation = ask()

    def refused(*_: Any, **__: Any) -> None:
        raise ConnectionError("MISCONF")

    monkeypatch.setattr(doorbell._sender, "send_task", refused)
    doorbell.ring_workers(operation.pk)
    operation.refresh_from_db()
    assert operation.rung_at is None


def test_once_a_ring_is_out_nothing_writes_the_operation(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is quick would find its row locked, skip it, and the operation would wait for the clock."""
    operation = ask()
    send, seen = doorbell._sender.send_task, []

    def version() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT xmin FROM operations_operation WHERE id = %s", [operation.pk])
            return str(cursor.fetchone()[0])

    def sending(*arguments: Any, **options: Any) -> None:
        seen.append(version())
        send(*arguments, **options)

    before = version()
    monkeypatch.setattr(doorbell._sender, "send_task", sending)
    doorbell.ring_workers(operation.pk)
    assert seen == [version()] != [before]


def test_an_event_that_is_just_written_keeps_no_worker_away(ask: Ask) -> None:
    """Its foreign key locks the operation, weakly."""
    operation = ask()
    claim(operation.pk, "w1")
    lose_the_worker(operation)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM operations_operation WHERE id = %s FOR KEY SHARE", [operation.pk])
            assert claim(operation.pk, "w2")
    finally:
        other.close()
