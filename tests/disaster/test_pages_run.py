"""The page of a failover: one next thing to do for whoever looks, time against the promise, what is proven."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from backups.disaster.charts import rto_bar
from backups.disaster.page import RunPage
from backups.disaster.report import flat
from backups.models import Recovery, RecoveryPlan
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from controlplane.web.tones import Tone
from tests.disaster.paper import PRIMARY, plan, world
from tests.disaster.runs import asked, drilled, over
from tests.disaster.test_pages_overview import get

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)
Approve = Callable[[Operation], Operation]


@pytest.fixture
def approve(bob: Person, ada: Person) -> Approve:
    """Bob and Ada sign it, and a worker runs it."""

    def run(operation: Operation) -> Operation:
        for person in (bob, ada):
            transitions.approve(operation.pk, Actor(person), operation.plan_digest)
        engine.run(operation.pk, "w1")
        operation.refresh_from_db()
        return operation

    return run


def here(operation: Operation) -> str:
    return f"/recovery/runs/{operation.pk}"


class TestTheNextThing:
    def test_who_may_approve_is_asked_to_and_who_asked_waits(
        self, client: Client, plan: RecoveryPlan, alice: Person, bob: Person, dana: Person
    ) -> None:
        operation = asked(alice, plan)
        assert "Read the plan, then approve it" in get(client, bob, here(operation))
        waits = get(client, alice, here(operation))
        assert "Wait for 2 more approvals" in waits and "Bob can: call them." in waits
        assert "Approve this plan" not in waits
        assert "Only people with the role approver" in get(client, dana, here(operation))

    def test_an_approval_comes_back_to_the_page(
        self, client: Client, plan: RecoveryPlan, alice: Person, bob: Person
    ) -> None:
        operation = asked(alice, plan)
        client.force_login(bob)
        signed = {"plan_digest": operation.plan_digest, "next": here(operation)}
        answer = client.post(f"/operations/{operation.pk}/approve", signed)
        assert (answer.status_code, answer.headers["Location"]) == (302, here(operation))
        said = get(client, bob, here(operation))
        assert "Wait for 1 more approval<" in said and "You have given your word on it already" in said

    def test_no_form_leads_out_of_the_control_plane(
        self, client: Client, plan: RecoveryPlan, alice: Person, bob: Person
    ) -> None:
        operation = asked(alice, plan)
        client.force_login(bob)
        signed = {"plan_digest": operation.plan_digest, "next": "https://evil.example/"}
        answer = client.post(f"/operations/{operation.pk}/approve", signed)
        assert answer.headers["Location"] == operation.get_absolute_url()

    def test_an_unproven_fence_is_asked_of_operators_with_the_risk_in_words(
        self, client: Client, plan: RecoveryPlan, alice: Person, dana: Person, approve: Approve
    ) -> None:
        world.away = {PRIMARY}
        operation = approve(asked(alice, plan))
        assert operation.state == State.NEEDS_OPERATOR
        said = get(client, alice, here(operation))
        assert "It is not proven" in said and "The risk:" in said and "I take the risk" in said
        step = operation.steps.get(state="unknown")
        assert str(step.spec["risk"]) in said.replace("&#x27;", "'")
        viewer = get(client, dana, here(operation))
        assert "Wait for an operator" in viewer and "I take the risk" not in viewer

    def test_the_risk_is_taken_in_words_only_and_stays_on_the_page(
        self, client: Client, plan: RecoveryPlan, alice: Person, approve: Approve
    ) -> None:
        world.away = {PRIMARY}
        operation = approve(asked(alice, plan))
        step = operation.steps.get(state="unknown")
        client.force_login(alice)
        answer = {"step": step.key, "attempt": step.attempt, "answer": "skip", "next": here(operation)}
        assert client.post(f"/operations/{operation.pk}/resolve", answer).status_code == 422
        words = {**answer, "comment": "AWS says the region is dark"}
        assert client.post(f"/operations/{operation.pk}/resolve", words).headers["Location"] == here(operation)
        said = get(client, alice, here(operation))
        assert "not proven" in said and "Alice: AWS says the region is dark" in said

    def test_when_it_is_done_it_says_who_serves_and_what_it_took(
        self, client: Client, plan: RecoveryPlan, alice: Person, approve: Approve
    ) -> None:
        operation = approve(asked(alice, plan))
        assert operation.state == State.SUCCEEDED, operation.outcome
        said = get(client, alice, here(operation))
        assert "Dr serves people" in said and "Read the report" in said and "Bring it home" in said
        assert "all of it" in said, "everything that has to be proven is"

    def test_a_failure_says_what_happened_and_where_to_look(
        self, client: Client, plan: RecoveryPlan, alice: Person
    ) -> None:
        operation = asked(alice, plan)
        over(operation, state="failed")
        Operation.objects.update(outcome="the snapshot is not there any more")
        said = get(client, alice, here(operation))
        assert "It failed" in said and "the snapshot is not there any more" in said and "Look at the log" in said

    def test_a_worker_at_it_leaves_nothing_to_do(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        operation = asked(alice, plan)
        now = timezone.now()
        Operation.objects.update(state="running", started_at=now, lease_until=now + timedelta(hours=1))
        operation.steps.filter(key="assess").update(state="running", attempt=1, started_at=now)
        said = get(client, alice, here(operation))
        assert "Nothing to do now" in said and "Ask both sides how they are" in said


class TestHowItStands:
    def test_a_phase_is_one_line_wherever_its_steps_stand(self, plan: RecoveryPlan, alice: Person) -> None:
        page = RunPage(Actor(alice), Recovery.objects.select_related("plan").get(operation=asked(alice, plan)))
        titles = [phase.title for phase in page.phases]
        assert len(titles) == len(set(titles))
        assert titles.index("Fence") < titles.index("Proof of the fence") < titles.index("Traffic")

    def test_the_marks_are_where_the_last_step_of_each_phase_is_predicted_to_end(
        self, plan: RecoveryPlan, alice: Person
    ) -> None:
        operation = asked(alice, plan)
        keys = [step.key for step in operation.steps.filter(phase="main")]
        Recovery.objects.update(predicted={"seconds": 0, "steps": dict.fromkeys(keys, 10.0)})
        Operation.objects.update(started_at=operation.requested_at)
        page = RunPage(Actor(alice), Recovery.objects.select_related("plan").get())
        assert page.bar.predicted == pytest.approx(10.0 * len(keys))
        assert len(page.bar.marks) == len(page.phases)

    def test_time_against_the_promise(self) -> None:
        fine = rto_bar(60, 240, [("a", 30.0), ("b", 120.0)])
        assert (fine.passed, fine.promise, [mark.x for mark in fine.marks]) == ("180.0", "720.0", ["90.0", "360.0"])
        assert (fine.tone, fine.is_over) == (Tone.BUSY, False)
        assert rto_bar(60, 240, [("a", 300.0)]).tone == Tone.WAIT, "it will not be kept, as far as anybody can tell"
        late = rto_bar(480, 240, [])
        assert (late.tone, late.is_over, late.passed, late.promise) == (Tone.BAD, True, "720.0", "360.0")
        assert rto_bar(60, 240, [], over=True).tone == Tone.OK

    def test_time_of_a_failover_counts_from_the_decision_and_of_a_drill_from_its_start(
        self, plan: RecoveryPlan, alice: Person
    ) -> None:
        operation = asked(alice, plan)
        ago = timezone.now() - timedelta(minutes=30)
        Operation.objects.update(requested_at=ago)
        assert RunPage(Actor(alice), Recovery.objects.get(operation=operation)).seconds == pytest.approx(1800, abs=60)
        over(operation)
        drill = drilled(plan, seconds=60)
        Operation.objects.filter(pk=drill.operation_id).update(
            requested_at=ago, started_at=timezone.now(), finished_at=None, state="running"
        )
        Recovery.objects.filter(pk=drill.pk).update(recovered_at=None)
        assert RunPage(Actor(alice), Recovery.objects.get(pk=drill.pk)).seconds < 600

    def test_the_price_of_the_page(  # noqa: PLR0917 (fixtures)
        self, client: Client, plan: RecoveryPlan, alice: Person, bob: Person, ada: Person,
        django_assert_max_num_queries: DjangoAssertNumQueries,
    ) -> None:  # fmt: skip
        operation = asked(alice, plan)
        transitions.approve(operation.pk, Actor(ada), operation.plan_digest)
        client.force_login(bob)
        with django_assert_max_num_queries(20):
            answer: Any = client.get(here(operation))
        assert len(answer.content) < 100_000
        over(operation)
        for path in (here(operation), f"{here(operation)}/report"):
            with django_assert_max_num_queries(20):
                assert client.get(path).status_code == 200


class TestTheReport:
    def test_it_has_times_promises_people_and_evidence(
        self, client: Client, plan: RecoveryPlan, alice: Person, approve: Approve
    ) -> None:
        operation = approve(asked(alice, plan))
        said = get(client, alice, f"{here(operation)}/report")
        for words in ("RTO: until people were served", "RPO: what was lost", "all probes are red", "Bob", "Ada",
                      operation.plan_digest, "3 × 1.4.0 in dr", "lost_seconds"):  # fmt: skip
            assert words in said, words

    def test_a_broken_promise_is_called_so(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        recovery = drilled(plan, seconds=5 * 3600, rpo_seconds=7200.0)
        said = get(client, alice, f"{here(recovery.operation)}/report")
        assert said.count(">broken<") == 2

    def test_what_a_step_notes_is_laid_flat(self) -> None:
        noted = {"rows": {"users": 3, "orders": 0}, "probes": [{"what": "a", "well": True}], "names": ["x", "y"],
                 "lost_seconds": 61, "nothing": "", "none": None}  # fmt: skip
        assert dict(flat(noted)) == {
            "rows.users": "3", "rows.orders": "0", "probes.1.what": "a", "probes.1.well": "yes", "names": "x, y",
            "lost_seconds": "1\N{NO-BREAK SPACE}m\N{NO-BREAK SPACE}1\N{NO-BREAK SPACE}s",
        }  # fmt: skip
