"""Whoever may not is told who can; whoever may not even see gets nothing to guess by; both are kept."""

import pytest
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Person, Role
from controlplane.audit.models import Entry

pytestmark = pytest.mark.django_db


def test_with_the_role_nothing_happens(alice: Person) -> None:
    require(Actor(alice), Role.OPERATOR, ["production"], "deploy to production")
    assert not Entry.objects.exists()


def test_what_is_visible_is_refused_in_words(dana: Person, alice: Person, bob: Person) -> None:
    with pytest.raises(PermissionDenied) as refused:
        require(Actor(dana), Role.OPERATOR, ["production"], "deploy to production")
    words = "This needs the role operator in production. Alice or Bob can do it. An administrator gives roles."
    assert str(refused.value) == words
    entry = Entry.objects.get()
    assert (entry.actor, entry.action, entry.target) == ("Dana", "access.denied", "deploy to production")
    assert (entry.scopes, entry.reason, entry.data) == (["production"], words, {"denied": True})


@pytest.mark.parametrize("name", ["charlie", "eve"])
def test_what_is_invisible_is_not_there(request: pytest.FixtureRequest, name: str) -> None:
    with pytest.raises(Http404):
        require(Actor(request.getfixturevalue(name)), Role.VIEWER, ["production"], "operation 7")
    assert Entry.objects.get().target == "operation 7"


def test_what_is_half_visible_is_refused(eve: Person) -> None:
    with pytest.raises(PermissionDenied, match="development and production"):
        require(Actor(eve), Role.VIEWER, ["development", "production"], "operation 7")


def test_a_token_says_that_it_is_the_token(alice: Person) -> None:
    with pytest.raises(PermissionDenied, match="the token allows only viewer"):
        require(Actor(alice, cap=Role.VIEWER, via="api token ci"), Role.OPERATOR, ["production"], "deploy")
    assert Entry.objects.get().via == "api token ci"


@pytest.mark.django_db(transaction=True)
def test_a_refusal_inside_of_a_transaction_would_be_lost(dana: Person) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        require(Actor(dana), Role.OPERATOR, ["production"], "deploy")
