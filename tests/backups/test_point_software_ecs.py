"""Two services of Amazon ECS come back with one restore point: neither is given what is noted of the other."""

from pathlib import Path

import pytest

from backups.models import Kind, Policy, PolicyClock, RestorePoint, Storage
from backups.restore_services import request_point_restore
from backups.services import request_restore_point
from controlplane.accounts.access import Actor
from controlplane.operations.states import State
from environments.models import Placement, Service
from environments.targets import target_of
from tests.aws.company import CLUSTER, REPOSITORY, Company, digest, run

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)
OTHER = "pitchey-worker"


def put_into_service(company: Company, version: str) -> None:
    """The other service, with this version, beside what anybody else does."""
    image = f"{REPOSITORY.replace('backend', 'worker')}:{version}@{digest(version)}"
    container = {"name": OTHER, "image": image, "memory": 64}
    made = company.client.register_task_definition(family=OTHER, containerDefinitions=[container])["taskDefinition"]
    if version == "1.4.0":
        company.client.create_service(
            cluster=CLUSTER, serviceName=OTHER, taskDefinition=made["taskDefinitionArn"], desiredCount=1
        )
    else:
        company.client.update_service(cluster=CLUSTER, service=OTHER, taskDefinition=made["taskDefinitionArn"])


@pytest.fixture
def other(company: Company) -> Placement:
    """Beside the backend, with a task definition of its own."""
    put_into_service(company, "1.4.0")
    return Placement.objects.create(
        environment=company.placement.environment, service=Service.objects.create(slug=OTHER, name="Worker"),
        instances=[{"name": OTHER}], version="1.4.0", digest=digest("1.4.0"), driver_settings={"container": OTHER},
    )  # fmt: skip


def test_each_gets_its_own(company: Company, other: Placement, data_dir: Path) -> None:
    storage = Storage.objects.create(slug="archive", kind="folder", settings={"path": "backups"})
    policy = Policy.objects.create(environment=company.placement.environment, slug="configuration", storage=storage,
                                   kind=Kind.CONFIGURATION, schedule="0 2 * * *")  # fmt: skip
    PolicyClock.objects.create(policy=policy)
    alice = Actor(company.alice)
    made = run(request_restore_point(alice, company.placement.environment, name="before", reason="because"))
    assert made.state == State.SUCCEEDED, made.outcome
    company.deploy("1.5.0")
    put_into_service(company, "1.5.0")
    assert company.driver.running(target_of(other))[0].digest == digest("1.5.0")
    operation = run(request_point_restore(alice, RestorePoint.objects.get(), database="", reason="because"))
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert company.running().image == f"{REPOSITORY}@{digest('1.4.0')}"
    found = company.driver.running(target_of(other))[0]
    assert found.image == f"{REPOSITORY.replace('backend', 'worker')}@{digest('1.4.0')}"
    assert set(Placement.objects.values_list("version", "changed_in")) == {("1.4.0", operation.pk)}
