"""The old side is fenced, and that is proven, before the new one takes in anything; people are asked in doubt."""

from collections.abc import Callable

import pytest

from backups.disaster import duties
from backups.disaster.services import request_drill, request_failback, request_failover
from backups.models import Recovery, RecoveryClock, RecoveryPlan
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import engine, transitions
from controlplane.operations import world as the_world
from controlplane.operations.errors import Invalid, LeaseLost, StepError
from controlplane.operations.models import Operation
from controlplane.operations.states import Answer, State
from environments.models import ConfigEntry, Placement
from tests.disaster.paper import PRIMARY, STANDBY, plan, world

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)
Ask = Callable[..., Operation]


@pytest.fixture
def failover(plan: RecoveryPlan, alice: Person, bob: Person, ada: Person) -> Ask:
    """Alice asks, Bob and Ada approve, a worker runs it."""

    def run(point: str = "replica") -> Operation:
        operation = request_failover(Actor(alice), plan, point=point, words="all probes are red", reason="region down")
        for person in (bob, ada):
            transitions.approve(operation.pk, Actor(person), operation.plan_digest)
        engine.run(operation.pk, "w1")
        operation.refresh_from_db()
        return operation

    return run


def runs() -> dict[str, str]:
    """Which version is said to run in each environment; "" for none."""
    return dict(Placement.objects.values_list("environment__slug", "version"))


def test_people_are_moved_and_what_was_reached_is_kept(failover: Ask, plan: RecoveryPlan) -> None:
    operation = failover()
    assert operation.state == State.SUCCEEDED, operation.outcome
    plan.refresh_from_db()
    assert (plan.active, world.people, world.writable) == ("standby", STANDBY, {STANDBY})
    recovery = Recovery.objects.get()
    assert recovery.fence_proven is True
    assert recovery.accepted_risk == ""
    assert recovery.rto_seconds is not None
    assert recovery.rpo_seconds == 0, "the newest row of the old side is there"
    assert runs() == {PRIMARY: "", STANDBY: "1.4.0"}


def test_nothing_opens_before_the_fence_is_proven(failover: Ask) -> None:
    failover()
    opened = world.order.index(f"open {STANDBY}")
    for proof in (f"proven stop {PRIMARY}", f"proven fence {PRIMARY}"):
        assert world.order.index(proof) < opened
    assert not world.both


def test_what_takes_long_is_set_going_before_anything_is_waited_for(failover: Ask) -> None:
    failover()
    begun = max(world.order.index(name) for name in (f"restore {STANDBY}", f"start {STANDBY}"))
    assert begun < min(number for number, name in enumerate(world.order) if name.startswith("proven"))


def test_a_side_that_cannot_be_reached_needs_a_named_person_who_accepts_the_risk(failover: Ask, alice: Person) -> None:
    world.away = {PRIMARY}
    operation = failover()
    assert operation.state == State.NEEDS_OPERATOR
    assert STANDBY not in world.writable
    assert world.people == PRIMARY
    step = operation.steps.get(state="unknown")
    with pytest.raises(Invalid, match="Say in words that you accept this"):
        transitions.resolve(operation.pk, Actor(alice), step.key, Answer.DONE)
    while operation.state == State.NEEDS_OPERATOR:
        step = operation.steps.get(state="unknown")
        transitions.resolve(operation.pk, Actor(alice), step.key, Answer.SKIP, "the power is off, says the landlord")
        engine.run(operation.pk, "w2")
        operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED
    recovery = Recovery.objects.get()
    assert recovery.fence_proven is False
    assert recovery.accepted_risk_by_name == "Alice"
    assert "the power is off" in recovery.accepted_risk
    assert "cannot be reached" in recovery.accepted_risk


def test_what_fails_for_good_asks_instead_of_ending_half_way(failover: Ask, alice: Person) -> None:
    world.errors = {f"open {STANDBY}": [StepError("it will not", permanent=True)]}
    operation = failover()
    assert operation.state == State.NEEDS_OPERATOR
    transitions.resolve(operation.pk, Actor(alice), "database/open", Answer.RETRY)
    engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED


@pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
def test_a_worker_that_dies_at_any_step_is_taken_over_and_nothing_is_done_twice(  # noqa: PLR0917 (fixtures)
    plan: RecoveryPlan, alice: Person, bob: Person, ada: Person, boundary: str, crash_at: Callable[..., object]
) -> None:
    operation = request_failover(Actor(alice), plan, point="replica", words="red", reason="region down")
    for person in (bob, ada):
        transitions.approve(operation.pk, Actor(person), operation.plan_digest)
    crash_at(boundary)
    for turn in range(60):
        try:
            engine.run(operation.pk, f"w{turn}")
        except LeaseLost:
            pass
        Operation.objects.filter(pk=operation.pk, state=State.RUNNING).update(lease_until="2000-01-01T00:00:00Z")
        operation.refresh_from_db()
        if operation.state != State.RUNNING:
            break
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert set(world.effects.values()) == {1}
    assert not world.both


def test_home_again(failover: Ask, plan: RecoveryPlan, alice: Person, bob: Person, ada: Person) -> None:
    failover()
    plan.refresh_from_db()
    world.restored.clear()
    operation = request_failback(Actor(alice), plan, reason="the region is back")
    for person in (bob, ada):
        transitions.approve(operation.pk, Actor(person), operation.plan_digest)
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED, operation.outcome
    plan.refresh_from_db()
    assert (plan.active, world.people, world.writable, world.both) == ("primary", PRIMARY, {PRIMARY}, False)
    assert runs() == {PRIMARY: "1.4.0", STANDBY: ""}


