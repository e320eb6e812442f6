"""What the incident's page says of its escalation: who was told by what and how fast, who is next, and nobody."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from incidents import lifecycle
from incidents.escalation import clock
from incidents.models import Incident, Level, Page
from incidents.reached import PageView, whom
from tests.estate import Estate
from tests.incidents.escalating import matrix, pass_time, reachable
from tests.incidents.lessons import opened

pytestmark = pytest.mark.django_db


@pytest.fixture
def incident(estate: Estate, alice: Person, bob: Person) -> Incident:
    """A P1 of production that pages Bob, and Alice after 15 minutes."""
    reachable(bob, pagerduty="bob@pd", phone="+15550100")
    reachable(alice, phone="+15550101", sms="+15550101")
    matrix([bob, alice], ["pagerduty", "phone", "sms"])
    return opened()


def shown(client: Client, reader: Person, path: str) -> str:
    client.force_login(reader)
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode().replace("\N{NO-BREAK SPACE}", " ")


def accepted(page: Page, **after: float) -> None:
    """Receipts so many seconds after it was queued."""
    times = {f"{name}_at": page.queued_at + timedelta(seconds=seconds) for name, seconds in after.items()}
    state = list(after)[-1]
    Page.objects.filter(pk=page.pk).update(state=state, **times)


class TestReceipts:
    @pytest.mark.parametrize(
        ("after", "words"),
        [
            ({"accepted": 0.3}, "Bob by PagerDuty: accepted 0.3 s · not seen"),
            ({"accepted": 0.3, "delivered": 2.1}, "Bob by PagerDuty: accepted 0.3 s · delivered 2.1 s · not seen"),
            ({"accepted": 0.3, "delivered": 2.1, "seen": 41}, "accepted 0.3 s · delivered 2.1 s · seen 41 s"),
        ],
    )
    def test_are_said_in_seconds(
        self, client: Client, dana: Person, incident: Incident, after: dict[str, float], words: str
    ) -> None:
        clock.fire_due()
        accepted(Page.objects.get(), **after)
        text = shown(client, dana, incident.get_absolute_url())
        assert words in text
        assert text.count("not seen") == ("seen" not in after)

    def test_nobody_reached_is_red_and_said(self, client: Client, dana: Person, incident: Incident) -> None:
        clock.fire_due()
        Page.objects.update(state=Page.State.FAILED, next_way_at=None)
        text = shown(client, dana, incident.get_absolute_url())
        assert "reached nobody" in text
        assert '<span class="state bad">paged</span>' in text

    @pytest.mark.parametrize(
        "ways", [[], [{"channel": "pigeon"}], [{}]], ids=["no address", "a kind that is gone", "nothing"]
    )
    def test_strange_ways_break_nothing(self, ways: list[dict[str, Any]]) -> None:
        assert PageView(Page(ways=ways, way=7)).by in {"", "pigeon"}


class TestLevels:
    def test_the_next_one_counts_down_and_says_by_what(self, client: Client, dana: Person, incident: Incident) -> None:
        clock.fire_due()
        text = shown(client, dana, incident.get_absolute_url())
        assert "Team Lead · alice" in text
        assert "PagerDuty, then phone, then SMS" in text
        assert re.search(r"<time[^>]*data-countdown[^>]*>1[45]:\d\d</time>", text)

    def test_nobody_to_come_after_the_acknowledgement(
        self, client: Client, bob: Person, dana: Person, incident: Incident
    ) -> None:
        clock.fire_due()
        lifecycle.acknowledge(incident.pk, Actor(bob).who)
        text = shown(client, dana, incident.get_absolute_url())
        assert "Team Lead" not in text
        assert "Bob has it since" in text

    def test_the_list_says_who_is_next_and_then_who_has_it(
        self, client: Client, bob: Person, dana: Person, incident: Incident
    ) -> None:
        clock.fire_due()
        assert "L2 Team Lead" in shown(client, dana, "/incidents")
        lifecycle.acknowledge(incident.pk, Actor(bob).who)
        text = shown(client, dana, "/incidents")
        assert "L2 Team Lead" not in text
        assert "<td>Bob" in text

    @pytest.mark.parametrize(
        ("targets", "words"),
        [
            ([{"schedule": "primary"}, {"person": "bob"}], "on call: primary, bob"),
            ([{"person": "bob"}], "bob"),
            ([{}], ""),
            ([], ""),
        ],
    )
    def test_schedules_are_named_as_such(self, targets: list[dict[str, str]], words: str) -> None:
        assert whom(Level(targets=targets)) == words

    def test_the_board_says_whom_and_when_and_then_who_has_it(
        self, client: Client, bob: Person, dana: Person, incident: Incident
    ) -> None:
        clock.fire_due()
        text = shown(client, dana, "/")
        assert re.search(r"nobody has it; Team Lead \(alice\) is paged in 1[45] m", text)
        lifecycle.acknowledge(incident.pk, Actor(bob).who)
        text = shown(client, dana, "/")
        assert "Bob has it; Triage" in text
        assert "Team Lead" not in text


class TestNobodyNotified:
    def test_is_said_after_ten_seconds_and_no_longer_once_a_channel_took_one(
        self, client: Client, dana: Person, incident: Incident
    ) -> None:
        url = incident.get_absolute_url()
        assert "Nobody was notified" not in shown(client, dana, url)
        pass_time(incident, seconds=11)
        assert "Nobody was notified" in shown(client, dana, url)
        assert "nobody was notified" in shown(client, dana, "/incidents")
        Incident.objects.update(notified_at=incident.opened_at)
        assert "Nobody was notified" not in shown(client, dana, url)
        assert "nobody was notified" not in shown(client, dana, "/incidents")

    def test_is_no_alarm_where_nobody_was_to_be_paged(self, client: Client, dana: Person, estate: Estate) -> None:
        quiet = opened(severity="P4")
        pass_time(quiet, minutes=5)
        text = shown(client, dana, quiet.get_absolute_url())
        assert "Nobody was notified" not in text
        assert "No escalation policy names P4" in text


class TestPeopleDo:
    """Through the page's own forms, and seen on it."""

    def act(self, client: Client, incident: Incident, what: str, **given: object) -> int:
        return client.post(f"{incident.get_absolute_url()}/do/{what}", given).status_code

    def test_acknowledge_once(self, client: Client, alice: Person, incident: Incident) -> None:
        assert "data-approve>Acknowledge" in shown(client, alice, incident.get_absolute_url())
        assert self.act(client, incident, "acknowledge") == 302
        assert "data-approve>Acknowledge" not in shown(client, alice, incident.get_absolute_url())
        assert self.act(client, incident, "acknowledge") == 409

    def test_escalate_skip_and_repeat(self, client: Client, alice: Person, incident: Incident) -> None:
        client.force_login(alice)
        clock.fire_due()
        first, second = Level.objects.order_by("number")
        assert self.act(client, incident, "skip", level=second.pk, reason="") == 422
        assert self.act(client, incident, "escalate", level=second.pk) == 302
        assert self.act(client, incident, "skip", level=second.pk, reason="too late") == 409
        assert self.act(client, incident, "repeat", level=first.pk) == 302
        assert Page.objects.filter(person__username="bob").count() == 2
        assert "repeated by Alice" in shown(client, alice, incident.get_absolute_url())

    def test_hand_over_to_somebody(self, client: Client, alice: Person, bob: Person, incident: Incident) -> None:
        client.force_login(alice)
        assert self.act(client, incident, "hand-over", person="nobody", reason="x") == 422
        assert self.act(client, incident, "hand-over", person="bob", reason="I have to board") == 302
        assert Incident.objects.get().commander == bob
        assert "Handed over to Bob: I have to board" in shown(client, alice, incident.get_absolute_url())

    def test_viewers_are_offered_nothing(self, client: Client, dana: Person, incident: Incident) -> None:
        text = shown(client, dana, incident.get_absolute_url())
        assert f"/incidents/{incident.pk}/do/" not in text


