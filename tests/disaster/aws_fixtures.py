"""Fixtures: `cloud_world`, the company's database in two regions of the simulated AWS, with time that runs fast."""

from collections.abc import Iterator
from typing import Any

import pytest

from backups.disaster.databases import DATABASES
from backups.disaster.databases.rds import RdsDatabase
from backups.disaster.traffic import TRAFFIC
from controlplane.accounts.models import Person
from controlplane.operations import boundaries
from environments.drivers import DRIVERS
from tests.aws.layer import Layer
from tests.disaster.aws_world import World, build, register

pytest_plugins = ["tests.aws.fixtures"]


@pytest.fixture
def cloud_world(aws: Layer, alice: Person, settings: Any) -> Iterator[World]:
    """Nobody waits longer than a hundredth of a second between two looks."""
    settings.CLOUD_POLL_SECONDS = 0.01
    database = DATABASES["rds"]
    assert isinstance(database, RdsDatabase)
    parts = [one.steps for one in DATABASES.values()] + [one.steps for one in TRAFFIC.values()]
    register([*parts, *(driver.steps for driver in DRIVERS.values())])
    yield build(aws, alice, database)
    boundaries.listeners.clear()
