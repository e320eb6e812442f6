"""In the background it is first come first served, and who cannot start holds nobody up."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from controlplane.operations import claims, doorbell, registry, transitions
from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.models import Operation
from controlplane.operations.states import EXECUTING, State
from tests.operations import recipes
from tests.operations.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)
PENDING = Gate("ci", "CI passed", Outcome.PENDING, "the checks are still running")


class Yard:
    """Background operations, and what is in the way of each. rings: what nobody has heard yet."""

    def __init__(self) -> None:
        self.rings: list[int] = []
        self.gated: set[int] = set()
        self.asked: set[int] = set()  # whose gate is known to be closed
        self.broken: dict[int, type[BaseException]] = {}

    def facts(self, operation: Operation) -> Mapping[str, Any]:
        if operation.pk in self.broken:
            raise self.broken[operation.pk]("in here")
        return {}

    def gates(self, operation: Operation, facts: Mapping[str, Any]) -> list[Gate]:
        if operation.pk not in self.gated:
            return []
        self.asked.add(operation.pk)
        return [PENDING]

    def heard(self) -> list[int]:
        """The rings so far, which are then gone."""
        rings, self.rings = self.rings, []
        return rings


@pytest.fixture
def yard(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Yard:
    """Sample operations run in the background, one at a time."""
    settings.BACKGROUND_OPERATIONS = 1
    yard = Yard()
    kind = replace(recipes.SAMPLE, background=True, facts=yard.facts, gates=yard.gates)
    monkeypatch.setitem(registry._kinds, "sample", kind)
    monkeypatch.setattr(doorbell, "redis_answers", lambda: True)
    monkeypatch.setattr(doorbell._sender, "send_task", lambda name, args, **options: yard.rings.extend(args))
    return yard


def end(operation: Operation, state: State = State.SUCCEEDED) -> None:
    with transaction.atomic():
        transitions.move(operation, state, came_from=EXECUTING, who=SYSTEM("test"), text="ended")


def outcome(operation: Operation) -> str:
    operation.refresh_from_db()
    return operation.outcome


def test_who_was_queued_first_starts_first(ask: Ask, yard: Yard) -> None:
    first, second = ask(scopes=("a",)), ask(scopes=("b",))
    yard.heard()
    assert claims.claim(second.pk, "w1") is None
    assert outcome(second) == f"waits for a place in the background behind operation {first.pk}: Sample"
    assert yard.heard() == [first.pk]  # its own ring may have been lost
    assert claims.claim(first.pk, "w1")


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.NEEDS_OPERATOR])
def test_the_next_one_is_rung_as_soon_as_a_place_is_free(ask: Ask, yard: Yard, state: State) -> None:
    running, second, third = (ask(scopes=(name,)) for name in "abc")
    assert claims.claim(running.pk, "w1")
    assert claims.claim(second.pk, "w1") is None
    assert "others shall find a free worker" in outcome(second)
    yard.heard()
    end(running, state)
    assert yard.heard() == [second.pk]
    assert claims.claim(third.pk, "w1") is None and claims.claim(second.pk, "w1")


def test_each_start_rings_for_the_next_free_place(ask: Ask, yard: Yard, settings: Any) -> None:
    settings.BACKGROUND_OPERATIONS = 2
    first, second, _ = (ask(scopes=(name,)) for name in "abc")
    yard.heard()
    assert claims.claim(first.pk, "w1")
    assert yard.heard() == [second.pk]
    assert claims.claim(second.pk, "w1")
    assert yard.heard() == []


def test_one_that_is_called_off_gives_its_turn_to_the_next(ask: Ask, yard: Yard, alice: Person) -> None:
    first, second = ask(scopes=("a",)), ask(scopes=("b",))
    yard.heard()
    transitions.cancel(first.pk, Actor(alice), "enough")
    assert yard.heard() == [second.pk]


def test_what_waits_for_a_lock_or_behind_another_holds_nobody_up(ask: Ask, yard: Yard, settings: Any) -> None:
    settings.BACKGROUND_OPERATIONS = 2
    holder, held, behind, free = (ask(scopes=(name,)) for name in "aaab")
    assert claims.claim(holder.pk, "w1")
    for one in (behind, held):
        assert claims.claim(one.pk, "w1") is None
    assert claims.claim(free.pk, "w1")


def test_what_is_behind_one_of_the_foreground_holds_nobody_up(
    ask: Ask, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._kinds, "urgent", replace(recipes.SAMPLE, key="urgent"))
    urgent, behind, free = ask(), ask(), ask(scopes=("b",))
    Operation.objects.filter(pk=urgent.pk).update(kind="urgent")
    assert claims.claim(behind.pk, "w1") is None
    assert claims.claim(free.pk, "w1")


def test_a_gate_holds_nobody_up_and_is_asked_again_at_each_free_place(ask: Ask, yard: Yard) -> None:
    gated, running, later = (ask(scopes=(name,)) for name in "abc")
    yard.gated = {gated.pk}
    yard.heard()
    assert claims.claim(gated.pk, "w1") is None
    assert outcome(gated) == "waits: the checks are still running"
    assert yard.heard() == [gated.pk, running.pk]
    assert claims.claim(running.pk, "w1")
    end(running)
    assert yard.heard() == [gated.pk, later.pk]
    yard.gated.clear()
    assert claims.claim(gated.pk, "w1")


def test_a_gate_known_to_be_closed_from_the_beginning_holds_nobody_up(ask: Ask, yard: Yard) -> None:
    ask(scopes=("a",), gates=[PENDING])
    assert claims.claim(ask(scopes=("b",)).pk, "w1")


def test_what_cannot_be_checked_gives_its_turn_away_until_it_is_mended(ask: Ask, yard: Yard) -> None:
    broken, running, later = (ask(scopes=(name,)) for name in "abc")
    yard.broken = {broken.pk: ZeroDivisionError}
    yard.heard()
    assert claims.claim(broken.pk, "w1") is None
    assert "it cannot be checked" in outcome(broken)
    assert yard.heard() == [broken.pk, running.pk]
    assert claims.claim(broken.pk, "w1") is None
    assert yard.heard() == []  # no ring leads to another for ever
    assert claims.claim(running.pk, "w1")
    end(running)
    assert yard.heard() == [broken.pk, later.pk]
    yard.broken.clear()
    assert claims.claim(broken.pk, "w1")


def test_a_kind_that_nobody_knows_any_more_holds_nobody_up(ask: Ask, yard: Yard) -> None:
    gone, later = ask(scopes=("a",)), ask(scopes=("b",))
    Operation.objects.filter(pk=gone.pk).update(kind="gone")
    assert claims.claim(gone.pk, "w1") is None
    assert claims.claim(later.pk, "w1")


@pytest.mark.parametrize("accident", [KeyboardInterrupt, OperationalError])
def test_a_worker_that_dies_while_it_looks_holds_others_up_for_a_moment_only(
    ask: Ask, yard: Yard, accident: type[BaseException]
) -> None:
    deadly, later = ask(scopes=("a",)), ask(scopes=("b",))
    yard.broken = {deadly.pk: accident}
    for again in (True, True, False):
        with pytest.raises(accident):
            claims.claim(deadly.pk, "w1")
        if again:
            assert claims.claim(later.pk, "w2") is None
    Operation.objects.filter(pk=deadly.pk).update(turn_until=Now() - timedelta(seconds=1))
    with pytest.raises(accident):
        claims.claim(deadly.pk, "w1")
    assert claims.claim(later.pk, "w2")


class Story:
    """Random rings, ends and losses, seen by workers in turn, and what must hold after each of them."""

    def __init__(self, seed: int, yard: Yard, ask: Ask, places: int) -> None:
        self.random = random.Random(seed)
        self.yard, self.ask, self.places = yard, ask, places
        self.waiting: list[Operation] = []
        self.running: list[Operation] = []
        self.started: list[int] = []
        self.mended = False

    def queue(self) -> None:
        operation = self.ask(scopes=tuple(self.random.sample("abcdefgh", self.random.choice((1, 1, 2)))))
        self.waiting.append(operation)
        if self.random.random() < 0.15:
            self.yard.gated.add(operation.pk)
        elif self.random.random() < 0.15:
            self.yard.broken[operation.pk] = ValueError

    def end(self) -> None:
        if self.running:
            end(self.running.pop(self.random.randrange(len(self.running))))

    def hear(self, operation_id: int) -> None:
        """A worker hears one ring; what it starts must have been the first of those that might."""
        if claims.claim(operation_id, f"w{self.random.randrange(4)}"):
            assert self.mended or operation_id == self.who_may()[0].pk
            operation = next(one for one in self.waiting if one.pk == operation_id)
            self.waiting.remove(operation)
            self.running.append(operation)
            self.started.append(operation_id)
        assert len(self.running) <= self.places

    def who_may(self) -> list[Operation]:
        """Those that could start now, if there is a place: a second opinion, from the story alone."""
        stuck = self.yard.gated | set(self.yard.broken)
        taken = {scope for one in self.running for scope in one.scopes}
        may: list[Operation] = []
        for one in self.waiting:
            if one.pk not in stuck and taken.isdisjoint(one.scopes):
                may.append(one)
            if one.pk not in self.yard.asked:  # what waits for a gate lets others have its locks
                taken |= set(one.scopes)
        return may

    def settle(self) -> None:
        """All rings are heard, and those that they lead to; then nobody waits beside a free place."""
        while rings := self.yard.heard():
            self.random.shuffle(rings)
            for operation_id in rings:
                self.hear(operation_id)
        assert len(self.running) == self.places or not self.who_may()

    def lose_rings(self) -> None:
        """The broker forgets, and the clock rings again."""
        self.yard.heard()
        self.yard.rings += [one.pk for one in self.waiting]

    def mend(self) -> None:
        """Nothing is in the way of any: all can start, whenever it is found out."""
        self.mended = True
        self.yard.asked.clear()
        self.yard.gated.clear()
        self.yard.broken.clear()
        self.lose_rings()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_order_holds_and_no_place_stays_free(
    ask: Ask, yard: Yard, settings: Any, seed: int
) -> None:
    settings.BACKGROUND_OPERATIONS = places = 1 + seed % 3
    story = Story(seed, yard, ask, places)
    for _ in range(20):
        for move in story.random.choices((story.queue, story.end, story.lose_rings), (4, 3, 1), k=2):
            move()
        story.settle()
    story.mend()
    story.settle()
    while story.running:
        story.end()
        story.settle()
    assert not story.waiting and len(set(story.started)) == len(story.started) > 15
