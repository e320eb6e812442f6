"""Backup policies for programs: the rules of the page hold, and what was shown is what goes."""

from datetime import timedelta
from typing import Any

import pytest
from django.forms import model_to_dict
from django.utils.dateparse import parse_datetime

from backups.cleaning import propose
from backups.forms import PolicyForm
from backups.models import Kind, Policy
from backups.policy_api import ChangesIn, OnePolicyOut, PolicyOut
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.models import Operation
from tests.api.conftest import Caller, assert_problem, token
from tests.backups.company import Make
from tests.backups.history import entry, proven

pytestmark = pytest.mark.django_db
HERE = "backup-policies/production/configuration"
DAY = timedelta(days=1)
WHY = {"reason": "because"}


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


class TestOne:
    def test_what_comes_next_and_its_rules(self, alices: Caller, make_policy: Make) -> None:
        checks = [{"name": "there are users", "sql": "SELECT count(*) > 0 FROM users"}]
        make_policy(
            "database", kind=Kind.DATABASE, settings={"database": "file:production/database-url"}, keep_weekly=4,
            schedule="30 2 * * *", time_zone="Europe/Berlin", proof=Policy.Proof.SCHEDULE, checks=checks,
            identity="file:production/backup-key",
        )  # fmt: skip
        seen = alices.get("backup-policies/production/database").json()
        assert (seen["policy"], seen["storage"], seen["paused"]) == ("database", "archive", False)
        assert seen["settings"] == {"database": "file:production/database-url"}, "the reference, never the value"
        assert (seen["identity"], seen["recipient"], seen["checks"]) == ("file:production/backup-key", "", checks)
        assert (seen["keep_days"], seen["keep_weekly"], seen["proof"]) == (30, 4, "schedule")
        times = [parse_datetime(one) for one in seen["next_runs"]]
        assert len(times) == 5 and all(one and one.minute == 30 for one in times)
        assert len(seen["next_proofs"]) == 2

    def test_it_says_all_that_the_list_says(self, alices: Caller, policy: Policy) -> None:
        proven(policy, age=DAY)
        one, (same,) = alices.get(HERE).json(), alices.get("backup-policies").json()
        assert {name: one[name] for name in PolicyOut.model_fields if name != "rpo"} == {
            name: value for name, value in same.items() if name != "rpo"
        }

    def test_all_that_may_be_changed_is_shown(self) -> None:
        shown = OnePolicyOut.model_fields.keys() | {"rpo_seconds", "rto_seconds"}  # there by what they promise
        assert set(PolicyForm.Meta.fields) <= shown

    def test_one_that_is_not_there(self, alices: Caller, policy: Policy) -> None:
        for path in ("backup-policies/production/nothing", "backup-policies/nowhere/configuration"):
            assert_problem(alices.get(path), 404)
            assert_problem(alices.get(f"{path}/retention"), 404)


class TestPausing:
    def test_it_and_going_on(self, alices: Caller, policy: Policy) -> None:
        paused = alices.post(f"{HERE}/pause", {"reason": "it moves"})
        assert (paused.status_code, paused.json()["paused"], paused.json()["next_runs"]) == (200, True, [])
        resumed = alices.post(f"{HERE}/resume", {"reason": "it moved"})
        assert (resumed.status_code, resumed.json()["paused"], len(resumed.json()["next_runs"])) == (200, False, 5)
        told = Entry.objects.filter(action__startswith="backup.").order_by("pk")
        assert [(one.action, one.reason) for one in told] == [
            ("backup.paused", "it moves"), ("backup.resumed", "it moved"),
        ]  # fmt: skip

    @pytest.mark.parametrize(("word", "paused"), [("pause", True), ("resume", False)])
    def test_somebody_was_first(self, alices: Caller, make_policy: Make, word: str, paused: bool) -> None:
        make_policy(paused=paused)
        assert_problem(alices.post(f"{HERE}/{word}", WHY), 409, "Somebody was first")
        assert Policy.objects.get().paused is paused

    @pytest.mark.parametrize("word", ["pause", "resume"])
    def test_only_with_a_reason(self, alices: Caller, make_policy: Make, word: str) -> None:
        make_policy(paused=word == "resume")
        for reason in ("", "  ", "x" * 2001, "a\x00b", None):
            assert_problem(alices.post(f"{HERE}/{word}", {"reason": reason}), 422)
        assert Policy.objects.get().paused is (word == "resume")

    def test_the_same_key_twice(self, alices: Caller, policy: Policy) -> None:
        first, second = (alices.post(f"{HERE}/pause", WHY, key="k-1") for _ in range(2))
        assert (first.status_code, first.content) == (200, second.content)
        assert Entry.objects.filter(action="backup.paused").count() == 1


