"""Backups for programs: what they read, what they ask for, and what they are told when it cannot be."""

import re
from datetime import datetime, timedelta
from datetime import timezone as zone
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups.alerts import raise_alert
from backups.models import Backup, BackupAlert, BackupRun, Kind, Policy, Restore, RestorePoint
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.models import Operation
from controlplane.operations.registry import kind_of
from tests.api.conftest import Caller, assert_problem, token
from tests.backups.company import Make
from tests.backups.history import base, entry, proven, wal

pytestmark = pytest.mark.django_db
WHY = {"reason": "because"}


@pytest.fixture
def alices(alice: Person) -> Caller:
    """Alice's program."""
    return Caller({"Authorization": f"Bearer {token(alice)}"})


def dumps(make_policy: Make, **values: Any) -> Policy:
    return make_policy("database", kind=Kind.DATABASE, settings={"database": "env:NOWHERE"}, **values)


class TestReading:
    def test_how_well_all_is_protected(self, alices: Caller, make_policy: Make) -> None:
        policy = dumps(make_policy, rpo_seconds=600)
        good, newest = proven(policy, age=timedelta(hours=2)), entry(policy, age=timedelta(hours=1))
        raise_alert(policy, BackupAlert.Kind.STALE, "longer ago than its window allows")
        (seen,) = alices.get("backup-policies").json()
        assert (seen["environment"], seen["policy"], seen["kind"]) == ("production", "database", "database")
        assert seen["newest"] == seen["restorable_to"] == iso(newest.as_of)
        assert seen["proven_at"] == iso(good.tested_at)
        assert 3600 <= seen["rpo"] < 3700
        assert (seen["rpo_promised"], seen["rto"]) == (600, 9.0)
        assert [(one["kind"], one["words"]) for one in seen["alerts"]] == [
            ("stale", "longer ago than its window allows")
        ]

    def test_the_window_of_any_moment(self, alices: Caller, make_policy: Make) -> None:
        policy = make_policy("cluster", kind=Kind.PITR)
        now = timezone.now()
        first = base(policy, age=timedelta(days=1), segment=10)
        wal(policy, (8, 99, now - timedelta(days=2), now))
        (seen,) = alices.get("backup-policies").json()
        assert seen["windows"] == [{"since": iso(first.as_of), "until": iso(now)}]
        assert seen["restorable_to"] == iso(now)

    def test_the_catalog_by_environment_and_policy_page_by_page(self, alices: Caller, make_policy: Make) -> None:
        policy, other = make_policy(), dumps(make_policy)
        numbers = [entry(policy).pk for _ in range(3)]
        entry(other)
        seen = alices.get("backups?environment=production&policy=configuration").json()
        assert [one["id"] for one in seen] == numbers[::-1]
        assert [one["id"] for one in alices.get(f"backups?before={numbers[1]}").json()] == [numbers[0]]
        assert alices.get("backups?policy=nothing").json() == []

    def test_at_most_a_hundred(self, alices: Caller, policy: Policy) -> None:
        Backup.objects.bulk_create([unsaved_of(policy, number) for number in range(101)])
        assert len(alices.get("backups").json()) == 100

    def test_one(self, alices: Caller, policy: Policy) -> None:
        backup = entry(policy, hold_reason="the audit of 2026")
        seen = alices.get(f"backups/{backup.pk}").json()
        assert (seen["id"], seen["key"], seen["hold_reason"]) == (backup.pk, backup.key, "the audit of 2026")
        assert_problem(alices.get(f"backups/{backup.pk + 1}"), 404)
        assert_problem(alices.get(f"backups/{10**30}"), 404)

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("before=-1", "before"),
            ("before=x", "before"),
            ("before=1_0", "before"),
            ("before=%2B1", "before"),
            ("before=1.0", "before"),
            ("before=", "before"),
            (f"before={2**63}", "before"),
            ("before=1&before=2", "before"),
            (f"policy={'x' * 61}", "policy"),
            ("environment=a%20b", "environment"),
            ("enviroment=production", "enviroment"),
            ("=production", ""),
            ("kind=files", "kind"),
            ("verdict=good", "verdict"),
            ("state=deleted", "state"),
            ("since=yesterday", "since"),
            ("since=0", "since"),
            ("since=11/24/2026", "since"),
            ("until=2026-02-30", "until"),
            ("until=0000-01-01", "until"),
            (f"q={'x' * 201}", "q"),
            ("q=%00", "q"),
        ],
    )
    def test_a_query_that_cannot_be(self, alices: Caller, policy: Policy, query: str, field: str) -> None:
        entry(policy)
        told = assert_problem(alices.get(f"backups?{query}"), 422)
        assert [one["field"] for one in told["errors"]] == [field]


