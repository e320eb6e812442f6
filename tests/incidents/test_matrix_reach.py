"""How people are reached: addresses are checked by kind, numbers are whole only for operators, changes audited."""

import re
from typing import Any

import pytest
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from incidents.matrix_reach import cleaned, masked, problem_with_address
from incidents.models import ContactMethod

pytestmark = pytest.mark.django_db
NUMBER = "+4915112345678"


def post(client: Client, who: Person, **fields: str) -> Any:
    client.force_login(who)
    return client.post("/reach", {"reason": "new phone", **fields})


def stored(person: Person) -> dict[str, str]:
    return dict(ContactMethod.objects.filter(person=person).values_list("kind", "address"))


def test_everybody_changes_their_own(client: Client, dana: Person) -> None:
    fields = {"phone": "+49 (151) 1234-5678", "email": " dana@pitchey.com ", "slack": "U012AB3CD"}
    assert post(client, dana, **fields).status_code == 302
    assert stored(dana) == {"phone": NUMBER, "email": "dana@pitchey.com", "slack": "U012AB3CD"}
    entry = Entry.objects.order_by("-pk").first()
    assert entry
    assert (entry.action, entry.actor, entry.reason) == ("reach.changed", "Dana", "new phone")
    assert NUMBER not in str(entry.data)
    assert entry.data["changes"]["phone"] == ["", "+49 ••• 78"]


def test_what_is_left_empty_is_taken_away(client: Client, dana: Person) -> None:
    post(client, dana, phone=NUMBER, sms=NUMBER)
    assert post(client, dana, sms=NUMBER).status_code == 302
    assert stored(dana) == {"sms": NUMBER}
    assert post(client, dana, sms=NUMBER).status_code == 422  # nothing is different


def test_an_admin_changes_those_of_others_and_nobody_else_does(
    client: Client, alice: Person, bob: Person, dana: Person, ada: Person
) -> None:
    for person in (alice, bob):
        assert post(client, person, person="dana", phone=NUMBER).status_code == 403
    assert stored(dana) == {}
    assert post(client, ada, person="dana", phone=NUMBER).status_code == 302
    assert stored(dana) == {"phone": NUMBER}


def test_numbers_are_whole_for_operators_and_for_whose_they_are(
    client: Client, alice: Person, dana: Person, eve: Person
) -> None:
    for person, kind in ((dana, "phone"), (dana, "sms"), (dana, "email")):
        ContactMethod.objects.create(
            person=person, kind=kind, address="dana@pitchey.com" if kind == "email" else NUMBER
        )
    for person, whole in ((alice, True), (dana, True), (eve, False)):
        client.force_login(person)
        text = client.get("/reach").content.decode()
        assert (NUMBER in text) is whole
        assert "dana@pitchey.com" in text
    assert "+49 ••• 78" in text


def test_outsiders_and_strangers(client: Client, charlie: Person, dana: Person) -> None:
    assert client.get("/reach").status_code == 302
    assert post(client, charlie, phone=NUMBER).status_code == 404
    client.force_login(dana)
    assert client.get("/reach?person=zed").status_code == 404
    assert client.get("/reach?person=charlie").status_code == 403
    assert stored(charlie) == {}


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("phone", NUMBER, "015112345678"),
        ("phone", "+1 202 555 0101", "+1"),
        ("sms", "+12025550101", "+0123456789"),
        ("sms", "+12025550101", "+1202555010123456"),
        ("phone", "+12025550101", "+1202555０101"),
        ("email", "a@b.example", "a@b"),
        ("email", "a@b.example", "two@b.example,three@b.example"),
        ("slack", "@alice", "alice"),
        ("slack", "#on-call", "U"),
        ("webhook", "https://example.com/hook", "ftp://example.com/hook"),
        ("webhook", "https://example.com/hook", "javascript:alert(1)"),
        ("webhook", "https://example.com/hook", "http://169.254.169.254/latest"),
    ],
)
def test_each_kind_has_its_form(client: Client, dana: Person, kind: str, good: str, bad: str) -> None:
    assert problem_with_address(kind, cleaned(kind, good)) == ""
    answer = post(client, dana, **{kind: bad})
    assert answer.status_code == 422
    assert re.search(r"” (is no|has to|points to) ", answer.content.decode())
    assert stored(dana) == {}


def test_a_reason_is_asked_for(client: Client, dana: Person) -> None:
    assert post(client, dana, phone=NUMBER, reason=" ").status_code == 422
    assert stored(dana) == {}


def test_only_numbers_are_masked() -> None:
    assert masked("phone", NUMBER) == "+49 ••• 78"
    assert masked("sms", "") == ""
    assert masked("email", "a@b.example") == "a@b.example"


def test_one_page_for_all_in_few_queries(
    client: Client, dana: Person, alice: Person, bob: Person, django_assert_max_num_queries: Any
) -> None:
    client.force_login(dana)
    with django_assert_max_num_queries(20):
        assert client.get("/reach").status_code == 200
