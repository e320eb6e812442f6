"""Signing in: back to one's page and never to another site; closed for a while after five failures; all of it kept."""

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.db.models import F
from django.http import HttpResponse
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry

pytestmark = pytest.mark.django_db

RIGHT = "alice-password-1"


def sign_in(client: Client, password: str = RIGHT, username: str = "alice", **values: str) -> HttpResponse:
    address = values.pop("address", "10.0.0.1")
    said = {"username": username, "password": password, **values}
    return client.post("/login", said, REMOTE_ADDR=address)  # type: ignore[return-value]


def told() -> list[tuple[str, str, str]]:
    return list(Entry.objects.order_by("pk").values_list("action", "target", "actor"))


def test_in_and_out(client: Client, alice: Person) -> None:
    assert client.get("/login").status_code == 200
    assert sign_in(client)["Location"] == "/"
    assert client.get("/login")["Location"] == "/"
    assert client.get("/logout").status_code == 405
    assert client.post("/logout")["Location"] == "/login"
    assert client.get("/tokens").status_code == 302
    assert told() == [("sign-in.done", "person alice", "Alice"), ("sign-in.ended", "person alice", "Alice")]


def test_the_session_is_a_new_one(client: Client, alice: Person) -> None:
    session = client.session
    session["planted"] = "yes"
    session.save()
    before = session.session_key
    sign_in(client)
    assert client.session.session_key != before


@pytest.mark.parametrize("where", ["/tokens", "/audit?person=alice"])
def test_back_to_the_page(client: Client, alice: Person, where: str) -> None:
    assert sign_in(client, next=where)["Location"] == where


@pytest.mark.parametrize(
    "where",
    ["https://evil.example/", "//evil.example", "///evil.example", r"\\evil.example", "javascript:alert(1)",
     "https:evil.example", "http://testserver@evil.example/", "/\\evil.example", "\thttps://evil.example"],
)  # fmt: skip
def test_never_to_another_site(client: Client, alice: Person, where: str) -> None:
    assert sign_in(client, next=where)["Location"] == "/"
    assert client.get("/login", {"next": where})["Location"] == "/"


@pytest.mark.parametrize("where", ["/login", "/login?next=/login", "/logout", "board", "?next=/", "/" + "x" * 9000])
def test_never_in_a_circle_nor_to_what_is_no_page(client: Client, alice: Person, where: str) -> None:
    assert sign_in(client, next=where)["Location"] == "/"
    assert client.get("/login", {"next": where})["Location"] == "/"
    assert client.post("/logout", {"next": where})["Location"] == "/login"


@pytest.mark.parametrize("username", ["alice", "nobody", "x" * 300])
def test_wrong_is_said_the_same_way_for_everybody(client: Client, alice: Person, username: str) -> None:
    response = sign_in(client, "wrong", username)
    assert response.status_code == 200
    assert "_auth_user_id" not in client.session


def test_a_failure_is_kept_without_what_was_typed(client: Client, alice: Person) -> None:
    sign_in(client, "wrong")
    sign_in(client, "oops", "my-secret-password")
    assert told() == [
        ("sign-in.failed", "person alice", "somebody"), ("sign-in.failed", "an unknown name", "somebody"),
    ]  # fmt: skip
    for entry in Entry.objects.values_list():
        assert "my-secret-password" not in str(entry)
    assert Entry.objects.latest("pk").data == {"address": "10.0.0.1"}


def test_who_was_deactivated_stays_out(client: Client, alice: Person) -> None:
    Person.objects.filter(pk=alice.pk).update(is_active=False)
    assert sign_in(client).status_code == 200
    assert "_auth_user_id" not in client.session


def test_five_failures_close_it_for_a_while(client: Client, alice: Person, bob: Person) -> None:
    statuses = [sign_in(client, "wrong").status_code for _ in range(7)]
    assert statuses == [200, 200, 200, 200, 429, 429, 429]
    closed = sign_in(client)
    assert closed.status_code == 429
    assert "Too many failed sign-ins" in closed.content.decode()
    assert "_auth_user_id" not in client.session
    assert [action for action, _, _ in told()] == ["sign-in.failed"] * 4 + ["sign-in.closed"]
    assert sign_in(Client(), address="10.0.0.2").status_code == 302, "from elsewhere alice can sign in"
    assert sign_in(Client(), "bob-password-1", "bob").status_code == 302, "and others from there"


def test_after_the_while_it_is_open(client: Client, alice: Person) -> None:
    for _ in range(5):
        sign_in(client, "wrong")
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=16))
    assert sign_in(client).status_code == 302


def test_a_good_one_forgets_the_failures(client: Client, alice: Person) -> None:
    for _ in range(3):
        for _ in range(4):
            assert sign_in(client, "wrong").status_code == 200
        assert sign_in(client).status_code == 302
        client.post("/logout")


def test_without_the_token_of_the_form_it_is_refused(alice: Person) -> None:
    assert sign_in(Client(enforce_csrf_checks=True)).status_code == 403


def test_a_forged_address_opens_no_door(client: Client, alice: Person) -> None:
    wrong = {"username": "alice", "password": "wrong"}
    answers = [client.post("/login", wrong, headers={"X-Forwarded-For": f"10.0.0.{n}"}).status_code for n in range(6)]
    assert answers[-1] == 429
    assert set(Entry.objects.filter(action="sign-in.failed").values_list("data__address", flat=True)) == {"127.0.0.1"}


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_signing_out_leads_nowhere_else(client: Client, alice: Person, elsewhere: str) -> None:
    client.force_login(alice)
    answer = client.post(f"/logout?next={elsewhere}", {"next": elsewhere})
    assert answer.status_code == 302
    assert "evil" not in answer["Location"]
    assert "javascript" not in answer["Location"]
