"""A clock that dies at any statement pages nobody twice and forgets nobody; so do two clocks at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from controlplane.accounts.models import Person
from incidents.escalation import clock
from incidents.lifecycle import acknowledge, open_incident
from incidents.models import Delivery, Incident, Level, Page, Severity
from tests.incidents.escalating import WHO, matrix, opened, paged, pass_time, reachable, said, states

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """The process is gone; its transaction is rolled back by the server."""


@contextmanager
def dying_at(number: int) -> Iterator[list[int]]:
    """The process dies before its statement of this number; gives how many statements there were."""
    seen = [0]

    def count(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        seen[0] += 1
        if seen[0] == number:
            raise Killed
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        yield seen


def dies_everywhere(act: Callable[[], object], again: Callable[[], None]) -> int:
    """Kill the act at each of its statements in turn, each time from the same beginning; returns how many there are."""
    number = 0
    while True:
        number += 1
        again()
        try:
            with dying_at(number):
                act()
        except Killed:
            connection.close()
            continue
        return number - 1


@pytest.fixture
def people(alice: Person, bob: Person) -> list[Person]:
    """Two who can be reached."""
    found = [reachable(alice, sms="+491510000001"), reachable(bob, sms="+491510000002")]
    matrix(found, ["sms"])
    return found


def test_opening_is_whole_or_not_at_all(people: list[Person]) -> None:
    def begin() -> None:
        for incident in Incident.objects.all():
            assert Level.objects.filter(incident=incident).count() == 2
        Incident.objects.update(group_key="")

    def act() -> None:
        open_incident(WHO, title="x", severity=Severity.P1, environments=[], group_key="cause")

    before = Incident.objects.count()
    assert dies_everywhere(act, begin) > 8
    assert Incident.objects.count() - before == 1, "only the one that lived to its commit"


def test_firing_is_whole_or_not_at_all(people: list[Person]) -> None:
    incident = opened()
    assert dies_everywhere(clock.fire_due, lambda: None) > 8
    assert paged(incident) == [("Alice", "sms")]
    assert states(incident) == {1: "fired", 2: "pending"}
    assert Page.objects.count() == Delivery.objects.count() == 1
    incident.refresh_from_db()
    assert incident.last_seq == incident.timeline.count()
    assert sum("pages Alice" in words for words in said(incident)) == 1


def test_acknowledging_is_whole_or_not_at_all(people: list[Person]) -> None:
    incident = opened()
    clock.fire_due()

    def unchanged() -> None:
        incident.refresh_from_db()
        assert incident.state == Incident.State.OPEN
        assert states(incident) == {1: "fired", 2: "pending"}

    assert dies_everywhere(lambda: acknowledge(incident.pk, WHO), unchanged) > 8
    assert states(incident) == {1: "fired", 2: "cancelled"}


def test_two_clocks_at_once_page_once(people: list[Person]) -> None:
    incidents = [opened() for _ in range(20)]
    gate = threading.Barrier(2)
    fired: list[int] = []

    def one_clock() -> None:
        gate.wait()
        try:
            fired.append(clock.fire_due())
        finally:
            connection.close()

    clocks = [threading.Thread(target=one_clock) for _ in range(2)]
    for thread in clocks:
        thread.start()
    for thread in clocks:
        thread.join()
    while clock.fire_due():
        pass
    assert all(paged(incident) == [("Alice", "sms")] for incident in incidents)
    for incident in incidents:
        pass_time(incident, minutes=15)
    while clock.fire_due():
        pass
    assert all([name for name, _ in paged(incident)] == ["Alice", "Bob"] for incident in incidents)
