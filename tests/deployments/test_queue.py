"""A second deployment waits for the first, planned as if that were done; it starts when its turn comes."""

from dataclasses import replace

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, engine
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Release
from deployments.services import request_deployment
from environments.models import Placement
from tests.estate import Estate, paper

pytestmark = pytest.mark.django_db(transaction=True)


def ask(actor: Person, estate: Estate, version: str) -> Operation:
    release = Release.objects.select_related("service").get(version=version)
    return request_deployment(Actor(actor), environment=estate.staging, release=release, reason=version)


def look(operation: Operation) -> str:
    operation.refresh_from_db()
    return f"{operation.state}: {operation.outcome}"


def test_it_is_tried_in_the_middle_of_the_first_and_waits(alice: Person, estate: Estate) -> None:
    Placement.objects.filter(environment=estate.staging).update(
        instances=[{"name": "staging-1"}, {"name": "staging-2"}]
    )
    paper.runs["staging-2"] = replace(paper.runs["staging-1"], instance="staging-2")
    first = ask(alice, estate, "1.4.0")
    seen: list[str] = []
    second: list[Operation] = []

    def between_the_instances(boundary: str, operation_id: int, step: str) -> None:
        if boundary == "state_written" and operation_id == first.pk and not seen:
            second.append(ask(alice, estate, "1.5.0"))
            assert not engine.run(second[0].pk, "w2")
            seen.append(look(second[0]))

    boundaries.listeners.append(between_the_instances)
    try:
        engine.run(first.pk, "w1")
    finally:
        boundaries.listeners.clear()
    assert seen == [f"queued: waits for operation {first.pk}: {first.title}"]
    assert engine.run(second[0].pk, "w2")
    assert look(second[0]) == "succeeded: "
    assert {paper.runs[name].version for name in ("staging-1", "staging-2")} == {"1.5.0"}


def test_if_the_first_fails_the_second_is_stale_and_says_so(alice: Person, estate: Estate) -> None:
    first, second = ask(alice, estate, "1.6.0"), ask(alice, estate, "1.4.0")
    engine.run(first.pk, "w1")
    assert look(first).startswith("failed")
    engine.run(second.pk, "w1")
    assert look(second).startswith("stale: not started: what runs there is not what the plan was made for")


def test_one_that_waits_for_its_checks_holds_up_nobody(alice: Person, estate: Estate) -> None:
    Release.objects.filter(version="1.4.0").update(ci="pending")
    waiting = ask(alice, estate, "1.4.0")
    urgent = ask(alice, estate, "1.6.0")  # planned past the one that waits, though no worker has looked at it yet
    engine.run(waiting.pk, "w1")
    assert look(waiting) == "queued: waits: the checks of 1.4.0 are still running"
    engine.run(urgent.pk, "w1")
    assert look(urgent).startswith("failed")  # it was let through; 1.6.0 never starts
    Release.objects.update(ci="passed")
    engine.run(waiting.pk, "w1")
    assert Operation.objects.get(pk=waiting.pk).state == State.SUCCEEDED