class TestTheFiltersOfTheCatalog:
    @pytest.fixture
    def rows(self, make_policy: Make) -> dict[str, Backup]:
        """By what is special about each."""
        policy, other = make_policy(), dumps(make_policy, time_zone="Europe/Berlin")
        return {
            "old": entry(policy, age=timedelta(days=10), verdict_words="row 7 differs", verdict="failed"),
            "proven": proven(policy, age=timedelta(days=5)),
            "deleted": entry(policy, age=timedelta(days=4), state="deleted"),
            "damaged": entry(policy, age=timedelta(days=3), state="damaged"),
            "held": entry(other, hold_reason="the audit of 2026"),
        }

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", {"old", "proven", "damaged", "held"}),
            ("q=&kind=&verdict=&state=&since=&until=&environment=&policy=", {"old", "proven", "damaged", "held"}),
            ("state=all", {"old", "proven", "deleted", "damaged", "held"}),
            ("state=held", {"held"}),
            ("kind=database", {"held"}),
            ("kind=database&policy=configuration", set()),
            ("verdict=proven", {"proven"}),
            ("verdict=failed", {"old"}),
            ("verdict=none", {"damaged", "held"}),
            ("q=audit", {"held"}),
            ("q=row+diff", {"old"}),
            ("q=production/database/", {"held"}),
            ("q='", set()),
            ("q=%26+%7C+!", set()),
            ("since={-6}", {"proven", "damaged", "held"}),
            ("until={-5}", {"old", "proven"}),
            ("since={-5}&until={-5}", {"proven"}),
            ("since=9999-12-31", set()),
            ("until=0001-01-01", set()),
        ],
    )
    def test_they_are_those_of_the_page(  # noqa: PLR0917 (fixtures)
        self, client: Client, alice: Person, alices: Caller, rows: dict[str, Backup], query: str, found: set[str]
    ) -> None:
        query = re.sub(r"{-(\d)}", lambda days: f"{timezone.now() - timedelta(days=int(days[1])):%Y-%m-%d}", query)
        seen = [one["id"] for one in alices.get(f"backups?{query}").json()]
        assert seen == sorted((rows[name].pk for name in found), reverse=True)
        client.force_login(alice)
        page = client.get(f"/backups/catalog?{query}").context["page"]
        assert [one.pk for one in page.rows] == seen


def any_moment(make_policy: Make) -> tuple[Backup, datetime]:
    """A copy of the cluster of yesterday, and a moment to which its log leads."""
    policy = make_policy("cluster", kind=Kind.PITR)
    now = timezone.now()
    first = base(policy, age=timedelta(days=1), segment=10)
    wal(policy, (8, 99, now - timedelta(days=2), now))
    return first, now - timedelta(hours=1)


def unsaved_of(policy: Policy, number: int) -> Backup:
    backup = entry(policy)
    backup.delete()
    backup.pk, backup.key = None, f"{policy.prefix}{number}/"
    return backup


def iso(at: Any) -> str:
    return str(at.isoformat()).replace("+00:00", "Z")


