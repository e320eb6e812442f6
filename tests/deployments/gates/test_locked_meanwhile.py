"""A lock that is taken while a deployment starts is either there before it, and keeps it, or comes after it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections, transaction

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import claims, transitions
from controlplane.operations.models import Operation
from controlplane.operations.registry import kind_of
from controlplane.operations.states import State
from deployments.adoption import request_adoption
from deployments.services import request_deployment
from environments import locks
from environments.drivers.base import Running
from environments.models import Placement
from tests.estate import Estate, paper
from tests.incidents.lessons import opened

pytestmark = pytest.mark.django_db(transaction=True)
Beside = Callable[..., "Future[Any]"]


@pytest.fixture
def beside() -> Iterator[Beside]:
    """Do something in a thread, with a connection of its own."""

    def closing(act: Callable[..., Any], *values: Any) -> Any:
        try:
            return act(*values)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        yield lambda act, *values: pool.submit(closing, act, *values)


def waits_for_us(other: "Future[Any]") -> bool:
    """Whether it comes to wait for our transaction, and does not end meanwhile."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    while not other.done():
        with connection.cursor() as cursor:
            cursor.execute(waiting)
            if cursor.fetchone()[0]:
                return True
        time.sleep(0.01)
    return False


@pytest.fixture
def deployment(estate: Estate, alice: Person, bob: Person) -> Operation:
    """One that alice asked for and bob approved."""
    release = estate.releases["1.5.0"]
    made = request_deployment(Actor(alice), environment=estate.production, release=release, reason="mend")
    transitions.approve(made.pk, Actor(bob), made.plan_digest)
    return made


@pytest.mark.parametrize("whose", ["a person's", "an incident's"])
def test_it_is_not_missed(estate: Estate, deployment: Operation, alice: Person, beside: Beside, whose: str) -> None:
    with transaction.atomic():
        if whose == "a person's":
            locks.take(Actor(alice), estate.production, "the fair")
        else:
            opened()
        started = beside(claims.claim, deployment.pk, "w1")
        assert waits_for_us(started)
    assert started.result() is None
    deployment.refresh_from_db()
    assert deployment.state == State.STALE and "locked by" in deployment.outcome


def test_nobody_locks_it_between_the_gates_and_the_start(
    estate: Estate, deployment: Operation, alice: Person, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    placement = Placement.objects.get(environment=estate.production)
    release = estate.releases["1.5.0"]
    for number in (1, 2, 3):
        name = f"production-{number}"
        monkeypatch.setitem(paper.runs, name, Running(name, release.version, release.digest))
    adoption = request_adoption(Actor(alice), placement, reason="it is right")
    for operation in (deployment, adoption):
        kind = kind_of(operation)
        facts = kind.facts(operation)
        with transaction.atomic():
            kind.gates(operation, facts)
            taken = beside(locks.take, Actor(alice), estate.production, f"for {operation.kind}")
            assert waits_for_us(taken), operation.kind
        taken.result()
