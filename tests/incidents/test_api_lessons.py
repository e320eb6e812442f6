"""Post-mortems, action items, messages, contacts and reports for programs: the rules of the pages hold."""

from datetime import timedelta

import pytest
from django.utils import timezone

from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from incidents.lessons import documents
from incidents.lifecycle import acknowledge, open_incident, resolve
from incidents.models import Contact, Delivery, Incident, Severity
from tests.api.conftest import Caller, assert_problem
from tests.estate import Estate
from tests.incidents.test_api import caller

pytestmark = pytest.mark.django_db
WHO = SYSTEM("test")


@pytest.fixture
def alices(alice: Person) -> Caller:
    """Alice's program."""
    return caller(alice)


@pytest.fixture
def over(estate: Estate) -> Incident:
    """An incident of production that is over, with the draft of its post-mortem."""
    incident, _ = open_incident(WHO, title="it broke", severity=Severity.P2, environments=["production"])
    acknowledge(incident.pk, WHO)
    resolve(incident.pk, WHO, "rolled back")
    documents.draft_now(incident.pk, WHO)
    return incident


def test_versions_are_written_on_the_one_that_was_read(alices: Caller, eve: Person, over: Incident) -> None:
    where = f"incidents/{over.pk}/post-mortem"
    read = alices.get(where).json()
    assert (read["state"], read["version"]) == ("draft", 1) and "[#1]" in read["body"]
    assert alices.post(f"{where}/versions", {"body": "It broke [#1].", "version": 1}).json()["version"] == 2
    assert_problem(alices.post(f"{where}/versions", {"body": "Other.", "version": 1}), 409, "version 2")
    assert_problem(caller(eve).get(where), 404)


def test_published_with_the_approval_of_somebody_else(alices: Caller, bob: Person, over: Incident) -> None:
    where = f"incidents/{over.pk}/post-mortem"
    alices.post(f"{where}/versions", {"body": "It broke [#1].", "version": 1})
    assert alices.post(f"{where}/state", {"state": "review"}).json()["state"] == "review"
    assert_problem(alices.post(f"{where}/reviews", {"state": "approved", "version": 2}), 403, "somebody else")
    assert caller(bob).post(f"{where}/reviews", {"state": "approved", "version": 2}).status_code == 200
    assert alices.post(f"{where}/state", {"state": "published"}).json()["published_at"] is not None


def test_action_items_are_done_and_verified_by_two(alices: Caller, bob: Person, over: Incident) -> None:
    due = (timezone.now() + timedelta(days=7)).date().isoformat()
    wanted = {"title": "limit the pool", "owner": "alice", "due_on": due, "verification": "a load test"}
    made = alices.post(f"incidents/{over.pk}/action-items", wanted)
    assert made.status_code == 201, made.content
    where = f"action-items/{made.json()['id']}/state"
    assert alices.get("action-items?state=open").json() == [made.json()]
    assert alices.post(where, {"state": "done", "words": "merged"}).json()["state"] == "done"
    assert_problem(alices.post(where, {"state": "verified", "words": "held"}), 403, "somebody else")
    assert caller(bob).post(where, {"state": "verified", "words": "held"}).json()["state"] == "verified"
    assert_problem(alices.post(f"incidents/{over.pk}/action-items", {**wanted, "owner": "nobody"}), 422)


def test_messages_are_of_what_one_sees(alices: Caller, eve: Person, over: Incident) -> None:
    Delivery.objects.create(
        incident=over, purpose="notice", channel="slack", key="k", message={"title": "x", "text": "x"}, error="503"
    )
    (seen,) = alices.get(f"messages?incident={over.pk}").json()
    assert (seen["channel"], seen["state"], seen["error"]) == ("slack", "queued", "503")
    assert caller(eve).get("messages").json() == []


def test_contacts_and_reports(alices: Caller, charlie: Person, over: Incident) -> None:
    Contact.objects.create(slug="legal", name="Legal", email="legal@pitchey.com")
    assert [one["email"] for one in alices.get("contacts").json()] == ["legal@pitchey.com"]
    assert_problem(caller(charlie).get("contacts"), 403)
    told = alices.get("reports?days=30").json()["whole"]
    assert told["count"] == 1 and told["acknowledge_median"] is not None
    assert caller(charlie).get("reports").json()["whole"]["acknowledge_median"] is None
