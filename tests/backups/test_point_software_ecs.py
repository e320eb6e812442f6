"""Services of Amazon ECS come back with a restore point: each gets its own; what a tag decides is left to it."""

from pathlib import Path

import pytest

from backups.models import Kind, Policy, PolicyClock, RestorePoint, Storage
from backups.plans import steps_by_service
from backups.restore_services import plan_of_point, request_point_restore
from backups.services import request_restore_point
from controlplane.accounts.access import Actor
from controlplane.operations.models import Operation
from controlplane.operations.plans import ALREADY
from controlplane.operations.states import State
from environments.models import Placement, Service
from environments.targets import target_of
from tests.aws.company import CLUSTER, REPOSITORY, SERVICE, Company, digest, run

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)
OTHER = "pitchey-worker"
LATEST = f"{REPOSITORY}:latest"


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


@pytest.fixture
def configuration(company: Company, data_dir: Path) -> Policy:
    """What a restore point needs: a policy."""
    storage = Storage.objects.create(slug="archive", kind="folder", settings={"path": "backups"})
    policy = Policy.objects.create(environment=company.placement.environment, slug="configuration", storage=storage,
                                   kind=Kind.CONFIGURATION, schedule="0 2 * * *")  # fmt: skip
    PolicyClock.objects.create(policy=policy)
    return policy


def make_point(company: Company) -> RestorePoint:
    """Of everything, now."""
    environment = company.placement.environment
    made = run(request_restore_point(Actor(company.alice), environment, name="before", reason="because"))
    assert made.state == State.SUCCEEDED, made.outcome
    return RestorePoint.objects.get()


def restore(company: Company, point: RestorePoint) -> Operation:
    """All of it."""
    operation = run(request_point_restore(Actor(company.alice), point, database="", reason="because"))
    assert operation.state == State.SUCCEEDED, operation.outcome
    return operation


def test_each_gets_its_own(company: Company, other: Placement, configuration: Policy) -> None:
    point = make_point(company)
    company.deploy("1.5.0")
    put_into_service(company, "1.5.0")
    assert company.driver.running(target_of(other))[0].digest == digest("1.5.0")
    operation = restore(company, point)
    assert company.running().image == f"{REPOSITORY}@{digest('1.4.0')}"
    found = company.driver.running(target_of(other))[0]
    assert found.image == f"{REPOSITORY.replace('backend', 'worker')}@{digest('1.4.0')}"
    assert set(Placement.objects.values_list("version", "changed_in")) == {("1.4.0", operation.pk)}


def test_what_a_tag_decides_is_not_brought_back(company: Company, configuration: Policy) -> None:
    """No digest can be chosen there: a rollout would fail for good, after the data is back."""
    let_a_tag_decide(company, "1.4.0")
    point = make_point(company)
    assert plan_of_point(point, "").changes[-1] == {
        "what": SERVICE, "from": f"1.4.0 {digest('1.4.0')}", "to": ALREADY,
    }  # fmt: skip
    company.aws.ecs.tags[LATEST] = digest("1.5.0")
    assert company.deploy("1.5.0").state == State.SUCCEEDED
    company.aws.taken.clear()
    plan = plan_of_point(point, "")
    assert steps_by_service(plan.as_json()) == {} and SERVICE not in plan.summary
    assert plan.changes[-1]["what"] == SERVICE
    assert plan.changes[-1]["to"] == (
        f"not brought back: the tag in {SERVICE} decides what runs there (force_new_deployment); point it to 1.4.0, "
        "then deploy that"
    )
    restore(company, point)
    assert not company.aws.changes and company.running().digest == digest("1.5.0")
    assert Placement.objects.get().version == "1.5.0"


def let_a_tag_decide(company: Company, version: str) -> None:
    """The guide's own way: the task definition names pitchey-backend:latest, which is this version."""
    company.settings(force_new_deployment=True)
    company.aws.ecs.tags[LATEST] = digest(version)
    container = {"name": SERVICE, "image": LATEST, "memory": 512}
    made = company.client.register_task_definition(family=SERVICE, containerDefinitions=[container])
    definition = made["taskDefinition"]["taskDefinitionArn"]
    company.client.update_service(cluster=CLUSTER, service=SERVICE, taskDefinition=definition)
    for _ in range(4):
        company.client.describe_services(cluster=CLUSTER, services=[SERVICE])