def test_a_drill_touches_nothing_that_serves_people_and_leaves_nothing(plan: RecoveryPlan, alice: Person) -> None:
    operation = request_drill(Actor(alice), plan, reason="monthly")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert (world.people, world.writable, world.running) == (PRIMARY, {PRIMARY}, {PRIMARY: 3, STANDBY: 0})
    assert world.effects["scratch main-drill"] == 1
    assert world.scratch == set()


def test_a_drill_that_fails_is_cleaned_up_too_and_stays_owed(plan: RecoveryPlan, alice: Person) -> None:
    RecoveryClock.objects.create(plan=plan)
    world.errors = {f"start {STANDBY}": [StepError("no capacity", permanent=True)]}
    operation = request_drill(Actor(alice), plan, reason="monthly")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.FAILED
    assert "no capacity" in operation.outcome
    assert world.scratch == set()
    assert RecoveryClock.objects.get().overdue_said_at is not None


def test_a_game_day_loses_its_connection_and_comes_to_its_end(plan: RecoveryPlan, alice: Person) -> None:
    operation = request_drill(Actor(alice), plan, reason="game day", faults=["connection-lost"])
    for turn in range(5):
        engine.run(operation.pk, f"w{turn}")
        Operation.objects.filter(pk=operation.pk, state=State.RUNNING).update(lease_until="2000-01-01T00:00:00Z")
        operation.refresh_from_db()
        if operation.is_finished:
            break
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert operation.steps.get(key="fault/connection-lost").attempt == 1


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_side_that_comes_back_after_it_was_left_without_a_proof_is_fenced_at_once(
    failover: Ask, plan: RecoveryPlan, alice: Person, is_stopped: bool
) -> None:
    world.away = {PRIMARY}
    operation = failover()
    while operation.state == State.NEEDS_OPERATOR:
        step = operation.steps.get(state="unknown")
        transitions.resolve(operation.pk, Actor(alice), step.key, Answer.SKIP, "it is dead")
        engine.run(operation.pk, "w2")
        operation.refresh_from_db()
    assert PRIMARY in world.writable, "it came to no harm, nobody could reach it"
    assert duties.fence_late() == 0, "nobody answers there yet"
    world.away = set()
    if is_stopped:
        the_world.stop(Actor(alice), "nobody touches anything")
    assert [duties.fence_late(), duties.fence_late()] == [1, 0]
    late = Recovery.objects.get(kind="fence")
    engine.run(late.operation_id, "w3")
    late.refresh_from_db()
    assert late.operation.state == State.SUCCEEDED
    assert late.fence_proven is True
    assert (world.writable, world.running[PRIMARY]) == ({STANDBY}, 0)
    assert duties.fence_late() == 0


def test_the_standbys_variables_become_what_the_plan_says_before_anything_is_started(
    failover: Ask, plan: RecoveryPlan
) -> None:
    ConfigEntry.objects.create(environment=plan.standby, key="REDIS_URL", value="redis://nowhere")
    plan.configuration = {"REDIS_URL": "redis://dr", "DB_PASSWORD": {"secret": "file:dr/db-password"}}
    plan.save()
    operation = failover()
    assert operation.state == State.SUCCEEDED, operation.outcome
    rows = ConfigEntry.objects.filter(environment=plan.standby).values_list("key", "value", "secret")
    assert sorted(rows) == [("DB_PASSWORD", "", "file:dr/db-password"), ("REDIS_URL", "redis://dr", "")]
    position = dict(operation.steps.values_list("key", "position"))
    assert position["configuration"] < position["applications/api/start"]
    assert Entry.objects.filter(action="environment.configured").count() == 1


def test_a_late_fence_that_fails_is_not_asked_for_all_the_time(failover: Ask, alice: Person) -> None:
    world.away = {PRIMARY}
    operation = failover()
    while operation.state == State.NEEDS_OPERATOR:
        step = operation.steps.get(state="unknown")
        transitions.resolve(operation.pk, Actor(alice), step.key, Answer.SKIP, "it is dead")
        engine.run(operation.pk, "w2")
        operation.refresh_from_db()
    world.away = set()
    world.errors = {f"fence {PRIMARY}": [StepError("not allowed", permanent=True)]}
    assert duties.fence_late() == 1
    engine.run(Recovery.objects.get(kind="fence").operation_id, "w3")
    assert Recovery.objects.get(kind="fence").operation.state == State.FAILED
    assert duties.fence_late() == 0
    Operation.objects.filter(kind="fence").update(requested_at="2026-01-01T00:00:00Z")
    assert duties.fence_late() == 1


def test_nobody_fences_the_side_that_people_never_left_for(failover: Ask, plan: RecoveryPlan, alice: Person) -> None:
    world.away = {PRIMARY}
    world.errors = {f"open {STANDBY}": [StepError("it will not", permanent=True)]}
    operation = failover()
    while operation.state == State.NEEDS_OPERATOR:
        step = operation.steps.get(state="unknown")
        answer = Answer.ROLL_BACK if step.key == "database/open" else Answer.SKIP
        transitions.resolve(operation.pk, Actor(alice), step.key, answer, "enough of it")
        engine.run(operation.pk, "w2")
        operation.refresh_from_db()
    plan.refresh_from_db()
    assert (operation.state, plan.active) == (State.FAILED, "primary")
    world.away = set()
    assert duties.fence_late() == 0
