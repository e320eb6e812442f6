"""Recovery plans for programs: the same rules as the pages, once for each key, and nothing asked in a transaction."""

from datetime import timedelta
from typing import Any, get_args

import pytest
from django.db import connection
from django.utils import timezone

from backups.disaster import readiness
from backups.disaster.api import Fault, PlanChangesIn
from backups.disaster.faults import FAULTS
from backups.disaster.forms import PlanForm
from backups.models import Recovery, RecoveryClock, RecoveryPlan
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.operations.models import Operation
from incidents.lifecycle import open_incident
from incidents.models import Severity
from tests.api.conftest import Caller, assert_problem, token
from tests.disaster.paper import PRIMARY, plan, world
from tests.disaster.runs import drilled, looked

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)
HERE = "recovery-plans/main"
SEEN = {"words": "all probes are red", "reason": "region down"}


def caller(person: Person) -> Caller:
    return Caller({"Authorization": f"Bearer {token(person)}"})


@pytest.fixture
def alices(alice: Person) -> Caller:
    """Alice's program."""
    return caller(alice)


@pytest.fixture
def adas(ada: Person) -> Caller:
    """Ada's program."""
    return caller(ada)


class TestLooking:
    def test_the_list_says_how_each_stands(self, alices: Caller, plan: RecoveryPlan) -> None:
        (unseen,) = alices.get("recovery-plans").json()
        assert (unseen["plan"], unseen["ready"], unseen["rpo"], unseen["rto"]) == ("main", None, None, None)
        looked(plan, minutes=10, predicted=600)
        drilled(plan, seconds=240)
        RecoveryClock.objects.create(plan=plan, drill_due_at=timezone.now() + timedelta(days=1))
        (seen,) = alices.get("recovery-plans").json()
        assert (seen["ready"], seen["because"], seen["active"]) == (True, "", "primary")
        assert seen["rpo"] == pytest.approx(600, abs=60)
        assert (seen["rpo_promised"], seen["rto"], seen["rto_promised"]) == (3600, 600, 4 * 3600)
        assert (seen["last_drill_proven"], seen["drill_overdue"]) == (True, False)

    def test_one_says_all_that_the_list_says_and_what_it_is_made_of(self, alices: Caller, plan: RecoveryPlan) -> None:
        looked(plan)
        (short,), whole = alices.get("recovery-plans").json(), alices.get(HERE).json()
        assert {**short, "rpo": 0} == {**{name: whole[name] for name in short}, "rpo": 0}
        assert (whole["services"], whole["database"], whole["approvals_required"]) == ({"api": 3}, {"kind": "paper"}, 2)
        assert len(whole["next_drills"]) == 3

    def test_the_last_look(self, alices: Caller, plan: RecoveryPlan) -> None:
        assert alices.get(f"{HERE}/readiness").json()["at"] is None
        looked(plan, ready=False, checks=[{"key": "x", "title": "TTL", "outcome": "not ready", "words": "3600 s"}])
        seen = alices.get(f"{HERE}/readiness").json()
        assert seen["ready"] is False
        assert seen["checks"] == [{"title": "TTL", "outcome": "not ready", "words": "3600 s"}]

    def test_what_was_done_by_it_page_by_page(self, alices: Caller, plan: RecoveryPlan) -> None:
        first, second = drilled(plan, seconds=60), drilled(plan, seconds=90)
        runs = alices.get(f"{HERE}/runs").json()
        assert [one["operation"] for one in runs] == [second.operation_id, first.operation_id]
        assert (runs[0]["kind"], runs[0]["took"], runs[0]["restore_point"]) == ("drill", 90, "replica")
        before = alices.get(f"{HERE}/runs?before={second.operation_id}").json()
        assert [one["operation"] for one in before] == [first.operation_id]
        assert_problem(alices.get(f"{HERE}/runs?befor=1"), 422)


