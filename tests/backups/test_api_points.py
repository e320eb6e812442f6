"""Restore points for programs: what belongs to one, the way back to it, and the request for it."""

from typing import Any

import pytest
from django.db import connection

from backups import point_api, restore_services
from backups.models import Backup, Kind, Policy, Restore, RestorePoint
from backups.page import database_of
from backups.restore_services import draft_point, plan_of_point
from controlplane.accounts.models import Person
from controlplane.operations.errors import Invalid, StepError
from controlplane.operations.models import IdempotencyKey, Operation
from controlplane.operations.plans import Plan
from environments.models import Environment
from tests.api.conftest import Caller, assert_problem, token
from tests.backups.company import Make
from tests.backups.history import entry

pytestmark = pytest.mark.django_db
LIST = "environments/production/restore-points"
WHY = {"reason": "because"}
RAN = [{"service": "api", "version": "1.5.0", "digest": "sha256:" + "a" * 64}]


@pytest.fixture
def alices(alice: Person) -> Caller:
    """Alice's program."""
    return Caller({"Authorization": f"Bearer {token(alice)}"})


def point_of(*backups: Backup, name: str = "before 1.5.0", place: str = "production") -> RestorePoint:
    environment = Environment.objects.get(slug=place)
    point = RestorePoint.objects.create(environment=environment, name=name, made_by_name="Alice", software=RAN)
    point.backups.set(backups)
    return point


@pytest.fixture
def point(policy: Policy) -> RestorePoint:
    """Of the configuration alone."""
    return point_of(entry(policy))


class TestReading:
    def test_the_newest_first_page_by_page(self, alices: Caller, policy: Policy) -> None:
        numbers = [point_of(name=f"point {number}").pk for number in range(3)]
        Environment.objects.create(slug="staging", name="Staging", driver="local")
        point_of(place="staging")
        assert [one["id"] for one in alices.get(LIST).json()] == numbers[::-1]
        assert [one["id"] for one in alices.get(f"{LIST}?before={numbers[1]}").json()] == [numbers[0]]
        assert alices.get(f"{LIST}?before={numbers[0]}").json() == []

    def test_at_most_a_hundred_at_a_fixed_price(
        self, alices: Caller, policy: Policy, django_assert_max_num_queries: Any
    ) -> None:
        part = entry(policy)
        for number in range(101):
            point_of(part, name=str(number))
        with django_assert_max_num_queries(12):
            assert len(alices.get(LIST).json()) == 100

    @pytest.mark.parametrize("query", ["before=-1", "before=x", f"before={2**63}", "befor=1", "before=1&before=2"])
    def test_a_query_that_cannot_be(self, alices: Caller, policy: Policy, query: str) -> None:
        assert_problem(alices.get(f"{LIST}?{query}"), 422)

    def test_one_and_what_belongs_to_it(self, alices: Caller, policy: Policy) -> None:
        part = entry(policy)
        point = point_of(part)
        seen = alices.get(f"restore-points/{point.pk}").json()
        assert (seen["id"], seen["name"], seen["made_by"]) == (point.pk, "before 1.5.0", "Alice")
        assert [(one["backup"], one["policy"], one["state"]) for one in seen["parts"]] == [
            (part.pk, "configuration", "available")
        ]
        assert seen["software"] == RAN
        (listed,) = alices.get(LIST).json()
        assert listed == {name: seen[name] for name in listed}

    def test_the_way_back(self, alices: Caller, make_policy: Make) -> None:
        dump = make_policy("database", kind=Kind.DATABASE, settings={"database": "env:NOWHERE"})
        point = point_of(entry(dump, manifest={"facts": {"database": "shop"}}), entry(make_policy()))
        seen = alices.get(f"restore-points/{point.pk}").json()
        assert (seen["cannot"], seen["approvals_required"]) == ("", 1)
        plan = plan_of_point(point, database_of(point))
        assert seen["plan"]["plan_digest"] == plan.digest
        assert [one["key"] for one in seen["plan"]["steps"]] == [one.key for one in plan.steps]
        assert {one["group"] for one in seen["plan"]["steps"]} == {"database", "configuration"}
        assert not Operation.objects.exists()

    def test_why_there_is_none(self, alices: Caller, policy: Policy) -> None:
        seen = alices.get(f"restore-points/{point_of().pk}").json()
        assert (seen["plan"], seen["parts"]) == (None, [])
        assert "has no part that can be restored in place" in seen["cannot"]

    def test_one_that_is_not_there(self, alices: Caller, point: RestorePoint) -> None:
        for number in (point.pk + 1, 10**30):
            assert_problem(alices.get(f"restore-points/{number}"), 404)
            assert_problem(alices.post(f"restore-points/{number}/restores", WHY), 404)
        assert_problem(alices.get("environments/nowhere/restore-points"), 404)


