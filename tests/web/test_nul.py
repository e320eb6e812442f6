"""A NUL, of which PostgreSQL has no text, is a bad request wherever it stands, and never an error of the server."""

import pytest
from django.test import Client

from controlplane.accounts.models import Person

pytestmark = pytest.mark.django_db

ADDRESSES = ("/releases?service=%00", "/releases/api/%00", "/deployments?q=%00", "/audit?target=a%00", "/people?%00=1")


@pytest.mark.parametrize("address", [*ADDRESSES, "/login?next=%00", "/password/%00/x"])
def test_in_an_address(client: Client, ada: Person, address: str) -> None:
    client.force_login(ada)
    assert client.get(address).status_code == 400


def test_in_a_form(client: Client, ada: Person) -> None:
    client.force_login(ada)
    assert client.post("/people/add", {"username": "x\0"}).status_code == 400
    assert client.post("/login", {"username": "ada", "password": "\0"}).status_code == 400


def test_in_the_cookie_of_a_session(client: Client) -> None:
    client.cookies["sessionid"] = "\0" * 32
    assert client.get("/").status_code == 400


def test_in_the_api_it_is_a_problem(client: Client) -> None:
    answer = client.get("/api/v1/operations/%00")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
