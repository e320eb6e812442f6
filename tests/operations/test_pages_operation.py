"""The page of an operation: what everybody reads, what each person is asked, and who is turned away."""

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import boundaries, engine, views
from controlplane.operations.errors import Unknown
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.operations.conftest import Ask
from tests.operations.recipes import World, plan_of

pytestmark = pytest.mark.django_db(transaction=True)
WRITES = ("operation-approve", "operation-reject", "operation-cancel", "operation-resolve")
READS = (
    "operation",
    "operation-status",
    "operation-actions",
    "operation-deed",
    "operation-log",
    "operation-log-download",
)


def page(client: Client, person: Person, operation: Operation, name: str = "operation") -> str:
    client.force_login(person)
    return client.get(reverse(name, args=[operation.pk])).content.decode()


def post(client: Client, person: Person, operation: Operation, name: str, **values: str):  # type: ignore[no-untyped-def]
    client.force_login(person)
    return client.post(reverse(name, args=[operation.pk]), values)


class TestWho:
    @pytest.mark.parametrize("name", READS)
    def test_somebody_unknown_is_asked_to_sign_in(self, client: Client, ask: Ask, name: str) -> None:
        url = reverse(name, args=[ask().pk])
        assert client.get(url).headers["Location"] == f"{reverse('login')}?next={url}"

    @pytest.mark.parametrize("name", WRITES)
    def test_somebody_unknown_writes_nothing(self, client: Client, ask: Ask, name: str) -> None:
        assert client.post(reverse(name, args=[ask().pk])).status_code == 302

    @pytest.mark.parametrize("name", READS)
    def test_an_outsider_finds_nothing(self, client: Client, ask: Ask, charlie: Person, name: str) -> None:
        client.force_login(charlie)
        assert client.get(reverse(name, args=[ask().pk])).status_code == 404

    @pytest.mark.parametrize("name", WRITES)
    def test_an_outsider_finds_nothing_to_change(self, client: Client, ask: Ask, charlie: Person, name: str) -> None:
        assert post(client, charlie, ask(), name, comment="no").status_code == 404

    def test_an_operator_of_another_environment_finds_nothing(self, client: Client, ask: Ask, eve: Person) -> None:
        assert post(client, eve, ask(), "operation-cancel", reason="mine").status_code == 404

    @pytest.mark.parametrize("name", WRITES)
    def test_a_viewer_changes_nothing_and_is_noted(self, client: Client, ask: Ask, dana: Person, name: str) -> None:
        operation = ask(approvals=1)
        digest = operation.plan_digest
        answer = post(client, dana, operation, name, plan_digest=digest, comment="x", reason="x", answer="skip")
        operation.refresh_from_db()
        assert answer.status_code == 403
        assert operation.state == State.AWAITING_APPROVAL
        assert Entry.objects.filter(actor="Dana", data__denied=True).exists()

    @pytest.mark.parametrize("name", WRITES)
    def test_reading_never_writes(self, client: Client, ask: Ask, bob: Person, name: str) -> None:
        client.force_login(bob)
        assert client.get(reverse(name, args=[ask().pk])).status_code == 405


class TestApproval:
    def test_the_requester_reads_who_can_and_is_refused(self, client: Client, ask: Ask, alice: Person) -> None:
        operation = ask(approvals=1)
        assert "somebody else has to approve it" in page(client, alice, operation)
        answer = post(client, alice, operation, "operation-approve", plan_digest=operation.plan_digest)
        assert answer.status_code == 403
        assert "somebody else has to approve it" in answer.content.decode()

    def test_an_approver_signs_the_plan_that_was_read(self, client: Client, ask: Ask, bob: Person) -> None:
        operation = ask(approvals=1)
        assert operation.plan_digest in page(client, bob, operation)
        digest = operation.plan_digest
        answer = post(client, bob, operation, "operation-approve", plan_digest=digest, comment="go on")
        operation.refresh_from_db()
        assert answer.headers["Location"] == operation.get_absolute_url()
        assert operation.state == State.QUEUED
        assert "“go on”" in page(client, bob, operation)

    @pytest.mark.parametrize("back", ["board", "operations/1", "?a=b", "//evil.example", "https://evil.example/"])
    def test_a_way_back_that_is_no_page_of_ours_is_not_taken(
        self, client: Client, ask: Ask, bob: Person, back: str
    ) -> None:
        operation = ask(approvals=1)
        answer = post(client, bob, operation, "operation-approve", plan_digest=operation.plan_digest, next=back)
        assert (answer.status_code, answer.headers["Location"]) == (302, operation.get_absolute_url())

    def test_another_plan_than_the_one_read_is_a_conflict(self, client: Client, ask: Ask, bob: Person) -> None:
        operation = ask(approvals=1)
        answer = post(client, bob, operation, "operation-approve", plan_digest="0" * 64, comment="kept words")
        assert answer.status_code == 409
        assert "Read it again" in answer.content.decode()
        assert "kept words" in answer.content.decode()

    def test_a_rejection_needs_its_reason(self, client: Client, ask: Ask, bob: Person) -> None:
        operation = ask(approvals=1)
        digest = operation.plan_digest
        assert post(client, bob, operation, "operation-reject", plan_digest=digest).status_code == 422
        post(client, bob, operation, "operation-reject", plan_digest=digest, comment="not today")
        assert "rejected by Bob: not today" in page(client, bob, operation)