class TestAsking:
    def test_a_backup(self, alices: Caller, policy: Policy) -> None:
        answer = alices.post("backup-policies/production/configuration/runs", WHY)
        assert answer.status_code == 201, answer.content
        operation = Operation.objects.get()
        assert answer.json() == {
            "operation": operation.pk, "state": "queued", "plan_digest": operation.plan_digest,
        }  # fmt: skip
        assert BackupRun.objects.get().cause == BackupRun.Cause.PERSON
        assert operation.reason == "because"

    def test_a_test(self, alices: Caller, policy: Policy) -> None:
        backup = entry(policy)
        assert alices.post(f"backups/{backup.pk}/tests", WHY).status_code == 201
        assert Restore.objects.get().target == Restore.Target.TEST

    def test_a_restore_waits_for_its_approval(self, alices: Caller, policy: Policy) -> None:
        backup = entry(policy)
        answer = alices.post(f"backups/{backup.pk}/restores", {"target": "configuration", **WHY})
        assert (answer.status_code, answer.json()["state"]) == (201, "awaiting_approval")

    def test_a_restore_to_a_moment(self, alices: Caller, make_policy: Make) -> None:
        policy = make_policy("cluster", kind=Kind.PITR)
        now = timezone.now()
        base(policy, age=timedelta(days=2), segment=10)
        newer = base(policy, age=timedelta(days=1), segment=20)
        older = Backup.objects.earliest("as_of")
        wal(policy, (8, 99, now - timedelta(days=3), now))
        moment = (now - timedelta(hours=1)).isoformat()
        body = {"target": "new", "database": "shop_then", "moment": moment, **WHY}
        assert alices.post(f"backups/{older.pk}/restores", body).status_code == 201
        assert Restore.objects.get().backup == newer, "from the base that is nearest"

    def test_a_moment_of_another_time_zone(self, alices: Caller, make_policy: Make) -> None:
        """It is the same plan, which is still true when it starts."""
        backup, moment = any_moment(make_policy)
        body = {"target": "scratch", "moment": moment.isoformat()}
        digest = alices.post(f"backups/{backup.pk}/plan", body).json()["plan"]["plan_digest"]
        body |= {"moment": moment.astimezone(zone(timedelta(hours=2))).isoformat(), "plan_digest": digest, **WHY}
        assert alices.post(f"backups/{backup.pk}/restores", body).status_code == 201
        operation = Operation.objects.get()
        kind = kind_of(operation)
        assert kind.plan(operation, kind.facts(operation)).digest == operation.plan_digest == digest

    def test_a_restore_point(self, alices: Caller, policy: Policy) -> None:
        body = {"name": "before 1.5.0", **WHY}
        assert alices.post("environments/production/restore-points", body).status_code == 201
        assert RestorePoint.objects.get().name == "before 1.5.0"

    def test_holding_and_letting_go(self, alices: Caller, policy: Policy) -> None:
        backup = entry(policy)
        held = alices.post(f"backups/{backup.pk}/hold", {"reason": "the audit of 2026"})
        assert (held.status_code, held.json()["hold_reason"]) == (200, "the audit of 2026")
        assert_problem(alices.post(f"backups/{backup.pk}/hold", WHY), 409, "It is held already")
        freed = alices.post(f"backups/{backup.pk}/release", WHY)
        assert (freed.status_code, freed.json()["hold_reason"]) == (200, "")
        assert_problem(alices.post(f"backups/{backup.pk}/release", WHY), 409, "Nobody holds it")
        assert [one.action for one in Entry.objects.filter(action__startswith="backup.").order_by("pk")] == [
            "backup.held", "backup.let_go",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("backup-policies/production/configuration/runs", WHY),
            ("backups/{}/tests", WHY),
            ("backups/{}/restores", {"target": "configuration", **WHY}),
            ("backups/{}/hold", WHY),
            ("environments/production/restore-points", {"name": "a point", **WHY}),
        ],
    )
    def test_the_same_key_twice_has_one_effect(
        self, alices: Caller, policy: Policy, path: str, body: dict[str, Any]
    ) -> None:
        path = path.format(entry(policy).pk)
        first, second = alices.post(path, body, key="k-1"), alices.post(path, body, key="k-1")
        assert first.status_code in (200, 201)
        assert (first.status_code, first.content) == (second.status_code, second.content)
        assert Operation.objects.count() == (0 if path.endswith("hold") else 1)
        assert_problem(alices.post(path, {**body, "reason": "another"}, key="k-1"), 422, "Use a new one")


