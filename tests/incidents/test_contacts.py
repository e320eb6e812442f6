"""Whom one calls, outside and by the escalation; an administrator changes it, everybody with a role looks."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from incidents.models import Contact, ContactMethod, EscalationLevel, EscalationPolicy, Layer, Schedule

pytestmark = pytest.mark.django_db
FORM = {"name": "Legal", "email": "law@pitchey.com", "phone": "", "url": "", "how": "", "position": "2", "what": "save"}


@pytest.fixture(autouse=True)
def legal(db: None) -> Contact:
    """One contact."""
    return Contact.objects.create(slug="legal", name="Legal", email="legal@pitchey.com", position=1)


def text_of(client: Client, path: str = "/contacts") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_contacts_with_their_ways(client: Client, dana: Person) -> None:
    Contact.objects.create(slug="aws", name="AWS Support", how="Premium support case", phone="+49 30 1")
    client.force_login(dana)
    text = text_of(client)
    assert 'href="mailto:legal@pitchey.com"' in text
    assert "Premium support case" in text
    assert 'href="tel:+49301"' in text
    assert "Change" not in text.partition("<main")[2]


def test_the_escalation_with_who_is_called_now(client: Client, dana: Person, eve: Person, bob: Person) -> None:
    schedule = Schedule.objects.create(slug="primary", name="Primary")
    Layer.objects.create(
        schedule=schedule, position=0, name="all", people=["bob"], starts_on="2020-01-01", handover="09:00"
    )
    Schedule.objects.create(slug="gap", name="Nights")
    ContactMethod.objects.create(person=bob, kind="phone", address="+49 171 5")
    policy = EscalationPolicy.objects.create(slug="matrix", name="The matrix", severities=["P1"])
    targets = [[{"schedule": "primary"}], [{"person": "bob"}, {"schedule": "gap"}, {"person": "zed"}]]
    for number, target in enumerate(targets, 1):
        EscalationLevel.objects.create(
            policy=policy, number=number, role=f"Role {number}", after_seconds=900 * (number - 1), targets=target,
            channels=["pagerduty", "phone"],
        )  # fmt: skip
    client.force_login(dana)
    with CaptureQueriesContext(connection) as queries:
        text = text_of(client)
    assert len(queries) <= 20
    assert "L1 Role 1" in text
    assert "has Primary now" in text
    assert text.count(">+49 171 5<") == 2
    assert "is on call: a gap in Nights" in text
    assert "zed has no account here" in text
    client.force_login(eve)
    text = text_of(client)
    assert "+49 171 5" not in text
    assert "legal@pitchey.com" in text


def test_an_admin_changes_adds_and_removes(client: Client, ada: Person) -> None:
    client.force_login(ada)
    assert 'value="legal@pitchey.com"' in text_of(client, "/contacts/legal/change")
    assert client.post("/contacts/legal/change", FORM).headers["Location"] == "/contacts"
    assert Contact.objects.get().email == "law@pitchey.com"
    entry = Entry.objects.get(action="contact.changed")
    assert entry.data["before"]["email"] == "legal@pitchey.com"
    added = client.post("/contacts/add", {**FORM, "slug": "dba", "name": "Database Admin"})
    assert added.status_code == 302
    assert Contact.objects.count() == 2
    assert client.post("/contacts/dba/change", {"what": "remove"}).status_code == 302
    assert Contact.objects.get().slug == "legal"
    assert set(Entry.objects.filter(action__startswith="contact.").values_list("action", flat=True)) == {
        "contact.changed", "contact.added", "contact.removed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": ""}, "This field is required"),
        ({"email": "x"}, "valid email"),
        ({"email": ""}, "at least one way"),
        ({"url": "javascript:alert(1)"}, "valid URL"),
        ({"position": "-1"}, "greater than or equal to 0"),
        ({"name": "x" * 101}, "at most 100"),
    ],
)
def test_what_is_wrong_is_said_and_kept(client: Client, ada: Person, given: dict[str, str], words: str) -> None:
    client.force_login(ada)
    answer = client.post("/contacts/legal/change", {**FORM, **given})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert Contact.objects.get().email == "legal@pitchey.com"


def test_a_name_is_taken_once(client: Client, ada: Person) -> None:
    client.force_login(ada)
    answer = client.post("/contacts/add", {**FORM, "slug": "legal"})
    assert answer.status_code == 422
    assert Contact.objects.count() == 1


WRITES = ["/contacts/add", "/contacts/legal/change"]


@pytest.mark.parametrize("path", ["/contacts", *WRITES])
def test_a_stranger_and_an_outsider_get_nowhere(client: Client, charlie: Person, path: str) -> None:
    assert client.get(path).headers["Location"].startswith("/login")
    client.force_login(charlie)
    assert client.get(path).status_code == 403
    assert Entry.objects.get(action="access.denied").actor == "Charlie"


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("who", ["dana", "alice", "bob", "eve"])
def test_only_an_admin_changes_them(client: Client, request: pytest.FixtureRequest, path: str, who: str) -> None:
    client.force_login(request.getfixturevalue(who))
    assert client.get(path).status_code == 403
    assert client.post(path, {**FORM, "slug": "new"}).status_code == 403
    assert client.post(path, {"what": "remove"}).status_code == 403
    assert Contact.objects.get().email == "legal@pitchey.com"


def test_a_form_of_elsewhere_is_refused(ada: Person) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    for path in WRITES:
        assert client.post(path, {**FORM, "slug": "new"}).status_code == 403
    assert Contact.objects.count() == 1


def test_one_that_is_not_there(client: Client, ada: Person) -> None:
    client.force_login(ada)
    assert client.get("/contacts/nobody/change").status_code == 404
