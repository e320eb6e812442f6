"""Passwords: one changes one's own; a first or forgotten one is set with an administrator's link, once."""

import re

import pytest
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry

pytestmark = pytest.mark.django_db

NEW = "correct horse 7 battery"
TWICE = {"new_password1": NEW, "new_password2": NEW}


def last() -> tuple[str, str, str, str]:
    return Entry.objects.values_list("action", "actor", "target", "via").latest("pk")


def link_for(person: Person, ada: Person) -> str:
    client = Client()
    client.force_login(ada)
    page = client.post(f"/people/{person.pk}/password", {"reason": "forgotten"}).content.decode()
    found = re.search(r"http://testserver(/password/[^<]+)", page)
    assert found
    assert last() == ("person.password_link", "Ada", f"person {person.username}", "web")
    return found[1]


def test_one_changes_ones_own(client: Client, alice: Person) -> None:
    here, elsewhere = client, Client()
    here.force_login(alice)
    elsewhere.force_login(alice)
    assert here.post("/password", {"old_password": "wrong", **TWICE}).status_code == 200
    assert here.post("/password", {"old_password": "alice-password-1", **TWICE})["Location"] == "/tokens"
    assert last() == ("person.password", "Alice", "person alice", "web")
    assert here.get("/tokens").status_code == 200
    assert elsewhere.get("/tokens").status_code == 302


def test_a_stranger_signs_in_first(client: Client) -> None:
    assert client.get("/password")["Location"] == "/login?next=/password"


def test_a_link_sets_it_once(client: Client, alice: Person, ada: Person) -> None:
    link = link_for(alice, ada)
    form = client.get(link)["Location"]
    assert link != form, "the secret does not stay in the address"
    assert "Set your password, Alice" in client.get(form).content.decode()
    assert client.post(form, TWICE)["Location"] == "/login"
    assert last() == ("person.password", "Alice", "person alice", "password link")
    assert client.login(username="alice", password=NEW, request=client.get("/login").wsgi_request)
    used = Client().get(link)
    assert "This link does not work any more" in used.content.decode()


def test_a_weak_one_is_refused(client: Client, alice: Person, ada: Person) -> None:
    form = client.get(link_for(alice, ada))["Location"]
    for weak in ("short1", "password1234", "administrator"):
        response = client.post(form, {"new_password1": weak, "new_password2": weak})
        assert response.status_code == 200
    assert Person.objects.get(pk=alice.pk).password == alice.password


@pytest.mark.parametrize("link", ["/password/MQ/set-password", "/password/MQ/abc-def", "/password/zz/x"])
def test_an_invented_link_is_none(client: Client, alice: Person, link: str) -> None:
    assert "This link does not work any more" in client.get(link).content.decode()
    assert "This link does not work any more" in client.post(link, TWICE).content.decode()


def test_it_opens_a_closed_sign_in(client: Client, alice: Person, ada: Person) -> None:
    wrong = {"username": "alice", "password": "wrong"}
    assert [client.post("/login", wrong).status_code for _ in range(5)][-1] == 429
    form = client.get(link_for(alice, ada))["Location"]
    client.post(form, TWICE)
    assert client.post("/login", {"username": "alice", "password": NEW}).status_code == 302


def test_a_link_of_somebody_who_was_deactivated_leads_nowhere(client: Client, alice: Person, ada: Person) -> None:
    link = link_for(alice, ada)
    Person.objects.filter(pk=alice.pk).update(is_active=False)
    assert "This link does not work any more" in client.get(link).content.decode()