class TestChanging:
    def test_what_is_named_and_nothing_else(self, adas: Caller, policy: Policy) -> None:
        before = model_to_dict(policy)
        answer = adas.post(f"{HERE}/changes", {"schedule": "0 5 * * *", "keep_days": 90, "proof": None, **WHY})
        assert answer.status_code == 200, answer.content
        assert (answer.json()["schedule"], answer.json()["keep_days"]) == ("0 5 * * *", 90)
        policy.refresh_from_db()
        assert model_to_dict(policy) == {**before, "schedule": "0 5 * * *", "keep_days": 90}
        told = Entry.objects.get(action="backup.policy_changed")
        assert told.reason == "because"
        assert told.data["changes"] == {"schedule": ["0 2 * * *", "0 5 * * *"], "keep_days": [30, 90]}

    def test_everything_that_the_page_may_change(self, adas: Caller, policy: Policy) -> None:
        wanted = {
            "schedule": "15 3 * * 1-5", "time_zone": "Europe/Berlin", "rpo_seconds": 7200, "rto_seconds": 60,
            "keep_days": 1, "keep_last": 2, "keep_daily": 3, "keep_weekly": 4, "keep_monthly": 5, "keep_yearly": 6,
            "proof": "each", "proof_schedule": "0 6 * * 0",
        }  # fmt: skip
        assert wanted.keys() == set(PolicyForm.Meta.fields) == ChangesIn.model_fields.keys() - {"reason"}
        assert adas.post(f"{HERE}/changes", wanted | WHY).status_code == 200
        assert model_to_dict(Policy.objects.get(), wanted) == wanted

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("schedule", "every day", "“every day” is no schedule"),
            ("schedule", "² * * * *", "is no schedule (Bad minute)"),
            ("schedule", "0 0 30 2 *", "is no schedule"),
            ("schedule", " ", "required"),
            ("schedule", "", ""),
            ("schedule", "a\x00b", ""),
            ("schedule", "0 2 * * *" + " " * 100, ""),
            ("schedule", 7, ""),
            ("time_zone", "Mars/Olympus", "is no time zone"),
            ("time_zone", "../etc/passwd", "is no time zone"),
            ("rpo_seconds", -1, ""),
            ("rpo_seconds", 2**31, ""),
            ("rpo_seconds", "60", ""),
            ("rto_seconds", 1.5, ""),
            ("keep_days", 36_601, ""),
            ("keep_yearly", -1, ""),
            ("keep_last", True, ""),
            ("proof", "sometimes", ""),
            ("proof_schedule", "61 * * * *", "“61 * * * *” is no schedule"),
            ("kind", "database", ""),
            ("settings", {}, ""),
            ("paused", True, ""),
            ("reason", "  ", "required"),
            ("reason", None, ""),
        ],
    )
    def test_what_cannot_be_is_named(self, adas: Caller, policy: Policy, field: str, value: Any, words: str) -> None:
        before = model_to_dict(policy)
        body = {"keep_days": 7, **WHY, field: value}
        told = assert_problem(adas.post(f"{HERE}/changes", body, key="k-1"), 422, words)
        assert [one["field"] for one in told["errors"]] == [f"body.{field}"]
        assert model_to_dict(Policy.objects.get()) == before
        assert not Entry.objects.filter(action="backup.policy_changed").exists()

    @pytest.mark.parametrize("body", [WHY, {"schedule": "0 2 * * *", "keep_days": 30, **WHY}])
    def test_nothing_is_different(self, adas: Caller, policy: Policy, body: dict[str, Any]) -> None:
        assert_problem(adas.post(f"{HERE}/changes", body), 422, "Nothing is different")

    def test_the_same_key_twice(self, adas: Caller, policy: Policy) -> None:
        body = {"keep_days": 7, **WHY}
        first, second = (adas.post(f"{HERE}/changes", body, key="k-1") for _ in range(2))
        assert (first.status_code, first.content) == (200, second.content)
        assert Entry.objects.filter(action="backup.policy_changed").count() == 1


class TestRetention:
    def test_the_dry_run(self, alices: Caller, policy: Policy) -> None:
        old = entry(policy, age=40 * DAY)
        held = entry(policy, age=39 * DAY, hold_reason="the audit of 2026")
        new = entry(policy, age=DAY)
        seen = alices.get(f"{HERE}/retention").json()
        assert seen["digest"] == propose(policy).digest
        assert [one["backup"] for one in seen["would_go"]] == [old.pk]
        assert [(one["backup"], one["why"]) for one in seen["kept"]] == [
            (held.pk, ["held: the audit of 2026"]),
            (new.pk, ["younger than 30 days", "the newest, and none is proven yet"]),
        ]
        assert not Operation.objects.exists()

    def test_nothing_there_yet(self, alices: Caller, policy: Policy) -> None:
        seen = alices.get(f"{HERE}/retention").json()
        assert (seen["would_go"], seen["kept"]) == ([], [])

    def test_deleting_exactly_what_was_shown(self, alices: Caller, policy: Policy) -> None:
        old = entry(policy, age=40 * DAY)
        entry(policy)
        body = {"digest": alices.get(f"{HERE}/retention").json()["digest"], **WHY}
        first, second = (alices.post(f"{HERE}/clean-ups", body, key="k-1") for _ in range(2))
        assert (first.status_code, first.content) == (201, second.content)
        operation = Operation.objects.get()
        assert first.json()["operation"] == operation.pk
        assert operation.cleanup.backups == [old.pk]

    def test_something_else_would_go_by_now(self, alices: Caller, policy: Policy) -> None:
        entry(policy, age=40 * DAY)
        entry(policy)
        body = {"digest": alices.get(f"{HERE}/retention").json()["digest"], **WHY}
        entry(policy, age=50 * DAY)
        assert_problem(alices.post(f"{HERE}/clean-ups", body), 422, "not what you were shown any more")
        assert not Operation.objects.exists()

    def test_nothing_goes(self, alices: Caller, policy: Policy) -> None:
        body = {"digest": alices.get(f"{HERE}/retention").json()["digest"], **WHY}
        assert_problem(alices.post(f"{HERE}/clean-ups", body), 422, "lets nothing go")

    @pytest.mark.parametrize("change", [{"digest": "0" * 15}, {"digest": "X" * 16}, {"digest": None}, {"reason": " "}])
    def test_not_understood(self, alices: Caller, policy: Policy, change: dict[str, Any]) -> None:
        entry(policy, age=40 * DAY)
        entry(policy)
        body = {"digest": propose(policy).digest, **WHY, **change}
        assert_problem(alices.post(f"{HERE}/clean-ups", body), 422)
        assert not Operation.objects.exists()
