"""A stream is for the same people as its page, and only as long as they are."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.accounts.streams import authenticate
from controlplane.accounts.tokens import create_token, revoke
from controlplane.live import hub
from tests.live.conftest import Web
from tests.live.rows import Message, Stream


@pytest.fixture
def web(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """As in production, but quick to ask again."""
    monkeypatch.setattr(hub, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(hub, "ADMISSION_SECONDS", 0.1)
    with Web(authenticate) as web:
        yield web


@pytest.fixture
def browser(alice: Person) -> Client:
    """Alice is signed in."""
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


def news(web: Web, browser: Client) -> Stream:
    return Stream(web.port, "/live/news", Cookie=f"{settings.SESSION_COOKIE_NAME}={browser.cookies['sessionid'].value}")


def everything(stream: Stream) -> list[Message]:
    """Until its end; the test fails by its time-out if there is none."""
    assert stream.response.status == 200
    found = list(stream.messages())
    stream.close()
    return found


def test_signing_out_ends_the_stream(web: Web, browser: Client) -> None:
    stream = news(web, browser)
    browser.logout()
    everything(stream)


def test_a_new_password_ends_the_streams_of_the_old_one(web: Web, browser: Client, alice: Person) -> None:
    stream = news(web, browser)
    alice.set_password("a-new-password-1")
    alice.save()
    everything(stream)


def test_a_person_who_is_locked_out_sees_no_more(web: Web, browser: Client, alice: Person) -> None:
    stream = news(web, browser)
    Person.objects.filter(pk=alice.pk).update(is_active=False)
    everything(stream)


def test_a_revoked_token_ends_its_streams(web: Web, alice: Person) -> None:
    token, text = create_token(alice, "ci", Role.VIEWER, 1, Actor(alice).who)
    stream = Stream(web.port, "/live/news", Authorization=f"Bearer {text}")
    revoke(token, Actor(alice).who)
    everything(stream)


def test_a_made_up_session_or_token_gets_nothing(web: Web, alice: Person) -> None:
    for headers in ({"Cookie": "sessionid=abcdef"}, {"Authorization": "Bearer cp_abcdef"}, {}):
        stream = Stream(web.port, "/live/news", **headers)
        assert stream.response.status == 401
        stream.close()
