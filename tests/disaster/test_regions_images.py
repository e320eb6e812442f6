"""Is the image there, where the other side pulls from? ECR says; a registry in the region that fails does not count."""

from typing import Any

import boto3
import pytest

from backups.disaster.images import image_at
from tests.aws.company import CLUSTER, REPOSITORY, SECRET_KEY, SERVICE, Company
from tests.aws.layer import denied

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def registry(company: Company) -> Any:
    """The repository that production pulls from, with an image; its digest."""
    client = boto3.client("ecr", region_name="us-east-1", endpoint_url=company.aws.url,
                          aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key=SECRET_KEY)  # fmt: skip
    client.create_repository(repositoryName="pitchey-backend")
    media = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = f'{{"schemaVersion": 2, "mediaType": "{media}", "config": {{"digest": "sha256:1"}}, "layers": []}}'
    image = client.put_image(repositoryName="pitchey-backend", imageManifest=manifest, imageTag="1.4.0")["image"]
    return image["imageId"]["imageDigest"]


def test_it_is_there(company: Company, registry: str) -> None:
    found = image_at("ecs", company.target, registry)
    assert (found.outcome, found.words) == ("ready", "repository pitchey-backend in us-east-1")


def test_it_is_not_there(company: Company, registry: str) -> None:
    found = image_at("ecs", company.target, "sha256:" + "0" * 64)
    assert (found.outcome, "does not have it" in found.words) == ("not ready", True), found.words


def test_without_its_repository(company: Company) -> None:
    found = image_at("ecs", company.target, "sha256:" + "0" * 64)
    assert (found.outcome, "pitchey-backend" in found.words) == ("not ready", True), found.words


def test_a_registry_in_the_region_that_fails_is_no_help(company: Company, registry: str) -> None:
    """The other side pulls from production's registry, as a copied task definition does."""
    west = boto3.client("ecs", region_name="us-west-2", endpoint_url=company.aws.url,
                        aws_access_key_id="a", aws_secret_access_key="b")  # fmt: skip
    west.create_cluster(clusterName=CLUSTER)
    containers: Any = [{"name": SERVICE, "image": f"{REPOSITORY}:1.4.0@{registry}", "memory": 128}]
    west.register_task_definition(family=SERVICE, containerDefinitions=containers)
    west.create_service(cluster=CLUSTER, serviceName=SERVICE, taskDefinition=SERVICE, desiredCount=0)
    company.settings(region="us-west-2")
    found = image_at("ecs", company.target, registry)
    assert (found.outcome, "pulled from us-east-1" in found.words) == ("not ready", True), found.words


def test_who_may_not_ask_does_not_know(company: Company, registry: str) -> None:
    company.aws.will("DescribeImages", denied("ecr:DescribeImages"))
    found = image_at("ecs", company.target, registry)
    assert (found.outcome, "ecr:DescribeImages" in found.words) == ("unknown", True)


def test_what_nobody_deployed_is_not_known(company: Company) -> None:
    assert image_at("ecs", company.target, "").outcome == "unknown"


def test_the_local_driver_needs_none(company: Company) -> None:
    assert image_at("local", company.target, "sha256:1").outcome == "ready"
