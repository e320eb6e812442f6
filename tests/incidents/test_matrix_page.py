"""The escalation matrix: who that is right now, who may change it, what is refused, and what runs on as it was."""

from typing import Any

import pytest
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from incidents.lifecycle import open_incident
from incidents.models import Channel, EscalationLevel, EscalationPolicy, Level, Severity
from incidents.oncall.now import on_call
from tests.incidents.oncall_world import primary, reachable

pytestmark = pytest.mark.django_db
URL = "/matrix/guide/change"


@pytest.fixture
def policy(alice: Person, bob: Person, dana: Person) -> EscalationPolicy:
    """L1 the schedule at once by PagerDuty, L2 Dana after 15 minutes by phone, then SMS."""
    primary()
    for kind in ("pagerduty", "phone", "sms"):
        Channel.objects.create(kind=kind)
    made = EscalationPolicy.objects.create(slug="guide", name="The guide's", severities=["P1", "P2"])
    rows = (
        (1, "On-Call Engineer", 0, {"schedule": "primary"}, ["pagerduty"]),
        (2, "Team Lead", 900, {"person": "dana"}, ["phone", "sms"]),
    )
    for number, role, after, target, channels in rows:
        EscalationLevel.objects.create(policy=made, number=number, role=role, after_seconds=after,
                                       targets=[target], channels=channels)  # fmt: skip
    return made


