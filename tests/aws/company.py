"""The guide's production on ECS: its cluster and service in the simulator, its rows in the database."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import boto3
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.models import Event, Operation, Step
from deployments.models import Release
from deployments.services import request_deployment
from environments.drivers import DRIVERS
from environments.drivers.base import Driver, Running, Target
from environments.models import Environment, Placement, Service
from environments.targets import target_of
from tests.aws.layer import Layer
from tests.aws.site import Site

CLUSTER, SERVICE = "pitchey-production", "pitchey-backend"
REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/pitchey-backend"
SECRET_KEY = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"


class Killed(BaseException):
    """The process is gone: nothing after it runs, not even clean-up that writes."""


def digest(version: str) -> str:
    """The image digest of a version."""
    return "sha256:" + version.replace(".", "").ljust(64, "0")


@dataclass
class Company:
    """The environment "production", with 1.4.0 in service, and what a test needs to deploy to it."""

    aws: Layer
    site: Site
    alice: Person
    placement: Placement
    client: Any
    former: str
    driver: Driver = field(default_factory=lambda: DRIVERS["ecs"])

    def settings(self, **values: Any) -> None:
        """Change the driver's settings."""
        environment = self.placement.environment
        environment.driver_settings = {**environment.driver_settings, **values}
        environment.save()

    @property
    def target(self) -> Target:
        """What the driver is told."""
        self.placement.refresh_from_db()
        return target_of(self.placement)

    def running(self) -> Running:
        """What the driver finds."""
        return self.driver.running(self.target)[0]

    def release(self, version: str) -> Release:
        """A release whose checks passed."""
        values = {"image": f"{REPOSITORY}:{version}", "digest": digest(version), "ci": "passed"}
        return Release.objects.get_or_create(service=self.placement.service, version=version, defaults=values)[0]

    def ask(self, version: str = "1.5.0") -> Operation:
        """Alice asks for a deployment; it needs no approval here."""
        return request_deployment(
            Actor(self.alice), environment=self.placement.environment, release=self.release(version), reason="because"
        )

    def deploy(self, version: str = "1.5.0") -> Operation:
        """Ask, and let one worker run it to its end."""
        return run(self.ask(version))

    def revisions(self) -> list[str]:
        """The family's revisions, oldest first."""
        return list(self.client.list_task_definitions(familyPrefix=SERVICE)["taskDefinitionArns"])

    def described(self, arn: str) -> dict[str, Any]:
        """One revision as AWS tells of it."""
        return dict(self.client.describe_task_definition(taskDefinition=arn)["taskDefinition"])

    def serving(self) -> str:
        """The revision of the service's current deployment."""
        return self.aws.ecs.services[CLUSTER, SERVICE].primary.definition


def run(operation: Operation, worker: str = "w1") -> Operation:
    """One worker's turn."""
    engine.run(operation.pk, worker)
    operation.refresh_from_db()
    return operation


def lose_the_worker(operation: Operation) -> None:
    """Time passes: the dead worker's lease runs out."""
    Operation.objects.filter(pk=operation.pk).update(lease_until=Now() - timedelta(seconds=1))


def run_until_the_end(operation: Operation) -> Operation:
    """Workers come and die until it has ended; each death costs a lease."""
    for number in range(6):
        try:
            engine.run(operation.pk, f"w{number}")
        except Killed:
            lose_the_worker(operation)
        operation.refresh_from_db()
        if operation.is_finished:
            return operation
    raise AssertionError(f"still {operation.state}: {operation.outcome}")


def lines(operation: Operation) -> list[str]:
    """The log, in order."""
    return list(Event.objects.filter(operation=operation).order_by("seq").values_list("text", flat=True))


def states(operation: Operation) -> dict[str, str]:
    """What became of each step."""
    return dict(Step.objects.filter(operation=operation).values_list("key", "state"))


def build(aws: Layer, site: Site, alice: Person) -> Company:
    """A service with three tasks of two containers, and the rows that describe it."""
    client = boto3.client(
        "ecs", region_name="us-east-1", endpoint_url=aws.url, aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_cluster(clusterName=CLUSTER)
    former = client.register_task_definition(
        family=SERVICE,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="1024",
        memory="2048",
        executionRoleArn="arn:aws:iam::123456789012:role/execution",
        containerDefinitions=[
            {
                "name": SERVICE,
                "image": f"{REPOSITORY}:1.4.0@{digest('1.4.0')}",
                "environment": [{"name": "PORT", "value": "8000"}],
                "dockerLabels": {"team": "platform"},
                "memory": 1024,
            },
            {"name": "log-router", "image": "fluent-bit:2", "memory": 128},
        ],
    )["taskDefinition"]["taskDefinitionArn"]
    client.create_service(cluster=CLUSTER, serviceName=SERVICE, taskDefinition=former, desiredCount=3)
    aws.taken.clear()
    aws.bodies.clear()
    environment = Environment.objects.create(
        slug="production",
        name="Production",
        url=site.url,
        driver="ecs",
        driver_settings={
            "region": "us-east-1",
            "cluster": CLUSTER,
            "container": SERVICE,
            "endpoint_url": aws.url,
            "access_key": "env:TEST_AWS_ACCESS_KEY",
            "secret_key": "env:TEST_AWS_SECRET_KEY",
            "poll_seconds": 0.01,
            "check_interval": 0.01,
            "retry_seconds": 0.01,
        },
    )
    placement = Placement.objects.create(
        environment=environment,
        service=Service.objects.create(slug=SERVICE, name="Backend"),
        instances=[{"name": SERVICE}],
        version="1.4.0",
        digest=digest("1.4.0"),
    )
    return Company(aws, site, alice, placement, client, former)
