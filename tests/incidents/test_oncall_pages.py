"""The pages of on-call: what they say, to whom, in how many queries; layers are saved as they were previewed."""

import re
from datetime import date, time, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.clock.database import database_time
from incidents.models import Layer, Override, Schedule
from incidents.oncall.now import on_call
from tests.incidents.oncall_world import DAY, HOUR, layer, matrix, primary

pytestmark = pytest.mark.django_db
PAGES = ("/on-call", "/on-call/primary", "/on-call/primary?month=2027-02")


@pytest.fixture
def schedule(alice: Person, bob: Person) -> Schedule:
    return primary()


def text_of(client: Client, who: Person, url: str) -> str:
    client.force_login(who)
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


class TestLooking:
    def test_everybody_with_any_role_may_and_an_outsider_not(  # noqa: PLR0917 (people)
        self, client: Client, schedule: Schedule, alice: Person, dana: Person, eve: Person, charlie: Person
    ) -> None:
        for url in PAGES:
            for person in (alice, dana, eve):
                text_of(client, person, url)
            client.force_login(charlie)
            assert client.get(url).status_code == 404
            client.logout()
            assert client.get(url).status_code == 302

    def test_who_has_it_until_when_and_who_is_next(
        self, client: Client, schedule: Schedule, alice: Person, dana: Person
    ) -> None:
        (now,) = on_call("primary", database_time())
        other = "Bob" if now == alice else "Alice"
        text = re.sub(r"<[^>]+>", "", text_of(client, dana, "/on-call"))
        assert re.search(rf"{now.title_name} until Mon \d+ \w+ 09:00", text)
        assert f"then {other}" in text
        assert "None in the next nine weeks" in text

    def test_your_shifts_are_yours(self, client: Client, schedule: Schedule, bob: Person) -> None:
        text = text_of(client, bob, "/on-call")
        mine = text[text.index("mine-title") :]
        assert mine.count("<li") >= 4
        assert "None in the next" not in mine

    def test_overrides_are_marked_and_names_are_words(self, client: Client, schedule: Schedule, dana: Person) -> None:
        now = database_time()
        Override.objects.create(schedule=schedule, person="dana", starts_at=now + HOUR, ends_at=now + 2 * DAY,
                                reason="dentist <b>", author_name="Ada")  # fmt: skip
        for url in PAGES[:2]:
            text = text_of(client, dana, url)
            assert "◆ Dana" in text
            assert " over" in text
            assert "dentist &lt;b&gt;" in text
            assert "dentist <b>" not in text

    def test_without_a_schedule_the_page_says_how_to_begin(self, client: Client, dana: Person) -> None:
        assert "bin/manage apply" in text_of(client, dana, "/on-call")

    def test_it_needs_no_script_and_no_inline_style(self, client: Client, schedule: Schedule, ada: Person) -> None:
        for url in (*PAGES, "/on-call/primary/layers", "/matrix", "/reach"):
            text = text_of(client, ada, url)
            assert " style=" not in text
            assert len(text) < 100_000

    def test_at_most_twenty_queries_however_much_there_is(
        self, client: Client, schedule: Schedule, alice: Person, django_assert_max_num_queries: Any
    ) -> None:
        matrix("sms")
        now = database_time()
        for position in range(2, 7):
            layer(schedule, position, "alice", "bob", from_time=time(8), until_time=time(17))
        for number in range(30):
            Override.objects.create(schedule=schedule, person="bob", starts_at=now + number * HOUR,
                                    ends_at=now + (number + 1) * HOUR, author_name="x")  # fmt: skip
        for slug in ("second", "third", "fourth"):
            primary(slug=slug)
        client.force_login(alice)
        for url in PAGES:
            with django_assert_max_num_queries(20):
                assert len(client.get(url).content) < 100_000

    @pytest.mark.parametrize("month", ["", "2026-13", "0000-01", "9999-12", "x", "2026-02", "2101-01", "2000-01"])
    def test_any_month_can_be_asked_for(self, client: Client, schedule: Schedule, dana: Person, month: str) -> None:
        text_of(client, dana, f"/on-call/primary?month={month}")

    def test_another_schedule_is_not_there(self, client: Client, schedule: Schedule, dana: Person) -> None:
        client.force_login(dana)
        assert client.get("/on-call/nights").status_code == 404