def form(client: Client, **changes: str) -> dict[str, str]:
    """What the page's form would send, unchanged but for these fields."""
    editing = client.get(URL).context["editing"]
    data = {"reason": "the lead is on leave", "repeats": "0", "repeat_after": "30"}
    for bound in [editing.form, *editing.levels.forms]:
        for field in bound:
            if field.value() is not None and field.name not in ("severities", "DELETE"):
                data[field.html_name] = str(field.value())
    data |= {f"levels-{key}": str(editing.levels.management_form[key].value())
             for key in ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS", "MAX_NUM_FORMS")}  # fmt: skip
    return {**data, "severities": "P1", **changes}


def post(client: Client, who: Person, **changes: str) -> Any:
    client.force_login(who)
    return client.post(URL, form(client, **changes))


class TestLooking:
    def test_who_it_is_right_now_by_what_and_after_how_long(
        self, client: Client, policy: EscalationPolicy, dana: Person
    ) -> None:
        (now,) = on_call("primary", database_time())
        reachable(dana, kind="sms")
        client.force_login(dana)
        text = client.get("/matrix").content.decode()
        for words in ("The guide&#x27;s", "P1 critical", "On-Call Engineer", now.title_name, "pagerduty", "at once",
                      "15 minutes", "Nobody is paged for", "P3 moderate"):  # fmt: skip
            assert words in text
        (shown,) = client.get("/matrix").context["page"].policies
        assert [[holder.ways for holder in row.holders] for row in shown.levels] == [[["pagerduty"]], [["sms"]]]

    def test_nobody_and_unreachable_are_red(self, client: Client, policy: EscalationPolicy, dana: Person) -> None:
        EscalationLevel.objects.filter(number=1).update(targets=[{"schedule": "gone"}, {"person": "zed"}])
        client.force_login(dana)
        text = client.get("/matrix").content.decode()
        assert text.count('class="state bad"') == 3
        assert "cannot be reached" in text

    def test_only_admins_are_offered_to_change_it(
        self, client: Client, policy: EscalationPolicy, dana: Person, ada: Person, charlie: Person
    ) -> None:
        for person, offered in ((dana, False), (ada, True)):
            client.force_login(person)
            assert (URL in client.get("/matrix").content.decode()) is offered
        client.force_login(charlie)
        assert client.get("/matrix").status_code == 404

    def test_few_queries(
        self, client: Client, policy: EscalationPolicy, dana: Person, django_assert_max_num_queries: Any
    ) -> None:
        for number in range(3, 9):
            EscalationLevel.objects.create(policy=policy, number=number, role="x", after_seconds=number * 900,
                                           targets=[{"person": "bob"}, {"schedule": "primary"}],
                                           channels=["sms"])  # fmt: skip
        client.force_login(dana)
        with django_assert_max_num_queries(20):
            client.get("/matrix")

    def test_without_one_the_page_says_how_to_begin(self, client: Client, dana: Person) -> None:
        client.force_login(dana)
        assert "Nobody is paged for anything" in client.get("/matrix").content.decode()


class TestChanging:
    def test_it_is_changed_and_audited(self, client: Client, policy: EscalationPolicy, ada: Person) -> None:
        answer = post(client, ada, **{"levels-1-targets": "bob, schedule:primary", "levels-1-after": "10"})
        assert answer.status_code == 302
        level = policy.levels.get(number=2)
        assert level.targets == [{"person": "bob"}, {"schedule": "primary"}]
        assert (level.after_seconds, level.channels) == (600, ["phone", "sms"])
        policy.refresh_from_db()
        assert policy.severities == ["P1"]
        entry = Entry.objects.order_by("-pk").first()
        assert entry
        assert (entry.action, entry.reason) == ("escalation.changed", "the lead is on leave")
        assert entry.data["changes"]["severities"] == [["P1", "P2"], ["P1"]]

    def test_a_level_comes_and_one_goes(self, client: Client, policy: EscalationPolicy, ada: Person) -> None:
        more = {"levels-2-role": "CTO", "levels-2-after": "60", "levels-2-targets": "ada", "levels-2-channels": "SMS",
                "levels-1-DELETE": "on"}  # fmt: skip
        assert post(client, ada, **more).status_code == 302
        rows = list(policy.levels.values_list("number", "role", "after_seconds", "channels"))
        assert rows == [(1, "On-Call Engineer", 0, ["pagerduty"]), (2, "CTO", 3600, ["sms"])]

    def test_what_runs_keeps_the_matrix_it_was_opened_with(
        self, client: Client, policy: EscalationPolicy, ada: Person
    ) -> None:
        incident, _ = open_incident(SYSTEM("test"), title="503", severity=Severity.P1, environments=["production"])
        kept = list(Level.objects.filter(incident=incident).values())
        plan = incident.policy
        answer = post(client, ada, **{"levels-1-after": "5", "levels-1-targets": "bob", "levels-0-channels": "sms"})
        assert answer.status_code == 302
        incident.refresh_from_db()
        assert list(Level.objects.filter(incident=incident).values()) == kept
        assert incident.policy == plan
        after, _ = open_incident(SYSTEM("test"), title="502", severity=Severity.P1, environments=["production"])
        assert [one.channels for one in Level.objects.filter(incident=after)] == [["sms"], ["phone", "sms"]]
        assert after.policy != plan

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"levels-1-after": "0"}, "L2 has to come later than L1"),
            ({"levels-1-after": "-5"}, "greater than or equal to 0"),
            ({"levels-1-after": "999999"}, "less than or equal to"),
            ({"levels-1-targets": "zed"}, "nobody active called zed"),
            ({"levels-1-targets": "charlie"}, "nobody active called charlie"),
            ({"levels-1-targets": "schedule:nights"}, "There is no schedule nights; there are: primary"),
            ({"levels-1-channels": "pigeon"}, "pigeon is no channel"),
            ({"levels-1-channels": "email"}, "email is not configured"),
            ({"levels-1-role": "x" * 101}, "at most 100 characters"),
            ({"levels-0-DELETE": "on", "levels-1-DELETE": "on"}, "needs a level"),
            ({"severities": "P9"}, "not one of the available choices"),
            ({"severities": "P3"}, "P3 is escalated by Quiet already"),
            ({"repeats": "1000"}, "less than or equal to 20"),
            ({"reason": ""}, "This field is required"),
        ],
    )
    def test_what_cannot_be_is_said_and_changes_nothing(  # noqa: PLR0917 (fixtures)
        self, client: Client, policy: EscalationPolicy, ada: Person, charlie: Person, change: dict[str, str], words: str
    ) -> None:
        EscalationPolicy.objects.create(slug="quiet", name="Quiet", severities=["P3"])
        Person.objects.filter(pk=charlie.pk).update(is_active=False)
        before = [list(EscalationPolicy.objects.values()), list(EscalationLevel.objects.values())]
        answer = post(client, ada, **change)
        assert answer.status_code == 422
        assert words in answer.content.decode()
        assert [list(EscalationPolicy.objects.values()), list(EscalationLevel.objects.values())] == before

    def test_a_change_by_somebody_else_in_between_is_a_conflict(
        self, client: Client, policy: EscalationPolicy, ada: Person
    ) -> None:
        client.force_login(ada)
        data = form(client, **{"levels-1-after": "10"})
        policy.levels.filter(number=2).update(role="Somebody else")
        answer = client.post(URL, data)
        assert answer.status_code == 409
        assert policy.levels.get(number=2).after_seconds == 900

    def test_nothing_different_is_said(self, client: Client, policy: EscalationPolicy, ada: Person) -> None:
        EscalationPolicy.objects.update(severities=["P1"])
        answer = post(client, ada)
        assert answer.status_code == 422
        assert "Nothing is different" in answer.content.decode()

    def test_wrong_people(
        self, client: Client, policy: EscalationPolicy, alice: Person, bob: Person, charlie: Person
    ) -> None:
        for person, status in ((alice, 403), (bob, 403), (charlie, 404)):
            client.force_login(person)
            assert client.get(URL).status_code == status
            assert client.post(URL, {"reason": "x"}).status_code == status
        assert policy.levels.count() == 2
