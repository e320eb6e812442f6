"""The guide's escalation matrix: who is paged when, counted from the opening, and what an outage does to it."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from incidents.escalation import clock, plan
from incidents.lifecycle import acknowledge, resolve
from incidents.models import Delivery, EscalationLevel, EscalationPolicy, Incident, Level, Page, Severity
from tests.incidents.escalating import MATRIX, WHO, matrix, opened, paged, pass_time, reachable, said, states

pytestmark = pytest.mark.django_db


@pytest.fixture
def four(alice: Person, bob: Person, dana: Person, ada: Person) -> list[Person]:
    """One person for each level, each with a telephone that takes messages."""
    return [reachable(one, sms=f"+4915100000{number}") for number, one in enumerate((alice, bob, dana, ada))]


@pytest.fixture
def guide(four: list[Person]) -> EscalationPolicy:
    """The guide's matrix."""
    return matrix(four, ["sms"])


def test_due_times_are_counted_from_the_opening(guide: EscalationPolicy) -> None:
    incident = opened()
    due = Level.objects.filter(incident=incident).order_by("number").values_list("number", "due_at")
    assert [(number, at - incident.opened_at) for number, at in due] == [
        (number, timedelta(minutes=minutes)) for number, _, minutes in MATRIX
    ]


def test_each_level_is_paged_once_when_its_time_comes(guide: EscalationPolicy) -> None:
    incident = opened()
    assert clock.fire_due() == 1
    assert paged(incident) == [("Alice", "sms")]
    assert clock.fire_due() == 0, "nothing is due twice"
    for minutes, so_far in ((14, 1), (1, 2), (14, 2), (1, 3), (29, 3), (1, 4)):
        pass_time(incident, minutes=minutes)
        clock.fire_due()
        assert [name for name, _ in paged(incident)] == ["Alice", "Bob", "Dana", "Ada"][:so_far]
    assert set(states(incident).values()) == {"fired"}


def test_a_late_level_makes_no_later_one_later(guide: EscalationPolicy) -> None:
    incident = opened()
    pass_time(incident, minutes=10)
    clock.fire_due()
    second = Level.objects.get(incident=incident, number=2)
    incident.refresh_from_db()
    assert second.due_at - incident.opened_at == timedelta(minutes=15)


def test_after_an_outage_the_highest_goes_once(guide: EscalationPolicy) -> None:
    incident = opened()
    pass_time(incident, minutes=31)
    assert clock.fire_due() == 1
    assert states(incident) == {1: "passed", 2: "passed", 3: "fired", 4: "pending"}
    assert paged(incident) == [("Dana", "sms")]
    assert any("3 levels were due" in words and "L1, L2 passed over" in words for words in said(incident))
    assert "3 levels were due" in Delivery.objects.get().message["text"]


def test_levels_of_one_moment_go_together(guide: EscalationPolicy) -> None:
    EscalationLevel.objects.filter(number=2).update(after_seconds=0)
    incident = opened()
    clock.fire_due()
    assert paged(incident) == [("Alice", "sms"), ("Bob", "sms")]


def test_a_level_that_reaches_nobody_brings_the_next_one_forward(guide: EscalationPolicy, alice: Person) -> None:
    alice.contact_methods.all().delete()
    incident = opened()
    clock.fire_due()
    assert paged(incident) == []
    assert any("cannot reach Alice" in words for words in said(incident))
    clock.fire_due()
    assert paged(incident) == [("Bob", "sms")]
    assert states(incident) == {1: "fired", 2: "fired", 3: "pending", 4: "pending"}


def test_nobody_on_call_is_said(guide: EscalationPolicy) -> None:
    EscalationLevel.objects.filter(number=1).update(targets=[{"schedule": "nobody-made-it"}])
    incident = opened()
    clock.fire_due()
    assert any("no one is on call as On-Call Engineer" in words for words in said(incident))


def test_acknowledging_cancels_the_rest(guide: EscalationPolicy, bob: Person) -> None:
    incident = opened()
    clock.fire_due()
    acknowledge(incident.pk, WHO, page_id=Page.objects.get().pk)
    pass_time(incident, hours=2)
    assert clock.fire_due() == 0
    assert states(incident) == {1: "fired", 2: "cancelled", 3: "cancelled", 4: "cancelled"}
    assert Page.objects.get().state == Page.State.SEEN
    assert Delivery.objects.get(purpose="page").state == Delivery.State.CANCELLED, "it had not left yet"


def test_so_does_resolving(guide: EscalationPolicy) -> None:
    incident = opened()
    resolve(incident.pk, WHO, "it was a test")
    assert clock.fire_due() == 0
    assert set(states(incident).values()) == {"cancelled"}


def test_all_levels_again_when_nobody_answers(four: list[Person]) -> None:
    policy = matrix(four, ["sms"], repeats=1)
    incident = opened()
    again = Level.objects.filter(incident=incident, round=2).order_by("number").first()
    assert again is not None
    wait = timedelta(hours=1, seconds=policy.repeat_after_seconds)
    assert again.due_at - incident.opened_at == wait


def test_a_changed_matrix_changes_no_running_escalation(guide: EscalationPolicy) -> None:
    incident = opened()
    EscalationLevel.objects.update(after_seconds=1, targets=[], channels=[])
    guide.delete()
    pass_time(incident, minutes=15)
    clock.fire_due()
    assert paged(incident) == [("Bob", "sms")]
    incident.refresh_from_db()
    assert [level["after_seconds"] for level in incident.policy["levels"]] == [0, 900, 1800, 3600]


def test_without_a_matrix_nobody_is_paged_and_it_says_so(guide: EscalationPolicy) -> None:
    incident = opened(Severity.P4)
    assert not Level.objects.exists()
    assert any("Nobody is paged for P4" in words for words in said(incident))


def test_silence_is_said_once(guide: EscalationPolicy) -> None:
    incident = opened()
    clock.fire_due()
    assert clock.tell_of_silence() == 0, "it is too early to say so"
    pass_time(incident, seconds=11)
    assert (clock.tell_of_silence(), clock.tell_of_silence()) == (1, 0)
    assert any(words.startswith("Nobody has been notified yet") for words in said(incident))
    other = opened()
    Incident.objects.filter(pk=other.pk).update(notified_at=database_time())
    pass_time(other, seconds=11)
    assert clock.tell_of_silence() == 0


@given(
    waits=st.lists(st.integers(0, 10_000), min_size=1, max_size=6),
    repeats=st.integers(0, 3),
    turn=st.integers(0, 5_000),
)
def test_no_round_begins_before_the_one_before_is_over(waits: list[int], repeats: int, turn: int) -> None:
    wanted = {"repeats": repeats, "repeat_after_seconds": turn,
              "levels": [{"number": n, "after_seconds": wait} for n, wait in enumerate(waits, 1)]}  # fmt: skip
    since = database_time()
    times = plan.due_times(wanted, since)
    assert len(times) == len(waits) * (repeats + 1)
    for number in range(1, repeats + 2):
        mine = [at for one, _, at in times if one == number]
        later = [at for one, _, at in times if one == number + 1]
        assert [at - mine[0] for at in mine] == [timedelta(seconds=wait - waits[0]) for wait in waits]
        assert not later or min(later) >= max(mine)