class TestFilters:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("state=open", {"waits"}),
            ("state=acknowledged", {"taken"}),
            ("state=resolved", {"over"}),
            ("state=nonsense", {"waits", "taken", "over"}),
            ("severity=P3", {"taken"}),
            ("environment=staging", {"over"}),
            ("q=waits", {"waits"}),
            ("since=2020-01-01", {"waits", "taken", "over"}),
            ("since=2999-01-01", set()),
            ("until=2020-01-01", set()),
            ("since=yesterday&until=0000-00-00", {"waits", "taken", "over"}),
            ("severity=9&environment=no/slug&state=%F0%9F%94%A5", {"waits", "taken", "over"}),
        ],
    )
    def test_narrow_both_lists(
        self, client: Client, alice: Person, estate: Estate, query: str, found: set[str]
    ) -> None:
        opened("waits")
        who = Actor(alice).who
        lifecycle.acknowledge(opened("taken", severity="P3").pk, who)
        lifecycle.resolve(opened("over", environments=["staging"]).pk, who, "done")
        text = shown(client, alice, f"/incidents?{query}")
        assert {title for title in ("waits", "taken", "over") if f"</b> {title}</a>" in text} == found

    def test_many_open_ones_cost_no_more_queries(self, client: Client, dana: Person, incident: Incident) -> None:
        client.force_login(dana)
        counts = []
        for _ in range(2):
            with CaptureQueriesContext(connection) as caught:
                client.get("/incidents")
            counts.append(len(caught))
            for number in range(5):
                pass_time(opened(f"another {number}"), minutes=1)
        assert counts[0] == counts[1] <= 20


class TestVersions:
    def test_of_an_edited_note_are_unfolded_in_their_order(
        self, client: Client, alice: Person, incident: Incident
    ) -> None:
        client.force_login(alice)
        url = incident.get_absolute_url()
        client.post(f"{url}/do/note", {"text": "first words"})
        seq = Incident.objects.get().last_seq
        for number in ("second", "third"):
            given = {"what": "edit", "text": f"{number} words", "reason": f"why {number}"}
            assert client.post(f"{url}/entries/{seq}/change", given).status_code == 302
        text = shown(client, alice, url)
        assert "edited 2 times" in text
        places = [text.index(words) for words in ("“third words”", "“first words”", "why second", "“second words”")]
        assert places == sorted(places)
