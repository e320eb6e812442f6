"""What incidents and backups say of the environment, and what two people may set aside."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from backups.models import Backup, Policy, Storage
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import claims, transitions
from controlplane.operations.errors import Conflict
from controlplane.operations.models import Operation
from controlplane.operations.planned import Planned
from controlplane.operations.registry import kind_of
from controlplane.operations.states import State
from deployments.models import FreezeWindow
from deployments.policies import first_steps
from deployments.services import draft, request_deployment
from incidents import holds, lifecycle
from incidents.models import BreakGlass
from tests.deployments.gates.policies import asked, outcome, rule
from tests.estate import Estate
from tests.incidents.lessons import opened

pytestmark = pytest.mark.django_db


def test_an_open_incident_is_waited_for(estate: Estate, alice: Person) -> None:
    rule(estate, incidents=["P1", "P2"])
    assert outcome(asked(estate)["incidents"]) == "passed"
    incident = opened(severity="P2")
    gate = asked(estate)["incidents"]
    assert outcome(gate) == "pending"
    assert f"incident {incident.pk}" in gate.reason
    lifecycle.resolve(incident.pk, Actor(alice).who, "mended")
    assert outcome(asked(estate)["incidents"]) == "passed"


def test_one_of_no_interest_is_none(estate: Estate) -> None:
    rule(estate, incidents=["P1"])
    opened(severity="P3")
    assert outcome(asked(estate)["incidents"]) == "passed"


def backup(estate: Estate, *, minutes: int, verdict: str = "proven") -> Backup:
    storage, _ = Storage.objects.get_or_create(slug="store", defaults={"kind": "folder", "settings": {}})
    policy, _ = Policy.objects.get_or_create(
        environment=estate.production, slug="database", defaults={"kind": "database", "storage": storage}
    )
    at = timezone.now() - timedelta(minutes=minutes)
    return Backup.objects.create(
        environment=estate.production, policy=policy, policy_slug="database", kind="database", storage=storage,
        key=f"k{minutes}{verdict}", as_of=at, started_at=at, finished_at=at, seconds=1, size=1, source_bytes=1,
        verdict=verdict,
    )  # fmt: skip


def test_a_verified_backup_has_to_be_young_enough(estate: Estate) -> None:
    rule(estate, backup_minutes=60)
    assert "no policy backs up" in asked(estate)["backup"].reason
    backup(estate, minutes=90)
    backup(estate, minutes=5, verdict="")
    gate = asked(estate)["backup"]
    assert (outcome(gate), gate.reason) == ("failed", "no backup of database that young is verified.")
    backup(estate, minutes=30)
    assert outcome(asked(estate)["backup"]) == "passed"


def test_or_one_is_made_first(estate: Estate) -> None:
    policy = rule(estate, backup_minutes=60, backup="make")
    backup(estate, minutes=90)
    gate = asked(estate)["backup"]
    assert outcome(gate) == "passed"
    assert "One is made and verified first." in gate.reason
    assert [step.function for step in first_steps(policy)] == ["backup.before", "backup.proven"]
    assert first_steps(rule(estate, backup="refuse")) == ()


def test_what_is_not_backed_up_at_all_is_not_made_first(estate: Estate) -> None:
    rule(estate, backup_minutes=60, backup="make")
    gate = asked(estate)["backup"]
    assert (outcome(gate), "One is made" in gate.reason) == ("failed", False)
    assert "no policy backs up" in gate.reason
    backup(estate, minutes=5)
    Policy.objects.update(paused=True)
    gate = asked(estate)["backup"]
    assert (outcome(gate), gate.reason) == ("failed", "nothing is backed up: database is paused. Resume it.")


def test_a_paused_policy_is_left_out_and_said_to_be(estate: Estate) -> None:
    rule(estate, backup_minutes=60)
    made = backup(estate, minutes=5)
    Policy.objects.create(
        environment=estate.production, slug="reports", kind="database", storage=made.storage, paused=True
    )
    gate = asked(estate)["backup"]
    assert (outcome(gate), gate.reason) == (
        "passed", "database: verified by a restore. Left out, as it is paused: reports.",
    )  # fmt: skip


def test_two_people_set_aside_what_may_wait_and_nothing_else(estate: Estate, alice: Person, bob: Person) -> None:
    rule(estate, incidents=["P2"], checklist=["look at the clock"], evidence=["scan"])
    FreezeWindow.objects.create(
        environment=estate.production, reason="the fair", starts="2020-01-01T00:00", minutes=1440, rule="FREQ=DAILY",
        author_name="bob",
    )  # fmt: skip
    incident = opened(severity="P2")
    closed = {"incidents", "checklist", "freeze"}
    assert {key for key, gate in asked(estate).items() if outcome(gate) == "pending"} == closed
    glass = holds.ask(incident.pk, Actor(alice), estate.production, "the mend is in 1.5.0")
    assert {key for key, gate in asked(estate).items() if outcome(gate) == "pending"} == closed, "one is not two"
    holds.confirm(incident.pk, Actor(bob), glass.pk)
    gates = asked(estate)
    assert {outcome(gates[key]) for key in closed} == {"passed"}
    assert "set aside: " in gates["freeze"].reason
    assert "the mend is in 1.5.0" in gates["freeze"].reason
    assert outcome(gates["scan"]) == "failed", "what the software is does not change in an emergency"


# --- the backup that is made first, in an emergency -------------------------------------------------------


@pytest.fixture
def making(estate: Estate) -> Estate:
    """Production has a backup made first, and none is young enough."""
    rule(estate, backup_minutes=60, backup="make")
    backup(estate, minutes=90)
    return estate


def break_glass(estate: Estate, alice: Person, bob: Person) -> None:
    incident = opened(severity="P2")
    glass = holds.ask(incident.pk, Actor(alice), estate.production, "the mend is in 1.5.0")
    holds.confirm(incident.pk, Actor(bob), glass.pk)


def asked_for(estate: Estate, alice: Person, bob: Person) -> Operation:
    """A deployment that alice asked for and bob approved."""
    release = estate.releases["1.5.0"]
    made = request_deployment(Actor(alice), environment=estate.production, release=release, reason="mend")
    transitions.approve(made.pk, Actor(bob), made.plan_digest)
    made.refresh_from_db()
    return made


def backs_up(operation: Operation) -> bool:
    return any(step["function"].startswith("backup.") for step in operation.plan["steps"])


def outcome_of(operation: Operation) -> tuple[str, str]:
    operation.refresh_from_db()
    return operation.state, operation.outcome


def test_broken_glass_leaves_the_backup_out_of_the_plan_and_says_so(making: Estate, alice: Person, bob: Person) -> None:
    break_glass(making, alice, bob)
    made = draft(making.production, making.releases["1.5.0"])
    assert [step.function for step in made.plan.steps] == ["paper.swap"] * 3
    assert ("Backup", "", "none is made first: the glass is broken") in Planned(made.plan.as_json()).changes
    gate = next(gate for gate in made.gates if gate.key == "backup")
    assert outcome(gate) == "passed"
    assert gate.reason.startswith("set aside: Alice and Bob broke the glass for incident")


def test_one_who_wishes_to_break_it_leaves_the_backup_in(making: Estate, alice: Person) -> None:
    holds.ask(opened(severity="P2").pk, Actor(alice), making.production, "the mend is in 1.5.0")
    made = draft(making.production, making.releases["1.5.0"])
    assert [step.function for step in made.plan.steps][:2] == ["backup.before", "backup.proven"]


def test_a_draft_read_before_the_glass_was_broken_is_read_again(making: Estate, alice: Person, bob: Person) -> None:
    release = making.releases["1.5.0"]
    read = draft(making.production, release).plan.digest
    break_glass(making, alice, bob)
    with pytest.raises(Conflict, match="what is done before, has changed since you read the plan"):
        request_deployment(
            Actor(alice), environment=making.production, release=release, reason="mend", plan_digest=read
        )


@pytest.mark.django_db(transaction=True)
def test_the_audit_says_what_was_set_aside(making: Estate, alice: Person, bob: Person) -> None:
    break_glass(making, alice, bob)
    operation = asked_for(making, alice, bob)
    assert not backs_up(operation)
    assert claims.claim(operation.pk, "worker") is not None
    for action in ("operation.requested", "operation.running"):
        assert Entry.objects.get(action=action).data["set aside"] == ["Verified backup of the last 60 min"], action


def test_the_audit_says_nothing_where_nothing_was_set_aside(making: Estate, alice: Person, bob: Person) -> None:
    assert backs_up(asked_for(making, alice, bob))
    assert "set aside" not in Entry.objects.get(action="operation.requested").data


@pytest.mark.django_db(transaction=True)
def test_what_was_asked_for_before_says_why_it_is_asked_for_again(making: Estate, alice: Person, bob: Person) -> None:
    operation = asked_for(making, alice, bob)
    break_glass(making, alice, bob)
    assert claims.claim(operation.pk, "worker") is None
    state, words = outcome_of(operation)
    assert state == State.STALE
    assert words.startswith("not started: no backup is made first any more (Alice and Bob broke the glass")
    assert words.endswith("Ask for it again: the new plan will show the difference.")
    assert not backs_up(asked_for(making, alice, bob))


@pytest.mark.django_db(transaction=True)
def test_the_hour_ends_between_the_plan_and_the_gates(making: Estate, alice: Person, bob: Person) -> None:
    """Nothing starts without the backup that the gate would take for made first."""
    break_glass(making, alice, bob)
    operation = asked_for(making, alice, bob)
    kind = kind_of(operation)
    facts = kind.facts(operation)
    assert kind.plan(operation, facts).digest == operation.plan_digest
    BreakGlass.objects.update(expires_at=timezone.now())
    with transaction.atomic():
        gate = next(gate for gate in kind.gates(operation, facts) if gate.key == "backup")
    assert (outcome(gate), gate.reason) == ("failed", "no backup of database that young is verified.")


@pytest.mark.django_db(transaction=True)
def test_the_glass_breaks_between_the_plan_and_the_gates(making: Estate, alice: Person, bob: Person) -> None:
    operation = asked_for(making, alice, bob)
    kind = kind_of(operation)
    facts = kind.facts(operation)
    break_glass(making, alice, bob)
    with transaction.atomic():
        gate = next(gate for gate in kind.gates(operation, facts) if gate.key == "backup")
    assert (outcome(gate), gate.set_aside) == ("passed", False), "its own plan makes one"


@pytest.mark.django_db(transaction=True)
def test_what_did_not_start_in_the_hour_says_that_a_backup_is_to_be_made(
    making: Estate, alice: Person, bob: Person
) -> None:
    break_glass(making, alice, bob)
    operation = asked_for(making, alice, bob)
    BreakGlass.objects.update(expires_at=timezone.now())
    assert claims.claim(operation.pk, "worker") is None
    state, words = outcome_of(operation)
    assert (state, "a backup is to be made first" in words) == (State.STALE, True)
