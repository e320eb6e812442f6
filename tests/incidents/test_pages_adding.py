"""A rotation and a matrix from the pages: who may add one, what is refused, and that it pages somebody then."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from incidents.lifecycle import open_incident
from incidents.models import Channel, EscalationPolicy, Layer, Level, Schedule, Severity
from incidents.oncall.now import on_call
from tests.incidents.oncall_world import matrix, primary

pytestmark = pytest.mark.django_db
ROTATION, POLICY = "/schedules/add", "/matrix/add"


def rotation(**changes: str) -> dict[str, str]:
    begun = (database_time() - timedelta(days=3)).date().isoformat()
    return {
        "schedule-slug": "nights", "schedule-name": "Nights", "schedule-time_zone": "Europe/Berlin",
        "layers-TOTAL_FORMS": "1", "layers-INITIAL_FORMS": "0", "layers-MIN_NUM_FORMS": "0",
        "layers-MAX_NUM_FORMS": "12", "layers-0-name": "Everybody", "layers-0-people": "alice, bob",
        "layers-0-every": "1", "layers-0-unit": "week", "layers-0-starts_on": begun, "layers-0-handover": "09:00",
        "what": "preview", **changes,
    }  # fmt: skip


def policy(**changes: str) -> dict[str, str]:
    return {
        "slug": "nights", "name": "At night", "severities": "P2", "repeats": "0", "repeat_after": "30",
        "reason": "a second line", "levels-TOTAL_FORMS": "1", "levels-INITIAL_FORMS": "0", "levels-MIN_NUM_FORMS": "0",
        "levels-MAX_NUM_FORMS": "10", "levels-0-role": "Engineer", "levels-0-after": "0",
        "levels-0-targets": "schedule:primary", "levels-0-channels": "sms", **changes,
    }  # fmt: skip


@pytest.fixture
def admin(client: Client, ada: Person, alice: Person, bob: Person) -> Client:
    """Ada's browser."""
    client.force_login(ada)
    return client


class TestRotation:
    def test_it_is_previewed_then_added(self, admin: Client) -> None:
        assert ROTATION in admin.get("/on-call").content.decode()
        assert 'name="schedule-slug"' in admin.get(ROTATION).content.decode()
        seen = admin.post(ROTATION, rotation())
        assert seen.status_code == 200
        assert "as they would be" in seen.content.decode()
        assert not Schedule.objects.exists()
        saved = admin.post(ROTATION, rotation(what="save", shown=seen.context["shown"], reason="a second line"))
        assert saved.headers["Location"] == "/on-call/nights"
        assert len(on_call("nights", database_time())) == 1
        entry = Entry.objects.filter(action="oncall.schedule_added").get()
        assert (entry.actor, entry.target, entry.reason) == ("Ada", "schedule nights", "a second line")
        assert admin.get("/on-call/nights").status_code == 200

    def test_nothing_else_than_the_preview_is_added(self, admin: Client) -> None:
        shown = admin.post(ROTATION, rotation()).context["shown"]
        fields = rotation(what="save", shown=shown, reason="x")
        assert admin.post(ROTATION, {**fields, "layers-0-every": "2"}).status_code == 409
        assert admin.post(ROTATION, {**fields, "shown": ""}).status_code == 409
        assert admin.post(ROTATION, {**fields, "reason": ""}).status_code == 422
        assert not Schedule.objects.exists()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"schedule-slug": "at night"}, "valid “slug”"),
            ({"schedule-slug": ""}, "This field is required"),
            ({"schedule-time_zone": "Mars"}, "is no time zone"),
            ({"layers-0-people": "zed"}, "nobody called zed"),
        ],
    )
    def test_what_cannot_be_is_said(self, admin: Client, changes: dict[str, str], words: str) -> None:
        answer = admin.post(ROTATION, rotation(**changes))
        assert answer.status_code == 422
        assert words in answer.content.decode()

    def test_a_name_that_is_taken_replaces_nothing(self, admin: Client) -> None:
        primary()
        fields = rotation(**{"schedule-slug": "primary"})
        shown = admin.post(ROTATION, fields).context["shown"]
        answer = admin.post(ROTATION, {**fields, "what": "save", "shown": shown, "reason": "x"})
        assert answer.status_code == 409
        assert "There is a schedule primary already" in answer.content.decode()
        assert Layer.objects.get().name == "layer 1"


