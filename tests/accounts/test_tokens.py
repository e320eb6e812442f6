"""API tokens: known by their digest only, for a time, until revoked, as long as their person is active, capped."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import ApiToken, Person, Role
from controlplane.accounts.tokens import authenticate, create_token, revoke
from controlplane.audit.models import Entry

pytestmark = pytest.mark.django_db


def make(person: Person, role: Role = Role.ADMIN) -> tuple[ApiToken, str]:
    return create_token(person, "ci", role, 30, Actor(person).who)


def test_it_lets_a_program_act_as_the_person(alice: Person) -> None:
    _, text = make(alice)
    actor = authenticate(text)
    assert actor
    assert (actor.person, actor.cap, actor.who.via) == (alice, Role.ADMIN, "api token ci")
    assert actor.role_in("production") == Role.OPERATOR


def test_it_never_allows_more_than_its_role(ada: Person) -> None:
    actor = authenticate(make(ada, Role.VIEWER)[1])
    assert actor
    assert actor.role_in("production") == Role.VIEWER
    assert not actor.is_admin


def test_nothing_that_is_kept_lets_anybody_in(alice: Person) -> None:
    token, text = make(alice)
    assert text.startswith("cp_")
    assert len(text) > 40
    for kept in (*ApiToken.objects.values_list().get(), *Entry.objects.values_list().get()):
        assert text not in str(kept)
    assert authenticate(token.digest) is None
    assert authenticate(token.prefix) is None
    assert text.startswith(token.prefix)


@pytest.mark.parametrize("text", ["", "cp_", "x" * 10_000, "cp_\0", "cp_\udcff", "Bearer cp_x"])
def test_others_are_nobody(alice: Person, text: str) -> None:
    make(alice)
    assert authenticate(text) is None


def test_it_expires(alice: Person) -> None:
    token, text = make(alice)
    ApiToken.objects.filter(pk=token.pk).update(expires_at=Now())
    assert authenticate(text) is None


def test_revoked_once_and_for_good(alice: Person) -> None:
    token, text = make(alice)
    for _ in range(2):
        revoke(token, Actor(alice).who, "leaked")
    assert [(e.action, e.reason) for e in Entry.objects.order_by("pk")][1:] == [("token.revoked", "leaked")]
    assert authenticate(text) is None


def test_it_goes_with_its_person(alice: Person) -> None:
    _, text = make(alice)
    Person.objects.filter(pk=alice.pk).update(is_active=False)
    assert authenticate(text) is None
    Person.objects.filter(pk=alice.pk).update(is_active=True)
    assert authenticate(text)
    alice.delete()
    assert authenticate(text) is None


def test_its_last_use_is_written_once_a_minute(alice: Person) -> None:
    token, text = make(alice)
    authenticate(text)
    token.refresh_from_db()
    first = token.last_used_at
    assert first
    authenticate(text)
    token.refresh_from_db()
    assert token.last_used_at == first
    ApiToken.objects.filter(pk=token.pk).update(last_used_at=first - timedelta(seconds=61))
    authenticate(text)
    assert ApiToken.objects.filter(pk=token.pk, last_used_at__gte=first).exists()


def test_making_one_is_kept(alice: Person) -> None:
    token, _ = make(alice, Role.OPERATOR)
    entry = Entry.objects.get()
    assert (entry.actor, entry.action, entry.target) == (
        "Alice",
        "token.created",
        f"token {token.prefix}… “ci” of Alice",
    )
    assert entry.data["role"] == "operator"


def test_that_one_which_is_valid_no_more_was_tried_is_kept_once_in_a_while(alice: Person) -> None:
    token, text = make(alice)
    revoke(token, Actor(alice).who)
    for _ in range(3):
        assert authenticate(text) is None
    assert authenticate("cp_never-was") is None
    denied = Entry.objects.get(action="access.denied")
    assert (denied.actor, denied.via, denied.target) == ("Alice", "api token ci", str(token))
    assert denied.reason == "The token was revoked."