class TestRestoring:
    def test_it_waits_for_its_approval(self, alices: Caller, point: RestorePoint) -> None:
        digest = alices.get(f"restore-points/{point.pk}").json()["plan"]["plan_digest"]
        body = {"plan_digest": digest, **WHY}
        first, second = (alices.post(f"restore-points/{point.pk}/restores", body, key="k-1") for _ in range(2))
        assert (first.status_code, first.content) == (201, second.content)
        operation = Operation.objects.get()
        assert first.json() == {"operation": operation.pk, "state": "awaiting_approval", "plan_digest": digest}
        assert Restore.objects.get().backup == point.backups.get()

    def test_without_a_digest_it_is_the_plan_as_it_is(self, alices: Caller, point: RestorePoint) -> None:
        assert alices.post(f"restore-points/{point.pk}/restores", WHY).status_code == 201

    def test_the_plan_moved_since_it_was_read(self, alices: Caller, point: RestorePoint, make_policy: Make) -> None:
        digest = alices.get(f"restore-points/{point.pk}").json()["plan"]["plan_digest"]
        point.backups.add(entry(make_policy("uploads", kind=Kind.UPLOADS)))
        body = {"plan_digest": digest, **WHY}
        assert_problem(alices.post(f"restore-points/{point.pk}/restores", body), 409, "not the one you read")
        assert not Operation.objects.exists()

    def test_what_runs_is_asked_outside_of_the_transaction(
        self, alices: Caller, point: RestorePoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        depths = []

        def draft(*values: Any) -> Plan:
            depths.append(len(connection.savepoint_ids))
            return draft_point(*values)

        monkeypatch.setattr(point_api, "draft_point", draft)
        monkeypatch.setattr(restore_services, "draft_point", lambda *values: 1 / 0)
        outside = len(connection.savepoint_ids)
        assert alices.post(f"restore-points/{point.pk}/restores", WHY, key="k-1").status_code == 201
        assert depths == [outside]

    @pytest.mark.parametrize("key", ["k-1", None])
    def test_what_runs_cannot_be_asked(
        self, alices: Caller, point: RestorePoint, monkeypatch: pytest.MonkeyPatch, key: str | None
    ) -> None:
        """It is asked once, and the same request is good as soon as it answers again."""
        asked = []

        def gone(*values: Any) -> None:
            asked.append(len(connection.savepoint_ids))
            raise StepError("the cluster is out of reach")

        outside = len(connection.savepoint_ids)
        path = f"restore-points/{point.pk}"
        with monkeypatch.context() as patched:
            patched.setattr(restore_services, "software_of", gone)
            answer = alices.post(f"{path}/restores", WHY, key=key)
            assert_problem(answer, 503, "cannot be asked what runs there", "the cluster is out of reach")
            assert int(answer.headers["Retry-After"]) > 0 and asked == [outside]
            seen = alices.get(path).json()
            assert seen["plan"] is None and "the cluster is out of reach" in seen["cannot"], "the rest can be read"
        assert not Operation.objects.exists() and not IdempotencyKey.objects.exists()
        assert alices.post(f"{path}/restores", WHY, key=key).status_code == 201

    def test_a_refusal_is_kept_and_nothing_asked_again(
        self, alices: Caller, point: RestorePoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def refuses(*values: Any) -> None:
            asked.append(1)
            raise Invalid("It cannot be.")

        monkeypatch.setattr(restore_services, "software_of", refuses)
        first, second = (alices.post(f"restore-points/{point.pk}/restores", WHY, key="k-1") for _ in range(2))
        assert_problem(first, 422, "It cannot be.")
        assert first.content == second.content and len(asked) == 1

    def test_one_without_parts(self, alices: Caller, policy: Policy) -> None:
        empty = point_of()
        assert_problem(alices.post(f"restore-points/{empty.pk}/restores", WHY), 422, "has no part")

    @pytest.mark.parametrize("change", [{"reason": " "}, {"plan_digest": "0" * 63}, {"plan_digest": ""}, {"x": 1}])
    def test_not_understood(self, alices: Caller, point: RestorePoint, change: dict[str, Any]) -> None:
        assert_problem(alices.post(f"restore-points/{point.pk}/restores", {**WHY, **change}), 422)
        assert not Operation.objects.exists()