class TestPolicy:
    @pytest.fixture(autouse=True)
    def there(self, alice: Person, bob: Person) -> None:
        """One for P1."""
        primary()
        matrix("sms")

    def test_it_is_added_and_pages_for_incidents_to_come(self, admin: Client) -> None:
        assert POLICY in admin.get("/matrix").content.decode()
        assert 'name="slug"' in admin.get(POLICY).content.decode()
        assert admin.post(POLICY, policy()).headers["Location"] == "/matrix#nights"
        incident, _ = open_incident(SYSTEM("test"), title="x", severity=Severity.P2, environments=[])
        assert Level.objects.get(incident=incident).targets == [{"schedule": "primary"}]
        assert Entry.objects.filter(action="escalation.added").get().reason == "a second line"

    @pytest.mark.parametrize(
        ("changes", "status", "words"),
        [
            ({"slug": "at night"}, 422, "valid “slug”"),
            ({"slug": "matrix"}, 409, "There is an escalation policy matrix already"),
            ({"severities": "P1"}, 422, "P1 is escalated by The matrix already"),
            ({"levels-0-targets": "schedule:gone"}, 422, "There is no schedule gone"),
            ({"levels-0-role": "", "levels-0-after": "", "levels-0-targets": "", "levels-0-channels": ""}, 422,
             "A matrix needs a level"),
            ({"reason": ""}, 422, "This field is required"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_said_and_adds_nothing(
        self, admin: Client, changes: dict[str, str], status: int, words: str
    ) -> None:
        answer = admin.post(POLICY, policy(**changes))
        assert answer.status_code == status
        assert words in answer.content.decode()
        assert EscalationPolicy.objects.get().name == "The matrix"


@pytest.mark.parametrize("url", [ROTATION, POLICY])
def test_only_administrators(client: Client, url: str, alice: Person, eve: Person, charlie: Person) -> None:
    for person, status in ((alice, 403), (eve, 403), (charlie, 404)):
        client.force_login(person)
        assert client.get(url).status_code == client.post(url, {}).status_code == status
    client.force_login(alice)
    assert all(url not in client.get(page).content.decode() for page in ("/on-call", "/matrix"))


class TestLevelsThatCallNobody:
    """Later levels by PagerDuty alone: it knows the incident already, and calls nobody anew."""

    def shown(self, client: Client, *channels: list[str]) -> Any:
        Channel.objects.bulk_create(Channel(kind=kind) for kind in ("pagerduty", "phone"))
        made = EscalationPolicy.objects.create(slug="guide", name="The guide's")
        for number, kinds in enumerate(channels, 1):
            made.levels.create(number=number, role=f"Role {number}", after_seconds=60 * number, channels=kinds,
                               targets=[{"person": "alice"}])  # fmt: skip
        answer = client.get("/matrix")
        (found,) = answer.context["page"].policies
        text = answer.content.decode()
        assert bool(found.unheard) is ("would call nobody" in text)
        return [level.number for level in found.unheard]

    def test_the_second_by_pagerduty_alone(self, admin: Client) -> None:
        assert self.shown(admin, ["pagerduty"], ["pagerduty"], ["pagerduty"]) == [2, 3]

    def test_also_when_the_other_channel_has_no_address(self, admin: Client) -> None:
        assert self.shown(admin, ["pagerduty"], ["pagerduty", "phone"]) == [2]

    def test_not_when_another_channel_reaches_them(self, admin: Client, alice: Person) -> None:
        alice.contact_methods.create(kind="phone", address="+12025550101")
        assert self.shown(admin, ["pagerduty"], ["pagerduty", "phone"]) == []

    def test_not_when_it_is_the_first_that_tells_pagerduty(self, admin: Client, alice: Person) -> None:
        alice.contact_methods.create(kind="phone", address="+12025550101")
        assert self.shown(admin, ["phone"], ["pagerduty"]) == []
