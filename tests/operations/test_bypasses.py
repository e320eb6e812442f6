"""A rule that people set aside is reviewed by an approver who took no part, in words, once."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.access import Actor, Machine
from controlplane.accounts.models import Grant, Person, Role
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.operations import bypasses, transitions
from controlplane.operations.bypasses import Part
from controlplane.operations.errors import Conflict, Invalid, Refused
from controlplane.operations.models import Bypass, Operation
from tests.operations.conftest import Ask
from tests.operations.recipes import plan_of
from tests.people import person

pytestmark = pytest.mark.django_db
USED = "You asked for or approved a change of that time: somebody else has to review it."


@pytest.fixture
def glass(alice: Person, bob: Person) -> Bypass:
    """Alice and Bob, who could approve, set a rule aside in production."""
    return broken("glass 1", alice, bob)


def broken(key: str, *people: Person) -> Bypass:
    bypasses.note(
        key, what="Glass broken for production, incident 7", url="/incidents/7", scopes=["production"],
        reason="the fix cannot wait", people=[Part(one.pk, one.title_name) for one in people],
        until=database_time() + timedelta(hours=1),
    )  # fmt: skip
    return Bypass.objects.get(key=key)


@pytest.fixture
def rita(db: None) -> Person:
    """An approver who took no part."""
    return person("rita", everywhere=Role.APPROVER)


def post(client: Client, who: Person, glass: Bypass, words: str = "it was right") -> int:
    client.force_login(who)
    return client.post(reverse("bypass-review", args=[glass.pk]), {"words": words}).status_code


def page(client: Client, who: Person) -> str:
    client.force_login(who)
    return client.get(reverse("bypasses")).content.decode()


def test_who_took_no_part_reviews_it_in_words(client: Client, glass: Bypass, rita: Person) -> None:
    assert post(client, rita, glass, "  ") == 422
    assert post(client, rita, glass) == 302
    assert post(client, rita, glass) == 409
    glass.refresh_from_db()
    assert (glass.reviewed_by, glass.reviewed_by_name, glass.review) == (rita, "Rita", "it was right")
    entry = Entry.objects.filter(action="bypass.reviewed").get()
    assert (entry.actor, entry.reason, entry.data["by"]) == ("Rita", "it was right", ["Alice", "Bob"])


def test_nobody_who_took_part_and_nobody_without_the_role(
    client: Client, glass: Bypass, alice: Person, bob: Person, dana: Person
) -> None:
    for who in (alice, bob, dana):
        assert post(client, who, glass) == 403
    glass.refresh_from_db()
    assert glass.reviewed_at is None
    assert "You took part in it" in page(client, bob)
    assert "Only approvers of production" in page(client, dana)


def test_who_sees_nothing_there_finds_nothing(client: Client, glass: Bypass, charlie: Person, eve: Person) -> None:
    for who in (charlie, eve):
        assert post(client, who, glass) == 404
        assert "incident 7" not in page(client, who)
    client.logout()
    assert client.get(reverse("bypasses")).status_code == 302


def test_the_rules_hold_for_programs_too(glass: Bypass, alice: Person, rita: Person) -> None:
    with pytest.raises(Refused, match="took part"):
        bypasses.review(Actor(alice), glass.pk, "fine")
    with pytest.raises(Refused, match="Only approvers"):
        bypasses.review(Actor(rita, cap=Role.OPERATOR), glass.pk, "fine")
    with pytest.raises(Invalid, match="Say what you found"):
        bypasses.review(Actor(rita), glass.pk, "")
    bypasses.review(Actor(rita), glass.pk, "fine")
    with pytest.raises(Conflict, match="Rita has reviewed"):
        bypasses.review(Actor(rita), glass.pk, "fine")


def test_the_page_lists_what_was_asked_for_meanwhile(client: Client, glass: Bypass, ask: Ask, rita: Person) -> None:
    here, elsewhere = ask(), ask(scopes=("staging",))
    shown = page(client, rita)
    assert here.get_absolute_url() in shown
    assert elsewhere.get_absolute_url() not in shown
    post(client, rita, glass)
    assert "it was right" in page(client, rita)


def test_who_used_it_does_not_review_it(client: Client, glass: Bypass, ask: Ask, alice: Person, rita: Person) -> None:
    other = broken("glass 2", rita)
    Grant.objects.create(person=alice, scope="production", role=Role.APPROVER)
    ask()  # alice's
    words = bypasses.why_not([glass, other], Actor(alice))
    assert words[other.pk] == USED
    assert post(client, alice, other) == 403
    Operation.objects.update(requested_at=other.at - timedelta(seconds=1))
    assert bypasses.why_not([other], Actor(alice)) == {other.pk: ""}, "that was before"


def let_through(ask: Ask, glass: Bypass, approver: Person) -> Operation:
    """Asked for by alice and approved before the glass was broken; started within the hour."""
    operation = ask(approvals=1)
    transitions.approve(operation.pk, Actor(approver), operation.plan_digest)
    before, within = glass.at - timedelta(minutes=5), glass.at + timedelta(minutes=5)
    Operation.objects.filter(pk=operation.pk).update(requested_at=before, started_at=within)
    operation.refresh_from_db()
    return operation


def test_what_was_asked_for_before_and_started_meanwhile_is_listed(
    client: Client, ask: Ask, rita: Person, bob: Person
) -> None:
    glass = broken("glass 1", bob)
    operation = let_through(ask, glass, rita)
    for _ in range(bypasses.MEANWHILE + 1):
        transitions.request(
            Machine(SYSTEM("clock")), kind="sample", title="Back up", scopes=["production"], plan=plan_of("one"),
            gates=[], reason="every minute", approvals_required=0,
        )  # fmt: skip
    shown = page(client, rita)
    assert operation.get_absolute_url() in shown, "what machines ask for does not push it out"
    assert shown.count("asked for before, started meanwhile") == 1
    Operation.objects.filter(pk=operation.pk).update(started_at=glass.at - timedelta(minutes=1))
    assert operation.get_absolute_url() not in page(client, rita), "it had started before"


def test_who_asked_for_or_approved_what_it_let_through_does_not_review_it(
    client: Client, ask: Ask, alice: Person, bob: Person, rita: Person
) -> None:
    Grant.objects.create(person=alice, scope="production", role=Role.APPROVER)
    glass = broken("glass 1", bob)
    let_through(ask, glass, rita)
    for who in (alice, rita):
        assert bypasses.why_not([glass], Actor(who)) == {glass.pk: USED}
        assert post(client, who, glass) == 403
        assert not bypasses.waiting_for(Actor(who)).exists()
    assert post(client, person("otto", everywhere=Role.APPROVER), glass) == 302


def test_who_approved_what_was_asked_for_meanwhile_does_not_review_it(ask: Ask, bob: Person, rita: Person) -> None:
    glass = broken("glass 1", bob)
    operation = ask(approvals=1)
    assert bypasses.why_not([glass], Actor(rita)) == {glass.pk: ""}
    transitions.approve(operation.pk, Actor(rita), operation.plan_digest)
    assert bypasses.why_not([glass], Actor(rita)) == {glass.pk: USED}


def test_who_rejected_it_may_review_it(ask: Ask, bob: Person, rita: Person) -> None:
    glass = broken("glass 1", bob)
    operation = ask(approvals=1)
    transitions.reject(operation.pk, Actor(rita), operation.plan_digest, "not like this")
    assert bypasses.why_not([glass], Actor(rita)) == {glass.pk: ""}


def test_what_somebody_may_not_see_is_not_listed(client: Client, glass: Bypass, ask: Ask, alice: Person) -> None:
    both, here = ask(scopes=("production", "dr")), ask()
    viewer = person("vera", production=Role.VIEWER)
    shown = page(client, viewer)
    assert here.get_absolute_url() in shown
    assert both.get_absolute_url() not in shown


def test_each_one_lists_its_own_and_says_when_there_is_more(
    client: Client, glass: Bypass, ask: Ask, rita: Person, alice: Person
) -> None:
    first = ask()
    Operation.objects.filter(pk=first.pk).update(requested_at=glass.at + timedelta(minutes=1))
    Bypass.objects.filter(pk=glass.pk).update(until=glass.at + timedelta(minutes=2))
    later = broken("glass 2", alice)
    Bypass.objects.filter(pk=later.pk).update(at=glass.at + timedelta(minutes=5), until=glass.at + timedelta(minutes=9))
    for _ in range(bypasses.MEANWHILE + 1):
        Operation.objects.filter(pk=ask().pk).update(requested_at=glass.at + timedelta(minutes=6))
    shown = page(client, rita)
    assert first.get_absolute_url() in shown, "the many of the other one do not push it out"
    assert shown.count("asked for meanwhile") == bypasses.MEANWHILE + 1
    assert shown.count("and more of that time") == 1


def test_the_same_again_is_no_second_one(glass: Bypass, alice: Person) -> None:
    broken("glass 1", alice)
    assert Bypass.objects.count() == 1


def test_each_one_can_be_reached_however_many_wait(client: Client, alice: Person, bob: Person, rita: Person) -> None:
    """The oldest are those that this person may not review."""
    own = [broken(f"glass {number}", rita) for number in range(bypasses.SHOWN)]
    last = broken("the last", alice, bob)
    client.force_login(rita)
    assert "1 time</b> that the glass was broken waits for" in client.get(reverse("approvals")).content.decode()
    first = page(client, rita)
    assert f"bypass-{last.pk}" not in first
    assert f'href="?after={own[-1].pk}">And 1 more' in first
    second = client.get(reverse("bypasses"), {"after": own[-1].pk}).content.decode()
    assert f"bypass-{last.pk}" in second and f"bypass-{own[-1].pk}" not in second
    assert "From the oldest" in second and "more</a>" not in second


def test_whose_word_is_missing_is_told_in_the_inbox(
    client: Client, glass: Bypass, rita: Person, bob: Person, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    broken("glass 2", bob)
    client.force_login(rita)
    with django_assert_max_num_queries(20):
        shown = client.get(reverse("approvals")).content.decode()
    assert "2 times" in shown
    client.force_login(bob)
    assert "the glass was broken" not in client.get(reverse("approvals")).content.decode()
    with django_assert_max_num_queries(20):
        client.get(reverse("bypasses"))
