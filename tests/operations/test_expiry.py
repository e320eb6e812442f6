"""What has not started by when it had to never starts."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from controlplane.operations import engine, ticks, transitions
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.operations.conftest import Ask
from tests.operations.recipes import World

pytestmark = pytest.mark.django_db(transaction=True)
HOUR = timedelta(hours=1)


def late(operation: Operation) -> None:
    Operation.objects.filter(pk=operation.pk).update(start_by=Now() - timedelta(seconds=1))


def state(operation: Operation) -> str:
    operation.refresh_from_db()
    return operation.state


def test_the_clock_ends_what_is_late(ask: Ask) -> None:
    waits = ask(approvals=1, start_by=database_time() + HOUR)
    planned = ask(scheduled_for=database_time() + HOUR, start_by=database_time() + 2 * HOUR)
    queued, in_time = ask(start_by=database_time() + HOUR), ask(start_by=database_time() + HOUR)
    for one in (waits, planned, queued):
        late(one)
    assert ticks.expire_starts() == 3
    assert [state(one) for one in (waits, planned, queued)] == [State.EXPIRED] * 3
    assert queued.outcome.startswith("expired: it had not started by ")
    assert state(in_time) == State.QUEUED


def test_no_worker_starts_it_before_the_clock_looks(ask: Ask, world: World) -> None:
    operation = ask(start_by=database_time() + HOUR)
    late(operation)
    assert not engine.run(operation.pk, "w1")
    assert (state(operation), world.effects) == (State.EXPIRED, {})


def test_what_runs_may_go_on(ask: Ask) -> None:
    operation = ask(start_by=database_time() + HOUR)
    engine.run(operation.pk, "w1")
    late(operation)
    assert ticks.expire_starts() == 0
    assert state(operation) == State.SUCCEEDED


def test_an_approval_after_it_is_none(ask: Ask, bob: Person) -> None:
    operation = ask(approvals=1, start_by=database_time() + HOUR)
    assert operation.approval_deadline == operation.start_by
    late(operation)
    with pytest.raises(Conflict, match="before it had to start"):
        transitions.approve(operation.pk, Actor(bob), operation.plan_digest)


def test_times_in_the_wrong_order_are_refused(ask: Ask) -> None:
    with pytest.raises(Invalid, match="Give a later one"):
        ask(start_by=database_time() - HOUR)
    with pytest.raises(Invalid, match="Give a later one"):
        ask(scheduled_for=database_time() + 2 * HOUR, start_by=database_time() + HOUR)


@pytest.mark.parametrize("what", ["scheduled_for", "start_by"])
def test_nobody_plans_further_ahead_than_a_year(ask: Ask, what: str) -> None:
    with pytest.raises(Invalid, match="more than a year away"):
        ask(**{what: database_time() + timedelta(days=367)})
    ask(**{what: database_time() + timedelta(days=365)})
