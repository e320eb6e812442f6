"""A service of ECS is started in full at one side and stopped in full at the other, and both are seen, not hoped."""

from typing import Any

import pytest

from controlplane.accounts.access import Actor
from controlplane.operations import transitions
from controlplane.operations.states import Answer, State
from environments.aws import Account
from environments.aws_checks import Finding, fargate_left, image_present, permissions, principal_of
from environments.drivers import DRIVERS
from environments.drivers.base import Scalable, Software, Target
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, Fault, broken, refused, throttled
from tests.aws.site import Site
from tests.disaster.aws_world import BOUNDARIES, EAST, WEST, World, die_once_at, lines

pytest_plugins = ["tests.disaster.aws_fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

CLUSTER, SERVICE = "pitchey-dr", "pitchey-backend"
REGISTRY = f"123456789012.dkr.ecr.{WEST}.amazonaws.com"
DIGEST = "sha256:" + "15" * 32
RELEASE = Software("1.5.0", "123456789012.dkr.ecr.us-east-1.amazonaws.com/pitchey-backend:1.5.0", DIGEST)
NEW = {"RegisterTaskDefinition": 1, "UpdateService": 1}


@pytest.fixture
def dr(cloud_world: World) -> World:
    """The service in us-west-2, with 1.4.0 in its definition and no task."""
    ecs = cloud_world.client("ecs", WEST)
    ecs.create_cluster(clusterName=CLUSTER)
    container = {"name": SERVICE, "image": f"{REGISTRY}/pitchey-backend:1.4.0", "memory": 1024}
    ecs.register_task_definition(family=SERVICE, containerDefinitions=[container])
    ecs.create_service(cluster=CLUSTER, serviceName=SERVICE, taskDefinition=SERVICE, desiredCount=0)
    cloud_world.forget_changes()
    return cloud_world


def target(world: World, **more: Any) -> Target:
    settings = {
        "region": WEST, "cluster": CLUSTER, "endpoint_url": world.aws.url, "access_key": "env:TEST_AWS_ACCESS_KEY",
        "secret_key": "env:TEST_AWS_SECRET_KEY", "retry_seconds": 0.01, "checks": 2,
    }  # fmt: skip
    return Target("dr", SERVICE, (), more.pop("url", ""), "/health", {**settings, **more})


def scaling(world: World, count: int, software: Software | None = RELEASE, **more: Any) -> tuple[Any, ...]:
    driver: object = DRIVERS["ecs"]
    assert isinstance(driver, Scalable)
    found = driver.scale(target(world, **more), count, software, key="applications/pitchey-backend")
    return (*found.begin, *found.wait)


def counts(world: World) -> tuple[int, int]:
    (one,) = world.client("ecs", WEST).describe_services(cluster=CLUSTER, services=[SERVICE])["services"]
    return one["desiredCount"], one["runningCount"]


def image(world: World) -> str:
    ecs = world.client("ecs", WEST)
    (one,) = ecs.describe_services(cluster=CLUSTER, services=[SERVICE])["services"]
    found = ecs.describe_task_definition(taskDefinition=one["taskDefinition"])["taskDefinition"]
    return str(found["containerDefinitions"][0]["image"])


def test_it_starts_with_the_release_by_digest_from_its_own_registry(dr: World) -> None:
    begun = dr.aws.cloud.clock.now()
    operation = dr.run(*scaling(dr, 3))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert counts(dr) == (3, 3)
    assert image(dr) == f"{REGISTRY}/pitchey-backend@{DIGEST}"
    assert dr.aws.changes == NEW
    assert (dr.aws.cloud.clock.now() - begun).total_seconds() >= 480


def test_what_has_the_image_already_is_not_registered_again(dr: World) -> None:
    dr.run(*scaling(dr, 3))
    dr.run(*scaling(dr, 0))
    dr.forget_changes()
    assert dr.run(*scaling(dr, 2)).state == State.SUCCEEDED
    assert dr.aws.changes == {"UpdateService": 1}
    assert counts(dr) == (2, 2)


@pytest.mark.parametrize("software", [None, Software("1.4.0", "", "")])
def test_whatever_it_has(dr: World, software: Software | None) -> None:
    assert dr.run(*scaling(dr, 1, software)).state == State.SUCCEEDED
    assert image(dr).endswith(":1.4.0")
    assert dr.aws.changes == {"UpdateService": 1}


def test_so_many_run_already(dr: World) -> None:
    dr.run(*scaling(dr, 1))
    dr.forget_changes()
    assert dr.run(*scaling(dr, 1)).state == State.SUCCEEDED
    assert dr.aws.changes == {}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_workers_die_at_every_boundary(dr: World, boundary: str) -> None:
    die_once_at(boundary)
    assert dr.run(*scaling(dr, 3)).state == State.SUCCEEDED
    assert counts(dr) == (3, 3)
    assert dr.aws.changes == NEW


FAULTS = {"lost before": LOST_BEFORE, "lost after": LOST_AFTER, "throttled": throttled(), "broken": broken()}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("action", NEW)
def test_a_call_that_goes_wrong_is_looked_after(dr: World, action: str, fault: Fault) -> None:
    dr.once(action, fault)
    operation = dr.run(*scaling(dr, 3))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert counts(dr) == (3, 3)
    assert dr.aws.changes == NEW
    assert list(operation.effects.values_list("what", flat=True)) == ["registered", "scaled"]


def test_tasks_that_do_not_start_are_told_of(dr: World) -> None:
    dr.aws.cloud.ecs(WEST).blocked = "You've reached the limit on the number of vCPUs you can run concurrently"
    dr.aws.cloud.start()  # time stands still: it is the step's own that runs out
    operation = dr.run(*scaling(dr, 3, stable_seconds=1.0))
    assert operation.state == State.FAILED
    assert any("limit on the number of vCPUs" in line for line in lines(operation))


def test_it_has_to_answer_well_so_many_times_in_a_row(dr: World, site: Site) -> None:
    site.statuses.extend([503, 503, 200, 503])
    operation = dr.run(*scaling(dr, 1, url=site.url))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert len(site.asked) == 6


class TestNothingRuns:
    """The proof that the applications of the old side are stopped."""

    @pytest.fixture
    def running(self, dr: World) -> World:
        dr.run(*scaling(dr, 3))
        dr.forget_changes()
        return dr

    def test_all_of_it_is_stopped(self, running: World) -> None:
        operation = running.run(*scaling(running, 0))
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert counts(running) == (0, 0)
        assert running.aws.changes == {"UpdateService": 1}
        assert any("no task of the service pitchey-backend" in line for line in lines(operation))

    def test_a_task_that_is_told_to_stop_still_counts(self, running: World) -> None:
        running.aws.cloud.start(speed=60)
        begun = running.aws.cloud.clock.now()
        operation = running.run(*scaling(running, 0))
        assert (running.aws.cloud.clock.now() - begun).total_seconds() >= 60
        assert any("3 tasks of the service" in line and "(deactivating)" in line for line in lines(operation))

    @pytest.mark.parametrize("boundary", BOUNDARIES)
    def test_workers_die_at_every_boundary(self, running: World, boundary: str) -> None:
        die_once_at(boundary)
        assert running.run(*scaling(running, 0)).state == State.SUCCEEDED
        assert running.aws.changes == {"UpdateService": 1}

    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
    def test_a_call_that_goes_wrong(self, running: World, fault: Fault) -> None:
        running.once("UpdateService", fault)
        operation = running.run(*scaling(running, 0))
        assert operation.state == State.SUCCEEDED
        assert counts(running) == (0, 0)
        assert running.aws.changes == {"UpdateService": 1}
        assert "scaled" in operation.effects.values_list("what", flat=True)

    @pytest.mark.parametrize("how", ["refuses", "hangs"])
    def test_a_region_that_is_away_fails_nothing_and_a_person_is_asked(self, running: World, how: str) -> None:
        running.aws.cloud.cut(WEST, how)  # type: ignore[arg-type]
        operation = running.run(*scaling(running, 0, answer_seconds=0.1))
        assert operation.state == State.NEEDS_OPERATOR
        assert operation.steps.get(key="applications/pitchey-backend/scale").state == "succeeded"
        assert "nobody can see whether tasks of pitchey-backend in us-west-2 still run" in operation.outcome

    def test_what_comes_back_is_stopped_when_somebody_says_retry(self, running: World) -> None:
        running.aws.cloud.cut(WEST)
        operation = running.run(*scaling(running, 0))
        running.aws.cloud.mend(WEST)
        transitions.resolve(operation.pk, Actor(running.alice), "applications/pitchey-backend/down", Answer.RETRY)
        assert running.finish(operation).state == State.SUCCEEDED
        assert counts(running) == (0, 0)

    def test_a_service_that_is_not_there_proves_nothing(self, running: World) -> None:
        operation = running.run(*scaling(running, 0, service="pitchy"))
        assert operation.state == State.NEEDS_OPERATOR
        assert "There is no active service pitchy" in operation.outcome


class TestChecks:
    """What readiness asks of a region."""

    def account(self, world: World) -> Account:
        return Account(WEST, world.aws.url, "env:TEST_AWS_ACCESS_KEY", "env:TEST_AWS_SECRET_KEY")

    def test_the_image_is_in_the_region(self, dr: World) -> None:
        ecr = dr.client("ecr", WEST)
        ecr.create_repository(repositoryName="pitchey-backend")
        manifest = '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}'
        put = ecr.put_image(repositoryName="pitchey-backend", imageManifest=manifest, imageTag="1.5.0")["image"]
        there = image_present(self.account(dr), f"{REGISTRY}/pitchey-backend:1", put["imageId"]["imageDigest"])
        assert there.holds is True
        missing = image_present(self.account(dr), f"{REGISTRY}/pitchey-backend", DIGEST)
        assert missing.holds is False and "has no image sha256:1515" in missing.words

    def test_an_image_of_another_region_or_registry(self, dr: World) -> None:
        other = image_present(self.account(dr), RELEASE.image, DIGEST)
        assert other.holds is False and "is in us-east-1: replicate it to us-west-2" in other.words
        assert image_present(self.account(dr), "docker.io/library/nginx", DIGEST).holds is None
        dr.aws.cloud.cut(WEST)
        assert image_present(self.account(dr), f"{REGISTRY}/pitchey-backend", DIGEST).holds is None

    def test_fargate_s_quota(self, dr: World) -> None:
        assert fargate_left(self.account(dr), 12).holds is True
        dr.aws.cloud.quotas["fargate", "L-3032A538"] = 6
        found = fargate_left(self.account(dr), 12)
        assert found == Finding(False, "Fargate may use 6 vCPUs in us-west-2, and 12 are needed. Raise the quota.")
        dr.aws.will("GetServiceQuota", refused("AccessDeniedException", "no"))
        assert fargate_left(self.account(dr), 12).holds is None

    def test_permissions(self, dr: World) -> None:
        assert permissions(self.account(dr), ["ecs:UpdateService"]).holds is True
        dr.aws.cloud.denied.add("ecs:UpdateService")
        assert permissions(self.account(dr), ["ecs:UpdateService"] * 150).holds is False
        assert principal_of("arn:aws:sts::1:assumed-role/Control/i-1") == "arn:aws:iam::1:role/Control"
        assert principal_of("arn:aws:iam::1:user/control") == "arn:aws:iam::1:user/control"


def test_the_other_region_is_not_touched(dr: World) -> None:
    dr.aws.cloud.cut(EAST)
    assert dr.run(*scaling(dr, 1)).state == State.SUCCEEDED
