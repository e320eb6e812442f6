"""Every move of an incident: one entry in its timeline and one in the audit trail, and what is no longer possible."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM, Who
from controlplane.operations.errors import Conflict, Invalid
from incidents import lifecycle, timeline
from incidents.models import Incident, Phase, Severity
from incidents.procedure import CHECKLISTS
from tests.estate import Estate
from tests.incidents.escalating import said
from tests.incidents.lessons import opened

pytestmark = pytest.mark.django_db


@pytest.fixture
def incident(estate: Estate) -> Incident:
    return opened(severity="P2")


@pytest.fixture
def alices(alice: Person) -> Who:
    return Actor(alice).who


def now(incident: Incident) -> Incident:
    return Incident.objects.get(pk=incident.pk)


def audited() -> list[str]:
    return list(Entry.objects.filter(action__startswith="incident.").order_by("pk").values_list("action", flat=True))


class TestOpening:
    def test_begins_with_detection_the_guides_lists_and_an_entry(self, incident: Incident) -> None:
        assert (incident.phase, incident.state) == (Phase.DETECTION, Incident.State.OPEN)
        assert incident.checklist.count() == sum(len(lines) for lines in CHECKLISTS.values())
        assert said(incident)[0] == "Opened as P2"
        assert audited() == ["incident.opened"]

    def test_one_cause_is_one_incident_until_it_is_over(self, estate: Estate, alices: Who) -> None:
        first = opened(group_key="errors")
        again, is_new = lifecycle.open_incident(
            SYSTEM("alert"), title="again", severity=Severity.P1, environments=[], group_key="errors"
        )
        assert (again.pk, is_new) == (first.pk, False)
        assert said(first).count("Opened as P1") == 1
        lifecycle.resolve(first.pk, alices, "restarted")
        assert opened(group_key="errors").pk != first.pk

    def test_without_words_there_is_none(self, estate: Estate) -> None:
        with pytest.raises(Invalid, match="what is wrong"):
            opened(title="   ")
        assert not Incident.objects.exists()


class TestAcknowledging:
    def test_says_who_and_goes_on_to_triage(self, incident: Incident, alices: Who) -> None:
        lifecycle.acknowledge(incident.pk, alices, via="from the page")
        found = now(incident)
        assert (found.state, found.acknowledged_by_name, found.phase) == ("acknowledged", "Alice", "triage")
        assert "Acknowledged by Alice from the page" in said(incident)
        assert said(incident)[-1] == "Phase: Triage"

    def test_the_second_one_is_told_who_was_first(self, incident: Incident, alices: Who, bob: Person) -> None:
        lifecycle.acknowledge(incident.pk, alices)
        before = now(incident)
        with pytest.raises(Conflict, match="Alice has acknowledged it already"):
            lifecycle.acknowledge(incident.pk, Actor(bob).who)
        assert now(incident).last_seq == before.last_seq

    def test_leaves_a_later_phase_alone(self, incident: Incident, alices: Who) -> None:
        lifecycle.move_to(incident.pk, alices, Phase.RESPONSE)
        lifecycle.acknowledge(incident.pk, alices)
        assert now(incident).phase == Phase.RESPONSE


class TestResolving:
    def test_keeps_the_words_and_begins_the_post_mortem(self, incident: Incident, alices: Who) -> None:
        lifecycle.resolve(incident.pk, alices, " restarted the pool ")
        found = now(incident)
        assert (found.state, found.resolution, found.phase) == ("resolved", "restarted the pool", "post-mortem")
        assert found.resolved_by_name == "Alice"

    def test_needs_words(self, incident: Incident, alices: Who) -> None:
        with pytest.raises(Invalid, match="what resolved it"):
            lifecycle.resolve(incident.pk, alices, "  ")
        assert now(incident).state == "open"

    def test_once_only_and_nothing_moves_after_it(self, incident: Incident, alices: Who) -> None:
        lifecycle.resolve(incident.pk, alices, "restarted")
        before = now(incident).last_seq
        with pytest.raises(Conflict):
            lifecycle.resolve(incident.pk, alices, "again")
        with pytest.raises(Conflict):
            lifecycle.acknowledge(incident.pk, alices)
        with pytest.raises(Conflict):
            lifecycle.move_to(incident.pk, alices, Phase.TRIAGE)
        assert now(incident).last_seq == before


class TestPhases:
    def test_go_forth_and_back(self, incident: Incident, alices: Who) -> None:
        for phase in (Phase.RESPONSE, Phase.TRIAGE, Phase.RESOLUTION):
            lifecycle.move_to(incident.pk, alices, phase)
            assert now(incident).phase == phase
        assert said(incident)[-3:] == ["Phase: Response", "Phase: Triage", "Phase: Resolution"]

    def test_the_same_again_is_refused(self, incident: Incident, alices: Who) -> None:
        with pytest.raises(Conflict, match="in Detection already"):
            lifecycle.move_to(incident.pk, alices, Phase.DETECTION)

    def test_the_post_mortem_comes_last(self, incident: Incident, alices: Who) -> None:
        with pytest.raises(Invalid, match="resolve the incident first"):
            lifecycle.move_to(incident.pk, alices, Phase.POST_MORTEM)


class TestRoles:
    def test_are_given_and_taken(self, incident: Incident, alices: Who, bob: Person) -> None:
        lifecycle.give_role(incident.pk, alices, "scribe", bob)
        assert now(incident).scribe == bob
        lifecycle.give_role(incident.pk, alices, "scribe", None)
        assert now(incident).scribe is None
        assert said(incident)[-2:] == ["Bob is scribe", "Nobody is scribe any more"]

    def test_others_there_are_none(self, incident: Incident, alices: Who, bob: Person) -> None:
        with pytest.raises(Invalid, match="no role king"):
            lifecycle.give_role(incident.pk, alices, "king", bob)


class TestChecklist:
    def test_a_tick_says_who_and_what(self, incident: Incident, alices: Who) -> None:
        item = incident.checklist.order_by("position")[1]
        lifecycle.tick(incident.pk, alices, item.pk, "three customers called")
        item.refresh_from_db()
        assert item.ticked_by_name == "Alice"
        assert said(incident)[-1] == "Confirmed that it is real: three customers called"

    def test_once_only(self, incident: Incident, alices: Who) -> None:
        item = incident.checklist.order_by("position")[0]
        lifecycle.tick(incident.pk, alices, item.pk)
        with pytest.raises(Conflict):
            lifecycle.tick(incident.pk, alices, item.pk)

    def test_not_by_way_of_another_incident(self, incident: Incident, alices: Who) -> None:
        other = opened(severity="P3")
        item = other.checklist.order_by("position")[0]
        with pytest.raises(Conflict):
            lifecycle.tick(incident.pk, alices, item.pk)
        item.refresh_from_db()
        assert item.ticked_at is None


def test_the_chain_holds_through_all_of_it(incident: Incident, alices: Who, bob: Person) -> None:
    lifecycle.acknowledge(incident.pk, alices)
    lifecycle.give_role(incident.pk, alices, "commander", bob)
    lifecycle.resolve(incident.pk, alices, "restarted")
    found = now(incident)
    rows = [timeline.fields_of(one) | {"hash": one.hash} for one in found.timeline.order_by("seq")]
    assert timeline.verify(rows, found.head_hash) == found.last_seq
    assert audited() == ["incident.opened", "incident.acknowledged", "incident.role", "incident.resolved"]
