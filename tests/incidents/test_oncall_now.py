"""Who is paged right now: what is stored, in few queries, and never nobody while somebody of the layer is left."""

from datetime import timedelta
from typing import Any

import pytest

from controlplane.accounts.models import Person
from incidents.models import Absence, Override
from incidents.oncall.now import next_shifts, on_call
from tests.incidents.oncall_world import HOUR, WEEK, at, layer, primary

pytestmark = pytest.mark.django_db

WEDNESDAY = at("2026-01-07T12:00")  # Alice's week


def test_the_one_whose_turn_it_is(alice: Person, bob: Person) -> None:
    primary()
    assert on_call("primary", WEDNESDAY) == [alice]
    assert on_call("primary", WEDNESDAY + WEEK) == [bob]


def test_nobody_without_a_schedule_or_before_it_begins(alice: Person) -> None:
    primary()
    assert on_call("nights", WEDNESDAY) == []
    assert on_call("primary", at("2025-12-31T12:00")) == []


def test_an_override_of_a_schedule_without_layers(alice: Person) -> None:
    schedule = primary()
    schedule.layers.all().delete()
    Override.objects.create(
        schedule=schedule, person="alice", starts_at=WEDNESDAY, ends_at=WEDNESDAY + HOUR, author_name="x"
    )
    assert on_call("primary", WEDNESDAY) == [alice]
    assert on_call("primary", WEDNESDAY + HOUR) == []


def test_overrides_of_others_cancelled_ones_and_swaps_that_wait_do_not_count(alice: Person, bob: Person) -> None:
    schedule = primary()
    span: dict[str, Any] = {"starts_at": WEDNESDAY - HOUR, "ends_at": WEDNESDAY + HOUR, "author_name": "x"}
    Override.objects.create(schedule=primary(slug="other"), person="bob", **span)
    Override.objects.create(schedule=schedule, person="bob", cancelled_at=WEDNESDAY, **span)
    Override.objects.create(schedule=schedule, person="bob", kind="swap", swap=1, awaiting="bob", **span)
    assert on_call("primary", WEDNESDAY) == [alice]


def test_an_absence_gives_the_turn_to_the_next(alice: Person, bob: Person) -> None:
    primary()
    Absence.objects.create(person=alice, starts_on=WEDNESDAY.date(), ends_on=WEDNESDAY.date())
    assert on_call("primary", WEDNESDAY) == [bob]
    assert on_call("primary", at("2026-01-08T00:00")) == [alice]


def test_somebody_who_left_or_never_was_is_passed_over(alice: Person, bob: Person) -> None:
    primary("ghost", "alice", "bob")
    assert on_call("primary", WEDNESDAY) == [alice]
    Person.objects.filter(pk=alice.pk).update(is_active=False)
    assert on_call("primary", WEDNESDAY) == [bob]
    Person.objects.filter(pk=bob.pk).update(is_active=False)
    assert on_call("primary", WEDNESDAY) == []


def test_the_clock_pays_five_queries_at_most(alice: Person, bob: Person, django_assert_max_num_queries: Any) -> None:
    schedule = primary()
    for position in range(2, 6):
        layer(schedule, position, "alice", "bob", from_time=None)
    with django_assert_max_num_queries(5):
        on_call("primary", WEDNESDAY)


def test_next_shifts_begin_with_the_running_one(alice: Person, bob: Person) -> None:
    primary()
    found = next_shifts("primary", WEDNESDAY, WEDNESDAY + timedelta(days=14))
    assert [one.person for one in found] == ["alice", "bob", "alice"]
    assert found[0].starts_at == WEDNESDAY
    assert next_shifts("nights", WEDNESDAY) == []
