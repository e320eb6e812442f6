"""Opening a database: the name that applications use leads to it, and its own data say whether it is good."""

from typing import Any

import pytest
from django.conf import settings as django_settings

from controlplane.operations.plans import StepSpec
from controlplane.operations.states import State
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, Fault, throttled
from tests.disaster.aws_world import BOUNDARIES, STANDBY, WEST, World, die_once_at, lines

pytest_plugins = ["tests.disaster.aws_fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

NAME, DRILL = "db.pitchey.com", "drill-db.pitchey.com"
ENDPOINT = f"{STANDBY}.aaaaaaaaaa.{WEST}.rds.amazonaws.com"


@pytest.fixture
def zone(cloud_world: World) -> str:
    """The company's zone; backups are replicated to us-west-2."""
    made = cloud_world.client("route53").create_hosted_zone(Name="pitchey.com", CallerReference="1")["HostedZone"]
    cloud_world.aws.cloud.rds.replicated[WEST, "pitchey"] = cloud_world.aws.cloud.clock.now()
    return str(made["Id"]).rpartition("/")[2]


def opening(world: World, scratch: str = "", **more: Any) -> tuple[list[StepSpec], list[StepSpec]]:
    """All steps, and those of the cleanup."""
    source, target = world.side("us-east-1"), world.side(WEST, **more)
    candidate = next(one for one in world.database.candidates(source, target) if one.key.startswith("time:"))
    part = world.database.restore(source, target, candidate, scratch=scratch)
    return [*part.begin, *part.wait, *part.open, *part.verify], list(part.cleanup)


@pytest.mark.parametrize("fault", [None, LOST_AFTER, LOST_BEFORE, throttled()])
def test_the_name_leads_to_it(cloud_world: World, zone: str, fault: Fault | None) -> None:
    if fault:
        cloud_world.once("ChangeResourceRecordSets", fault)
    steps, _ = opening(cloud_world, endpoint_name=NAME, zone=zone)
    operation = cloud_world.run(*steps)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert cloud_world.aws.cloud.names.lookup(NAME, "CNAME") == [ENDPOINT]
    assert cloud_world.aws.changes["ChangeResourceRecordSets"] == 1


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_drill_s_name_comes_and_goes(cloud_world: World, zone: str, boundary: str) -> None:
    steps, cleanup = opening(cloud_world, "drill", endpoint_name=NAME, drill_endpoint_name=DRILL, zone=zone)
    die_once_at(boundary)
    operation = cloud_world.run(*steps, *cleanup)
    assert operation.state == State.SUCCEEDED, operation.outcome
    found = cloud_world.client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    assert not {f"{NAME}.", f"{DRILL}."} & {one["Name"] for one in found}


def test_without_the_name_s_control_plane_the_database_can_be_opened_all_the_same(cloud_world: World) -> None:
    cloud_world.aws.cloud.rds.replicated[WEST, "pitchey"] = cloud_world.aws.cloud.clock.now()
    cloud_world.aws.cloud.cut("route53")
    steps, _ = opening(cloud_world)
    assert cloud_world.run(*steps).state == State.SUCCEEDED


class TestChecks:
    """The plan's checks are asked of the database itself; here that is the one of the tests."""

    @pytest.fixture
    def login(self, zone: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        own = django_settings.DATABASES["default"]
        monkeypatch.setenv("TEST_DB_PASSWORD", str(own.get("PASSWORD") or "any-password"))
        address = f"{own['HOST']}:{own['PORT']}"
        return {
            "database": own["NAME"], "user": own["USER"], "password": "env:TEST_DB_PASSWORD", "address": address,
            "drill_address": address,
        }  # fmt: skip

    def verified(self, world: World, login: dict[str, Any], *checks: tuple[str, str]) -> Any:
        given = [{"name": name, "sql": sql} for name, sql in checks]
        steps, _ = opening(world, checks=given, **login)
        return world.run(*steps)

    def test_they_hold(self, cloud_world: World, login: dict[str, Any]) -> None:
        operation = self.verified(cloud_world, login, ("one is one", "SELECT 1 = 1"), ("two", "SELECT true"))
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert "check “one is one” holds" in lines(operation)

    @pytest.mark.parametrize("sql", ["SELECT 1 = 2", "SELECT 1 WHERE false", "SELECT 'yes'"])
    def test_one_does_not(self, cloud_world: World, login: dict[str, Any], sql: str) -> None:
        operation = self.verified(cloud_world, login, ("rows", sql))
        assert operation.state == State.FAILED and "The check “rows” of pitchey-dr does not hold" in operation.outcome

    @pytest.mark.parametrize("sql", ["SELECT nothing", "CREATE TABLE x()"])
    def test_one_is_wrong_or_would_change_something(self, cloud_world: World, login: dict[str, Any], sql: str) -> None:
        operation = self.verified(cloud_world, login, ("rows", sql))
        assert operation.state == State.FAILED and "A check cannot be asked" in operation.outcome

    def test_without_a_login_that_is_said(self, cloud_world: World, zone: str) -> None:
        operation = self.verified(cloud_world, {}, ("rows", "SELECT true"))
        assert operation.state == State.SUCCEEDED
        assert "no login is given (user, password), so its data were not asked" in lines(operation)


def test_candidates_name_what_they_are_made_from(cloud_world: World, zone: str) -> None:
    found = cloud_world.database.candidates(cloud_world.side("us-east-1"), cloud_world.side(WEST))
    assert {one.arguments["how"] for one in found} == {"copy", "time"}
