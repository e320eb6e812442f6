"""Where a policy wants the way back open: migrations to take back, a known release, its image still there.

What only the place knows is asked outside of any transaction, when it is asked for and again before it starts.
"""

from typing import Any

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import claims, transitions
from controlplane.operations.errors import Invalid, StepError
from controlplane.operations.gates import Outcome
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.gates import way_back
from deployments.models import Release
from deployments.policies import policy_of
from deployments.services import request_deployment
from environments.drivers import DRIVERS
from environments.drivers.base import Running
from environments.models import Placement, Service
from tests.deployments.gates.policies import asked, outcome, rule
from tests.estate import Estate, Paper, paper, release

pytestmark = pytest.mark.django_db


def seen(estate: Estate) -> way_back.Look | None:
    placement = Placement.objects.select_related("environment", "service").get(environment=estate.production)
    return way_back.look(placement, policy_of(estate.production), way_back.former_at(placement))


@pytest.fixture
def ruled(estate: Estate) -> Estate:
    """Production wants the way back open, and the migrations of 1.5.0 can be taken back."""
    rule(estate, way_back="possible")
    Release.objects.filter(version="1.5.0").update(migrations="reversible")
    estate.releases["1.5.0"].refresh_from_db()
    return estate


@pytest.mark.parametrize(
    ("migrations", "wanted"), [("", "failed"), ("one-way", "failed"), ("reversible", "passed"), ("none", "passed")]
)
def test_migrations_decide(ruled: Estate, migrations: str, wanted: str) -> None:
    Release.objects.filter(version="1.5.0").update(migrations=migrations)
    assert outcome(asked(ruled, seen=seen(ruled))["way-back"]) == wanted


def way_to(estate: Estate, version: str, **migrations: str) -> tuple[str, str]:
    """How the gate stands from 1.4.0 to a release, and why. migrations: of each, as in `v1_6_0="none"`."""
    for name, said in migrations.items():
        Release.objects.filter(version=name.removeprefix("v").replace("_", ".")).update(migrations=said)
    gate = asked(estate, version, seen=seen(estate))["way-back"]
    return outcome(gate), gate.reason


@pytest.mark.parametrize(
    ("skipped", "own", "wanted", "named"),
    [
        ("one-way", "none", "failed", "what 1.5.0, which lies on the way from what runs to 1.6.0,"),
        ("", "reversible", "failed", "the migrations of 1.5.0, which lies on the way"),
        ("one-way", "", "failed", "what 1.5.0, which lies"),
        ("", "one-way", "failed", "what 1.6.0 does"),
        ("one-way", "one-way", "failed", "what 1.6.0 does"),
        ("reversible", "none", "passed", "the migrations since can be taken back"),
    ],
)
def test_the_worst_of_those_skipped_decides_and_is_named(
    ruled: Estate, skipped: str, own: str, wanted: str, named: str
) -> None:
    stands, why = way_to(ruled, "1.6.0", v1_5_0=skipped, v1_6_0=own)
    assert (stands, named in why) == (wanted, True), why


def test_what_ran_before_or_comes_later_or_is_of_another_service_decides_nothing(ruled: Estate) -> None:
    other = release(Service.objects.create(slug="web", name="Web"), "1.5.1")
    Release.objects.filter(pk=other.pk).update(migrations="one-way")
    assert way_to(ruled, "1.5.0", v1_4_0="one-way", v1_6_0="one-way")[0] == "passed"


def test_an_older_release_goes_back_over_those_since(ruled: Estate) -> None:
    newest = Release.objects.get(version="1.6.0")
    Placement.objects.filter(environment=ruled.production).update(digest=newest.digest, version="1.6.0")
    assert way_to(ruled, "1.5.0", v1_6_0="reversible", v1_4_0="one-way")[0] == "passed"
    stands, why = way_to(ruled, "1.5.0", v1_6_0="one-way")
    assert (stands, "what 1.6.0, which lies on the way from what runs to 1.5.0," in why) == ("failed", True)


@pytest.mark.parametrize("migrations", ["", "one-way"])
def test_what_runs_already_brings_no_migrations_along(
    ruled: Estate, migrations: str, alice: Person, bob: Person
) -> None:
    Release.objects.filter(version="1.4.0").update(migrations=migrations)
    Placement.objects.filter(environment=ruled.staging).update(digest=ruled.releases["1.4.0"].digest)
    paper.runs["production-1"] = Running("production-1", "nightly", "sha256:by-hand")
    operation = ask(ruled, alice, bob, "1.4.0")
    (gate,) = (gate for gate in operation.gates if gate["key"] == "way-back")
    assert (gate["outcome"], "1.4.0 is known, which runs already" in gate["reason"]) == ("passed", True)


def test_where_what_runs_is_not_known_the_release_itself_is_judged(ruled: Estate) -> None:
    Placement.objects.filter(environment=ruled.production).update(digest="")
    assert way_to(ruled, "1.5.0")[0] == "passed"
    assert way_to(ruled, "1.5.0", v1_5_0="one-way")[0] == "failed"


