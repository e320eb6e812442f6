"""A place on each driver to be deployed to, with secrets that are easily found, and with somebody who leaks before it.

A good deployment, and bad ones that say a secret: in the last words of a process, in the log of a container, in what
AWS or a registry answers.
"""

import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from deployments.models import Policy, Release
from deployments.services import request_deployment
from environments.models import ConfigEntry, Environment, Placement, Service
from tests.aws.company import SECRET_KEY, Company
from tests.aws.layer import refused
from tests.deployments.leaky import leaking
from tests.environments.hosts.conftest import OwnPodman
from tests.environments.hosts.doors import SSHD, Authority, Sshd
from tests.environments.hosts.park import IMAGE
from tests.environments.kubernetes.cluster import CRASHES
from tests.environments.kubernetes.server import TOKEN
from tests.environments.kubernetes.town import NAME, Town, digest_of_release

PASSWORD = "sentinel/passwörd+1?x"  # where spelling it matters
KEY = "sentinel-key-of-stripe-4711"
PLAIN = "this-is-no-secret-8642"
SECRETS = (PASSWORD, KEY)
REGISTRY_PASSWORD = "sentinel-of-the-registry-97"
ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"


@pytest.fixture
def secrets(data_dir: Path) -> Path:
    """The folder of secret files, with the sentinels in it."""
    folder = data_dir / "secrets"
    folder.mkdir(exist_ok=True)
    (folder / "password").write_text(PASSWORD)
    (folder / "stripe").write_text(KEY)
    return folder


def configure(environment: Environment) -> None:
    """A secret, one inside of another value, and one that is none."""
    values: list[dict[str, str]] = [
        {"key": "DB_PASSWORD", "secret": "file:password"},
        {"key": "STRIPE_KEY", "secret": "file:stripe"},
        {"key": "DATABASE_URL", "value": "postgres://pitchey:${DB_PASSWORD}@db/pitchey"},
        {"key": "GREETING", "value": PLAIN},
    ]
    ConfigEntry.objects.bulk_create(ConfigEntry(environment=environment, **one) for one in values)


def ask(person: Person, environment: Environment, version: str, digest: str = "", image: str = "i") -> Operation:
    """Ask for a deployment."""
    release, _ = Release.objects.get_or_create(
        service=Service.objects.get(), version=version,
        defaults={"image": image, "digest": digest or "sha256:" + version.replace(".", "") * 21 + "a", "ci": "passed"},
    )  # fmt: skip
    return request_deployment(Actor(person), environment=environment, release=release, reason="because")


@dataclass
class Place:
    """An environment on one of the drivers.

    good, bad: ask for such a deployment. secrets: the driver's own. leaks: each puts the proxy before one thing that
    the driver speaks with, as long as the test lasts.
    """

    environment: Environment
    good: Callable[[], Operation]
    bad: list[Callable[[], Operation]]
    secrets: list[str] = field(default_factory=list)
    leaks: list[Callable[[], None]] = field(default_factory=list)

    def set(self, **values: Any) -> None:
        """Change the driver's settings."""
        self.environment.driver_settings = {**self.environment.driver_settings, **values}
        self.environment.save()


@pytest.fixture
def local(request: pytest.FixtureRequest, alice: Person) -> Place:
    environment = request.getfixturevalue("fleet")(1).placement.environment

    def bad() -> Operation:
        says = "import os; print('cannot reach', os.environ['DATABASE_URL'], os.environ['STRIPE_KEY'])"
        made.set(program=[sys.executable, "-c", says])
        return ask(alice, environment, "1.5.1")

    made = Place(environment, lambda: ask(alice, environment, "1.5.0"), [bad])
    return made


@pytest.fixture
def ecs(request: pytest.FixtureRequest, proxy: str) -> Place:
    company: Company = request.getfixturevalue("company")

    def bad() -> Operation:
        words = f"cannot start with {KEY} at postgres://pitchey:{PASSWORD}@db"
        company.aws.will("RegisterTaskDefinition", *[refused("ClientException", words)] * 5)
        return company.ask("1.5.1")

    made = Place(company.placement.environment, lambda: company.ask("1.5.0"), [bad], [SECRET_KEY, ACCESS_KEY])
    made.leaks = [lambda: made.set(endpoint_url=f"http://{proxy}")]
    return made


