"""Who may ask for a failover and by whose word: people decide, never a probe; one at a time; the right way round."""

import pytest
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404

from backups.disaster.services import change_plan, draft, request_drill, request_failback, request_failover
from backups.models import Recovery, RecoveryPlan
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.operations import engine, transitions
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.models import Bypass, Operation
from controlplane.operations.states import State
from environments.models import EnvironmentLock
from incidents.lifecycle import open_incident
from incidents.models import Severity
from tests.disaster.paper import PRIMARY, STANDBY, plan, world

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)


def asked(who: Person, plan: RecoveryPlan, **more: object) -> Operation:
    """A request for a failover from the replica."""
    values = {"point": "replica", "words": "all probes are red", "reason": "region down", **more}
    return request_failover(Actor(who), plan, **values)  # type: ignore[arg-type]


def test_two_others_have_to_approve(plan: RecoveryPlan, alice: Person, bob: Person) -> None:
    operation = asked(alice, plan)
    assert (operation.approvals_required, operation.approver_role) == (2, "approver")
    assert sorted(operation.lock_names) == [STANDBY, PRIMARY, "recovery/main"]
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    operation.refresh_from_db()
    assert operation.state == State.AWAITING_APPROVAL


def test_without_words_of_what_people_see_there_is_none(plan: RecoveryPlan, alice: Person) -> None:
    with pytest.raises(Invalid, match="Say what you see"):
        asked(alice, plan, words=" ")


@pytest.mark.parametrize(("name", "error"), [("dana", PermissionDenied), ("charlie", Http404)])
def test_the_wrong_person(
    plan: RecoveryPlan, name: str, error: type[Exception], request: pytest.FixtureRequest
) -> None:
    who = request.getfixturevalue(name)
    for ask in (
        lambda: asked(who, plan),
        lambda: request_drill(Actor(who), plan, reason="x"),
        lambda: request_failback(Actor(who), plan, reason="x"),
        lambda: change_plan(Actor(who), plan, {"rto_seconds": 60}, "x"),
    ):
        with pytest.raises(error):
            ask()
    assert not Operation.objects.exists()


def test_break_glass_takes_an_open_p1_right_there_and_one_more_person(
    plan: RecoveryPlan, alice: Person, bob: Person
) -> None:
    incident, _ = open_incident(SYSTEM("test"), title="down", severity=Severity.P1, environments=[PRIMARY])
    operation = asked(alice, plan, incident=incident.pk)
    assert (operation.approvals_required, operation.approver_role) == (1, "operator")
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    operation.refresh_from_db()
    assert operation.state == State.QUEUED
    Operation.objects.filter(pk=operation.pk).update(state=State.RUNNING, started_at=operation.requested_at)
    with transaction.atomic():
        transitions.move(operation, State.FAILED, came_from=[State.RUNNING], who=SYSTEM("test"), text="it failed")
    waits = Bypass.objects.get()  # whatever came of it, somebody who took no part looks at it
    assert (waits.people, waits.people_names) == ([alice.pk, bob.pk], ["Alice", "Bob"])


@pytest.mark.parametrize(
    ("severity", "where", "words"),
    [(Severity.P2, [PRIMARY], "only a P1"), (Severity.P1, ["staging"], "is not about"), (None, [], "no incident")],
)
def test_any_other_incident_breaks_nothing(
    plan: RecoveryPlan, alice: Person, severity: Severity | None, where: list[str], words: str
) -> None:
    number = 999
    if severity is not None:
        number = open_incident(SYSTEM("test"), title="x", severity=severity, environments=where)[0].pk
    with pytest.raises(Invalid, match=words):
        asked(alice, plan, incident=number)


def test_one_at_a_time(plan: RecoveryPlan, alice: Person, bob: Person) -> None:
    asked(alice, plan)
    with pytest.raises(Conflict, match="on its way already"):
        request_drill(Actor(bob), plan, reason="now?")
    assert Recovery.objects.count() == Operation.objects.count() == 1


def test_home_is_only_where_nobody_is(plan: RecoveryPlan, alice: Person) -> None:
    with pytest.raises(Invalid, match="nothing to bring home"):
        request_failback(Actor(alice), plan, reason="x")
    RecoveryPlan.objects.update(active="standby")
    plan.refresh_from_db()
    with pytest.raises(Invalid, match="bring production home first"):
        asked(alice, plan)


def test_a_lock_of_a_person_holds_and_that_of_an_incident_does_not(plan: RecoveryPlan, alice: Person) -> None:
    lock = EnvironmentLock.objects.create(
        environment=plan.primary, reason="do not touch", author_name="Dana", against="deployments"
    )
    assert draft(plan, "failover").gates[1].outcome == "passed"
    EnvironmentLock.objects.filter(pk=lock.pk).update(against="everything")
    with pytest.raises(Invalid, match="locked by Dana"):
        asked(alice, plan)


def test_the_newest_point_unless_another_is_named(plan: RecoveryPlan) -> None:
    newest, older = draft(plan, "failover"), draft(plan, "failover", "snapshot")
    assert newest.point
    assert older.point
    assert (newest.point.key, older.point.key) == ("replica", "snapshot")
    assert older.lost_seconds
    assert older.lost_seconds > 1700
    assert draft(plan, "failover", "gone").problem.startswith("gone is not there")


def test_a_plan_that_was_changed_since_it_was_approved_is_stale(
    plan: RecoveryPlan, alice: Person, bob: Person, ada: Person
) -> None:
    operation = asked(alice, plan)
    change_plan(Actor(ada), plan, {"services": {}}, "no API any more")
    for person in (bob, ada):
        transitions.approve(operation.pk, Actor(person), operation.plan_digest)
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.STALE
    assert not world.effects
    assert Entry.objects.filter(action="recovery_plan.changed", reason="no API any more").exists()
