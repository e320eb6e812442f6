"""The page of an operation shows what was done beside what was approved, and what differs in red."""

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.models import Person, Role
from controlplane.accounts.tokens import create_token
from controlplane.audit.record import SYSTEM
from controlplane.operations import deed_page, engine
from controlplane.operations.models import Deed, Effect, Operation
from tests.operations.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)


def done(ask: Ask, *subjects: str) -> Operation:
    operation = ask()
    for subject in subjects:
        Effect.objects.create(operation=operation, step="one", what="started", subject=subject, facts={"version": "1"})
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def page(client: Client, who: Person, operation: Operation, name: str = "operation-deed") -> str:
    client.force_login(who)
    return client.get(reverse(name, args=[operation.pk])).content.decode()


def test_what_is_explained_says_by_which_step(client: Client, ask: Ask, dana: Person) -> None:
    shown = page(client, dana, done(ask, "one"), "operation")
    assert "1 change, each explained by a step of the plan" in shown
    assert "bring one" in shown
    assert "explained by the plan" in shown
    assert "Not what was approved" not in shown


def test_a_difference_is_said_first_and_in_red(client: Client, ask: Ask, dana: Person) -> None:
    shown = page(client, dana, done(ask, "one", "<elsewhere>"))
    assert "Not what was approved" in shown
    assert "started &lt;elsewhere&gt;: the step “bring one” says nothing of &lt;elsewhere&gt;" in shown
    assert "not explained" in shown


def test_what_it_left_is_a_difference_too(client: Client, ask: Ask, dana: Person) -> None:
    operation = done(ask, "one")
    Deed.objects.update(end=Deed.End.DIFFERS, end_differences=["one runs 1.4.0, not 1.5.0"])
    assert "in the end: one runs 1.4.0, not 1.5.0" in page(client, dana, operation)


@pytest.mark.parametrize(
    ("end", "tone", "words"),
    [
        (Deed.End.AS_PLANNED, "ok", "as planned"),
        (Deed.End.DUE, "busy", "explained by the plan, its end is being asked"),
        (Deed.End.OVERTAKEN, "idle", "explained by the plan, its end not seen"),
        (Deed.End.UNHEARD, "idle", "explained by the plan, its end not known"),
        (Deed.End.NOBODY_KNOWS, "idle", "explained by the plan, its end was not asked"),
    ],
)
def test_as_planned_is_said_only_where_the_end_was_seen(  # noqa: PLR0917 (fixtures)
    client: Client, ask: Ask, dana: Person, end: Deed.End, tone: str, words: str
) -> None:
    operation = done(ask, "one")
    Deed.objects.update(end=end)
    found = deed_page.DeedPage(operation)
    assert (found.tone, found.word) == (tone, words)
    shown = page(client, dana, operation)
    assert words in shown
    assert ("as planned" in shown) == (end == Deed.End.AS_PLANNED)
    assert found.end in shown and found.end


def test_while_it_runs_it_says_what_was_done_so_far(client: Client, ask: Ask, dana: Person) -> None:
    operation = ask()
    assert "<section" not in page(client, dana, operation)
    Effect.objects.create(operation=operation, step="one", what="started", subject="one")
    operation.steps.update(attempt=1, state="running")
    assert "explained so far" in page(client, dana, operation)


def test_a_thousand_changes_cost_no_more(
    client: Client, ask: Ask, dana: Person, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    operation = done(ask, *["one"] * 1000)
    client.force_login(dana)
    with django_assert_max_num_queries(20):
        answer = client.get(operation.get_absolute_url())
    assert len(answer.content) < 100_000
    assert f"And {1000 - deed_page.SHOWN} more" in answer.content.decode()


def test_programs_read_all_of_it(client: Client, ask: Ask, dana: Person, charlie: Person) -> None:
    operation = done(ask, "one", "elsewhere")
    answers = []
    for who in (dana, charlie):
        token = create_token(who, "deed", Role.VIEWER, 1, SYSTEM("test"))[1]
        headers = {"Authorization": f"Bearer {token}"}
        answers.append(client.get(f"/api/v1/operations/{operation.pk}/deed", headers=headers))
    said = answers[0].json()
    assert [(one["subject"], bool(one["not_explained"])) for one in said["effects"]] == [
        ("one", False),
        ("elsewhere", True),
    ]
    assert said["differences"] == [said["effects"][1]["not_explained"]]
    assert said["end"] == "nobody_knows"
    assert answers[1].status_code == 404
