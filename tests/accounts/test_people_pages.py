"""The pages of people are for administrators; everything that is done there has a reason and is kept."""

import re

import pytest
from django.http import HttpResponse
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.accounts.tokens import authenticate, create_token
from controlplane.audit.models import Entry

pytestmark = pytest.mark.django_db

READ = ["/people", "/people/add", "/people/{pk}"]
WRITE = ["/people/add", *(f"/people/{{pk}}/{what}" for what in ("roles", "state", "delete", "password"))]
GOOD = {
    "username": "zoe", "name": "Zoë", "reason": "because", "confirm": "alice", "role-*": "admin", "to": "deactivated",
}  # fmt: skip


@pytest.fixture
def site(client: Client, ada: Person) -> Client:
    """Ada, who administers, signed in."""
    client.force_login(ada)
    return client


def post(site: Client, path: str, **values: str) -> HttpResponse:
    return site.post(path, values)  # type: ignore[return-value]


def last() -> Entry:
    return Entry.objects.latest("pk")


@pytest.mark.parametrize("path", [*READ, *WRITE])
def test_a_stranger_signs_in_first(client: Client, alice: Person, path: str) -> None:
    address = path.format(pk=alice.pk)
    response = client.post(address, GOOD) if path in WRITE else client.get(address)
    assert response["Location"] == f"/login?next={address}"
    assert Person.objects.count() == 1


@pytest.mark.parametrize("name", ["charlie", "dana", "bob", "eve"])
@pytest.mark.parametrize("path", [*READ, *WRITE])
def test_nobody_else_gets_in(
    client: Client, alice: Person, request: pytest.FixtureRequest, name: str, path: str
) -> None:
    person = request.getfixturevalue(name)
    client.force_login(person)
    before = list(Person.objects.values()), list(Grant.objects.values())
    address = path.format(pk=alice.pk)
    response = client.post(address, GOOD) if path in WRITE else client.get(address)
    assert response.status_code == 403
    assert (list(Person.objects.values()), list(Grant.objects.values())) == before
    assert (last().action, last().actor_id) == ("access.denied", person.pk)


def test_an_admin_of_one_environment_is_no_admin_of_people(client: Client, charlie: Person) -> None:
    Grant.objects.create(person=charlie, scope="production", role=Role.ADMIN)
    client.force_login(charlie)
    assert client.get("/people").status_code == 403


def test_the_list(site: Client, alice: Person, eve: Person) -> None:
    Person.objects.filter(pk=alice.pk).update(is_active=False)
    page = site.get("/people").content.decode()
    assert re.search(r"Eve</a></th>.*?operator.*?active", page)
    assert re.search(r"Alice</a></th>.*?deactivated", page)
    found = site.get("/people?q=LIC").content.decode()
    assert "Alice</a>" in found
    assert "Eve</a>" not in found


def test_the_list_costs_the_same_however_many(site: Client, django_assert_max_num_queries: object) -> None:
    for number in range(30):
        Grant.objects.create(person=Person.objects.create(username=f"p{number}"), scope="a", role=Role.VIEWER)
    with django_assert_max_num_queries(15):  # type: ignore[operator]
        assert site.get("/people").status_code == 200


def test_adding_somebody(site: Client) -> None:
    response = post(site, "/people/add", username="zoe", name="Zoë", is_superuser="on", is_staff="on", password="x")
    zoe = Person.objects.get(username="zoe")
    assert response["Location"] == f"/people/{zoe.pk}"
    assert (zoe.is_superuser, zoe.is_staff, zoe.has_usable_password(), zoe.grants.count()) == (False, False, False, 0)
    assert (last().action, last().actor, last().target) == ("person.added", "Ada", "person zoe")


@pytest.mark.parametrize(
    "values", [{"username": "ADA", "name": "x"}, {"username": "a b", "name": "x"}, {"username": "z"}]
)
def test_what_is_wrong_is_said(site: Client, values: dict[str, str]) -> None:
    assert post(site, "/people/add", **values).status_code == 422
    assert Person.objects.count() == 1


def test_roles(site: Client, alice: Person) -> None:
    said = {"role-*": "viewer", "role-production": "admin", "reason": "on call", "person": "1", "scope": "*"}
    assert site.post(f"/people/{alice.pk}/roles", said).status_code == 302
    assert dict(alice.grants.values_list("scope", "role")) == {"*": "viewer"}  # there is no environment production
    assert (last().action, last().reason) == ("person.roles", "on call")


@pytest.mark.parametrize("said", [{"role-*": "viewer"}, {"role-*": "emperor", "reason": "why not"}])
def test_roles_need_a_reason_and_must_exist(site: Client, alice: Person, said: dict[str, str]) -> None:
    assert post(site, f"/people/{alice.pk}/roles", **said).status_code == 422
    assert alice.grants.get().role == "operator"


def test_ones_last_admin_role_stays(site: Client, ada: Person) -> None:
    response = site.post(f"/people/{ada.pk}/roles", {"role-*": "viewer", "reason": "tired"})
    assert response.status_code == 409
    assert "last active person" in response.content.decode()
    assert Actor(ada).is_admin


def test_deactivating_ends_sessions_and_tokens(site: Client, alice: Person) -> None:
    other = Client()
    other.force_login(alice)
    _, text = create_token(alice, "ci", Role.VIEWER, 1, Actor(alice).who)
    assert other.get("/tokens").status_code == 200
    assert post(site, f"/people/{alice.pk}/state", to="deactivated", reason="left").status_code == 302
    assert other.get("/tokens").status_code == 302
    assert authenticate(text) is None
    assert post(site, f"/people/{alice.pk}/state", to="active", reason="back").status_code == 302
    assert authenticate(text)


@pytest.mark.parametrize(("what", "status"), [("state", 409), ("delete", 409)])
def test_not_oneself(site: Client, ada: Person, what: str, status: int) -> None:
    response = post(site, f"/people/{ada.pk}/{what}", reason="bye", confirm="ada", to="deactivated")
    assert response.status_code == status
    assert "You cannot" in response.content.decode()
    assert Person.objects.get(pk=ada.pk).is_active


@pytest.mark.parametrize("what", ["roles", "state", "delete", "password"])
def test_everything_needs_a_reason(site: Client, alice: Person, what: str) -> None:
    assert post(site, f"/people/{alice.pk}/{what}", confirm="alice", reason=" ").status_code == 422
    assert Person.objects.get(pk=alice.pk).is_active


def test_deleting_is_meant(site: Client, alice: Person) -> None:
    assert post(site, f"/people/{alice.pk}/delete", reason="left", confirm="bob").status_code == 422
    assert post(site, f"/people/{alice.pk}/delete", reason="left", confirm="alice").status_code == 302
    assert not Person.objects.filter(pk=alice.pk).exists()
    assert (last().action, last().reason) == ("person.deleted", "left")
    assert site.get(f"/people/{alice.pk}").status_code == 404
