import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controlplane.embedded.podman import Podman, sample_container, why_not
from controlplane.embedded.processes import free_port
from environments.balancers import BALANCERS
from environments.models import Environment, Placement, Service
from tests.environments.hosts.docker_daemon import DOCKERD, DockerDaemon
from tests.environments.hosts.paper_balancer import PaperBalancer
from tests.environments.hosts.park import QUICK, Images, Park

MakePark = Callable[..., Park]

# Runs a test with each of the two engines that the driver speaks with.
BOTH_ENGINES = pytest.mark.parametrize("images", ["in_podman", "in_docker"], indirect=True)
# Podman waits for the disk with each change of a container, which no test needs.
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class OwnPodman:
    """A Podman, and the port at which it takes a registry of the tests without encryption."""

    podman: Podman
    registry_port: int


@pytest.fixture(scope="session")
def own_podman() -> Iterator[OwnPodman]:
    """A real one for all tests of a process; skipped with the reason where there is none that runs containers."""
    if words := why_not():
        pytest.skip(words)
    folder = Path(tempfile.mkdtemp(prefix="cp-podman-", dir=MEMORY if MEMORY.is_dir() else None))
    podman, port = Podman(folder / "podman"), free_port()
    registries = folder / "registries.conf"
    registries.write_text(f'[[registry]]\nlocation = "127.0.0.1:{port}"\ninsecure = true\n')
    try:
        podman.start(str(registries))
        if words := podman.try_it():
            pytest.skip(f"Podman cannot run containers here: {words}")
        yield OwnPodman(podman, port)
    finally:
        podman.delete()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def in_podman(own_podman: OwnPodman) -> Images:
    return Images(own_podman.podman)


@pytest.fixture(scope="session")
def in_docker() -> Iterator[Images]:
    """A real Docker for all tests of a process; skipped with the reason where none can be started."""
    if not DOCKERD:
        pytest.skip("docker.io is not installed")
    if os.geteuid() != 0:
        pytest.skip("dockerd is started by root only")
    folder = Path(tempfile.mkdtemp(prefix="cp-docker-", dir=MEMORY if MEMORY.is_dir() else None))
    daemon = DockerDaemon(folder)
    try:
        if words := daemon.start():
            pytest.skip(f"dockerd does not start here: {words}")
        yield Images(daemon, daemon.image)
    finally:
        daemon.delete()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def images(request: pytest.FixtureRequest) -> Images:
    """What the hosts of `park` run: in Podman, or in the engine that the test is marked with, see BOTH_ENGINES."""
    found: Images = request.getfixturevalue(getattr(request, "param", "in_podman"))
    return found


@pytest.fixture
def park(images: Images, data_dir: Path, db: None) -> Iterator[MakePark]:
    """Makes an environment on hosts, whose containers are all removed after the test."""

    def make(count: int = 3, slug: str = "production", **settings: Any) -> Park:
        names = [f"{slug}-{number}" for number in range(1, count + 1)]
        state = data_dir / "state"
        for name in names:
            (state / name).mkdir(parents=True, exist_ok=True)
        hosts = {
            f"server{number}": {"engine": images.where.url, "instances": [name]} for number, name in enumerate(names, 1)
        }
        container = sample_container(state)
        environment = Environment.objects.create(
            slug=slug, name=slug.title(), driver="hosts",
            driver_settings={**QUICK, "hosts": hosts, "container": container, **settings},
        )  # fmt: skip
        service, _ = Service.objects.get_or_create(slug="pitchey-backend", defaults={"name": "Pitchey backend"})
        instances = [{"name": name, "address": f"http://127.0.0.1:{free_port()}"} for name in names]
        placement = Placement.objects.create(environment=environment, service=service, instances=instances)
        return Park(placement, images, state)

    yield make
    images.where.remove_all()


@pytest.fixture
def balancer(monkeypatch: pytest.MonkeyPatch) -> PaperBalancer:
    """One of paper, known to the driver by the kind "paper"."""
    paper = PaperBalancer()
    monkeypatch.setitem(BALANCERS, "paper", paper)
    return paper
