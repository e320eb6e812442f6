"""Fixtures: `world`, a company in two regions whose old side does not answer people; `kit`, its kit in a folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws.layer import Layer
from tests.aws.site import Site
from tests.disaster.kit_world import World


@pytest.fixture
def world(db: None, aws: Layer, tmp_path: Path) -> Iterator[World]:
    """See `kit_world.World`."""
    old, new = Site(), Site()
    old.usual = 503
    yield World(aws, old, new, tmp_path).build()
    old.close()
    new.close()


@pytest.fixture
def kit(world: World) -> Path:
    """The kit as somebody fetched it before the region went away."""
    return world.unpack()
