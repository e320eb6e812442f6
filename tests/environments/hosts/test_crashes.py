"""A worker may die at any boundary, or with an answer of the engine in its hands: nothing starts or stops twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries
from controlplane.operations.errors import StepError
from controlplane.operations.models import Effect, Operation
from controlplane.operations.states import State
from deployments.models import Release
from deployments.services import request_deployment
from environments.drivers.hosts.engine import Engine
from environments.drivers.hosts.pull import PULLED
from environments.drivers.hosts.steps import HOLD
from tests.environments.hosts.conftest import BOTH_ENGINES, MakePark
from tests.environments.hosts.paper_balancer import PaperBalancer
from tests.environments.hosts.park import Park
from tests.operations.dying import Killed, die_once_at_each_boundary, run_until_the_end

pytestmark = pytest.mark.django_db(transaction=True)

PAPER = {"kind": "paper", "pool": "web"}
RENEWED = [("start", "1.4.0"), ("stop", "1.4.0"), ("start", "1.5.0")]
PUT_BACK = [
    ("start", "1.4.0"), ("stop", "1.4.0"), ("start", "1.6.0"), ("stop", "1.6.0"), ("start", "1.4.0"),
]  # fmt: skip
EACH = ["deregistered", "stopped", "started", "registered"]


How = tuple[list[str], Callable[[], BaseException], bool]


def no_answer() -> StepError:
    """What a lost connection comes to."""
    return StepError("The engine gave no answer.")


ALL = ["create", "start", "stop", "remove"]
# Which calls, what happens to the first of each, and whether it was carried out.
HOW: dict[str, How] = {
    "killed before": (ALL, Killed, False),
    "killed after": (ALL, Killed, True),
    "lost before": (["create", "start"], no_answer, False),
    "lost after": (["stop", "remove"], no_answer, True),
    "lost after a start": (["create", "start"], no_answer, True),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    boundaries.listeners.clear()


@pytest.fixture
def production(park: MakePark, balancer: PaperBalancer) -> Park:
    """Two hosts behind a balancer, with 1.4.0."""
    production = park(2, balancer=PAPER, start_seconds=2.0)
    assert production.deploy("1.4.0") is None
    balancer.done.clear()
    balancer.drains = 1
    return production


@pytest.fixture
def alone(park: MakePark) -> Park:
    """One host, with 1.4.0."""
    production = park(1, start_seconds=2.0, soak_seconds=0)
    assert production.deploy("1.4.0") is None
    return production


def ask(production: Park, alice: Person, version: str) -> Operation:
    """Alice asks for a deployment; it needs no approval here. Fences go on from those that were used by hand."""
    software = production.images.release(version)
    values = {"image": software.image, "digest": software.digest, "ci": "passed"}
    release, _ = Release.objects.get_or_create(service=production.placement.service, version=version, defaults=values)
    environment = production.placement.environment
    return request_deployment(Actor(alice), environment=environment, release=release, reason="because")


def effects(operation: Operation, subject: str) -> list[str]:
    """But the pulling: Docker keeps an image for all tests of a process, so it is done by whichever is first."""
    told = Effect.objects.filter(operation=operation, subject=subject).exclude(what=PULLED)
    return list(told.values_list("what", flat=True))


@BOTH_ENGINES
def test_a_death_at_every_boundary_changes_nothing(production: Park, alice: Person, balancer: PaperBalancer) -> None:
    operation = ask(production, alice, "1.5.0")
    reached = die_once_at_each_boundary()
    deaths = run_until_the_end(operation)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert deaths == len(reached) > 50
    assert production.versions() == ["1.5.0", "1.5.0"]
    assert production.effects(1) == production.effects(2) == RENEWED
    assert balancer.done == [(what, f"production-{number}") for number in (1, 2) for what in ("remove", "add")]
    assert effects(operation, "production-1") == effects(operation, "production-2") == EACH


def test_a_death_at_every_boundary_of_the_way_back_changes_nothing(
    production: Park, alice: Person, balancer: PaperBalancer
) -> None:
    operation = ask(production, alice, "1.6.0")
    reached = die_once_at_each_boundary()
    run_until_the_end(operation)
    assert operation.state == State.FAILED
    assert operation.outcome.startswith("put back: check health: /health answered 503 at production-1")
    assert operation.outcome.endswith("Never touched: production-2.")
    assert ("verified", "put-back/production-1/return") in reached
    assert production.versions() == ["1.4.0", "1.4.0"]
    assert production.effects(1) == PUT_BACK
    assert production.effects(2) == [("start", "1.4.0")]
    assert sorted(balancer.members) == ["production-1", "production-2"]


def lose(monkeypatch: pytest.MonkeyPatch, method: str, trouble: Callable[[], BaseException], *, after: bool) -> None:
    """Something happens at the first call of it, before it arrives or after it was carried out."""
    real = getattr(Engine, method)

    def troubled(self: Engine, *arguments: Any, **values: Any) -> Any:
        monkeypatch.setattr(Engine, method, real)
        if after:
            real(self, *arguments, **values)
        raise trouble()

    monkeypatch.setattr(Engine, method, troubled)


@BOTH_ENGINES
@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_call_that_goes_wrong_is_looked_after_before_it_is_sent_again(
    alone: Park, alice: Person, monkeypatch: pytest.MonkeyPatch, how: How
) -> None:
    methods, trouble, after = how
    operation = ask(alone, alice, "1.5.0")
    for method in methods:
        lose(monkeypatch, method, trouble, after=after)
    run_until_the_end(operation)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert alone.effects() == RENEWED
    assert Counter(effects(operation, "production-1")) == Counter(["stopped", "started"])


def test_the_way_back_is_gone_once_too(alone: Park, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = ask(alone, alice, "1.6.0")
    begun: list[str] = []

    def listener(boundary: str, operation_id: int, step_key: str) -> None:
        if step_key.startswith("put-back/production-1/clear") and not begun:
            begun.append(step_key)
            for method in ("rename", "start", "stop", "remove"):
                lose(monkeypatch, method, Killed, after=True)

    boundaries.listeners.append(listener)
    assert run_until_the_end(operation) == 4
    assert operation.state == State.FAILED
    assert alone.versions() == ["1.4.0"]
    assert alone.effects() == PUT_BACK


@pytest.mark.parametrize("trouble", [Killed, no_answer])
def test_the_name_is_taken_although_whoever_ended_what_was_new_did_not_come_to_that(
    park: MakePark, alice: Person, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[], BaseException]
) -> None:
    first = park(1, start_seconds=1.5)
    operation = ask(first, alice, "1.6.0")
    lose(monkeypatch, "rename", trouble, after=False)
    run_until_the_end(operation)
    assert operation.state == State.FAILED
    found = first.container()
    assert found is not None and found.is_held and found.is_fresh
    assert first.container(more=HOLD) is None
    assert effects(operation, "production-1") == ["started", "stopped"]
