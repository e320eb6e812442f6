"""Who may do what on the pages of incidents: viewers look, operators act, outsiders find nothing."""

import pytest
from django.test import Client

from controlplane.accounts.models import Person, Role
from controlplane.audit.models import Entry
from incidents.models import Incident
from incidents.views import ACTS
from tests.estate import Estate
from tests.incidents.lessons import opened
from tests.people import person

pytestmark = pytest.mark.django_db

PAGES = ("", "/review", "/timeline.md", "/timeline.json", "/entries/1")
POSTS = (*(f"/do/{what}" for what in ACTS), "/entries/1/change")
# What forms may bring: nothing, too much, what PostgreSQL cannot store, other types, other people's numbers.
GARBAGE: tuple[dict[str, object], ...] = (
    {},
    dict.fromkeys(("text", "reason", "person", "role", "environment", "phase", "level", "what"), "\x00"),
    dict.fromkeys(("level", "item", "glass", "person", "at"), "9" * 40),
    dict.fromkeys(("text", "reason", "resolution", "note"), "x" * 30000),
    {"impact": "huge", "urgency": "now", "role": "king", "phase": "panic", "person": "nobody", "at": "yesterday"},
    {"text": "from the future", "at": "2999-01-01T00:00"},
    {"what": "edit", "text": "", "reason": ""},
)


@pytest.fixture
def incident(estate: Estate) -> Incident:
    """A P1 of production."""
    return opened()


def path_of(incident: Incident, rest: str = "") -> str:
    return f"/incidents/{incident.pk}{rest}"


@pytest.mark.parametrize("rest", PAGES)
class TestLooking:
    def test_viewers_may(self, rest: str, client: Client, incident: Incident, dana: Person) -> None:
        client.force_login(dana)
        assert client.get(path_of(incident, rest)).status_code == 200

    def test_others_find_nothing(self, rest: str, client: Client, incident: Incident, charlie: Person) -> None:
        for reader in (charlie, person("frank", staging=Role.ADMIN)):
            client.force_login(reader)
            assert client.get(path_of(incident, rest)).status_code == 404

    def test_strangers_sign_in_first(self, rest: str, client: Client, incident: Incident) -> None:
        assert client.get(path_of(incident, rest)).status_code == 302


@pytest.mark.parametrize("rest", POSTS)
class TestActing:
    def test_viewers_may_not_and_it_is_written_down(
        self, rest: str, client: Client, incident: Incident, dana: Person
    ) -> None:
        client.force_login(dana)
        before = Incident.objects.get(pk=incident.pk).last_seq
        assert client.post(path_of(incident, rest), {"reason": "x", "text": "x"}).status_code == 403
        assert Incident.objects.get(pk=incident.pk).last_seq == before
        assert Entry.objects.filter(action="access.denied").exists()

    def test_others_find_nothing(self, rest: str, client: Client, incident: Incident, charlie: Person) -> None:
        client.force_login(charlie)
        assert client.post(path_of(incident, rest)).status_code == 404

    def test_looking_does_nothing(self, rest: str, client: Client, incident: Incident, alice: Person) -> None:
        client.force_login(alice)
        assert client.get(path_of(incident, rest)).status_code == 405

    def test_no_input_is_a_traceback(self, rest: str, client: Client, incident: Incident, bob: Person) -> None:
        client.force_login(bob)
        for given in GARBAGE:
            assert client.post(path_of(incident, rest), given).status_code in {302, 400, 404, 409, 422}, given


class TestReporting:
    def test_operators_open_one(self, client: Client, estate: Estate, alice: Person) -> None:
        client.force_login(alice)
        given = {
            "title": "Checkout answers 500", "impact": "high", "urgency": "high", "environments": ["production"],
            "reason": "three customers called",
        }  # fmt: skip
        answer = client.post("/incidents/report", given)
        found = Incident.objects.get()
        assert (answer.status_code, answer["Location"]) == (302, path_of(found))
        assert (found.severity, found.environments, found.opened_by_name) == ("P1", ["production"], "Alice")

    def test_only_where_one_is_operator(self, client: Client, estate: Estate) -> None:
        given = {"title": "x", "impact": "low", "urgency": "low", "environments": ["production"], "reason": "x"}
        for role in (Role.VIEWER, Role.OPERATOR):
            somebody = person(f"in-staging-{role}", staging=role)
            client.force_login(somebody)
            assert client.post("/incidents/report", given).status_code in {403, 404, 422}
        assert not Incident.objects.exists()

    def test_what_is_missing_is_said_and_what_was_typed_is_kept(
        self, client: Client, estate: Estate, alice: Person
    ) -> None:
        client.force_login(alice)
        answer = client.post("/incidents/report", {"title": "", "reason": "three customers called", "impact": "x"})
        assert answer.status_code == 422
        assert "three customers called" in answer.content.decode()


class TestEntries:
    def test_only_notes_are_edited_and_both_versions_stay(
        self, client: Client, incident: Incident, alice: Person
    ) -> None:
        client.force_login(alice)
        client.post(path_of(incident, "/do/note"), {"text": "checkout answers 500"})
        seq = Incident.objects.get(pk=incident.pk).last_seq
        given = {"what": "edit", "text": "checkout answers 503", "reason": "wrong number"}
        assert client.post(path_of(incident, f"/entries/{seq}/change"), given).status_code == 302
        page = client.get(path_of(incident)).content.decode()
        assert "checkout answers 503" in page
        assert "edited once" in page
        entry = client.get(path_of(incident, f"/entries/{seq}")).content.decode()
        assert "checkout answers 500" in entry
        assert client.post(path_of(incident, "/entries/1/change"), given).status_code == 422

    def test_hidden_ones_fold_and_come_back(self, client: Client, incident: Incident, alice: Person) -> None:
        client.force_login(alice)
        change = path_of(incident, "/entries/1/change")
        assert client.post(change, {"what": "hide", "reason": ""}).status_code == 422
        assert client.post(change, {"what": "hide", "reason": "noise"}).status_code == 302
        assert '<summary class="quiet">hidden</summary>' in client.get(path_of(incident)).content.decode()
        assert client.post(change, {"what": "show", "reason": ""}).status_code == 302
        assert '<summary class="quiet">hidden</summary>' not in client.get(path_of(incident)).content.decode()

    def test_entries_of_other_incidents_are_not_reached(
        self, client: Client, incident: Incident, alice: Person
    ) -> None:
        client.force_login(alice)
        assert client.get(path_of(incident, "/entries/9999")).status_code == 404
        answer = client.post(path_of(incident, "/entries/9999/change"), {"what": "pin"})
        assert answer.status_code in {404, 422}
