"""GET environments: what the person sees, and nothing else, in the same number of queries however much there is."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from controlplane.accounts.models import Person, Role
from environments.models import Environment, EnvironmentLock, HealthSample, Placement
from tests.api.conftest import Calls
from tests.estate import Estate, place
from tests.people import person


def shown(answer: Any, slug: str = "production") -> dict[str, Any]:
    assert answer.status_code == 200
    found: dict[str, Any] = next(one for one in answer.json() if one["slug"] == slug)
    return found


def probe(placement: Placement, instance: str, healthy: bool, version: str) -> None:
    HealthSample.objects.create(placement=placement, instance=instance, healthy=healthy, version=version)


def test_what_runs_where(dana: Person, estate: Estate, calls: Calls) -> None:
    since = timezone.now()
    Placement.objects.update(since=since)
    answer = calls(dana).get("environments")
    assert [one["slug"] for one in answer.json()] == ["staging", "production"]
    told = shown(answer)
    assert {name: told[name] for name in ("name", "purpose", "url", "driver", "lock", "active_operations")} == {
        "name": "Production", "purpose": "", "url": "", "driver": "paper", "lock": None, "active_operations": [],
    }  # fmt: skip
    (service,) = told["services"]
    assert (service["service"], service["version"]) == ("api", "1.4.0")
    assert service["digest"] == estate.releases["1.4.0"].digest
    assert service["since"] == since.isoformat().replace("+00:00", "Z")
    assert service["healthy"] is None
    assert [one["name"] for one in service["instances"]] == ["production-1", "production-2", "production-3"]


def test_health_is_that_of_the_last_probe_of_each_instance(dana: Person, estate: Estate, calls: Calls) -> None:
    placement = Placement.objects.get(environment=estate.production)
    for number in (1, 2, 3):
        probe(placement, f"production-{number}", False, "1.4.0")
        probe(placement, f"production-{number}", True, "1.5.0")
    (service,) = shown(calls(dana).get("environments"))["services"]
    assert service["healthy"] is True
    assert service["instances"][0] == {"name": "production-1", "version": "1.5.0", "healthy": True}

    probe(placement, "production-2", False, "1.5.0")
    (service,) = shown(calls(dana).get("environments"))["services"]
    assert service["healthy"] is False
    assert [one["healthy"] for one in service["instances"]] == [True, False, True]


def test_the_lock_that_holds_is_told(dana: Person, estate: Estate, calls: Calls) -> None:
    EnvironmentLock.objects.create(
        environment=estate.production, reason="over", author_name="Ada", released_at=timezone.now()
    )
    assert shown(calls(dana).get("environments"))["lock"] is None
    lock = EnvironmentLock.objects.create(environment=estate.production, reason="audit week", author_name="Ada")
    lock.refresh_from_db()
    since = lock.taken_at.isoformat().replace("+00:00", "Z")
    told = calls(dana).get("environments")
    assert shown(told)["lock"] == {"reason": "audit week", "author": "Ada", "since": since}
    assert shown(told, "staging")["lock"] is None


def test_what_is_under_way_is_told_until_it_ends(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    number = caller.deploy().json()["operation"]
    told = caller.get("environments")
    assert shown(told)["active_operations"] == [
        {"id": number, "title": "Deploy api 1.5.0 to production", "state": "awaiting_approval"}
    ]
    assert shown(told, "staging")["active_operations"] == []
    caller.post(f"operations/{number}/cancel", {"reason": "wrong day"})
    assert shown(caller.get("environments"))["active_operations"] == []


def test_each_person_sees_their_own(charlie: Person, eve: Person, alice: Person, estate: Estate, calls: Calls) -> None:
    calls(alice).deploy()
    tester = person("tester", staging=Role.VIEWER)
    assert calls(charlie).get("environments").json() == []
    assert calls(eve).get("environments").json() == []
    (only,) = calls(tester).get("environments").json()
    assert (only["slug"], only["active_operations"]) == ("staging", [])


@pytest.mark.parametrize("count", [1, 12])
def test_the_number_of_queries_is_fixed(alice: Person, estate: Estate, calls: Calls, count: int) -> None:
    caller = calls(alice)
    for number in range(count):
        place_one = Environment.objects.create(slug=f"more-{number}", name="More", driver="paper", position=9)
        place(place_one, estate.service, estate.releases["1.5.0"], 3)
        EnvironmentLock.objects.create(environment=place_one, reason="x", author_name="Ada")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert len(caller.get("environments").json()) == count + 2
    # token, its last use, roles; environments, placements, two of health, locks, operations
    assert len(queries) <= 9