def test_what_runs_has_to_be_known(ruled: Estate) -> None:
    Placement.objects.filter(environment=ruled.production).update(digest="sha256:unheard-of")
    assert "no release that is known here" in asked(ruled)["way-back"].reason
    assert seen(ruled) is None
    Placement.objects.filter(environment=ruled.production).update(digest="")
    assert outcome(asked(ruled)["way-back"]) == "passed"
    assert paper.looked == []


def test_is_not_asked_for_elsewhere(estate: Estate) -> None:
    assert "way-back" not in asked(estate)
    assert seen(estate) is None
    assert paper.looked == []


def test_what_the_place_says_decides(ruled: Estate) -> None:
    gate = asked(ruled, seen=seen(ruled))["way-back"]
    assert (outcome(gate), "1.4.0 is in the drawer" in gate.reason) == ("passed", True)
    paper.gone.add(ruled.releases["1.4.0"].digest)
    gate = asked(ruled, seen=seen(ruled))["way-back"]
    assert (outcome(gate), gate.reason) == ("failed", "the image of 1.4.0 is gone. Push it again.")


@pytest.mark.parametrize(("permanent", "wanted"), [(False, "pending"), (True, "failed")])
def test_a_place_that_cannot_be_asked_proves_nothing(ruled: Estate, permanent: bool, wanted: str) -> None:
    paper.dumb = StepError("the drawer is locked.", permanent=permanent)
    gate = asked(ruled, seen=seen(ruled))["way-back"]
    assert outcome(gate) == wanted
    assert gate.reason.startswith("not proven: the drawer is locked.")


def test_a_driver_that_cannot_look_says_so(ruled: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        name = "blind"
        steps: dict[str, Any] = {}
        running, rollout = Paper.running, Paper.rollout

    monkeypatch.setitem(DRIVERS, "paper", Blind())
    gate = asked(ruled, seen=seen(ruled))["way-back"]
    assert (outcome(gate), "the driver blind does not look" in gate.reason) == ("failed", True)


def test_nobody_asked_is_no_proof_and_neither_is_a_word_of_another_release(ruled: Estate) -> None:
    assert outcome(asked(ruled)["way-back"]) == "pending"
    of_another = way_back.Look("sha256:another", Outcome.PASSED, "it is there")
    assert outcome(asked(ruled, seen=of_another)["way-back"]) == "pending"


# --- from asking to the start ---------------------------------------------------------------------------


def ask(estate: Estate, alice: Person, bob: Person, version: str = "1.5.0") -> Operation:
    made = request_deployment(
        Actor(alice), environment=estate.production, release=estate.releases[version], reason="new"
    )
    transitions.approve(made.pk, Actor(bob), made.plan_digest)
    return made


def stands(operation: Operation) -> tuple[str, str]:
    operation.refresh_from_db()
    return operation.state, operation.outcome


@pytest.mark.django_db(transaction=True)
def test_it_is_asked_twice_and_never_in_a_transaction(ruled: Estate, alice: Person, bob: Person) -> None:
    operation = ask(ruled, alice, bob)
    assert claims.claim(operation.pk, "worker") is not None
    assert paper.looked == [(ruled.releases["1.4.0"].digest, False)] * 2


@pytest.mark.django_db(transaction=True)
def test_what_went_away_meanwhile_makes_it_stale(ruled: Estate, alice: Person, bob: Person) -> None:
    operation = ask(ruled, alice, bob)
    paper.gone.add(ruled.releases["1.4.0"].digest)
    assert claims.claim(operation.pk, "worker") is None
    state, words = stands(operation)
    assert state == State.STALE
    assert "the image of 1.4.0 is gone" in words


@pytest.mark.django_db(transaction=True)
def test_it_waits_for_a_place_that_does_not_answer_and_starts_once_it_does(
    ruled: Estate, alice: Person, bob: Person
) -> None:
    paper.dumb = StepError("the drawer is locked.")
    operation = ask(ruled, alice, bob)
    assert claims.claim(operation.pk, "worker") is None
    assert stands(operation)[0] == State.QUEUED
    assert "the drawer is locked" in stands(operation)[1]
    paper.dumb = None
    assert claims.claim(operation.pk, "worker") is not None


def test_what_is_gone_cannot_even_be_asked_for(ruled: Estate, alice: Person, bob: Person) -> None:
    paper.gone.add(ruled.releases["1.4.0"].digest)
    with pytest.raises(Invalid, match=r"the image of 1\.4\.0 is gone"):
        ask(ruled, alice, bob)


def test_the_way_back_itself_waits_for_none_of_it(ruled: Estate, alice: Person) -> None:
    paper.gone.add(ruled.releases["1.4.0"].digest)
    Placement.objects.filter(environment=ruled.staging).update(digest=ruled.releases["1.5.0"].digest)
    rule(ruled, way_back="possible")
    found = asked(ruled, "1.4.0", kind="rollback")
    assert "way-back" not in found
