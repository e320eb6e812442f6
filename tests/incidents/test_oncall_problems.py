"""What is wrong with a rotation is said while editing, on the pages, and a week ahead as an alert."""

from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from incidents.models import Absence, Alert, Channel, ContactMethod, EscalationLevel, Override, Schedule
from incidents.oncall.ahead import look_ahead
from incidents.oncall.problems import Problem, problems
from tests.incidents.oncall_world import DAY, WEEK, at, layer, matrix, primary, reachable

pytestmark = pytest.mark.django_db

MONDAY = at("2026-01-12T09:00")  # Bob's week begins


def found(schedule: Schedule, **span: timedelta) -> list[tuple[str, str]]:
    rows = problems(schedule, MONDAY, MONDAY + span.get("length", WEEK))
    return [(one.kind, one.person) for one in rows]


def words(schedule: Schedule) -> str:
    (one,) = problems(schedule, MONDAY, MONDAY + WEEK)
    return one.words


@pytest.fixture
def schedule(alice: Person, bob: Person) -> Schedule:
    return primary()


def test_a_whole_rotation_of_reachable_people_has_no_problem(schedule: Schedule, alice: Person, bob: Person) -> None:
    matrix("sms")
    reachable(alice, bob)
    assert found(schedule, length=8 * WEEK) == []


def test_a_gap_that_stays_is_told_with_its_beginning(schedule: Schedule) -> None:
    schedule.layers.update(ends_on=date(2026, 1, 14))
    assert problems(schedule, MONDAY, MONDAY + WEEK) == [
        Problem("gap", "nobody is on call from Wed 14 Jan 08:00 UTC on",
                at("2026-01-14T09:00"))
    ]  # fmt: skip


def test_a_gap_between_two_turns_is_told_with_both_ends(schedule: Schedule) -> None:
    """The words of an alert stay the same from one look to the next, as only ends in sight are said."""
    schedule.layers.update(days=[0, 1, 3, 4, 5, 6])
    assert words(schedule) == "nobody is on call from Tue 13 Jan 23:00 UTC until Wed 14 Jan 23:00 UTC"


def test_a_gap_that_runs_has_words_that_stay_the_same(schedule: Schedule) -> None:
    schedule.layers.update(starts_on=date(2026, 1, 15))
    assert words(schedule) == "nobody is on call until Thu 15 Jan 08:00 UTC"


def test_nobody_at_all(schedule: Schedule) -> None:
    schedule.layers.all().delete()
    assert words(schedule) == "nobody is on call at all"


def test_absences_of_all_are_a_gap(schedule: Schedule, alice: Person, bob: Person) -> None:
    for person in (alice, bob):
        Absence.objects.create(person=person, starts_on=date(2026, 1, 14), ends_on=date(2026, 1, 14))
    assert found(schedule) == [("gap", "")]


def test_somebody_who_left_and_somebody_who_never_was(schedule: Schedule, alice: Person) -> None:
    layer(schedule, 2, "ghost", from_time=None)
    Person.objects.filter(pk=alice.pk).update(is_active=False)
    assert found(schedule) == [("inactive", "alice"), ("unknown", "ghost")]


def test_an_override_of_somebody_who_left(schedule: Schedule, dana: Person) -> None:
    Person.objects.filter(pk=dana.pk).update(is_active=False)
    Override.objects.create(
        schedule=schedule, person="dana", starts_at=MONDAY + DAY, ends_at=MONDAY + 2 * DAY, author_name="x"
    )
    assert found(schedule) == [("inactive", "dana")]


def test_somebody_without_an_address_for_the_level(schedule: Schedule, bob: Person) -> None:
    matrix("phone", "sms")
    assert found(schedule) == [("unreachable", "bob")]  # Alice has no turn in this week
    assert words(schedule) == ("Bob has no way to be reached by phone or sms, which L1 of The matrix uses")
    reachable(bob, kind="phone")
    assert found(schedule) == []


def test_an_address_for_a_channel_that_is_not_configured_reaches_nobody(schedule: Schedule, bob: Person) -> None:
    matrix("sms")
    reachable(bob)
    Channel.objects.update(paused=True)
    assert found(schedule) == [("unreachable", "bob")]


def test_pagerduty_needs_no_address(schedule: Schedule) -> None:
    matrix("pagerduty")
    assert found(schedule) == []


def test_each_level_that_names_the_schedule_counts(schedule: Schedule, bob: Person) -> None:
    policy = matrix("pagerduty")
    EscalationLevel.objects.create(policy=policy, number=2, role="again", after_seconds=60,
                                   targets=[{"schedule": "primary"}], channels=["sms"])  # fmt: skip
    assert found(schedule) == [("unreachable", "bob")]


def test_the_number_of_queries_does_not_grow(
    schedule: Schedule, alice: Person, bob: Person, django_assert_max_num_queries: Any
) -> None:
    matrix("sms")
    for position in range(2, 8):
        layer(schedule, position, "alice", "bob", "ghost")
    with django_assert_max_num_queries(8):
        problems(schedule, MONDAY, MONDAY + 8 * WEEK)


class TestAhead:
    def alerts(self, state: str = "firing") -> list[tuple[str, str]]:
        rows = Alert.objects.filter(state=state).order_by("pk")
        return list(rows.values_list("name", "summary"))

    def test_a_gap_within_a_week_is_an_alert_once(self, schedule: Schedule) -> None:
        end = (database_time() + 3 * DAY).date()
        schedule.layers.update(ends_on=end)
        assert look_ahead() == 1
        ((name, summary),) = self.alerts()
        assert name == "OnCallGap"
        assert summary.startswith("Primary: nobody is on call from ")
        count = Alert.objects.get().count
        look_ahead()
        assert (Alert.objects.count(), Alert.objects.get().count) == (1, count)

    def test_one_that_is_further_away_is_none_yet(self, schedule: Schedule) -> None:
        schedule.layers.update(ends_on=(database_time() + 20 * DAY).date())
        assert look_ahead() == 0
        assert self.alerts() == []

    def test_what_was_mended_is_over(self, schedule: Schedule, alice: Person, bob: Person) -> None:
        matrix("sms")
        look_ahead()
        assert {name for name, _ in self.alerts()} == {"OnCallUnreachablePerson"}
        reachable(alice, bob)
        look_ahead()
        assert self.alerts() == []
        assert len(self.alerts("resolved")) >= 1

    def test_each_person_is_an_alert_of_their_own(self, schedule: Schedule) -> None:
        layer(schedule, 2, "ghost", "phantom", starts_on=date(2030, 1, 7))
        look_ahead()
        assert sorted(name for name, _ in self.alerts()) == ["OnCallUnknownPerson"] * 2

    def test_the_pages_show_it_by_themselves(self, client: Client, schedule: Schedule, dana: Person) -> None:
        schedule.layers.update(ends_on=(database_time() + 3 * DAY).date())
        client.force_login(dana)
        for url in ("/on-call", "/on-call/primary"):
            text = client.get(url).content.decode()
            assert "1 thing to mend" in text
            assert "Nobody is on call from" in text
            assert "bar gap" in text


def test_contact_methods_of_others_do_not_count(schedule: Schedule, alice: Person, bob: Person) -> None:
    matrix("sms")
    ContactMethod.objects.create(person=alice, kind="sms", address="+12025550101")
    assert found(schedule) == [("unreachable", "bob")]
