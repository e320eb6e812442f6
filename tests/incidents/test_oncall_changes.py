"""Standing in, swapping, being away: what holds afterwards, who may, and what is refused in which words."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.clock.database import database_time
from incidents.models import Absence, Override, Schedule
from incidents.oncall.forms import value_of
from incidents.oncall.now import on_call
from incidents.oncall.services import active_person
from tests.incidents.oncall_world import BERLIN, DAY, HOUR, WEEK, coming, primary

pytestmark = pytest.mark.django_db


@pytest.fixture
def schedule(alice: Person, bob: Person) -> Schedule:
    return primary()


NEXT = datetime.now(UTC).year + 1


def post(client: Client, who: Person, name: str, schedule: Schedule, *more: int, **fields: str) -> Any:
    client.force_login(who)
    return client.post(reverse(name, args=[schedule.slug, *more]), fields)


def typed(at: Any) -> str:
    """As a field of the browser sends it: on the clocks of the schedule, without a zone."""
    return str(at.astimezone(BERLIN).strftime("%Y-%m-%dT%H:%M"))


def span(hours: int = 4) -> dict[str, str]:
    begin = (database_time() + DAY).replace(minute=0, second=0, microsecond=0)
    return {"starts_at": typed(begin), "ends_at": typed(begin + hours * HOUR), "reason": "dentist"}


def last_entry() -> Entry:
    entry = Entry.objects.order_by("-pk").first()
    assert entry
    return entry


class TestOverrides:
    def test_an_operator_puts_somebody_on_call(
        self, client: Client, schedule: Schedule, alice: Person, dana: Person
    ) -> None:
        assert post(client, alice, "on-call-override", schedule, person="dana", **span()).status_code == 302
        made = Override.objects.get()
        assert on_call("primary", made.starts_at) == [dana]
        assert on_call("primary", made.ends_at) != [dana]
        entry = last_entry()
        assert (entry.action, entry.target, entry.actor) == ("oncall.override_added", "schedule primary", "Alice")
        assert entry.reason == "dentist"

    def test_times_are_those_of_the_schedule(self, client: Client, schedule: Schedule, alice: Person) -> None:
        fields = {**span(), "starts_at": f"{NEXT}-07-01T09:00", "ends_at": f"{NEXT}-07-01T10:00"}
        post(client, alice, "on-call-override", schedule, person="alice", **fields)
        assert Override.objects.get().starts_at.astimezone(ZoneInfo("UTC")).hour == 7

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"person": "nobody"}, "not one of the available choices"),
            ({"reason": ""}, "This field is required"),
            ({"ends_at": "2026-01-01T10:00", "starts_at": "2026-01-01T09:00"}, "This time is over"),
            ({"ends_at": f"{NEXT}-07-01T09:00", "starts_at": f"{NEXT}-07-01T09:00"}, "end after it begins"),
            ({"starts_at": f"{NEXT}-07-01T09:00", "ends_at": f"{NEXT + 2}-07-01T09:00"}, "too long"),
            ({"starts_at": "soon"}, "Write a day and a time"),
            ({"starts_at": "9999-12-31T23:59"}, "too far away"),
            ({"reason": "x" * 301}, "300"),
        ],
    )
    def test_what_cannot_be_is_said_and_changes_nothing(
        self, client: Client, schedule: Schedule, alice: Person, change: dict[str, str], words: str
    ) -> None:
        fields = {"person": "alice", **span(), **change}
        answer = post(client, alice, "on-call-override", schedule, **fields)
        assert answer.status_code == 422
        assert words in answer.content.decode()
        assert not Override.objects.exists()

    def test_one_that_begins_in_the_past_begins_now(
        self, client: Client, schedule: Schedule, alice: Person, dana: Person
    ) -> None:
        now = database_time()
        fields = {"starts_at": typed(now - 2 * DAY), "ends_at": typed(now + DAY), "reason": "ill"}
        assert post(client, alice, "on-call-override", schedule, person="dana", **fields).status_code == 302
        assert now <= Override.objects.get().starts_at <= database_time()
        assert on_call("primary", now - HOUR) != [dana]

    def test_a_viewer_puts_nobody_on_call_not_even_themselves(
        self, client: Client, schedule: Schedule, dana: Person
    ) -> None:
        assert post(client, dana, "on-call-override", schedule, person="dana", **span()).status_code == 403
        assert not Override.objects.exists()
        assert last_entry().data["denied"]

    def test_an_operator_of_one_environment_does_not_either(
        self, client: Client, schedule: Schedule, eve: Person
    ) -> None:
        assert post(client, eve, "on-call-override", schedule, person="eve", **span()).status_code == 403

    def test_an_outsider_learns_nothing(self, client: Client, schedule: Schedule, charlie: Person) -> None:
        assert post(client, charlie, "on-call-override", schedule, person="charlie", **span()).status_code == 404

    def test_taking_back_one_that_is_to_come(self, client: Client, schedule: Schedule, alice: Person) -> None:
        post(client, alice, "on-call-override", schedule, person="alice", **span())
        made = Override.objects.get()
        answer = post(client, alice, "on-call-override-cancel", schedule, made.pk, reason="no need")
        assert answer.status_code == 302
        made.refresh_from_db()
        assert made.cancelled_at
        assert last_entry().action == "oncall.override_cancelled"
        again = post(client, alice, "on-call-override-cancel", schedule, made.pk, reason="no need")
        assert again.status_code == 409

    def test_one_that_runs_ends_now_and_what_was_stays(self, client: Client, schedule: Schedule, alice: Person) -> None:
        now = database_time()
        made = Override.objects.create(
            schedule=schedule, person="alice", starts_at=now - HOUR, ends_at=now + HOUR, author_name="x"
        )
        post(client, alice, "on-call-override-cancel", schedule, made.pk, reason="back")
        made.refresh_from_db()
        assert made.cancelled_at is None
        assert now <= made.ends_at <= database_time()

    def test_one_that_is_over_stays(self, client: Client, schedule: Schedule, alice: Person) -> None:
        now = database_time()
        made = Override.objects.create(
            schedule=schedule, person="alice", starts_at=now - 2 * HOUR, ends_at=now - HOUR, author_name="x"
        )
        answer = post(client, alice, "on-call-override-cancel", schedule, made.pk, reason="back")
        assert (answer.status_code, Override.objects.get().ends_at) == (409, made.ends_at)

    def test_who_is_put_on_call_may_take_it_back_and_other_viewers_not(
        self, client: Client, schedule: Schedule, dana: Person
    ) -> None:
        now = database_time()
        fields = {"schedule": schedule, "starts_at": now + HOUR, "ends_at": now + DAY, "author_name": "x"}
        own, other = (Override.objects.create(person=one, **fields) for one in ("dana", "bob"))
        assert post(client, dana, "on-call-override-cancel", schedule, other.pk, reason="x").status_code == 403
        assert post(client, dana, "on-call-override-cancel", schedule, own.pk, reason="x").status_code == 302
        assert [one.cancelled_at is None for one in Override.objects.order_by("pk")] == [False, True]

    def test_one_of_another_schedule_is_not_there(self, client: Client, schedule: Schedule, alice: Person) -> None:
        now = database_time()
        other = Override.objects.create(schedule=primary(slug="other"), person="bob", starts_at=now + HOUR,
                                        ends_at=now + DAY, author_name="x")  # fmt: skip
        answer = post(client, alice, "on-call-override-cancel", schedule, other.pk, reason="x")
        assert answer.status_code == 409


class TestSwaps:
    def ask(self, client: Client, person: Person, schedule: Schedule, gives: str, takes: str) -> Any:
        fields = {"gives": value_of(coming(schedule, gives)), "takes": value_of(coming(schedule, takes))}
        return post(client, person, "on-call-swap", schedule, reason="wedding", **fields)

    def test_nothing_changes_until_the_other_says_yes(
        self, client: Client, schedule: Schedule, alice: Person, bob: Person
    ) -> None:
        alices, bobs = coming(schedule, "alice"), coming(schedule, "bob")
        assert self.ask(client, alice, schedule, "alice", "bob").status_code == 302
        assert on_call("primary", alices.starts_at) == [alice]
        client.force_login(bob)
        assert "asks you to swap" in client.get("/on-call").content.decode()
        assert post(client, bob, "on-call-swap", schedule, swap="1", what="agree").status_code == 302
        assert on_call("primary", alices.starts_at) == [bob]
        assert on_call("primary", bobs.starts_at) == [alice]
        assert last_entry().action == "oncall.swapped"
        assert {one.swap for one in Override.objects.all()} == {1}

    def test_who_asked_cannot_say_yes_for_the_other(self, client: Client, schedule: Schedule, alice: Person) -> None:
        self.ask(client, alice, schedule, "alice", "bob")
        answer = post(client, alice, "on-call-swap", schedule, swap="1", what="agree")
        assert answer.status_code == 403
        assert "You asked for it yourself" in answer.content.decode()
        assert set(Override.objects.values_list("awaiting", flat=True)) == {"bob"}

    def test_nor_by_asking_for_the_other(self, client: Client, schedule: Schedule, alice: Person) -> None:
        self.ask(client, alice, schedule, "bob", "alice")
        assert set(Override.objects.values_list("awaiting", flat=True)) == {"bob"}
        answer = post(client, alice, "on-call-swap", schedule, swap="1", what="agree")
        assert answer.status_code == 403

    def test_what_has_begun_cannot_be_swapped_any_more(
        self, client: Client, schedule: Schedule, alice: Person, bob: Person
    ) -> None:
        self.ask(client, alice, schedule, "alice", "bob")
        Override.objects.update(starts_at=database_time() - HOUR)
        answer = post(client, bob, "on-call-swap", schedule, swap="1", what="agree")
        assert answer.status_code == 409
        assert "has begun already" in answer.content.decode()

    def test_another_operator_can(self, client: Client, schedule: Schedule, alice: Person, ada: Person) -> None:
        self.ask(client, alice, schedule, "alice", "bob")
        assert post(client, ada, "on-call-swap", schedule, swap="1", what="agree").status_code == 302

    def test_viewers_answer_for_nobody_else(
        self, client: Client, schedule: Schedule, alice: Person, dana: Person
    ) -> None:
        self.ask(client, alice, schedule, "alice", "bob")
        for what in ("agree", "decline"):
            answer = post(client, dana, "on-call-swap", schedule, swap="1", what=what, reason="x")
            assert answer.status_code == 403
        assert set(Override.objects.values_list("awaiting", flat=True)) == {"bob"}

    def test_a_no_ends_it(self, client: Client, schedule: Schedule, alice: Person, bob: Person) -> None:
        self.ask(client, alice, schedule, "alice", "bob")
        assert post(client, bob, "on-call-swap", schedule, swap="1", what="decline", reason="no").status_code == 302
        assert post(client, bob, "on-call-swap", schedule, swap="1", what="agree").status_code == 409
        assert on_call("primary", coming(schedule, "alice").starts_at) == [alice]

    def test_a_yes_comes_too_late_when_the_calendar_has_changed(
        self, client: Client, schedule: Schedule, alice: Person, bob: Person
    ) -> None:
        shift = coming(schedule, "alice")
        self.ask(client, alice, schedule, "alice", "bob")
        Override.objects.create(schedule=schedule, person="bob", starts_at=shift.starts_at,
                                ends_at=shift.starts_at + HOUR, author_name="x")  # fmt: skip
        answer = post(client, bob, "on-call-swap", schedule, swap="1", what="agree")
        assert answer.status_code == 409
        assert "is not as it was any more" in answer.content.decode()

    def test_a_shift_that_nobody_has_cannot_be_given(self, client: Client, schedule: Schedule, alice: Person) -> None:
        begin = coming(schedule, "alice").starts_at
        made_up = f"alice|{begin.isoformat()}|{(begin + 30 * DAY).isoformat()}"
        fields = {"gives": made_up, "takes": value_of(coming(schedule, "bob")), "reason": "x"}
        assert post(client, alice, "on-call-swap", schedule, **fields).status_code == 422

    def test_one_cannot_swap_with_oneself(self, client: Client, schedule: Schedule, alice: Person) -> None:
        answer = self.ask(client, alice, schedule, "alice", "alice")
        assert answer.status_code == 422
        assert not Override.objects.exists()

    def test_a_viewer_gives_away_only_their_own(self, client: Client, alice: Person, bob: Person, dana: Person) -> None:
        schedule = primary("alice", "dana")
        assert self.ask(client, dana, schedule, "alice", "dana").status_code == 422
        assert self.ask(client, dana, schedule, "dana", "alice").status_code == 302

    def test_taking_one_half_back_takes_both(
        self, client: Client, schedule: Schedule, alice: Person, bob: Person
    ) -> None:
        self.ask(client, alice, schedule, "alice", "bob")
        post(client, bob, "on-call-swap", schedule, swap="1", what="agree")
        half = Override.objects.order_by("pk")[0]
        assert post(client, alice, "on-call-override-cancel", schedule, half.pk, reason="x").status_code == 302
        assert not Override.objects.filter(cancelled_at=None).exists()

    def test_two_swaps_have_two_numbers(self, client: Client, schedule: Schedule, alice: Person) -> None:
        for which in (0, 1):
            fields = {"gives": value_of(coming(schedule, "alice", which=which)),
                      "takes": value_of(coming(schedule, "bob", which=which))}  # fmt: skip
            post(client, alice, "on-call-swap", schedule, reason="x", **fields)
        assert set(Override.objects.values_list("swap", flat=True)) == {1, 2}

    @pytest.mark.parametrize("number", ["", "0", "-1", "x", "9" * 30, "²"])
    def test_a_number_that_is_none_is_a_conflict(
        self, client: Client, schedule: Schedule, alice: Person, number: str
    ) -> None:
        assert post(client, alice, "on-call-swap", schedule, swap=number, what="agree").status_code == 409


class TestAbsences:
    DAYS = {"starts_on": "2027-02-01", "ends_on": "2027-02-03", "reason": "skiing"}

    def test_everybody_enters_their_own(self, client: Client, schedule: Schedule, dana: Person) -> None:
        assert post(client, dana, "on-call-absence", schedule, **self.DAYS).status_code == 302
        assert Absence.objects.get().person == dana
        assert last_entry().action == "oncall.absence_added"

    def test_a_viewer_enters_nobody_elses(self, client: Client, schedule: Schedule, dana: Person) -> None:
        post(client, dana, "on-call-absence", schedule, person="alice", **self.DAYS)
        assert Absence.objects.get().person == dana  # the field is not theirs to fill

    def test_an_operator_does(self, client: Client, schedule: Schedule, alice: Person, bob: Person) -> None:
        post(client, alice, "on-call-absence", schedule, person="bob", **self.DAYS)
        assert Absence.objects.get().person == bob

    def test_the_turn_goes_to_the_other(self, client: Client, schedule: Schedule, alice: Person, bob: Person) -> None:
        shift = coming(schedule, "alice")
        day = (shift.starts_at + DAY).date().isoformat()
        post(client, alice, "on-call-absence", schedule, person="alice", starts_on=day, ends_on=day, reason="x")
        assert on_call("primary", shift.starts_at + DAY) == [bob]

    @pytest.mark.parametrize(
        "days",
        [
            {"starts_on": "2027-02-03", "ends_on": "2027-02-01"},
            {"starts_on": "2027-02-01", "ends_on": "2029-02-01"},
            {"starts_on": "0001-01-01", "ends_on": "0001-01-02"},
            {"starts_on": "soon", "ends_on": "2027-02-01"},
        ],
    )
    def test_days_that_cannot_be(self, client: Client, schedule: Schedule, dana: Person, days: dict[str, str]) -> None:
        assert post(client, dana, "on-call-absence", schedule, **days, reason="x").status_code == 422
        assert not Absence.objects.exists()

    def test_being_there_after_all(self, client: Client, schedule: Schedule, dana: Person, eve: Person) -> None:
        post(client, dana, "on-call-absence", schedule, **self.DAYS)
        number = str(Absence.objects.get().pk)
        assert post(client, eve, "on-call-absence", schedule, absence=number, reason="x").status_code == 403
        assert post(client, dana, "on-call-absence", schedule, absence=number, reason="ill").status_code == 302
        assert not Absence.objects.exists()
        assert post(client, dana, "on-call-absence", schedule, absence=number, reason="ill").status_code == 409


def test_names_are_found_in_any_case_and_nobody_is_said(alice: Person) -> None:
    assert active_person(" Alice ") == alice
    with pytest.raises(Exception, match="nobody active called zed"):
        active_person("zed")


def test_coming_shifts_are_whole(alice: Person, bob: Person) -> None:
    """The test's own tool: what it offers to swap is a whole week."""
    shift = coming(primary(), "alice")
    assert abs((shift.ends_at - shift.starts_at) - WEEK) <= timedelta(hours=1)
