"""The page of tokens: one's own; an administrator sees and revokes all; others' are not there."""

import re

import pytest
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import ApiToken, Person, Role
from controlplane.accounts.tokens import authenticate, create_token
from controlplane.audit.models import Entry

pytestmark = pytest.mark.django_db

SAID = {"name": "ci", "role": "operator", "lifetime_days": "30"}


@pytest.fixture
def token(alice: Person) -> ApiToken:
    return create_token(alice, "ci", Role.OPERATOR, 30, Actor(alice).who)[0]


def test_a_stranger_signs_in_first(client: Client, token: ApiToken) -> None:
    for path in ("/tokens", f"/tokens/{token.pk}/revoke"):
        assert client.post(path, SAID)["Location"] == f"/login?next={path}"
    assert ApiToken.objects.get().revoked_at is None


def test_it_is_shown_once(client: Client, alice: Person) -> None:
    client.force_login(alice)
    response = client.post("/tokens", SAID | {"person": "1", "digest": "0" * 64, "expires_at": "2999-01-01"})
    found = re.search(r"cp_[\w-]{40,}", response.content.decode())
    assert found
    assert "no-store" in response["Cache-Control"]
    actor = authenticate(found[0])
    assert actor
    assert (actor.person, actor.cap) == (alice, Role.OPERATOR)
    page = client.get("/tokens").content.decode()
    assert found[0] not in page
    assert found[0][:9] in page


@pytest.mark.parametrize(
    "wrong", [{"role": "approver"}, {"role": "emperor"}, {"lifetime_days": "36500"}, {"name": ""}, {"name": "x" * 101}]
)
def test_not_more_than_one_has_and_not_for_ever(client: Client, alice: Person, wrong: dict[str, str]) -> None:
    client.force_login(alice)
    assert client.post("/tokens", SAID | wrong).status_code == 422
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("name", ["charlie", "dana", "bob"])
def test_other_peoples_are_not_there(
    client: Client, token: ApiToken, request: pytest.FixtureRequest, name: str
) -> None:
    client.force_login(request.getfixturevalue(name))
    assert token.prefix not in client.get("/tokens").content.decode()
    assert client.post(f"/tokens/{token.pk}/revoke", {"reason": "mine"}).status_code == 404
    assert ApiToken.objects.get().revoked_at is None
    assert Entry.objects.latest("pk").action == "access.denied"


def test_ones_own_is_revoked_with_a_click(client: Client, alice: Person, token: ApiToken) -> None:
    client.force_login(alice)
    assert client.post(f"/tokens/{token.pk}/revoke")["Location"] == "/tokens"
    assert ApiToken.objects.get().revoked_at
    assert "revoked" in client.get("/tokens").content.decode()


def test_an_admin_says_why(client: Client, ada: Person, token: ApiToken) -> None:
    client.force_login(ada)
    assert token.prefix in client.get("/tokens").content.decode()
    refused = client.post(f"/tokens/{token.pk}/revoke")
    assert refused.status_code == 422
    assert "Say why you revoke" in refused.content.decode()
    client.post(f"/tokens/{token.pk}/revoke", {"reason": "leaked"})
    entry = Entry.objects.latest("pk")
    assert (entry.actor, entry.action, entry.reason) == ("Ada", "token.revoked", "leaked")
