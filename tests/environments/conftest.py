from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.embedded.processes import free_port
from environments.models import Environment, Placement, Service
from tests.backups.registries import Content, Wire, registry
from tests.environments.fleet import QUICK, Fleet

MakeFleet = Callable[..., Fleet]


@pytest.fixture
def fleet(data_dir: Path, db: None) -> Iterator[MakeFleet]:
    """Makes an environment with real instances, which are all stopped after the test."""
    made: list[Fleet] = []

    def make(count: int = 3, slug: str = "production", **settings: Any) -> Fleet:
        environment = Environment.objects.create(
            slug=slug, name=slug.title(), driver="local", driver_settings={**QUICK, **settings}
        )
        service, _ = Service.objects.get_or_create(slug="pitchey-backend", defaults={"name": "Pitchey backend"})
        instances = [
            {"name": f"{slug}-{number}", "address": f"http://127.0.0.1:{free_port()}"} for number in range(1, count + 1)
        ]
        placement = Placement.objects.create(environment=environment, service=service, instances=instances)
        made.append(Fleet(placement))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def content() -> Content:
    """What a registry of the test's own holds."""
    return Content()


@pytest.fixture
def wire() -> Wire:
    """How it answers, and what it was asked."""
    return Wire()


@pytest.fixture
def repository(content: Content, wire: Wire) -> Iterator[str]:
    """The address of a repository there."""
    with registry(content, wire) as url:
        yield url.removeprefix("http://") + "/team/api"
