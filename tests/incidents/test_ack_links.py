"""Acknowledging by the signed link of a message: no sign-in; looking changes nothing; wrong links say why."""

import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core import signing
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from incidents import links
from incidents.channels.sender import send_due
from incidents.escalation import clock, hand
from incidents.lifecycle import acknowledge, resolve
from incidents.models import Delivery, Incident, Level, Page
from tests.incidents.escalating import WHO, matrix, opened, reachable, said, states
from tests.incidents.providers import Provider, provider

__all__ = ["provider"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def incident(alice: Person, bob: Person, provider: Provider) -> Incident:
    """Alice was paged by mail."""
    for person in (alice, bob):
        reachable(person, email=f"{person.username}@example.com")
    provider.configure("email")
    matrix([alice, bob], ["email"])
    made = opened()
    clock.fire_due()
    return made


@pytest.fixture
def link(incident: Incident) -> str:
    """The path of the link."""
    return urlsplit(links.acknowledge_url(Page.objects.get().pk)).path


def test_the_message_carries_it(incident: Incident, link: str, provider: Provider) -> None:
    send_due("email")
    text = provider.messages[0]["body"]["text"].replace("=\r\n", "")
    assert "/ack/" in text
    assert link.rpartition(":")[0].rpartition(":")[0] in text


def test_it_says_what_how_bad_and_since_when(incident: Incident, link: str) -> None:
    answer = Client().get(link)
    page = answer.content.decode()
    assert answer.status_code == 200
    for words in ("P1", "the API answers 503", "Acknowledge as Alice", "L1", "On-Call Engineer"):
        assert words in page


@pytest.mark.parametrize("method", ["get", "head"])
def test_looking_changes_nothing(incident: Incident, link: str, method: str) -> None:
    """Mail programs and chats open links by themselves."""
    for _ in range(3):
        assert getattr(Client(), method)(link).status_code == 200
    incident.refresh_from_db()
    assert (incident.state, states(incident)[2]) == ("open", "pending")


@pytest.mark.parametrize("method", ["put", "delete", "patch"])
def test_nothing_else_is_understood(incident: Incident, link: str, method: str) -> None:
    assert getattr(Client(), method)(link).status_code == 405


def test_the_button_acknowledges_as_the_person(incident: Incident, link: str) -> None:
    answer = Client().post(link)
    assert answer.status_code == 200
    assert "You have it" in answer.content.decode()
    incident.refresh_from_db()
    assert (incident.state, incident.acknowledged_by_name) == ("acknowledged", "Alice")
    assert states(incident)[2] == "cancelled"
    assert Page.objects.get().state == "seen"
    assert any("by a signed link" in words for words in said(incident))
    entry = Entry.objects.get(action="incident.acknowledged")
    assert (entry.actor, entry.via) == ("Alice", "by a signed link")


def test_a_browser_gets_its_token_from_the_page(incident: Incident, link: str) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(link).status_code == 403
    client.get(link)
    assert client.post(link, {"csrfmiddlewaretoken": client.cookies["csrftoken"].value}).status_code == 200


def test_pressed_twice(incident: Incident, link: str) -> None:
    Client().post(link)
    again = Client().post(link)
    assert again.status_code == 409
    assert "Alice has acknowledged it already" in again.content.decode()
    assert sum(words.startswith("Acknowledged by") for words in said(incident)) == 1


def test_somebody_was_first(incident: Incident, link: str) -> None:
    acknowledge(incident.pk, WHO)
    assert "has it already" in Client().get(link).content.decode()
    assert Client().post(link).status_code == 409
    assert Page.objects.get().state == "seen"


def test_it_is_over(incident: Incident, link: str) -> None:
    resolve(incident.pk, WHO, "restarted it")
    assert "restarted it" in Client().get(link).content.decode()
    assert Client().post(link).status_code == 409


def test_a_hand_over_counts_as_seen(incident: Incident, link: str, bob: Person) -> None:
    Client().post(link)
    hand.hand_over(incident.pk, WHO, bob, "your turn")
    page = Page.objects.get(person=bob)
    Page.objects.filter(pk=page.pk).update(next_way_at=page.queued_at)
    Client().post(urlsplit(links.acknowledge_url(page.pk)).path)
    page.refresh_from_db()
    assert (page.state, page.next_way_at) == ("seen", None)


@pytest.mark.parametrize("change", [lambda token: token[:-3], lambda token: "x" + token, lambda token: "x", str.upper])
def test_a_link_that_was_cut_or_changed(incident: Incident, link: str, change: Any) -> None:
    token = link.rpartition("/")[2]
    for act in (Client().get, Client().post):
        answer = act(f"/ack/{change(token)}")
        assert answer.status_code == 404
        assert "This link does not work" in answer.content.decode()
    assert Incident.objects.get().state == "open"


@pytest.mark.parametrize("content", ["7", None, [1], {"page": 1}, True, 10**30, -1])
def test_what_is_signed_for_something_else(incident: Incident, content: Any) -> None:
    for salt in (links.SALT, "another"):
        token = signing.dumps(content, salt=salt)
        assert Client().post(f"/ack/{token}").status_code == 404
    assert Incident.objects.get().state == "open"


def test_it_is_good_for_a_day(incident: Incident, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + links.LIFETIME_SECONDS - 60)
    assert Client().get(link).status_code == 200
    monkeypatch.setattr(time, "time", lambda: real() + links.LIFETIME_SECONDS + 60)
    answer = Client().post(link)
    assert answer.status_code == 404
    assert "older than a day" in answer.content.decode()
    assert Incident.objects.get().state == "open"


def test_somebody_who_left_acknowledges_nothing(incident: Incident, link: str, alice: Person) -> None:
    Person.objects.filter(pk=alice.pk).update(is_active=False)
    assert Client().post(link).status_code == 404
    assert Incident.objects.get().state == "open"


def test_a_page_that_is_gone(incident: Incident, link: str) -> None:
    Delivery.objects.all().delete()
    Level.objects.filter(pages__isnull=False).delete()
    assert Client().get(link).status_code == 404


def test_one_link_is_for_one_incident(incident: Incident, link: str) -> None:
    other = opened()
    Client().post(link)
    assert Incident.objects.get(pk=other.pk).state == "open"


def test_the_token_is_kept_from_other_sites(incident: Incident, link: str) -> None:
    answer = Client().get(link)
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"
