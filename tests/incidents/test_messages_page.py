"""The page of what was sent: to whom, by what, how far it got; filters, access, and trying again."""

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from incidents.channels.sender import send_due
from incidents.escalation import clock
from incidents.lifecycle import acknowledge, open_incident
from incidents.models import Delivery, Incident, Severity
from tests.estate import Estate
from tests.incidents.escalating import WHO, matrix, reachable
from tests.incidents.providers import Provider, provider

__all__ = ["provider"]
pytestmark = pytest.mark.django_db


def as_(person: Person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def text_of(person: Person, query: str = "") -> str:
    answer = as_(person).get(f"/messages{query}")
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", answer.content.decode())


@pytest.fixture
def incident(estate: Estate, alice: Person, provider: Provider) -> Incident:
    """Alice is paged for production by mail, and the mail server refuses."""
    reachable(alice, email="alice@example.com")
    provider.configure("email")
    matrix([alice], ["email"])
    made, _ = open_incident(WHO, title="the API answers 503", severity=Severity.P1, environments=["production"])
    clock.fire_due()
    return made


def fail(provider: Provider) -> Delivery:
    """The mail server says no for good."""
    provider.behave(status=550)
    send_due("email")
    provider.behave()
    return Delivery.objects.get()


def test_how_far_it_got(incident: Incident, alice: Person, provider: Provider) -> None:
    assert "queued" in text_of(alice)
    send_due("email")
    page = text_of(alice)
    for words in ("the API answers 503", "Alice", "e-mail", "delivered"):
        assert words in page


def test_what_went_wrong_in_words(incident: Incident, alice: Person, provider: Provider) -> None:
    fail(provider)
    assert "the mail server refused the recipient (550)" in text_of(alice) or "answered 550" in text_of(alice)


def test_it_says_when_nothing_leaves(incident: Incident, alice: Person, settings: object) -> None:
    assert "Nothing leaves here" not in text_of(alice)
    settings.RECORDING_PROVIDER = "http://127.0.0.1:9"  # type: ignore[attr-defined]
    assert "Nothing leaves here" in text_of(alice)


@pytest.mark.parametrize(
    ("query", "found"),
    [("?channel=email", True), ("?channel=sms", False), ("?state=queued", True), ("?state=failed", False),
     ("?channel=nonsense&state=nonsense&incident=nonsense", True), ("?incident=999999999999999999999", True),
     ("?before=1&after=x", False)],
)  # fmt: skip
def test_filters(incident: Incident, alice: Person, query: str, found: bool) -> None:
    assert ("the API answers 503" in text_of(alice, query)) is found or query.startswith("?before")


def test_of_one_incident(incident: Incident, alice: Person) -> None:
    assert "the API answers 503" in text_of(alice, f"?incident={incident.pk}")
    assert "the API answers 503" not in text_of(alice, f"?incident={incident.pk + 1}")


def test_who_sees_it(incident: Incident, charlie: Person, dana: Person, eve: Person) -> None:
    assert "the API answers 503" in text_of(dana)
    for outsider in (charlie, eve):
        assert "the API answers 503" not in text_of(outsider)
    assert Client().get("/messages").status_code == 302


def test_trying_again(incident: Incident, alice: Person, provider: Provider) -> None:
    delivery = fail(provider)
    key = delivery.key
    assert f"/messages/{delivery.pk}/again" in text_of(alice)
    assert as_(alice).post(f"/messages/{delivery.pk}/again").status_code == 302
    send_due("email")
    delivery.refresh_from_db()
    assert (delivery.state, delivery.key, provider.keys) == ("delivered", key, [key])
    assert Entry.objects.get(action="message.retried").actor == "Alice"


def test_trying_again_twice_is_once(incident: Incident, alice: Person, provider: Provider) -> None:
    delivery = fail(provider)
    for _ in range(2):
        as_(alice).post(f"/messages/{delivery.pk}/again")
    assert Entry.objects.filter(action="message.retried").count() == 1


def test_only_operators_try_again(incident: Incident, dana: Person, charlie: Person, provider: Provider) -> None:
    delivery = fail(provider)
    assert "/again" not in text_of(dana)
    assert as_(dana).post(f"/messages/{delivery.pk}/again").status_code == 403
    assert as_(charlie).post(f"/messages/{delivery.pk}/again").status_code == 404
    assert as_(dana).get(f"/messages/{delivery.pk}/again").status_code == 405
    assert Delivery.objects.get().state == "failed"


def test_after_the_acknowledgement_no_page_is_sent_again(incident: Incident, alice: Person, provider: Provider) -> None:
    delivery = fail(provider)
    acknowledge(incident.pk, WHO)
    answer = as_(alice).post(f"/messages/{delivery.pk}/again", follow=True)
    assert "Hand over instead" in answer.content.decode()
    assert Delivery.objects.get(purpose="page").state == "failed"


def test_many_cost_the_same(incident: Incident, alice: Person) -> None:
    def queries() -> int:
        client = as_(alice)
        client.get("/messages")
        with CaptureQueriesContext(
            connection,
        ) as caught:
            answer = client.get("/messages")
        assert len(answer.content) < 100_000
        return len(caught)

    few = queries()
    Delivery.objects.bulk_create(
        Delivery(incident=incident, purpose="notice", channel="slack", key=f"k{number}",
                 message={"title": "P1 · x", "text": "y"})
        for number in range(300)
    )  # fmt: skip
    many = queries()
    assert many <= few + 1 <= 20
    assert "before=" in text_of(alice)
