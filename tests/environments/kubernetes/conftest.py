from collections.abc import Iterator
from pathlib import Path

import pytest

from environments.models import Environment, Placement, Service
from tests.environments.kubernetes.cluster import Cluster
from tests.environments.kubernetes.server import TOKEN, served
from tests.environments.kubernetes.town import NAME, QUICK, Town


@pytest.fixture
def town(data_dir: Path, db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """An environment in a cluster that nothing was deployed to yet, with one plain and one secret variable."""
    monkeypatch.setenv("CLUSTER_TOKEN", TOKEN)
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2-sentinel")
    with served(Cluster()) as api:
        settings = {**QUICK, "access": "token", "server": api.url, "token": "env:CLUSTER_TOKEN",
                    "namespace": "production"}  # fmt: skip
        environment = Environment.objects.create(
            slug="production", name="Production", driver="kubernetes", driver_settings=settings
        )
        environment.configuration.create(key="LOG_LEVEL", value="info")
        environment.configuration.create(key="DATABASE_PASSWORD", secret="env:DATABASE_PASSWORD")
        service = Service.objects.create(slug=NAME, name="Pitchey backend")
        placement = Placement.objects.create(
            environment=environment, service=service, instances=[{"name": "production-1"}]
        )
        yield Town(placement, api)
