"""A P1 locks its environments against deployments; two people may break the glass, for a while."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.errors import Conflict, Invalid, Refused
from controlplane.operations.models import Bypass
from deployments.gates.asking import gates_for
from deployments.models import Deployment
from environments import locks
from environments.models import EnvironmentLock
from incidents import holds, lifecycle
from incidents.models import BreakGlass, Grade, Incident, IncidentLock
from tests.estate import Estate
from tests.incidents.escalating import said
from tests.incidents.lessons import opened

pytestmark = pytest.mark.django_db


@pytest.fixture
def incident(estate: Estate) -> Incident:
    """A P1 of production."""
    return opened()


def locked(estate: Estate) -> bool:
    return EnvironmentLock.objects.filter(environment=estate.production, released_at=None).exists()


def refused(estate: Estate, kind: str) -> list[str]:
    found = gates_for(estate.production, estate.releases["1.5.0"], kind=kind)
    return [gate.key for gate in found if gate.outcome == "failed"]


class TestLock:
    def test_keeps_deployments_out_and_the_way_back_open(self, estate: Estate, incident: Incident) -> None:
        assert "lock" in " ".join(refused(estate, Deployment.Kind.DEPLOY))
        assert "lock" not in " ".join(refused(estate, Deployment.Kind.ROLLBACK))
        assert "production is locked against deployments; rollbacks are open" in said(incident)

    def test_is_on_its_own_environments_only(self, estate: Estate, incident: Incident) -> None:
        assert not EnvironmentLock.objects.filter(environment=estate.staging).exists()

    def test_ends_with_the_incident(self, estate: Estate, incident: Incident, alice: Person) -> None:
        lifecycle.resolve(incident.pk, Actor(alice).who, "rolled back")
        assert not locked(estate)
        assert said(incident)[-1] == "production may be deployed to again"

    def test_follows_the_severity(self, estate: Estate, alice: Person) -> None:
        incident, who = opened(severity="P2"), Actor(alice).who
        assert not locked(estate)
        lifecycle.assess(incident.pk, who, Grade.HIGH, Grade.HIGH, "down")
        assert locked(estate)
        lifecycle.assess(incident.pk, who, Grade.LOW, Grade.HIGH, "only the report")
        assert not locked(estate)

    def test_released_by_hand_stays_released(self, estate: Estate, incident: Incident, alice: Person) -> None:
        lock = EnvironmentLock.objects.get(environment=estate.production)
        locks.release(Actor(alice), estate.production, lock.pk)
        lifecycle.assess(incident.pk, Actor(alice).who, Grade.HIGH, Grade.HIGH, "still down")
        assert not locked(estate)

    def test_released_by_hand_stays_released_when_the_glass_is_whole_again(
        self, estate: Estate, incident: Incident, alice: Person, bob: Person
    ) -> None:
        lock = EnvironmentLock.objects.get(environment=estate.production)
        locks.release(Actor(alice), estate.production, lock.pk)
        glass = holds.ask(incident.pk, Actor(alice), estate.production, "the fix is 1.5.1")
        holds.confirm(incident.pk, Actor(bob), glass.pk)
        BreakGlass.objects.update(expires_at=F("expires_at") - holds.OPEN_FOR)
        assert holds.end_broken() == 1
        assert not locked(estate)
        assert "production may be deployed to again" not in said(incident), "it could all the time"

    def test_two_incidents_hold_it_until_the_last_is_over(
        self, estate: Estate, incident: Incident, alice: Person
    ) -> None:
        other, who = opened(title="another"), Actor(alice).who
        lifecycle.resolve(incident.pk, who, "rolled back")
        assert locked(estate)
        lifecycle.resolve(other.pk, who, "restarted")
        assert not locked(estate)


class TestBreakGlass:
    @pytest.fixture
    def glass(self, estate: Estate, incident: Incident, alice: Person) -> BreakGlass:
        return holds.ask(incident.pk, Actor(alice), estate.production, "the fix is 1.5.1")

    def test_asking_opens_nothing(self, estate: Estate, glass: BreakGlass) -> None:
        assert locked(estate)

    def test_a_second_person_opens_it(self, estate: Estate, glass: BreakGlass, bob: Person) -> None:
        holds.confirm(glass.incident_id, Actor(bob), glass.pk)
        assert not locked(estate)
        glass.refresh_from_db()
        assert glass.confirmed_by_name == "Bob"
        waits = Bypass.objects.get()  # for the review of somebody else
        assert (waits.people, waits.scopes, waits.reviewed_at) == (
            [glass.asked_by_id, bob.pk],
            ["production"],
            None,
        )
        assert waits.until == glass.expires_at
        entry = Entry.objects.get(action="incident.break_glass")
        assert (entry.reason, entry.data["asked by"], entry.data["confirmed by"]) == (
            "the fix is 1.5.1",
            "Alice",
            "Bob",
        )

    def test_never_the_one_who_asked(self, estate: Estate, glass: BreakGlass, alice: Person) -> None:
        with pytest.raises(Refused, match="somebody else"):
            holds.confirm(glass.incident_id, Actor(alice), glass.pk)
        assert locked(estate)

    def test_once_only(self, glass: BreakGlass, bob: Person) -> None:
        holds.confirm(glass.incident_id, Actor(bob), glass.pk)
        with pytest.raises(Conflict):
            holds.confirm(glass.incident_id, Actor(bob), glass.pk)

    def test_not_by_way_of_another_incident(self, estate: Estate, glass: BreakGlass, bob: Person) -> None:
        other = opened(title="another", severity="P3")
        with pytest.raises(Conflict):
            holds.confirm(other.pk, Actor(bob), glass.pk)
        assert locked(estate)

    def test_closes_again_after_an_hour(self, estate: Estate, glass: BreakGlass, bob: Person) -> None:
        holds.confirm(glass.incident_id, Actor(bob), glass.pk)
        assert holds.end_broken() == 0
        BreakGlass.objects.update(expires_at=F("expires_at") - holds.OPEN_FOR)
        assert holds.end_broken() == 1
        assert locked(estate)
        assert holds.end_broken() == 0

    def test_a_wish_nobody_confirms_is_dropped(self, estate: Estate, glass: BreakGlass, bob: Person) -> None:
        BreakGlass.objects.update(asked_at=F("asked_at") - holds.ASKED_FOR - timedelta(seconds=1))
        with pytest.raises(Conflict):  # also before the clock comes by
            holds.confirm(glass.incident_id, Actor(bob), glass.pk)
        assert holds.end_broken() == 1
        assert locked(estate)

    def test_needs_a_reason_and_a_lock_and_no_other_wish(
        self, estate: Estate, incident: Incident, alice: Person, bob: Person
    ) -> None:
        with pytest.raises(Invalid, match="cannot wait"):
            holds.ask(incident.pk, Actor(alice), estate.production, " ")
        with pytest.raises(Conflict, match="no reason to break the glass for staging"):
            holds.ask(incident.pk, Actor(alice), estate.staging, "a fix")
        holds.ask(incident.pk, Actor(alice), estate.production, "a fix")
        with pytest.raises(Conflict, match="already"):
            holds.ask(incident.pk, Actor(bob), estate.production, "another fix")

    def test_only_a_p1_or_p2_is_a_reason(self, estate: Estate, alice: Person) -> None:
        for severity in ("P3", "P4"):
            with pytest.raises(Conflict, match=f"Only a P1 or P2 .* this incident is a {severity}"):
                holds.ask(opened(severity=severity).pk, Actor(alice), estate.production, "a fix")
        assert not BreakGlass.objects.exists()

    def test_what_became_less_bad_is_no_reason_any_more(
        self, client: Client, estate: Estate, glass: BreakGlass, bob: Person
    ) -> None:
        client.force_login(bob)
        page = f"/incidents/{glass.incident_id}"
        assert "Confirm: open it" in client.get(page).content.decode()
        lifecycle.assess(glass.incident_id, Actor(bob).who, Grade.LOW, Grade.LOW, "only the report")
        with pytest.raises(Conflict, match="Only a P1 or P2"):
            holds.confirm(glass.incident_id, Actor(bob), glass.pk)
        assert "Confirm: open it" not in client.get(page).content.decode()
        assert not Bypass.objects.exists()

    def test_the_end_of_the_incident_ends_it(self, glass: BreakGlass, bob: Person) -> None:
        lifecycle.resolve(glass.incident_id, Actor(bob).who, "rolled back")
        glass.refresh_from_db()
        assert glass.ended_at is not None
        with pytest.raises(Conflict):
            holds.confirm(glass.incident_id, Actor(bob), glass.pk)
        assert IncidentLock.objects.get(incident=glass.incident_id).lock is None


class TestFromThePage:
    def test_two_people_break_it(
        self, client: Client, estate: Estate, incident: Incident, alice: Person, bob: Person
    ) -> None:
        client.force_login(alice)
        given = {"environment": "production", "reason": "the fix is 1.5.1"}
        assert client.post(f"/incidents/{incident.pk}/do/break-glass", given).status_code == 302
        glass = BreakGlass.objects.get()
        confirm = f"/incidents/{incident.pk}/do/confirm-glass"
        assert client.post(confirm, {"glass": glass.pk}).status_code == 403
        assert locked(estate)
        client.force_login(bob)
        assert client.post(confirm, {"glass": glass.pk}).status_code == 302
        assert not locked(estate)

    def test_a_p2_that_locks_nothing_is_a_reason_too(self, client: Client, estate: Estate, alice: Person) -> None:
        """What it opens are the gates that may wait; a P4 offers it to nobody."""
        incident = opened(severity="P2")
        client.force_login(alice)
        assert "Break glass" in client.get(f"/incidents/{incident.pk}").content.decode()
        given = {"environment": "production", "reason": "the fix is 1.5.1"}
        assert client.post(f"/incidents/{incident.pk}/do/break-glass", given).status_code == 302
        small = opened(severity="P4", title="a typo")
        assert "Break glass" not in client.get(f"/incidents/{small.pk}").content.decode()
        assert client.post(f"/incidents/{small.pk}/do/break-glass", given).status_code == 409
        assert not BreakGlass.objects.filter(incident=small).exists()
