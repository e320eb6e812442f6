"""What people do to a service of ECS behind the control plane's back, and how it stands then."""

from typing import Any

from controlplane.accounts.access import Actor
from controlplane.operations.models import Operation
from deployments.adoption import request_adoption
from environments.drivers.base import Comparable, Difference, Software
from tests.aws.company import CLUSTER, REPOSITORY, SERVICE, Company, digest, run

GROUP = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/6d0ecf831eec9f09"
BALANCER = {"targetGroupArn": GROUP, "containerName": SERVICE, "containerPort": 3000}


def settle(company: Company) -> None:
    """Time passes in ECS."""
    for _ in range(20):
        company.client.describe_services(cluster=CLUSTER, services=[SERVICE])


def update(company: Company, **values: Any) -> None:
    """Somebody changes the service, and waits."""
    company.client.update_service(cluster=CLUSTER, service=SERVICE, **values)
    settle(company)
    forget_changes(company)


def revise(company: Company, **changes: Any) -> str:
    """Somebody registers a copy of what runs, with something else in its first container, and brings it in."""
    given = company.described(company.serving())
    own = ("taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities", "registeredAt",
           "registeredBy")  # fmt: skip
    copy = {key: value for key, value in given.items() if key not in own}
    copy["containerDefinitions"][0].update(changes)
    arn = company.client.register_task_definition(**copy)["taskDefinition"]["taskDefinitionArn"]
    update(company, taskDefinition=arn)
    return str(arn)


def forget_changes(company: Company) -> None:
    """What was changed so far is not what the test counts."""
    company.aws.taken.clear()
    company.aws.bodies.clear()


def balance(company: Company) -> None:
    """The service has a target group."""
    update(company, loadBalancers=[BALANCER])


def lose(company: Company) -> str:
    """Somebody deregisters a task; returns its address."""
    balancing = company.aws.cloud.balancing
    (gone, *others) = balancing.held("us-east-1", GROUP)
    balancing.hold("us-east-1", GROUP, others)
    return f"{gone[0]}:{gone[1]}"


def found(company: Company, version: str = "1.5.0") -> list[Difference]:
    """What differs from that version. Raises PartlyUnknown."""
    deployed = Software(version, f"{REPOSITORY}:{version}", digest(version))
    assert isinstance(company.driver, Comparable)
    return company.driver.differences(company.target, deployed)


def differences(company: Company, version: str = "1.5.0") -> list[tuple[str, str, str]]:
    """The same, as what was wanted and what was found."""
    return [(one.what, one.wanted, one.found) for one in found(company, version)]


def desired(company: Company) -> int:
    """How many tasks are asked for."""
    return company.aws.ecs.services[CLUSTER, SERVICE].desired


def adopt(company: Company) -> Operation:
    """Alice adopts what runs; it needs no approval here."""
    company.placement.refresh_from_db()
    return run(request_adoption(Actor(company.alice), company.placement, reason="the hand was right"))
