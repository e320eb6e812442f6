"""Who asks for a live stream: known by session or token, like the asker of a page."""

import pytest
from django.conf import settings
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.accounts.streams import authenticate
from controlplane.accounts.tokens import create_token

pytestmark = pytest.mark.django_db


def scope(**headers: str) -> dict[str, object]:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http", "method": "GET", "path": "/live/news", "query_string": b"", "headers": raw}


def session_of(person: Person) -> str:
    client = Client()
    client.force_login(person)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


def test_by_session(alice: Person) -> None:
    actor = authenticate(scope(cookie=f"other=1; {session_of(alice)}"))
    assert actor
    assert (actor.person, actor.cap, actor.via) == (alice, None, "web")


def test_by_token(alice: Person) -> None:
    _, text = create_token(alice, "ci", Role.VIEWER, 1, Actor(alice).who)
    for kind in ("Bearer", "bearer"):
        actor = authenticate(scope(authorization=f"{kind} {text}"))
        assert actor
        assert (actor.person, actor.cap) == (alice, Role.VIEWER)


@pytest.mark.parametrize(
    "headers",
    [{}, {"cookie": "sessionid=invented"}, {"authorization": "Bearer cp_no"}, {"authorization": "Basic YTpi"},
     {"cookie": "=;=;\xff"}, {"authorization": "Bearer "}],
)  # fmt: skip
def test_nobody(alice: Person, headers: dict[str, str]) -> None:
    assert authenticate(scope(**headers)) is None


def test_a_wrong_token_is_not_helped_by_a_session(alice: Person) -> None:
    assert authenticate(scope(cookie=session_of(alice), authorization="Bearer cp_no")) is None


def test_who_signed_out_or_was_deactivated(alice: Person, bob: Person) -> None:
    cookie, ended = session_of(alice), Client()
    Person.objects.filter(pk=alice.pk).update(is_active=False)
    assert authenticate(scope(cookie=cookie)) is None
    ended.force_login(bob)
    cookie = f"{settings.SESSION_COOKIE_NAME}={ended.cookies[settings.SESSION_COOKIE_NAME].value}"
    assert authenticate(scope(cookie=cookie))
    ended.post("/logout")
    assert authenticate(scope(cookie=cookie)) is None
