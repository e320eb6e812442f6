"""Severity is impact by urgency, as the guide has it; a worse one starts the matrix of that severity, from now."""

from itertools import pairwise

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import Who
from controlplane.clock.database import database_time
from controlplane.operations.errors import Conflict, Invalid
from incidents import lifecycle
from incidents.models import EscalationLevel, EscalationPolicy, Grade, Incident, Level, Severity
from incidents.procedure import grades_of, severity_of
from tests.estate import Estate
from tests.incidents.escalating import matrix, said
from tests.incidents.lessons import opened

pytestmark = pytest.mark.django_db
HIGH, MEDIUM, LOW = Grade.HIGH, Grade.MEDIUM, Grade.LOW


@pytest.fixture
def alices(alice: Person) -> Who:
    return Actor(alice).who


def test_the_worst_of_both_is_p1_and_the_least_p4() -> None:
    assert severity_of(HIGH, HIGH) == Severity.P1
    assert severity_of(LOW, LOW) == Severity.P4
    assert {severity_of(one, other) for one in Grade for other in Grade} == set(Severity)


@pytest.mark.parametrize("other", Grade)
def test_more_impact_or_urgency_is_never_less_severe(other: Grade) -> None:
    order = [LOW, MEDIUM, HIGH]
    for less, more in pairwise(order):
        assert severity_of(more, other) <= severity_of(less, other)
        assert severity_of(other, more) <= severity_of(other, less)


@pytest.mark.parametrize("severity", Severity)
def test_an_alerts_severity_stands_for_grades_that_give_it_back(severity: Severity) -> None:
    assert severity_of(*grades_of(severity)) == severity


def test_is_said_with_its_reason(estate: Estate, alices: Who) -> None:
    incident = opened(severity="P3")
    lifecycle.assess(incident.pk, alices, HIGH, MEDIUM, "checkout is down")
    assert Incident.objects.get(pk=incident.pk).severity == "P2"
    assert "Severity P3 → P2: checkout is down" in said(incident)
    lifecycle.assess(incident.pk, alices, HIGH, MEDIUM, "still")
    assert "Stays P2: still" in said(incident)


def test_needs_a_reason_and_an_incident_that_is_not_over(estate: Estate, alices: Who) -> None:
    incident = opened(severity="P3")
    with pytest.raises(Invalid, match="what the assessment rests on"):
        lifecycle.assess(incident.pk, alices, HIGH, HIGH, "")
    lifecycle.resolve(incident.pk, alices, "restarted")
    with pytest.raises(Conflict):
        lifecycle.assess(incident.pk, alices, HIGH, HIGH, "worse")


class TestMatrix:
    @pytest.fixture
    def incident(self, estate: Estate, alice: Person, bob: Person) -> Incident:
        """A P3, for which one person is paged at once; for P1 and P2 there is the guide's matrix."""
        matrix([bob, alice], ["pagerduty"])
        quiet = EscalationPolicy.objects.create(slug="quiet", name="Quiet", severities=["P3"])
        EscalationLevel.objects.create(
            policy=quiet, number=1, role="On-Call Engineer", after_seconds=0,
            targets=[{"person": "alice"}], channels=["email"],
        )  # fmt: skip
        return opened(severity="P3")

    def test_a_worse_one_starts_that_matrix_from_now(self, incident: Incident, alices: Who) -> None:
        before = database_time()
        lifecycle.assess(incident.pk, alices, HIGH, HIGH, "checkout is down")
        old, first, second = Level.objects.filter(incident=incident).order_by("round", "number")
        assert (old.round, old.state) == (1, Level.State.CANCELLED)
        assert (first.round, first.state, second.state) == (2, Level.State.PENDING, Level.State.PENDING)
        assert before <= first.due_at <= database_time()
        assert Incident.objects.get(pk=incident.pk).policy["slug"] == "guide"

    def test_a_lesser_one_leaves_what_runs(self, incident: Incident, alices: Who) -> None:
        lifecycle.assess(incident.pk, alices, HIGH, HIGH, "down")
        running = list(Level.objects.filter(incident=incident).values_list("pk", "state"))
        lifecycle.assess(incident.pk, alices, LOW, HIGH, "only a report is late")
        assert list(Level.objects.filter(incident=incident).values_list("pk", "state")) == running

    def test_whoever_has_it_is_not_paged_for_it(self, incident: Incident, alices: Who) -> None:
        lifecycle.acknowledge(incident.pk, alices)
        lifecycle.assess(incident.pk, alices, HIGH, HIGH, "down")
        assert not Level.objects.filter(incident=incident, state=Level.State.PENDING).exists()
