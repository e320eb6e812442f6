"""What people do to a running escalation: now, skip, repeat, hand over."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import Who
from controlplane.operations.errors import Conflict, Invalid
from incidents import lifecycle
from incidents.escalation import clock, hand
from incidents.models import Incident, Level
from tests.estate import Estate
from tests.incidents.escalating import matrix, opened, paged, reachable, said, states
from tests.people import person

pytestmark = pytest.mark.django_db


@pytest.fixture
def incident(estate: Estate, alice: Person, bob: Person) -> Incident:
    """Bob is L1 and was paged, Alice is L2 and waits."""
    people = [reachable(bob, email="bob@example.org"), reachable(alice, email="alice@example.org")]
    matrix(people, ["email"])
    found = opened()
    clock.fire_due()
    assert states(found) == {1: "fired", 2: "pending"}
    return found


@pytest.fixture
def alices(alice: Person) -> Who:
    return Actor(alice).who


def level(incident: Incident, number: int) -> int:
    return Level.objects.get(incident=incident, round=1, number=number).pk


class TestNow:
    def test_pages_the_next_level_at_once_and_only_once(self, incident: Incident, alices: Who) -> None:
        hand.escalate_now(incident.pk, alices)
        assert states(incident) == {1: "fired", 2: "fired"}
        assert paged(incident) == [("Bob", "email"), ("Alice", "email")]
        assert "escalated by Alice" in said(incident)[-1]
        clock.fire_due()
        assert len(paged(incident)) == 2

    def test_refuses_when_none_is_left(self, incident: Incident, alices: Who) -> None:
        hand.escalate_now(incident.pk, alices)
        with pytest.raises(Conflict, match="pending any more"):
            hand.escalate_now(incident.pk, alices)

    def test_refuses_a_level_of_another_incident(self, incident: Incident, alices: Who) -> None:
        other = opened()
        with pytest.raises(Conflict):
            hand.escalate_now(other.pk, alices, level(incident, 2))
        assert states(incident)[2] == "pending"


class TestSkip:
    def test_leaves_it_out_and_says_why(self, incident: Incident, alices: Who) -> None:
        hand.skip(incident.pk, alices, level(incident, 2), "she is on a plane")
        assert states(incident) == {1: "fired", 2: "skipped"}
        assert said(incident)[-1] == "L2 Team Lead skipped: she is on a plane"

    def test_needs_a_reason_and_a_pending_level(self, incident: Incident, alices: Who) -> None:
        with pytest.raises(Invalid):
            hand.skip(incident.pk, alices, level(incident, 2), "")
        with pytest.raises(Conflict):
            hand.skip(incident.pk, alices, level(incident, 1), "too late")


class TestRepeat:
    def test_pages_the_same_people_again(self, incident: Incident, alices: Who) -> None:
        hand.repeat(incident.pk, alices, level(incident, 1))
        assert paged(incident) == [("Bob", "email"), ("Bob", "email")]
        assert states(incident)[2] == "pending"

    def test_refuses_what_was_never_paged(self, incident: Incident, alices: Who) -> None:
        with pytest.raises(Conflict, match="escalate to it instead"):
            hand.repeat(incident.pk, alices, level(incident, 2))


class TestHandOver:
    def test_makes_the_other_one_commander_and_pages_them(self, incident: Incident, alices: Who, ada: Person) -> None:
        reachable(ada, email="ada@example.org")
        hand.hand_over(incident.pk, alices, ada, "the pool is yours")
        incident.refresh_from_db()
        assert incident.commander == ada
        assert paged(incident)[-1] == ("Ada", "email")
        assert "Handed over to Ada: the pool is yours" in said(incident)

    def test_also_after_the_acknowledgement(self, incident: Incident, alices: Who, ada: Person) -> None:
        reachable(ada, email="ada@example.org")
        lifecycle.acknowledge(incident.pk, alices)
        hand.hand_over(incident.pk, alices, ada, "my shift is over")
        assert paged(incident)[-1] == ("Ada", "email")

    def test_not_to_somebody_who_left_nor_without_words_nor_when_over(
        self, incident: Incident, alices: Who, ada: Person
    ) -> None:
        with pytest.raises(Invalid, match="need to know"):
            hand.hand_over(incident.pk, alices, ada, " ")
        gone = person("gone")
        gone.is_active = False
        gone.save()
        with pytest.raises(Invalid, match="not active"):
            hand.hand_over(incident.pk, alices, gone, "yours")
        lifecycle.resolve(incident.pk, alices, "restarted")
        with pytest.raises(Conflict):
            hand.hand_over(incident.pk, alices, ada, "yours")


def test_once_somebody_has_it_nothing_is_escalated(incident: Incident, alices: Who) -> None:
    lifecycle.acknowledge(incident.pk, alices)
    for move in (
        lambda: hand.escalate_now(incident.pk, alices),
        lambda: hand.skip(incident.pk, alices, level(incident, 2), "why"),
        lambda: hand.repeat(incident.pk, alices, level(incident, 1)),
    ):
        with pytest.raises(Conflict, match="somebody has it"):
            move()
    assert len(paged(incident)) == 1
