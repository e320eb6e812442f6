"""What is declared for AWS becomes a whole plan: each kind of candidate, both kinds of traffic, there and back."""

from datetime import UTC, datetime
from typing import Any

import pytest

from backups.disaster.assembling import assemble
from backups.disaster.base import Candidate
from backups.disaster.databases import DATABASES
from backups.disaster.traffic import TRAFFIC
from backups.models import Recovery, RecoveryPlan
from environments.models import Environment, Placement, Service

pytestmark = pytest.mark.django_db

DIGEST = "sha256:" + "15" * 32
DATABASE = {
    "kind": "rds",
    "zone": "Z1",
    "endpoint_name": "db.pitchey.com",
    "drill_endpoint_name": "drill-db.pitchey.com",
    "primary": {
        "region": "us-east-1", "instance": "pitchey", "security_groups": ["sg-1"], "fenced_security_groups": ["sg-2"],
        "replace": "rename",
    },
    "standby": {
        "region": "us-west-2", "instance": "pitchey-dr", "security_groups": ["sg-3"],
        "fenced_security_groups": ["sg-4"],
    },
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "snapshot": {"how": "snapshot", "snapshot": "nightly"},
    "copy": {"how": "copy", "snapshot": "arn:aws:rds:us-east-1:1:snapshot:nightly"},
    "time": {"how": "time", "from": {"SourceDBInstanceAutomatedBackupsArn": "arn:aws:rds:us-west-2:1:auto-backup:ab"}},
    "replica": {"how": "replica"},
}
ROADS: dict[str, dict[str, Any]] = {
    "route53": {
        "kind": "route53", "zone": "Z1", "names": ["api.pitchey.com"], "drill_name": "drill.pitchey.com",
        "primary": {"values": ["192.0.2.1"]}, "standby": {"values": ["192.0.2.2"]},
    },
    "flag": {
        "kind": "flag", "region": "us-west-2", "bucket": "flags", "key": "failover", "drill_key": "drill",
        "primary": {"raised": False}, "standby": {"raised": True},
    },
}  # fmt: skip


@pytest.fixture(params=ROADS)
def plan(request: pytest.FixtureRequest) -> RecoveryPlan:
    """Production in us-east-1, DR in us-west-2, both on ECS."""
    service = Service.objects.create(slug="pitchey-backend", name="Backend")
    sides = []
    for slug, region in (("production", "us-east-1"), ("dr", "us-west-2")):
        driver = {"region": region, "cluster": f"pitchey-{slug}"}
        sides.append(Environment.objects.create(slug=slug, name=slug, driver="ecs", driver_settings=driver))
        Placement.objects.create(
            environment=sides[-1], service=service, instances=[{"name": "backend"}], version="1.4.0", digest=DIGEST
        )
    road = ROADS[str(request.param)]
    return RecoveryPlan.objects.create(
        slug="pitchey", name="Pitchey", primary=sides[0], standby=sides[1], database=DATABASE, traffic=road,
        services={"pitchey-backend": 3}, checks=[{"name": "rows", "sql": "SELECT true"}],
    )  # fmt: skip


def keys(plan: RecoveryPlan, kind: str, way: str = "") -> list[str]:
    made = WAYS.get(way)
    candidate = Candidate(f"{way}:rds:x", way, datetime(2026, 11, 28, tzinfo=UTC), made) if made else None
    return [step.key for step in assemble(plan, kind, candidate).steps]


def test_the_settings_are_good(plan: RecoveryPlan) -> None:
    assert DATABASES["rds"].check_settings(plan.database) == {}
    assert TRAFFIC[plan.traffic["kind"]].check_settings(plan.traffic) == {}


@pytest.mark.parametrize("way", WAYS)
def test_a_failover_opens_behind_the_fence_and_sends_people_last(plan: RecoveryPlan, way: str) -> None:
    found = keys(plan, Recovery.Kind.FAILOVER, way)
    proofs = max(found.index("database/fence-proof"), found.index("fence/pitchey-backend/down"))
    assert proofs < found.index("database/open") < next(n for n, key in enumerate(found) if key.startswith("traffic/"))
    if way != "replica":
        begun = "database/copy" if way == "copy" else "database/make"
        assert found.index(begun) < found.index("database/fence")  # what takes long is begun first
    else:
        assert proofs < found.index("database/promote")


@pytest.mark.parametrize("way", WAYS)
def test_a_drill_fences_nobody_and_takes_everything_away(plan: RecoveryPlan, way: str) -> None:
    found = keys(plan, Recovery.Kind.DRILL, way)
    assert not [key for key in found if "fence" in key]
    assert found.index("database/verify") < found.index("database/unpoint") < found.index("database/remove")
    assert {"traffic/remove", "traffic/lower"} & set(found)
    assert "database/promote" not in found


def test_a_failback_takes_its_snapshot_behind_the_fence(plan: RecoveryPlan) -> None:
    plan.active = RecoveryPlan.Side.STANDBY
    found = keys(plan, Recovery.Kind.FAILBACK)
    assert found.index("database/aside") < found.index("database/fence-proof") < found.index("database/snapshot")
    assert found.index("database/available") < found.index("database/open")
