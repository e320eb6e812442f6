"""Schedules, standing in, swaps and absences for programs: what holds afterwards, who may, and what is refused."""

from datetime import timedelta
from typing import Any

import pytest

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.clock.database import database_time
from incidents.models import Absence, Layer, Override, Schedule
from incidents.oncall.now import on_call
from tests.api.conftest import Caller, assert_problem
from tests.incidents.oncall_world import DAY, HOUR, coming, layer, primary
from tests.incidents.test_api import caller

pytestmark = pytest.mark.django_db
ONE = "schedules/primary"
WEEKLY: dict[str, Any] = {"name": "Engineers", "people": ["Alice", "bob"], "starts_on": "2026-01-05"}
NIGHTS: dict[str, Any] = {
    "name": "Nights", "people": ["dana"], "unit": "day", "every": 2, "starts_on": "2026-01-05", "handover": "08:30",
    "ends_on": "2099-01-05", "days": ["fri", "sat"], "from_time": "22:00", "until_time": "06:00",
}  # fmt: skip


@pytest.fixture
def schedule(alice: Person, bob: Person, dana: Person, ada: Person) -> Schedule:
    """Alice and Bob by turns, weekly, in Berlin."""
    return primary()


@pytest.fixture
def adas(ada: Person, schedule: Schedule) -> Caller:
    """An administrator's program."""
    return caller(ada)


def span(person: str, begins: timedelta = DAY, hours: int = 4) -> dict[str, str]:
    since = database_time() + begins
    return {"person": person, "starts_at": since.isoformat(), "ends_at": (since + hours * HOUR).isoformat()}


def shift(schedule: Schedule, person: str) -> dict[str, str]:
    found = coming(schedule, person)
    return {"person": person, "starts_at": found.starts_at.isoformat(), "ends_at": found.ends_at.isoformat()}


def actions() -> list[str]:
    rows = Entry.objects.filter(action__startswith="oncall").order_by("pk")
    return [one.action for one in rows if not one.data.get("denied")]


class TestLayers:
    def test_a_new_schedule_once_for_each_key(self, adas: Caller) -> None:
        body = {"schedule": "nights", "name": "Nights", "time_zone": "Europe/Berlin", "layers": [WEEKLY, NIGHTS],
                "reason": "a second line"}  # fmt: skip
        first, second = (adas.post("schedules", body, key="k1") for _ in range(2))
        assert first.status_code == 201, first.content
        assert second.content == first.content
        ground, nights = first.json()["layers"]
        assert (ground["people"], ground["unit"], ground["handover"]) == (["alice", "bob"], "week", "09:00")
        assert nights == NIGHTS
        assert adas.get("schedules/nights").json() == first.json()
        assert len(on_call("nights", database_time())) == 1
        assert_problem(adas.post("schedules", body), 409, "nights already")
        assert actions() == ["oncall.schedule_added"]

    def test_what_was_previewed_becomes_the_schedule_and_reads_the_same(self, adas: Caller) -> None:
        read = adas.get(ONE).json()
        wanted = {"name": "First line", "time_zone": "UTC", "layers": [*read["layers"], NIGHTS]}
        seen = adas.post(f"{ONE}/preview", wanted)
        assert seen.status_code == 200, seen.content
        assert {one["person"] for one in seen.json()["shifts"]} == {"alice", "bob", "dana"}
        assert Layer.objects.count() == 1
        body = {**wanted, "digest": seen.json()["digest"], "reason": "nights too"}
        changed = adas.post(f"{ONE}/changes", body)
        assert changed.status_code == 200, changed.content
        assert {name: changed.json()[name] for name in wanted} == wanted
        assert_problem(adas.post(f"{ONE}/changes", body), 422, "Nothing is different")
        assert actions() == ["oncall.layers_changed"]

    def test_a_layer_ends_on_a_day(self, adas: Caller) -> None:
        (ground,) = adas.get(ONE).json()["layers"]
        wanted = {"name": "x", "time_zone": "UTC", "layers": [{**ground, "ends_on": "2026-01-12"}]}
        seen = adas.post(f"{ONE}/preview", wanted).json()
        assert [one["kind"] for one in seen["problems"]] == ["gap"]
        answer = adas.post(f"{ONE}/changes", {**wanted, "digest": seen["digest"], "reason": "over"})
        assert answer.json()["problems"][0]["words"] == "nobody is on call at all"
        assert on_call("primary", database_time()) == []

    def test_nothing_else_than_the_preview_is_saved(self, adas: Caller, schedule: Schedule) -> None:
        wanted = {"name": "x", "time_zone": "UTC", "layers": [WEEKLY]}
        digest = adas.post(f"{ONE}/preview", wanted).json()["digest"]
        other = {**wanted, "time_zone": "Europe/Berlin", "digest": digest, "reason": "x"}
        assert_problem(adas.post(f"{ONE}/changes", other), 409, "not what the preview showed")
        layer(schedule, 2, "dana")
        assert_problem(adas.post(f"{ONE}/changes", {**wanted, "digest": digest, "reason": "x"}), 409)
        assert Layer.objects.filter(schedule=schedule).count() == 2

    @pytest.mark.parametrize(
        ("wanted", "words"),
        [
            ({"time_zone": "Mars"}, "body.time_zone: “Mars” is no time zone"),
            ({"layers": [WEEKLY, {**NIGHTS, "people": ["zed"]}]}, "body.layers.1.people: There is nobody called zed"),
            ({"layers": [{**NIGHTS, "ends_on": "2026-01-05"}]}, "body.layers.0.ends_on: It has to end after"),
            ({"layers": [{**NIGHTS, "handover": "24:00"}]}, "body.layers.0.handover"),
            ({"layers": [{**NIGHTS, "starts_on": "1066-10-14"}]}, "too far away"),
            ({"layers": [{**NIGHTS, "days": ["someday"]}]}, "body.layers.0.days"),
            ({"layers": [WEEKLY] * 13}, "body.layers"),
        ],
    )
    def test_what_cannot_be_is_said_and_changes_nothing(self, adas: Caller, wanted: dict[str, Any], words: str) -> None:
        body = {"name": "x", "time_zone": "UTC", "layers": [WEEKLY], **wanted}
        assert_problem(adas.post(f"{ONE}/preview", body), 422, words)
        assert_problem(adas.post("schedules", {**body, "schedule": "other", "reason": "x"}), 422, words)
        assert Schedule.objects.get().name == "Primary"

    def test_only_administrators_change_layers(self, adas: Caller, alice: Person, eve: Person, charlie: Person) -> None:
        body = {"name": "x", "time_zone": "UTC", "layers": []}
        for person in (alice, eve):
            assert caller(person).get(ONE).status_code == 200
            assert_problem(caller(person).post(f"{ONE}/preview", body), 403, "role admin")
            assert_problem(caller(person).post("schedules", {**body, "schedule": "x", "reason": "x"}), 403)
        outside = caller(charlie)
        assert_problem(outside.get(ONE), 404)
        assert outside.get(ONE).content == outside.get("schedules/nothing").content
        assert_problem(outside.post(f"{ONE}/preview", body), 404)
        assert_problem(outside.post("schedules", {**body, "schedule": "x", "reason": "x"}), 404)