class TestStop:
    def test_calling_it_off_before_it_started(self, client: Client, ask: Ask, alice: Person) -> None:
        operation = ask()
        assert post(client, alice, operation, "operation-cancel").status_code == 422
        assert post(client, alice, operation, "operation-cancel", reason="wrong window").status_code == 302
        assert "cancelled by Alice before it started: wrong window" in page(client, alice, operation)
        assert post(client, alice, operation, "operation-cancel", reason="again").status_code == 409

    def test_a_running_one_names_its_next_safe_point(self, client: Client, ask: Ask, alice: Person) -> None:
        operation = ask(plan_of("one", "two"))
        seen: list[str] = []

        def listen(boundary: str, _: int, step: str) -> None:
            if (boundary, step) == ("effect_done", "one"):
                seen.append(page(client, alice, operation))

        boundaries.listeners.append(listen)
        engine.run(operation.pk, "w1")
        assert "before two" in seen[0]
        assert "Not touched yet: two." in seen[0]


class TestDoubt:
    def test_the_open_step_is_named_and_answered(
        self, client: Client, ask: Ask, dana: Person, alice: Person, world: World
    ) -> None:
        operation = ask()
        world.doubt["one"] = Unknown("The connection broke. Look at host 1.")
        engine.run(operation.pk, "w1")
        assert "Only operators of production can answer." in page(client, dana, operation)
        said = page(client, alice, operation)
        assert "Look at host 1." in said
        assert all(f'value="{answer}"' in said for answer in ("retry", "skip", "done", "roll_back"))
        assert post(client, alice, operation, "operation-resolve", step="one").status_code == 422
        assert (
            post(client, alice, operation, "operation-resolve", step="one", answer="done", attempt="0").status_code
            == 409
        )
        assert (
            post(client, alice, operation, "operation-resolve", step="one", answer="done", attempt="1").status_code
            == 302
        )
        operation.refresh_from_db()
        assert operation.state == State.RUNNING


class TestWords:
    def test_a_failure_says_what_was_put_back_and_what_never_touched(
        self, client: Client, ask: Ask, alice: Person, world: World
    ) -> None:
        operation = ask(plan_of("one", "two", recovery=True))
        world.bad["one"] = "/health answered 503"
        engine.run(operation.pk, "w1")
        said = page(client, alice, operation)
        assert "failed, put back" in said
        assert "/health answered 503" in said
        assert "Never touched: two." in said

    def test_what_people_type_is_never_markup(self, client: Client, ask: Ask, alice: Person) -> None:
        said = page(client, alice, ask(reason="<script>alert(1)</script>"))
        assert "<script>alert" not in said
        assert "&lt;script&gt;alert(1)" in said


def test_the_page_costs_the_same_however_long_the_plan_and_the_log(
    client: Client, ask: Ask, alice: Person, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    world.lines["a1"] = [f"line {n}" for n in range(3000)]
    operation = ask(plan_of(*(f"a{n}" for n in range(30))))
    engine.run(operation.pk, "w1")
    client.force_login(alice)
    with django_assert_max_num_queries(14):
        answer = client.get(operation.get_absolute_url())
    assert answer.content.count(b'<li id="L') == views.LAST_LINES
    assert len(answer.content) < 100_000
