"""A service of ECS could go back while its revision is active and ECR has the image."""

import json
from typing import Any

import boto3
import pytest

from controlplane.operations.errors import StepError
from controlplane.operations.gates import Outcome
from deployments.models import Release
from environments.drivers.base import Kept, Software
from tests.aws.company import REPOSITORY, Company, digest

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)
MEDIA = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": MEDIA, "config": {"digest": digest("0")}, "layers": []})


@pytest.fixture
def ecr(company: Company) -> Any:
    client = boto3.client(
        "ecr", region_name="us-east-1", endpoint_url=company.aws.url, aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_repository(repositoryName="pitchey-backend")
    return client


@pytest.fixture
def running(company: Company, ecr: Any) -> Software:
    """A release whose image was pushed, deployed."""
    pushed = ecr.put_image(repositoryName="pitchey-backend", imageManifest=MANIFEST, imageTag="2.0.0")
    found = pushed["image"]["imageId"]["imageDigest"]
    image = f"{REPOSITORY}:2.0.0"
    Release.objects.create(service=company.placement.service, version="2.0.0", image=image, digest=found, ci="passed")
    company.deploy("2.0.0")
    return Software("2.0.0", image, found)


def kept(company: Company, software: Software) -> Kept:
    found: Kept = company.driver.kept(company.target, software)  # type: ignore[attr-defined]
    return found


def test_while_it_is_active_and_pushed(company: Company, running: Software) -> None:
    found = kept(company, running)
    assert found.outcome is Outcome.PASSED, found.words
    assert f"is active and its image is in {REPOSITORY}, by its digest" in found.words


def test_an_image_that_was_deleted(company: Company, running: Software, ecr: Any) -> None:
    ecr.batch_delete_image(repositoryName="pitchey-backend", imageIds=[{"imageDigest": running.digest}])
    found = kept(company, running)
    assert (found.outcome, "does not have the image of 2.0.0 any more" in found.words) == (Outcome.FAILED, True)


def test_a_revision_that_was_deregistered(company: Company, running: Software) -> None:
    company.client.deregister_task_definition(taskDefinition=company.serving())
    found = kept(company, running)
    assert (found.outcome, "was deregistered" in found.words) == (Outcome.FAILED, True)


def test_another_image_than_was_deployed(company: Company, running: Software) -> None:
    found = kept(company, Software("1.5.0", running.image, digest("1.5.0")))
    assert (found.outcome, "with another image than 1.5.0" in found.words) == (Outcome.FAILED, True)


def test_an_aws_that_does_not_answer_proves_nothing(company: Company, running: Software) -> None:
    company.settings(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(StepError, match="cannot be reached") as told:
        kept(company, running)
    assert not told.value.permanent
