"""An approval that comes too late is none, by database time, whether or not a clock has looked already."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import ticks, transitions
from controlplane.operations.errors import Conflict
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.operations.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)
PAST = Now() - timedelta(seconds=1)


def test_after_the_deadline(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1)
    Operation.objects.update(approval_deadline=PAST)
    with pytest.raises(Conflict, match="not approved within 24 h"):
        transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    assert not operation.approvals.exists()


def test_after_the_planned_start(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1, scheduled_for=timezone.now() + timedelta(hours=1))
    Operation.objects.update(scheduled_for=PAST)
    with pytest.raises(Conflict, match="not approved before its planned start"):
        transitions.approve(operation.pk, Actor(bob), operation.plan_digest)


def test_the_clock_ends_both(ask: Ask) -> None:
    late = ask(approvals=1)
    Operation.objects.update(approval_deadline=PAST)
    planned = ask(approvals=1, scheduled_for=timezone.now() + timedelta(hours=1))
    Operation.objects.filter(pk=planned.pk).update(scheduled_for=PAST)
    assert ticks.expire_approvals() == 2
    for operation, words in ((late, "within 24 h"), (planned, "before its planned start")):
        operation.refresh_from_db()
        assert operation.state == State.EXPIRED
        assert words in operation.outcome


def test_in_time_it_is_planned_and_starts_when_due(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1, scheduled_for=timezone.now() + timedelta(hours=1))
    assert transitions.approve(operation.pk, Actor(bob), operation.plan_digest).state == State.SCHEDULED
    assert ticks.start_scheduled() == 0
    Operation.objects.update(scheduled_for=PAST)
    assert ticks.start_scheduled() == 1


def test_a_planned_start_is_the_deadline_if_it_comes_first(ask: Ask) -> None:
    start = timezone.now() + timedelta(hours=1)
    assert ask(approvals=1, scheduled_for=start).approval_deadline == start
    later = ask(approvals=1, scheduled_for=timezone.now() + timedelta(days=3)).approval_deadline
    assert later is not None
    assert later < timezone.now() + timedelta(hours=25)