class TestOverrides:
    def test_somebody_stands_in_and_it_is_taken_back(self, adas: Caller, alice: Person, dana: Person) -> None:
        program = caller(alice)
        body = {**span("dana"), "reason": "dentist"}
        made = program.post(f"{ONE}/overrides", body, key="k1")
        assert made.status_code == 201, made.content
        assert program.post(f"{ONE}/overrides", body, key="k1").content == made.content
        one = Override.objects.get()
        assert on_call("primary", one.starts_at) == [dana]
        assert adas.get(ONE).json()["overrides"] == [made.json()]
        where = f"{ONE}/overrides/{one.pk}/end"
        assert program.post(where, {"reason": "it was moved"}).json()["cancelled_at"] is not None
        assert on_call("primary", one.starts_at) != [dana]
        assert_problem(program.post(where, {"reason": "x"}), 409, "somebody was first")
        assert_problem(program.post(f"{ONE}/overrides/{one.pk + 1}/end", {"reason": "x"}), 404)
        assert actions() == ["oncall.override_added", "oncall.override_cancelled"]

    def test_only_its_person_or_an_operator_takes_it_back(self, adas: Caller, dana: Person, eve: Person) -> None:
        made = adas.post(f"{ONE}/overrides", {**span("dana"), "reason": "x"}).json()
        where = f"{ONE}/overrides/{made['id']}/end"
        assert_problem(caller(eve).post(where, {"reason": "x"}), 403, "or an operator")
        assert_problem(caller(dana).post(f"{ONE}/overrides", {**span("dana"), "reason": "x"}), 403)
        assert caller(dana).post(where, {"reason": "I cannot"}).status_code == 200

    @pytest.mark.parametrize(
        ("wanted", "words"),
        [
            ({"person": "zed"}, "nobody active called zed"),
            ({"starts_at": "2026-01-01T09:00:00Z", "ends_at": "2026-01-01T10:00:00Z"}, "This time is over"),
            ({"starts_at": "2098-07-01T09:00:00Z", "ends_at": "2098-07-01T09:00:00Z"}, "end after it begins"),
            ({"starts_at": "2098-07-01T09:00:00Z", "ends_at": "2098-07-01T10:00:00Z"}, "too far ahead"),
            ({"starts_at": "2098-07-01T09:00:00"}, "timezone"),
            ({"ends_at": "9999-12-31T23:59:59Z"}, "too long"),
            ({"ends_at": "9999-12-31T23:59:59-12:00"}, "after the year 9999"),
            ({"reason": "x" * 301}, "body.reason"),
        ],
    )
    def test_what_cannot_be_is_said(self, adas: Caller, wanted: dict[str, str], words: str) -> None:
        assert_problem(adas.post(f"{ONE}/overrides", {**span("alice"), "reason": "x", **wanted}), 422, words)
        assert not Override.objects.exists()