class TestAsking:
    def test_a_failover_waits_for_two_others(self, alices: Caller, plan: RecoveryPlan) -> None:
        answer = alices.post(f"{HERE}/failovers", {**SEEN, "point": "snapshot"})
        assert answer.status_code == 201
        assert answer.json()["state"] == "awaiting_approval"
        recovery = Recovery.objects.select_related("operation").get(operation=answer.json()["operation"])
        assert (recovery.kind, recovery.point["key"]) == ("failover", "snapshot")
        assert recovery.operation.approvals_required == 2
        assert recovery.assessment["words"] == [{"who": "Alice", "words": "all probes are red"}]

    def test_without_a_point_it_is_the_newest(self, alices: Caller, plan: RecoveryPlan) -> None:
        alices.post(f"{HERE}/failovers", SEEN)
        assert Recovery.objects.get().point["key"] == "replica"

    def test_a_point_that_is_not_there(self, alices: Caller, plan: RecoveryPlan) -> None:
        assert_problem(alices.post(f"{HERE}/failovers", {**SEEN, "point": "nothing"}), 422, "not there any more")

    def test_nothing_to_restore_from(self, alices: Caller, plan: RecoveryPlan) -> None:
        world.away, world.newest = {PRIMARY}, {}
        assert_problem(alices.post(f"{HERE}/failovers", SEEN), 422, "cannot be reached")

    def test_it_takes_words_of_what_people_see(self, alices: Caller, plan: RecoveryPlan) -> None:
        assert_problem(alices.post(f"{HERE}/failovers", {"reason": "x"}), 422)
        assert_problem(alices.post(f"{HERE}/failovers", {"reason": "x", "words": " "}), 422, "probes alone")

    def test_break_glass(self, alices: Caller, plan: RecoveryPlan) -> None:
        assert_problem(alices.post(f"{HERE}/failovers", {**SEEN, "incident": 77}), 422, "There is no incident 77")
        incident, _ = open_incident(SYSTEM("test"), title="down", severity=Severity.P1, environments=[PRIMARY])
        assert alices.post(f"{HERE}/failovers", {**SEEN, "incident": incident.pk}).status_code == 201
        assert Operation.objects.get().approvals_required == 1

    def test_one_at_a_time(self, alices: Caller, plan: RecoveryPlan) -> None:
        alices.post(f"{HERE}/failovers", SEEN)
        assert_problem(alices.post(f"{HERE}/drills", {"reason": "x"}), 409, "on its way already")

    def test_a_drill_starts_at_once_and_a_game_day_says_what_it_breaks(
        self, alices: Caller, plan: RecoveryPlan
    ) -> None:
        answer = alices.post(f"{HERE}/drills", {"reason": "game day", "faults": ["connection-lost"]})
        assert answer.json()["state"] == "queued"
        assert Recovery.objects.get().faults == ["connection-lost"]
        assert_problem(alices.post(f"{HERE}/drills", {"reason": "x", "faults": ["earthquake"]}), 422)

    def test_a_fault_that_is_named_twice_is_meant_once(self, alices: Caller, plan: RecoveryPlan) -> None:
        body = {"reason": "x", "faults": ["connection-lost", "worker-dies", "connection-lost"]}
        assert alices.post(f"{HERE}/drills", body).status_code == 201
        assert Recovery.objects.get().faults == ["connection-lost", "worker-dies"]

    def test_the_faults_it_takes_are_those_there_are(self) -> None:
        assert set(get_args(Fault)) == set(FAULTS)

    def test_the_way_home_is_there_only_once_people_left(self, alices: Caller, plan: RecoveryPlan) -> None:
        well = {"words": "the region is back", "reason": "home"}
        assert_problem(alices.post(f"{HERE}/failbacks", well), 422, "serves people already")
        RecoveryPlan.objects.update(active="standby")
        assert alices.post(f"{HERE}/failbacks", well).status_code == 201
        assert_problem(alices.post(f"{HERE}/failovers", SEEN), 422, "bring production home first")

    def test_the_same_key_is_the_same_request_and_nothing_is_asked_in_its_transaction(
        self, alices: Caller, plan: RecoveryPlan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[bool] = []

        def candidates(of: RecoveryPlan, real: Any = readiness.candidates) -> Any:
            asked.append(connection.in_atomic_block)
            return real(of)

        monkeypatch.setattr("backups.disaster.services.candidates", candidates)
        first = alices.post(f"{HERE}/failovers", SEEN, key="night-1")
        again = alices.post(f"{HERE}/failovers", SEEN, key="night-1")
        assert (first.status_code, first.content) == (again.status_code, again.content)
        assert Operation.objects.count() == 1
        assert asked == [False]


class TestChanging:
    def test_what_is_left_out_stays(self, adas: Caller, plan: RecoveryPlan) -> None:
        answer = adas.post(f"{HERE}/changes", {"rto_minutes": 120, "tell": ["slack"], "reason": "OPS-1"})
        assert answer.status_code == 200, answer.content
        assert (answer.json()["rto_promised"], answer.json()["tell"]) == (7200, ["slack"])
        plan.refresh_from_db()
        assert (plan.rto_seconds, plan.rpo_seconds, plan.services) == (7200, 3600, {"api": 3})
        entry = Entry.objects.get(action="recovery_plan.changed")
        assert set(entry.data["changes"]) == {"rto_seconds", "tell"}

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"drill_schedule": "often"}, "is no schedule"),
            ({"drill_time_zone": "Mars"}, "is no time zone"),
            ({"services": {"ghost": 3}}, "has no place in production"),
            ({"database": {"kind": "stone"}}, '"kind" has to be one of'),
            ({"traffic": {}}, '"kind" has to be one of'),
            ({"configuration": {"A": "\x00"}}, "NUL"),
        ],
    )
    def test_what_cannot_be_is_named(
        self, adas: Caller, plan: RecoveryPlan, change: dict[str, Any], words: str
    ) -> None:
        told = assert_problem(adas.post(f"{HERE}/changes", {**change, "reason": "x"}), 422, words)
        assert told["errors"][0]["field"] == f"body.{next(iter(change))}"

    def test_a_driver_says_what_is_wrong_with_its_settings(
        self, adas: Caller, plan: RecoveryPlan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tests.disaster.paper.Database.check_settings", lambda self, given: {"instance": "name it"})
        assert_problem(adas.post(f"{HERE}/changes", {"database": {"kind": "paper"}, "reason": "x"}), 422,
                       "instance: name it")  # fmt: skip

    def test_nothing_different_is_a_conflict(self, adas: Caller, plan: RecoveryPlan) -> None:
        assert_problem(adas.post(f"{HERE}/changes", {"rto_minutes": 240, "reason": "x"}), 409, "Nothing is different")

    def test_only_an_administrator(self, alices: Caller, plan: RecoveryPlan) -> None:
        assert_problem(alices.post(f"{HERE}/changes", {"rto_minutes": 1, "reason": "x"}), 403, "needs the role")

    def test_everything_on_the_form_can_be_changed(self) -> None:
        assert set(PlanChangesIn.model_fields) == set(PlanForm.base_fields)