class TestTheDryRunOfARestore:
    def test_it_is_the_plan_that_is_then_asked_for(self, alices: Caller, policy: Policy) -> None:
        backup = entry(policy)
        wish = {"target": "configuration"}
        seen = alices.post(f"backups/{backup.pk}/plan", wish)
        assert seen.status_code == 200, seen.content
        assert not Operation.objects.exists() and not Restore.objects.exists()
        told = seen.json()
        assert (told["backup"], told["live"], told["approvals_required"]) == (backup.pk, True, 1)
        assert [(one["key"], one["outcome"]) for one in told["gates"]] == [("there", "passed")]
        assert [one["title"] for one in told["plan"]["steps"]] == ["set the variables as they were"]
        assert told["plan"]["changes"][0]["what"] == "the configuration"
        digest = told["plan"]["plan_digest"]
        asked = alices.post(f"backups/{backup.pk}/restores", {**wish, "plan_digest": digest, **WHY})
        assert (asked.status_code, asked.json()["plan_digest"]) == (201, digest)

    def test_what_changes_nothing_in_use_needs_nobody(self, alices: Caller, make_policy: Make) -> None:
        backup = entry(dumps(make_policy))
        told = alices.post(f"backups/{backup.pk}/plan", {"target": "scratch", "table": "users"}).json()
        assert (told["live"], told["approvals_required"]) == (False, 0)

    def test_the_gate_that_fails_is_told(self, alices: Caller, policy: Policy) -> None:
        gone = entry(policy, state=Backup.State.DELETED)
        (gate,) = alices.post(f"backups/{gone.pk}/plan", {"target": "configuration"}).json()["gates"]
        assert gate["outcome"] == "failed" and "Choose another one" in gate["reason"]

    def test_a_moment_begins_with_the_base_before_it(self, alices: Caller, make_policy: Make) -> None:
        policy = make_policy("cluster", kind=Kind.PITR)
        now = timezone.now()
        older = base(policy, age=timedelta(days=2), segment=10)
        newer = base(policy, age=timedelta(days=1), segment=20)
        wal(policy, (8, 99, now - timedelta(days=3), now))
        wish = {"target": "scratch", "moment": (now - timedelta(hours=1)).isoformat()}
        assert alices.post(f"backups/{older.pk}/plan", wish).json()["backup"] == newer.pk

    def test_the_plan_moved_since_it_was_read(self, alices: Caller, policy: Policy) -> None:
        backup = entry(policy)
        body = {"target": "configuration", "plan_digest": "0" * 64, **WHY}
        assert_problem(alices.post(f"backups/{backup.pk}/restores", body), 409, "not the one you read")
        assert_problem(alices.post(f"backups/{backup.pk}/restores", {**body, "plan_digest": "0"}), 422)
        assert not Operation.objects.exists()


NUL, LONG = "a\x00b", "x" * 64
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("database", {"target": "test"}, ""),
    ("database", {"target": "folder"}, "can be restored into: a scratch database to look into, a new database"),
    ("database", {"target": "new"}, "Give the name of a database"),
    ("database", {"target": "new", "database": "Shop; DROP"}, "Give the name of a database"),
    ("database", {"target": "new", "database": "x" * 50}, "Give the name of a database"),
    ("database", {"target": "scratch", "database": LONG}, "Give the name of a database"),
    ("database", {"target": "new", "database": NUL}, ""),
    ("database", {"target": "new", "database": "shop", "table": "a b"}, "“a b” is no name of a table"),
    ("database", {"target": "new", "database": "shop", "table": "a.b.c"}, "is no name of a table"),
    ("database", {"target": "new", "database": "shop", "schema_name": "a;b"}, "“a;b” is no name of a schema"),
    ("database", {"target": "new", "database": "shop", "schema_name": "a.b"}, "“a.b” is no name of a schema"),
    ("database", {"target": "new", "database": "shop", "schema_name": LONG}, "is no name of a schema"),
    ("database", {"target": "existing", "database": "shop", "table": "users"}, "A part replaces no whole database"),
    ("database", {"target": "scratch", "moment": "2026-11-24T12:00:00Z"}, "Only a policy with WAL"),
    ("database", {"target": "scratch", "moment": "2026-11-24T12:00:00"}, ""),
    ("database", {"target": "scratch", "moment": "yesterday"}, ""),
    ("uploads", {"target": "folder", "folder": "../up"}, "Give the folder a plain name"),
    ("uploads", {"target": "folder", "folder": "/etc"}, "Give the folder a plain name"),
    ("uploads", {"target": "scratch"}, "can be restored into: a folder"),
    ("uploads", {"target": "folder", "table": "users"}, "has no tables"),
    ("images", {"target": "folder"}, "Give the folder a name"),
    ("configuration", {"target": "configuration", "database": LONG}, "Give the name of a database"),
    ("configuration", {"target": "existing", "database": "shop"}, "the environment's configuration"),
    ("pitr", {"target": "scratch", "moment": "2020-01-01T00:00:00Z"}, "No moment is, before the first base backup"),
    (
        "pitr",
        {"target": "scratch", "moment": "2020-01-01T12:00:00+10:00"},
        "2020-01-01 02:00:00 UTC is not recoverable",
    ),
    ("pitr", {"target": "scratch", "moment": "0001-01-01T00:00:00+14:00"}, "In UTC this moment is before the year 1"),
    ("pitr", {"target": "scratch", "moment": "9999-12-31T23:59:59-14:00"}, "or after the year 9999"),
]


