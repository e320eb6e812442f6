from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.accounts.models import Person
from controlplane.operations.states import State
from deployments.models import Release
from environments.models import Environment, Placement, Service
from tests.environments.kubernetes.answering import deploy, the_clock_looks
from tests.environments.kubernetes.cluster import Cluster
from tests.environments.kubernetes.server import TOKEN, served
from tests.environments.kubernetes.town import IMAGE, NAME, QUICK, Town, digest_of_release


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


@pytest.fixture
def deployed(town: Town, alice: Person) -> Town:
    """1.4.0 by a deployment of alice, at which the clock has looked; 1.5.0 and 1.6.0 are known too."""
    for version in ("1.4.0", "1.5.0", "1.6.0"):
        Release.objects.create(
            service=town.placement.service, version=version, image=f"{IMAGE}:{version}", ci="passed",
            digest=digest_of_release(version),
        )  # fmt: skip
    assert deploy(town, alice).state == State.SUCCEEDED
    town.placement.refresh_from_db()
    town.fence = 10_000  # a hand comes after all workers
    assert the_clock_looks() == []
    return town
