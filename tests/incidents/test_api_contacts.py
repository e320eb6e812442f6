"""Whom one calls, and how people are reached, for programs: the rules of the pages hold."""

from typing import Any

import pytest

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from incidents.models import Contact, ContactMethod
from tests.api.conftest import Caller, assert_problem
from tests.incidents.test_api import caller

pytestmark = pytest.mark.django_db
NUMBER = "+4915112345678"
AWS: dict[str, Any] = {"contact": "aws-support", "name": "AWS Support", "how": "Premium support case", "reason": "new"}


@pytest.fixture
def adas(ada: Person) -> Caller:
    """An administrator's program."""
    return caller(ada)


def stored(person: Person) -> dict[str, str]:
    return dict(ContactMethod.objects.filter(person=person).values_list("kind", "address"))


class TestContacts:
    def test_added_changed_and_removed_each_with_its_reason(self, adas: Caller) -> None:
        made = adas.post("contacts", AWS, key="k1")
        assert made.status_code == 201, made.content
        assert adas.post("contacts", AWS, key="k1").content == made.content
        assert adas.get("contacts").json() == [made.json()]
        body = {"email": "aws@pitchey.com", "position": 3, "digest": made.json()["digest"], "reason": "a case address"}
        changed = adas.post("contacts/aws-support/changes", body)
        assert changed.json() == {
            **made.json(), "email": "aws@pitchey.com", "position": 3, "digest": changed.json()["digest"],
        }  # fmt: skip
        gone = [adas.post("contacts/aws-support/removal", {"reason": "left AWS"}, key="k2") for _ in range(2)]
        assert [one.json() for one in gone] == [changed.json()] * 2
        assert not Contact.objects.exists()
        entries = Entry.objects.filter(action__startswith="contact").order_by("pk")
        assert [(one.action, one.reason) for one in entries] == [
            ("contact.added", "new"), ("contact.changed", "a case address"), ("contact.removed", "left AWS"),
        ]  # fmt: skip

    def test_of_two_changes_of_one_reading_only_the_first_is_made(self, adas: Caller) -> None:
        digest = adas.post("contacts", AWS).json()["digest"]
        where = "contacts/aws-support/changes"
        assert adas.post(where, {"name": "a", "digest": digest, "reason": "x"}).status_code == 200
        assert_problem(adas.post(where, {"name": "b", "digest": digest, "reason": "x"}), 409, "Somebody has changed")
        assert Contact.objects.get().name == "a"

    @pytest.mark.parametrize(
        ("wanted", "status", "words"),
        [
            ({"how": ""}, 422, "body: Give at least one way"),
            ({"email": "nowhere"}, 422, "body.email"),
            ({"url": "javascript:alert(1)"}, 422, "body.url"),
            ({"contact": "a b"}, 422, "body.contact"),
            ({"reason": ""}, 422, "body.reason"),
            ({"contact": "legal"}, 409, "There is a contact legal already"),
        ],
    )
    def test_what_cannot_be_is_said(self, adas: Caller, wanted: dict[str, Any], status: int, words: str) -> None:
        Contact.objects.create(slug="legal", name="Legal", email="legal@pitchey.com")
        assert_problem(adas.post("contacts", {**AWS, **wanted}), status, words)
        assert [one.email for one in Contact.objects.all()] == ["legal@pitchey.com"]

    def test_only_administrators_change_them(self, adas: Caller, alice: Person, charlie: Person) -> None:
        digest = adas.post("contacts", AWS).json()["digest"]
        for person in (alice, charlie):
            program = caller(person)
            assert_problem(program.post("contacts", {**AWS, "contact": "x"}), 403)
            body = {"name": "x", "digest": digest, "reason": "x"}
            assert_problem(program.post("contacts/aws-support/changes", body), 403)
            assert_problem(program.post("contacts/aws-support/removal", {"reason": "x"}), 403)
            assert_problem(program.post("contacts/nothing/removal", {"reason": "x"}), 403)
        assert_problem(adas.post("contacts/nothing/removal", {"reason": "x"}), 404)
        assert Contact.objects.get().name == "AWS Support"


class TestHowPeopleAreReached:
    def test_everybody_changes_their_own(self, dana: Person) -> None:
        program = caller(dana)
        body = {"phone": "+49 (151) 1234-5678", "email": "dana@pitchey.com", "reason": "new phone"}
        answer = program.post("contact-methods/dana/changes", body)
        assert answer.status_code == 200, answer.content
        assert {one["channel"]: one["address"] for one in answer.json()["ways"]} == stored(dana)
        assert stored(dana) == {"phone": NUMBER, "email": "dana@pitchey.com"}
        assert program.post("contact-methods/dana/changes", {"email": "", "reason": "x"}).status_code == 200
        assert stored(dana) == {"phone": NUMBER}
        entry = Entry.objects.filter(action="reach.changed").order_by("pk").first()
        assert entry and entry.reason == "new phone" and NUMBER not in str(entry.data)

    def test_those_of_others_only_by_an_administrator(self, adas: Caller, alice: Person, dana: Person) -> None:
        body = {"sms": NUMBER, "reason": "x"}
        assert_problem(caller(alice).post("contact-methods/dana/changes", body), 403)
        assert stored(dana) == {}
        assert adas.post("contact-methods/dana/changes", body).status_code == 200
        assert stored(dana) == {"sms": NUMBER}

    @pytest.mark.parametrize(
        ("wanted", "words"),
        [
            ({"phone": "soon"}, "body.phone"),
            ({"email": "nowhere"}, "body.email"),
            ({"pagerduty": "x"}, "body.pagerduty"),
            ({"phone": "", "sms": ""}, "Nothing is different"),
            ({}, "Nothing is different"),
        ],
    )
    def test_what_cannot_be_is_said(self, adas: Caller, dana: Person, wanted: dict[str, str], words: str) -> None:
        assert_problem(adas.post("contact-methods/dana/changes", {**wanted, "reason": "x"}), 422, words)
        assert stored(dana) == {}

    def test_numbers_are_whole_for_operators_and_for_whose_they_are(
        self, alice: Person, dana: Person, eve: Person
    ) -> None:
        ContactMethod.objects.create(person=dana, kind="phone", address=NUMBER)
        for person, shown in ((alice, NUMBER), (dana, NUMBER), (eve, "+49 ••• 78")):
            listed = {one["person"]: one["ways"] for one in caller(person).get("contact-methods").json()}
            assert listed["dana"] == [{"channel": "phone", "address": shown}]
            assert caller(person).get("contact-methods/dana").json()["ways"] == listed["dana"]

    def test_who_has_no_role_cannot_tell_who_exists(self, charlie: Person, dana: Person) -> None:
        program = caller(charlie)
        assert_problem(program.get("contact-methods"), 404)
        seen, unseen = program.get("contact-methods/dana"), program.get("contact-methods/zed")
        assert_problem(seen, 404)
        assert seen.content == unseen.content
        assert_problem(program.post("contact-methods/charlie/changes", {"sms": NUMBER, "reason": "x"}), 404)