class TestSwaps:
    def ask(self, program: Caller, schedule: Schedule, gives: str, takes: str) -> Any:
        body = {"gives": shift(schedule, gives), "takes": shift(schedule, takes), "reason": "a wedding"}
        return program.post(f"{ONE}/swaps", body)

    def test_nothing_changes_until_the_other_says_yes(self, schedule: Schedule, alice: Person, bob: Person) -> None:
        given = coming(schedule, "alice")
        asked = self.ask(caller(alice), schedule, "alice", "bob")
        assert asked.status_code == 201, asked.content
        assert (asked.json()["swap"], asked.json()["awaiting"]) == (1, "bob")
        assert on_call("primary", given.starts_at) == [alice]
        assert_problem(caller(alice).post(f"{ONE}/swaps/1/agreement", {}), 403, "yourself")
        agreed = caller(bob).post(f"{ONE}/swaps/1/agreement", {}, key="k1")
        assert agreed.json()["awaiting"] == ""
        assert caller(bob).post(f"{ONE}/swaps/1/agreement", {}, key="k1").content == agreed.content
        assert on_call("primary", given.starts_at) == [bob]
        assert_problem(caller(bob).post(f"{ONE}/swaps/1/refusal", {"reason": "x"}), 409, "waits for nobody")
        assert actions() == ["oncall.swap_asked", "oncall.swapped"]

    def test_no_is_no(self, schedule: Schedule, alice: Person, bob: Person, eve: Person) -> None:
        given = coming(schedule, "alice")
        self.ask(caller(alice), schedule, "alice", "bob")
        assert_problem(caller(eve).post(f"{ONE}/swaps/1/refusal", {"reason": "x"}), 403)
        refused = caller(bob).post(f"{ONE}/swaps/1/refusal", {"reason": "I am away"}).json()
        assert all(one["cancelled_at"] for one in refused["halves"])
        assert on_call("primary", given.starts_at) == [alice]
        assert_problem(caller(bob).post(f"{ONE}/swaps/2/agreement", {}), 404)

    def test_for_others_only_operators_ask(self, schedule: Schedule, dana: Person, ada: Person) -> None:
        assert_problem(self.ask(caller(dana), schedule, "alice", "bob"), 403)
        assert_problem(self.ask(caller(ada), schedule, "alice", "alice"), 422, "two people")
        wrong = {**shift(schedule, "alice"), "person": "dana"}
        body = {"gives": wrong, "takes": shift(schedule, "bob"), "reason": "x"}
        assert_problem(caller(dana).post(f"{ONE}/swaps", body), 409, "look at the calendar again")
        assert self.ask(caller(ada), schedule, "alice", "bob").status_code == 201
        assert Override.objects.count() == 2


class TestAbsences:
    DAYS = {"starts_on": "2099-12-24", "ends_on": "2099-12-26", "reason": "holiday"}

    def test_oneself_is_away_and_there_after_all(self, schedule: Schedule, dana: Person) -> None:
        program = caller(dana)
        made = program.post("absences", self.DAYS)
        assert made.status_code == 201, made.content
        assert (made.json()["person"], made.json()["ends_on"]) == ("dana", "2099-12-26")
        assert program.get("absences").json() == [made.json()]
        where = f"absences/{made.json()['id']}/removal"
        gone = [program.post(where, {"reason": "the flight fell out"}, key="k1") for _ in range(2)]
        assert [one.json() for one in gone] == [made.json()] * 2
        assert_problem(program.post(where, {"reason": "x"}), 404)
        assert actions() == ["oncall.absence_added", "oncall.absence_removed"]

    def test_of_others_by_operators_alone(self, schedule: Schedule, alice: Person, dana: Person, eve: Person) -> None:
        body = {**self.DAYS, "person": "Bob"}
        assert_problem(caller(dana).post("absences", body), 403)
        made = caller(alice).post("absences", body).json()
        assert made["person"] == "bob"
        for person in (dana, eve):
            assert_problem(caller(person).post(f"absences/{made['id']}/removal", {"reason": "x"}), 403)
        assert Absence.objects.count() == 1

    @pytest.mark.parametrize(
        ("wanted", "words"),
        [
            ({"ends_on": "2099-12-23"}, "before the first"),
            ({"starts_on": "1066-10-14"}, "too long"),
            ({"person": "zed"}, "nobody active called zed"),
            ({"reason": "x" * 201}, "body.reason"),
            ({"starts_on": "Christmas"}, "body.starts_on"),
        ],
    )
    def test_what_cannot_be_is_said(self, adas: Caller, wanted: dict[str, str], words: str) -> None:
        assert_problem(adas.post("absences", {**self.DAYS, **wanted}), 422, words)
        assert not Absence.objects.exists()

    def test_who_has_no_role_sees_and_enters_none(self, schedule: Schedule, charlie: Person) -> None:
        assert_problem(caller(charlie).get("absences"), 404)
        assert_problem(caller(charlie).post("absences", self.DAYS), 404)
        assert_problem(caller(charlie).post("absences/1/removal", {"reason": "x"}), 404)
