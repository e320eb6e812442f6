"""Fixtures: `aws`, the simulator as new; `site`, a health URL; `company`, production on ECS with 1.4.0 in service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.accounts.models import Person
from controlplane.operations import boundaries
from tests.aws.company import SECRET_KEY, Company, build
from tests.aws.layer import Layer, Server
from tests.aws.site import Site


@pytest.fixture(scope="session")
def aws_server() -> Iterator[Server]:
    """One for the run; it starts with the first test that needs it."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def aws(aws_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Layer:
    """The simulator, with nothing in it; this machine's own AWS configuration is out of reach."""
    aws_server.layer.reset()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("TEST_AWS_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("TEST_AWS_SECRET_KEY", SECRET_KEY)
    return aws_server.layer


@pytest.fixture
def site() -> Iterator[Site]:
    """The service's health URL."""
    site = Site()
    yield site
    site.close()


@pytest.fixture
def company(aws: Layer, site: Site, alice: Person) -> Iterator[Company]:
    """The guide's production."""
    yield build(aws, site, alice)
    boundaries.listeners.clear()