@pytest.fixture
def hosts(request: pytest.FixtureRequest, alice: Person, secrets: Path, tmp_path: Path) -> Iterator[Place]:
    """Behind SSH; then a leaky engine behind TLS, and a registry that leaks from the beginning."""
    if not SSHD:
        pytest.skip("openssh-server is not installed")
    podman: OwnPodman = request.getfixturevalue("own_podman")
    (secrets / "registry").write_text(REGISTRY_PASSWORD)
    authority = Authority(secrets)
    for name in ("engine", "client"):
        authority.issue(name)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(secrets / "engine.pem", secrets / "engine.key")
    with ExitStack() as stack:
        sshd = stack.enter_context(Sshd(secrets).serving())
        engine_proxy = stack.enter_context(leaking(tls=tls))
        registry = stack.enter_context(leaking(podman.registry_port))
        ssh = {
            "engine": f"ssh://root@127.0.0.1:{sshd.port}", "socket": str(podman.podman.socket),
            "host_key": sshd.public(), "key": "file:user", "instances": ["production-1"],
        }  # fmt: skip
        grounds = request.getfixturevalue("park")(
            1, hosts={"server1": ssh}, registry={"host": registry, "username": "robot", "password": "file:registry"}
        )
        environment = grounds.placement.environment

        def bad() -> Operation:
            says = f"cannot reach postgres://pitchey:{PASSWORD}@db with {KEY}"
            digest = podman.podman.import_sample(IMAGE, "1.9.0", ends=3, say=says)
            return ask(alice, environment, "1.9.0", digest, f"{IMAGE}:1.9.0")

        def unpulled() -> Operation:
            return ask(alice, environment, "1.9.1", image=f"{registry}/pitchey-backend:1.9.1")

        def leaky_engine() -> None:
            keys = {"ca": "file:authority.pem", "certificate": "file:client.pem", "key": "file:client.key"}
            there = {"engine": f"tls://{engine_proxy}", "instances": ["production-1"], **keys}
            made.set(hosts={"server1": there})

        def leaky_registry() -> None:
            """The host answers, and has not what ran there."""
            made.set(hosts={"server1": ssh})
            Policy.objects.create(environment=environment, way_back="required")
            pulled = Release.objects.get(version="1.9.1")
            Placement.objects.update(version=pulled.version, digest=pulled.digest)

        def good() -> Operation:
            release = grounds.images.release("1.5.0")
            return ask(alice, environment, "1.5.0", release.digest, release.image)

        keys = [line for name in ("user", "client.key") for line in (secrets / name).read_text().splitlines()[1:-1]]
        made = Place(
            environment, good, [bad, unpulled], [REGISTRY_PASSWORD, *(line for line in keys if len(line) > 20)]
        )
        made.leaks = [leaky_engine, leaky_registry]
        yield made


@pytest.fixture
def kubernetes(request: pytest.FixtureRequest, alice: Person, proxy: str) -> Place:
    there: Town = request.getfixturevalue("town")
    environment = there.placement.environment
    environment.configuration.all().delete()

    def deployment(version: str) -> Operation:
        return ask(alice, environment, version, digest_of_release(version), f"registry.test/{NAME}:{version}")

    def bad() -> Operation:
        there.cluster.logs = [f"cannot reach postgres://pitchey:{PASSWORD}@db with {KEY}", f"Bearer {TOKEN}"]
        there.cluster.behaviours[digest_of_release("1.5.1")] = CRASHES
        return deployment("1.5.1")

    made = Place(environment, lambda: deployment("1.5.0"), [bad], [TOKEN])
    made.leaks = [lambda: made.set(server=f"http://{proxy}")]
    return made


@pytest.fixture
def proxy() -> Iterator[str]:
    with leaking() as address:
        yield address
