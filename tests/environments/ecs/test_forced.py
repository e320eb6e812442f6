"""With force_new_deployment the definition stays and the image's tag decides; what came is checked afterwards."""

import pytest

from controlplane.operations.states import State
from environments.drivers.ecs.service import EcsService
from tests.aws.company import CLUSTER, REPOSITORY, SERVICE, Company, Killed, digest, run, run_until_the_end, states
from tests.aws.ecs import Fate
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, Fault, throttled

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

LATEST = f"{REPOSITORY}:latest"


@pytest.fixture(autouse=True)
def by_tag(company: Company) -> None:
    """The guide's own way: the definition names pitchey-backend:latest, which was 1.4.0 and now is 1.5.0."""
    company.settings(force_new_deployment=True)
    company.aws.ecs.tags[LATEST] = digest("1.4.0")
    made = company.client.register_task_definition(
        family=SERVICE, containerDefinitions=[{"name": SERVICE, "image": LATEST, "memory": 512}]
    )
    company.former = made["taskDefinition"]["taskDefinitionArn"]
    company.client.update_service(cluster=CLUSTER, service=SERVICE, taskDefinition=company.former)
    for _ in range(4):
        company.client.describe_services(cluster=CLUSTER, services=[SERVICE])
    company.aws.taken.clear()
    company.aws.bodies.clear()
    company.aws.ecs.tags[LATEST] = digest("1.5.0")


def test_what_runs_is_asked_of_the_tasks(company: Company) -> None:
    found = company.running()
    assert (found.version, found.digest, found.image) == ("latest", digest("1.4.0"), LATEST)


def test_it_starts_the_same_definition_anew(company: Company) -> None:
    operation = company.deploy()
    assert operation.state == State.SUCCEEDED
    assert company.aws.changes == {"UpdateService": 1}
    assert company.aws.bodies["UpdateService"][0]["forceNewDeployment"] is True
    assert company.serving() == company.former
    assert company.running().digest == digest("1.5.0")
    assert list(states(operation)) == ["update", "stable", "image", "check"]


def test_a_tag_that_brings_something_else_is_a_failure(company: Company) -> None:
    company.aws.ecs.tags[LATEST] = digest("1.4.9")
    operation = company.deploy()
    assert operation.state == State.FAILED
    assert f"{LATEST} brought {digest('1.4.9')}, not {digest('1.5.0')}" in operation.outcome


@pytest.mark.parametrize("fault", [LOST_AFTER, LOST_BEFORE, throttled()], ids=["after", "before", "throttled"])
def test_it_is_forced_once(company: Company, fault: Fault) -> None:
    operation = company.ask()
    company.aws.will("UpdateService", fault)
    assert run(operation).state == State.SUCCEEDED
    assert company.aws.changes == {"UpdateService": 1}


def test_it_is_forced_once_though_the_worker_dies(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = company.ask()
    real = EcsService.update

    def dying(self: EcsService, *arguments: object, **values: object) -> str:
        monkeypatch.setattr(EcsService, "update", real)
        real(self, *arguments, **values)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setattr(EcsService, "update", dying)
    assert run_until_the_end(operation).state == State.SUCCEEDED
    assert company.aws.changes == {"UpdateService": 1}


def test_the_circuit_breaker_is_noticed_though_the_definition_is_the_same(company: Company) -> None:
    company.aws.ecs.fates.append(Fate.FAILS)
    operation = company.deploy()
    assert operation.state == State.FAILED
    assert "ECS went back to pitchey-backend:2 by itself" in operation.outcome
