"""What a service of ECS runs beside what was deployed: another image, too few tasks, a revision made by hand."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.clock.registry import duties
from environments.drift import EVERY
from environments.models import DriftWatch
from tests.aws.company import CLUSTER, REPOSITORY, SERVICE, Company, digest
from tests.environments.ecs.by_hand import found as differences
from tests.environments.ecs.by_hand import revise

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_after_a_deployment_nothing_differs(company: Company) -> None:
    company.deploy("1.5.0")
    assert differences(company) == []


def test_another_image_is_said_with_its_revision(company: Company) -> None:
    company.deploy("1.5.0")
    arn = revise(company, image=f"{REPOSITORY}@{digest('1.6.0')}")
    (found, *_) = differences(company)
    assert (found.what, found.subject) == ("image", SERVICE)
    assert digest("1.6.0") in found.found
    assert arn.rpartition("/")[2] in found.found


def test_a_revision_made_by_hand_is_another_environment_and_values_are_never_said(company: Company) -> None:
    company.deploy("1.5.0")
    revise(company, environment=[{"name": "API_KEY", "value": "very-secret-value"}])
    found = [one for one in differences(company) if one.what == "environment"]
    assert len(found) == 1
    assert "API_KEY" in found[0].found
    assert "very-secret-value" not in found[0].found


def test_no_task_asked_for_is_a_count(company: Company) -> None:
    company.deploy("1.5.0")
    company.client.update_service(cluster=CLUSTER, service=SERVICE, desiredCount=0)
    assert ("count", "no task is asked for") in [(one.what, one.found) for one in differences(company)]


def test_the_clock_puts_it_on_the_board(company: Company, client: Client, dana: Person) -> None:
    """Within the 60 seconds that a place may go without a look."""
    company.deploy("1.5.0")
    revise(company, image=f"{REPOSITORY}@{digest('1.6.0')}")
    (duty,) = (one for one in duties() if one.name == "look for drift")
    DriftWatch.objects.update(due_at=Now() - timedelta(seconds=1))
    assert EVERY < 60 and duty.function() == 1
    client.force_login(dana)
    assert "production differs from what was deployed" in client.get("/").content.decode()