@pytest.mark.parametrize(("kind", "body", "words"), BAD)
def test_a_wish_that_cannot_be_is_refused_in_words(
    alices: Caller, make_policy: Make, kind: str, body: dict[str, Any], words: str
) -> None:
    backup = entry(make_policy(kind, kind=kind))
    assert_problem(alices.post(f"backups/{backup.pk}/restores", {**body, **WHY}), 422, words)
    assert_problem(alices.post(f"backups/{backup.pk}/plan", body), 422, words)
    assert not Operation.objects.exists()


def test_the_refusal_of_a_year_is_one_sentence(alices: Caller, make_policy: Make) -> None:
    backup = entry(make_policy("pitr", kind=Kind.PITR))
    body = {"target": "scratch", "moment": "0001-01-01T00:00:00+14:00"}
    told = assert_problem(alices.post(f"backups/{backup.pk}/plan", body), 422)
    assert told["detail"].endswith("after the year 9999.") and not told["detail"].endswith("..")


def test_the_nearest_moments_are_told(alices: Caller, make_policy: Make) -> None:
    policy = make_policy("cluster", kind=Kind.PITR)
    now = timezone.now()
    first = base(policy, age=timedelta(days=3), segment=10)
    second = base(policy, age=timedelta(days=1), segment=60)
    gap = now - timedelta(days=2)
    wal(policy, (8, 40, now - timedelta(days=4), gap), (55, 99, now - timedelta(days=1, hours=1), now))
    body = {"target": "scratch", "moment": (now - timedelta(days=1, hours=12)).isoformat(), **WHY}
    words = f"The nearest moments that are: {gap:%Y-%m-%d %H:%M:%S} UTC and {second.as_of:%Y-%m-%d %H:%M:%S} UTC."
    assert_problem(alices.post(f"backups/{first.pk}/restores", body), 422, "is not recoverable", words)


def test_what_is_not_there_any_more(alices: Caller, make_policy: Make) -> None:
    deleted = entry(make_policy(), state=Backup.State.DELETED)
    assert_problem(alices.post(f"backups/{deleted.pk}/tests", WHY), 409, "is deleted. Choose another one")
    orphan = entry(make_policy("other"))
    Policy.objects.get(slug="other").delete()
    words = "The policy other is not there any more. Declare it again"
    for path, body in (("restores", {"target": "configuration", **WHY}), ("tests", WHY)):
        assert_problem(alices.post(f"backups/{orphan.pk}/{path}", body), 422, words)
    assert_problem(alices.post(f"backups/{deleted.pk}/restores", {"target": "configuration", **WHY}), 422, "deleted")
    assert_problem(alices.post(f"backups/{deleted.pk}/hold", WHY), 409, "not there any more")
    assert not Operation.objects.exists()


def test_an_environment_without_policies_has_no_restore_points(alices: Caller, production: object) -> None:
    body = {"name": "x", **WHY}
    assert_problem(alices.post("environments/production/restore-points", body), 422, "has no backup policy yet")
    for name in ("", "x" * 101, NUL):
        assert_problem(alices.post("environments/production/restore-points", {"name": name, **WHY}), 422)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 2001, NUL, 7, None])
def test_no_reason(alices: Caller, policy: Policy, reason: Any) -> None:
    path = "backup-policies/production/configuration/runs"
    assert_problem(alices.post(path, {"reason": reason}), 422)
    assert not Operation.objects.exists()
