"""Incidents for programs: the rules of the pages hold, and each request has one effect."""

from typing import Any

import pytest

from controlplane.accounts.models import Person, Role
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from environments.models import EnvironmentLock
from incidents.lifecycle import open_incident
from incidents.models import (
    EscalationLevel,
    EscalationPolicy,
    Incident,
    Level,
    Severity,
    TimelineEntry,
)
from tests.api.conftest import Caller, assert_problem, token
from tests.estate import Estate

pytestmark = pytest.mark.django_db


def caller(person: Person, role: Role = Role.ADMIN) -> Caller:
    return Caller({"Authorization": f"Bearer {token(person, role)}"})


@pytest.fixture
def alices(alice: Person) -> Caller:
    """Alice's program."""
    return caller(alice)


@pytest.fixture
def matrix(db: None) -> EscalationPolicy:
    """Two levels, for P1 and P2: now, and after 15 minutes."""
    policy = EscalationPolicy.objects.create(slug="matrix", name="The matrix", severities=["P1", "P2"])
    for number, after in ((1, 0), (2, 900)):
        EscalationLevel.objects.create(
            policy=policy, number=number, role=f"level {number}", after_seconds=after,
            targets=[{"person": "bob"}], channels=["sms"],
        )  # fmt: skip
    return policy


@pytest.fixture
def one(estate: Estate, matrix: EscalationPolicy) -> Incident:
    """A P1 of production."""
    incident, _ = open_incident(
        SYSTEM("test"), title="the API answers 503", severity=Severity.P1, environments=["production"]
    )
    return incident


WANTED: dict[str, Any] = {"title": "checkout answers 500", "environments": ["production"], "impact": "high"}


class TestOpening:
    def test_severity_is_impact_by_urgency(self, alices: Caller, estate: Estate, matrix: EscalationPolicy) -> None:
        answer = alices.post("incidents", {**WANTED, "urgency": "high"})
        assert answer.status_code == 201
        made = answer.json()
        assert (made["severity"], made["state"], made["phase"]) == ("P1", "open", "detection")
        assert [level["state"] for level in made["levels"]] == ["pending", "pending"]
        assert EnvironmentLock.objects.get().against == EnvironmentLock.Against.DEPLOYMENTS

    def test_a_repeat_with_its_key_opens_no_second_one(self, alices: Caller, estate: Estate) -> None:
        first, again = (alices.post("incidents", WANTED, key="k1") for _ in range(2))
        assert first.json()["id"] == again.json()["id"]
        assert Incident.objects.count() == 1

    def test_an_unknown_environment_is_not_there(self, alices: Caller, estate: Estate) -> None:
        assert_problem(alices.post("incidents", {**WANTED, "environments": ["mars"]}), 404)
        assert not Incident.objects.exists()

    def test_one_of_the_installation_needs_the_role_everywhere(self, eve: Person, estate: Estate) -> None:
        assert_problem(caller(eve).post("incidents", {**WANTED, "environments": []}), 403)
        assert not Incident.objects.exists()

    def test_an_outsider_opens_none(self, charlie: Person, dana: Person, estate: Estate) -> None:
        assert_problem(caller(charlie).post("incidents", WANTED), 404)
        assert_problem(caller(dana).post("incidents", WANTED), 403)
        assert not Incident.objects.exists()


class TestActing:
    def test_acknowledging_ends_the_escalation_once(self, alices: Caller, bob: Person, one: Incident) -> None:
        done = alices.post(f"incidents/{one.pk}/acknowledge", {}).json()
        assert (done["state"], done["acknowledged_by"], done["phase"]) == ("acknowledged", "Alice", "triage")
        assert {level["state"] for level in done["levels"]} == {"cancelled"}
        assert_problem(caller(bob).post(f"incidents/{one.pk}/acknowledge", {}), 409, "Alice has acknowledged it")
        assert Entry.objects.filter(action="incident.acknowledged").count() == 1

    def test_resolving_wants_words_and_opens_the_environment(self, alices: Caller, one: Incident) -> None:
        assert_problem(alices.post(f"incidents/{one.pk}/resolve", {"resolution": "  "}), 422, "what resolved it")
        done = alices.post(f"incidents/{one.pk}/resolve", {"resolution": "rolled back to 1.4.0"}).json()
        assert (done["state"], done["phase"], done["resolution"]) == ("resolved", "post-mortem", "rolled back to 1.4.0")
        assert not EnvironmentLock.objects.filter(released_at=None).exists()

    def test_a_level_can_be_paged_now_skipped_and_repeated(self, alices: Caller, one: Incident) -> None:
        first, second = Level.objects.filter(incident=one)
        paged = alices.post(f"incidents/{one.pk}/escalation", {}).json()
        assert [level["state"] for level in paged["levels"]] == ["fired", "pending"]
        skipped = alices.post(f"incidents/{one.pk}/skipped-levels", {"level": second.pk, "reason": "she sits here"})
        assert [level["state"] for level in skipped.json()["levels"]] == ["fired", "skipped"]
        repeated = alices.post(f"incidents/{one.pk}/repeated-levels", {"level": first.pk}).json()
        assert sorted(level["state"] for level in repeated["levels"]) == ["fired", "fired", "skipped"]
        assert_problem(alices.post(f"incidents/{one.pk}/escalation", {}), 409)

    def test_handing_over_names_the_commander(self, alices: Caller, bob: Person, one: Incident) -> None:
        body = {"person": "bob", "reason": "my shift ends"}
        assert alices.post(f"incidents/{one.pk}/hand-over", body).status_code == 200
        assert Incident.objects.get().commander == bob
        assert_problem(alices.post(f"incidents/{one.pk}/hand-over", {**body, "person": "nobody"}), 422, "nobody")

    def test_roles_phases_and_the_assessment(self, alices: Caller, bob: Person, one: Incident) -> None:
        alices.post(f"incidents/{one.pk}/roles", {"role": "scribe", "person": "bob"})
        alices.post(f"incidents/{one.pk}/phase", {"phase": "response"})
        body = {"impact": "low", "urgency": "medium", "reason": "one customer, no loss"}
        assert alices.post(f"incidents/{one.pk}/assessment", body).json()["severity"] == "P4"
        one.refresh_from_db()
        assert (one.scribe, one.phase) == (bob, "response")
        assert not EnvironmentLock.objects.filter(released_at=None).exists(), "only a P1 locks"
        assert_problem(alices.post(f"incidents/{one.pk}/phase", {"phase": "post-mortem"}), 422, "resolve")


class TestLooking:
    def test_the_list_is_of_what_one_sees(self, alices: Caller, eve: Person, one: Incident) -> None:
        assert [row["id"] for row in alices.get("incidents?state=open&severity=P1").json()] == [one.pk]
        assert alices.get("incidents?state=resolved").json() == []
        assert caller(eve).get("incidents").json() == []

    def test_the_timeline_goes_on_after_a_cursor(self, alices: Caller, one: Incident) -> None:
        alices.post(f"incidents/{one.pk}/notes", {"text": "looking at the pool"})
        whole = alices.get(f"incidents/{one.pk}/timeline").json()
        assert [row["seq"] for row in whole] == list(range(1, len(whole) + 1))
        assert (whole[-1]["kind"], whole[-1]["text"], whole[-1]["actor"]) == ("note", "looking at the pool", "Alice")
        assert alices.get(f"incidents/{one.pk}/timeline?after={whole[-2]['seq']}").json() == [whole[-1]]
        assert TimelineEntry.objects.get(seq=len(whole)).hash == whole[-1]["hash"]
