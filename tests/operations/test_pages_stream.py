"""What the stream of an operation gives out: lines in both forms, a stable status, an end, and to whom."""

import json

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, engine
from controlplane.operations.stream import OperationSource
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of

pytestmark = pytest.mark.django_db(transaction=True)
source = OperationSource()


def test_it_is_for_whoever_may_see_the_operation(ask: Ask, dana: Person, charlie: Person, eve: Person) -> None:
    key = str(ask().pk)
    source.authorize(Actor(dana), key)
    for outsider in (charlie, eve):
        with pytest.raises((Http404, PermissionDenied)):
            source.authorize(Actor(outsider), key)


@pytest.mark.parametrize("key", ["", "x", "-1", "1 or 1", "9" * 40])
def test_a_key_that_is_no_number_is_nothing(dana: Person, key: str) -> None:
    with pytest.raises(Http404):
        source.authorize(Actor(dana), key)


def test_every_line_once_in_order_and_the_end(ask: Ask, world: World) -> None:
    world.lines["one"] = [f"line {n}" for n in range(20)]
    operation = ask()
    key = str(operation.pk)
    assert [row.event for row in source.extras(key)] == ["status"]
    engine.run(operation.pk, "w1")
    first, rest = source.read(key, 0, 7), source.read(key, 7, 1000)
    assert [row.seq for row in first + rest] == list(range(1, source.last(key) + 1))
    assert {row.event for row in first + rest} == {"line"}
    told = json.loads(rest[3].json)
    assert set(told) == {"seq", "at", "kind", "step", "text"}
    assert told["seq"] == 11
    assert [row.event for row in source.extras(key)] == ["status", "end"]


def test_the_status_reads_the_same_until_something_moves(ask: Ask) -> None:
    operation = ask(plan_of("one", "two"))
    key = str(operation.pk)
    seen: list[bool] = []
    boundaries.listeners.append(lambda *_: seen.append(source.extras(key) == source.extras(key)))
    before = source.extras(key)
    engine.run(operation.pk, "w1")
    assert seen
    assert all(seen)
    assert source.extras(key) != before