def fields(**changes: str) -> dict[str, str]:
    """The form of one layer, Alice and Bob weekly."""
    first = (database_time() - 30 * DAY).date()
    monday = first - timedelta(days=first.weekday())
    return {
        "schedule-name": "Primary", "schedule-time_zone": "Europe/Berlin",
        "layers-TOTAL_FORMS": "1", "layers-INITIAL_FORMS": "0", "layers-MAX_NUM_FORMS": "12",
        "layers-MIN_NUM_FORMS": "0",
        "layers-0-name": "Everybody", "layers-0-people": "bob, Alice", "layers-0-every": "2",
        "layers-0-unit": "day", "layers-0-starts_on": monday.isoformat(), "layers-0-handover": "08:30",
        **changes,
    }  # fmt: skip


class TestLayers:
    URL = "/on-call/primary/layers"

    def preview(self, client: Client, **changes: str) -> Any:
        return client.post(self.URL, {**fields(**changes), "what": "preview"})

    def save(self, client: Client, shown: str, **changes: str) -> Any:
        given = {"what": "save", "shown": shown, "reason": "shorter turns"}
        return client.post(self.URL, {**fields(**changes), **given})

    def test_only_admins(self, client: Client, schedule: Schedule, alice: Person, bob: Person, charlie: Person) -> None:
        for person, status in ((alice, 403), (bob, 403), (charlie, 404)):
            client.force_login(person)
            assert client.get(self.URL).status_code == status
            assert self.save(client, "x").status_code == status
        assert Layer.objects.get().every == 1

    def test_a_preview_shows_four_weeks_and_changes_nothing(
        self, client: Client, schedule: Schedule, ada: Person
    ) -> None:
        client.force_login(ada)
        before = list(Layer.objects.values())
        answer = self.preview(client)
        assert answer.status_code == 200
        assert answer.content.decode().count('class="strip-week"') == 4
        assert list(Layer.objects.values()) == before

    def test_what_was_previewed_is_saved_and_audited(self, client: Client, schedule: Schedule, ada: Person) -> None:
        client.force_login(ada)
        shown = self.preview(client).context["shown"]
        assert self.save(client, shown).status_code == 302
        made = Layer.objects.get()
        assert (made.people, made.unit, made.every, made.handover) == (["bob", "alice"], "day", 2, time(8, 30))
        entry = Entry.objects.order_by("-pk").first()
        assert entry
        assert (entry.action, entry.reason) == ("oncall.layers_changed", "shorter turns")
        assert entry.data["changes"]["layers"][1][0]["people"] == ["bob", "alice"]

    def test_something_else_than_the_preview_is_shown_first(
        self, client: Client, schedule: Schedule, ada: Person
    ) -> None:
        client.force_login(ada)
        shown = self.preview(client).context["shown"]
        answer = self.save(client, shown, **{"layers-0-every": "3"})
        assert answer.status_code == 409
        assert "not what the preview showed" in answer.content.decode()
        assert Layer.objects.get().every == 1
        assert self.save(client, answer.context["shown"], **{"layers-0-every": "3"}).status_code == 302

    def test_a_change_by_somebody_else_in_between_is_a_conflict(
        self, client: Client, schedule: Schedule, ada: Person
    ) -> None:
        client.force_login(ada)
        shown = self.preview(client).context["shown"]
        Layer.objects.update(every=4)
        assert self.save(client, shown).status_code == 409
        assert Layer.objects.get().every == 4

    def test_the_preview_flags_what_would_be_wrong(self, client: Client, schedule: Schedule, ada: Person) -> None:
        matrix("sms")
        client.force_login(ada)
        ends = (database_time() + 5 * DAY).date().isoformat()
        text = self.preview(client, **{"layers-0-ends_on": ends}).content.decode()
        assert "Nobody is on call from" in text
        assert "Alice has no way to be reached by sms" in text
        assert "bar gap" in text

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"layers-0-people": "zed"}, "nobody called zed"),
            ({"layers-0-people": ", ,"}, "Name one to 50 people"),
            ({"layers-0-every": "0"}, "greater than or equal to 1"),
            ({"layers-0-every": "70000"}, "less than or equal to 1000"),
            ({"layers-0-unit": "month"}, "not one of the available choices"),
            ({"layers-0-handover": "25:00"}, "valid time"),
            ({"layers-0-starts_on": "0001-01-01"}, "too far away"),
            ({"layers-0-ends_on": "2000-01-01"}, "end after its first day"),
            ({"layers-0-days": "9"}, "not one of the available choices"),
            ({"schedule-time_zone": "Mars/Phobos"}, "is no time zone"),
            ({"schedule-time_zone": "../../etc/passwd"}, "is no time zone"),
            ({"layers-TOTAL_FORMS": "99"}, ""),
            ({"layers-TOTAL_FORMS": "x"}, ""),
        ],
    )
    def test_what_cannot_be_is_said_and_changes_nothing(
        self, client: Client, schedule: Schedule, ada: Person, change: dict[str, str], words: str
    ) -> None:
        client.force_login(ada)
        before = list(Layer.objects.values())
        answer = self.preview(client, **change)
        assert answer.status_code == 422
        assert words in answer.content.decode()
        assert self.save(client, "x", **change).status_code == 422
        assert list(Layer.objects.values()) == before

    def test_layers_are_ordered_deleted_and_restricted(self, client: Client, schedule: Schedule, ada: Person) -> None:
        client.force_login(ada)
        start = fields()["layers-0-starts_on"]
        second = {
            "layers-TOTAL_FORMS": "3", "layers-0-ORDER": "2", "layers-1-ORDER": "1",
            "layers-1-name": "Ground", "layers-1-people": "ada", "layers-1-every": "1", "layers-1-unit": "week",
            "layers-1-starts_on": start, "layers-1-handover": "09:00", "layers-1-days": "5",
            "layers-1-from_time": "22:00", "layers-1-until_time": "06:00",
            "layers-2-name": "Gone", "layers-2-people": "ada", "layers-2-every": "1", "layers-2-unit": "week",
            "layers-2-starts_on": start, "layers-2-handover": "09:00", "layers-2-DELETE": "on",
        }  # fmt: skip
        shown = self.preview(client, **second).context["shown"]
        assert self.save(client, shown, **second).status_code == 302
        rows = list(Layer.objects.order_by("position").values_list("name", "days", "from_time", "until_time"))
        assert rows == [("Ground", [5], time(22), time(6)), ("Everybody", [], None, None)]

    def test_saving_needs_a_reason_and_a_difference(self, client: Client, schedule: Schedule, ada: Person) -> None:
        client.force_login(ada)
        shown = self.preview(client).context["shown"]
        given = {**fields(), "what": "save", "shown": shown, "reason": " "}
        assert client.post(self.URL, given).status_code == 422
        self.save(client, shown)
        assert "Nothing is different" in self.save(client, shown).content.decode()

    def test_the_form_shows_what_is_stored(self, client: Client, schedule: Schedule, ada: Person) -> None:
        text = text_of(client, ada, self.URL)
        assert 'value="alice, bob"' in text
        assert f'value="{date(2026, 1, 5).isoformat()}"' in text
        assert 'value="09:00"' in text


def test_the_buttons_are_only_there_for_those_who_may(
    client: Client, schedule: Schedule, alice: Person, dana: Person, ada: Person
) -> None:
    assert "Edit layers" in text_of(client, ada, "/on-call/primary")
    operator, viewer = (text_of(client, one, "/on-call/primary") for one in (alice, dana))
    assert "Put somebody on call" in operator
    assert "Edit layers" not in operator
    assert "Put somebody on call" not in viewer
    assert "Be away" in viewer
    assert reverse("on-call-layers", args=["primary"]) not in viewer
