"""Whatever people, workers, clocks and bad luck do, in any order: the machine keeps its promises."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import engine, ticks, transitions
from controlplane.operations.claims import claim
from controlplane.operations.errors import OperationError, StepError, Unknown
from controlplane.operations.models import Event, Operation, OperationLock
from controlplane.operations.plans import digest_of
from controlplane.operations.states import ALLOWED, FINISHED, HOLDS_LOCKS, Answer, State
from tests.operations.recipes import plan_of, reset, world

pytestmark = pytest.mark.django_db(transaction=True)

SCOPES = st.sampled_from([("a",), ("b",), ("a", "b")])
WHO = st.sampled_from(["alice", "bob", "ada"])
# One of the operations there are: a number, taken modulo how many there are.
WHICH = st.integers(0, 5)


class Machine(RuleBasedStateMachine):
    """Two scopes, three people, any number of operations."""

    people: dict[str, Person]

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        reset()
        world.plan = plan_of("x", "y", recovery=True)
        self.seen: dict[int, str] = {}
        self.effects_of: dict[int, int] = {}

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    def one(self, which: int) -> Operation | None:
        ids = list(Operation.objects.order_by("pk").values_list("pk", flat=True))
        return Operation.objects.get(pk=ids[which % len(ids)]) if ids else None

    def attempt(self, act: Any, *arguments: Any) -> None:
        """People may try anything; being refused in words is fine, and must change nothing."""
        try:
            act(*arguments)
        except OperationError:
            pass

    @rule(who=WHO, scopes=SCOPES, approvals=st.integers(0, 2))
    def request(self, who: str, scopes: tuple[str, ...], approvals: int) -> None:
        transitions.request(
            Actor(self.people[who]), kind="sample", title="S", scopes=scopes, plan=world.plan, gates=[],
            reason="r", approvals_required=approvals,
        )  # fmt: skip

    @rule(who=WHO, which=WHICH, right=st.booleans())
    def approve(self, who: str, which: int, right: bool) -> None:
        if operation := self.one(which):
            digest = operation.plan_digest if right else "f" * 64
            self.attempt(transitions.approve, operation.pk, Actor(self.people[who]), digest)

    @rule(who=WHO, which=WHICH)
    def reject(self, who: str, which: int) -> None:
        if operation := self.one(which):
            self.attempt(transitions.reject, operation.pk, Actor(self.people[who]), operation.plan_digest, "no")

    @rule(who=WHO, which=WHICH)
    def cancel(self, who: str, which: int) -> None:
        if operation := self.one(which):
            self.attempt(transitions.cancel, operation.pk, Actor(self.people[who]), "stop")

    @rule(which=WHICH)
    def work(self, which: int) -> None:
        world.there.clear()
        if operation := self.one(which):
            engine.run(operation.pk, "w")

    @rule(which=WHICH, trouble=st.sampled_from(["error", "bad", "doubt"]))
    def work_in_trouble(self, which: int, trouble: str) -> None:
        world.there.clear()
        world.errors = {"x": [StepError("no", permanent=True)]} if trouble == "error" else {}
        world.bad = {"y": "bad"} if trouble == "bad" else {}
        world.doubt = {"y": Unknown("look")} if trouble == "doubt" else {}
        if operation := self.one(which):
            engine.run(operation.pk, "w")
        world.errors, world.bad, world.doubt = {}, {}, {}

    @rule(which=WHICH)
    def claim_and_die(self, which: int) -> None:
        if (operation := self.one(which)) and claim(operation.pk, "dying"):
            Operation.objects.filter(pk=operation.pk).update(lease_until=Now() - timedelta(seconds=1))

    @rule(which=WHICH, answer=st.sampled_from(Answer))
    def answer(self, which: int, answer: Answer) -> None:
        if operation := self.one(which):
            step = operation.steps.filter(state="unknown").first()
            key = step.key if step else "x"
            self.attempt(transitions.resolve, operation.pk, Actor(self.people["alice"]), key, answer)

    @rule(which=WHICH)
    def time_for_approval_passes(self, which: int) -> None:
        if operation := self.one(which):
            Operation.objects.filter(pk=operation.pk).update(approval_deadline=Now() - timedelta(seconds=1))
        ticks.expire_approvals()

    @rule()
    def the_plan_moves(self) -> None:
        names = ("x", "y") if len(world.plan.steps) == 3 else ("x", "y", "z")
        world.plan = plan_of(*names, recovery=True)

    @invariant()
    def only_allowed_moves_were_made(self) -> None:
        for operation in Operation.objects.all():
            before, now = self.seen.get(operation.pk), operation.state
            if before and before != now:
                assert now in reachable(State(before)), f"{before} → {now}"
            self.seen[operation.pk] = now

    @invariant()
    def locks_belong_to_those_who_may_hold_them(self) -> None:
        held: dict[str, int] = {}
        for operation in Operation.objects.filter(state__in=HOLDS_LOCKS):
            for scope in operation.scopes:
                assert scope not in held, "two operations change one scope"
                held[scope] = operation.pk
        assert dict(OperationLock.objects.values_list("name", "operation_id")) == held

    @invariant()
    def nothing_ran_without_its_approvals(self) -> None:
        for operation in Operation.objects.exclude(started_at=None):
            signed = operation.approvals.filter(decision="approved", plan_digest=operation.plan_digest)
            people = set(signed.values_list("person_id", flat=True)) - {operation.requested_by_id}
            assert len(people) >= operation.approvals_required
            assert digest_of(operation.plan) == operation.plan_digest

    @invariant()
    def the_story_has_no_gap_and_every_end_is_audited(self) -> None:
        for operation in Operation.objects.all():
            seqs = list(Event.objects.filter(operation=operation).order_by("seq").values_list("seq", flat=True))
            assert seqs == list(range(1, operation.last_seq + 1))
            if operation.state in FINISHED:
                ends = Entry.objects.filter(target=f"operation {operation.pk}", action=f"operation.{operation.state}")
                assert ends.count() == 1


def reachable(state: State) -> set[State]:
    """Every state some moves away: one rule may make several moves."""
    found: set[State] = set()
    todo = [state]
    while todo:
        for following in ALLOWED[todo.pop()]:
            if following not in found:
                found.add(following)
                todo.append(following)
    return found


def test_the_machine_keeps_its_promises(alice: Person, bob: Person, ada: Person) -> None:
    Machine.people = {"alice": alice, "bob": bob, "ada": ada}
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=40, stateful_step_count=25, suppress_health_check=list(HealthCheck)),
    )
