"""A deployment with each driver, with secrets that are easily found: they are in nothing that comes out of it.

Each driver deploys once well and once badly, and the bad one says a secret: in the last words of a process, in the log
of a container, in what AWS answers.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.models import Operation
from deployments.models import Release
from deployments.services import request_deployment
from environments.models import ConfigEntry, Environment, Service
from tests.aws.company import Company
from tests.aws.layer import refused
from tests.deployments.outputs import Found, Listener, answers, database, pages, where
from tests.environments.conftest import fleet as fleet  # noqa: PLC0414 (a fixture)
from tests.environments.hosts.conftest import images as images  # noqa: PLC0414 (a fixture)
from tests.environments.hosts.conftest import in_podman as in_podman  # noqa: PLC0414 (a fixture)
from tests.environments.hosts.conftest import own_podman as own_podman  # noqa: PLC0414 (a fixture)
from tests.environments.hosts.conftest import park as park  # noqa: PLC0414 (a fixture)
from tests.environments.hosts.park import IMAGE
from tests.environments.kubernetes.cluster import CRASHES
from tests.environments.kubernetes.conftest import town as town  # noqa: PLC0414 (a fixture)
from tests.environments.kubernetes.server import TOKEN
from tests.environments.kubernetes.town import NAME, Town, digest_of_release

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

PASSWORD = "sentinel/passwörd+1?x"  # where spelling it matters
KEY = "sentinel-key-of-stripe-4711"
PLAIN = "this-is-no-secret-8642"
SECRETS = (PASSWORD, KEY, TOKEN)


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


def deploy(person: Person, environment: Environment, version: str, digest: str = "", image: str = "i") -> Operation:
    """Asked for and carried out, whatever comes of it."""
    release, _ = Release.objects.get_or_create(
        service=Service.objects.get(), version=version,
        defaults={"image": image, "digest": digest or "sha256:" + version.replace(".", "") * 21 + "a", "ci": "passed"},
    )  # fmt: skip
    operation = request_deployment(Actor(person), environment=environment, release=release, reason="because")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


Driven = Callable[[Person], list[Operation]]


@pytest.fixture
def local(request: pytest.FixtureRequest) -> Driven:
    environment = request.getfixturevalue("fleet")(1).placement.environment
    configure(environment)

    def drive(person: Person) -> list[Operation]:
        good = deploy(person, environment, "1.5.0")
        says = "import os; print('cannot reach', os.environ['DATABASE_URL'], os.environ['STRIPE_KEY'])"
        environment.driver_settings = {**environment.driver_settings, "program": [sys.executable, "-c", says]}
        environment.save()
        return [good, deploy(person, environment, "1.5.1")]

    return drive


@pytest.fixture
def ecs(request: pytest.FixtureRequest) -> Driven:
    company: Company = request.getfixturevalue("company")
    configure(company.placement.environment)

    def drive(person: Person) -> list[Operation]:
        good = company.deploy("1.5.0")
        words = f"cannot start with {KEY} at postgres://pitchey:{PASSWORD}@db"
        company.aws.will("RegisterTaskDefinition", *[refused("ClientException", words)] * 5)
        return [good, company.deploy("1.5.1")]

    return drive


@pytest.fixture
def hosts(request: pytest.FixtureRequest) -> Driven:
    grounds = request.getfixturevalue("park")(1)
    environment = grounds.placement.environment
    configure(environment)

    def drive(person: Person) -> list[Operation]:
        good = grounds.images.release("1.5.0")
        says = f"cannot reach postgres://pitchey:{PASSWORD}@db with {KEY}"
        bad = grounds.images.where.import_sample(IMAGE, "1.9.0", ends=3, say=says)
        return [
            deploy(person, environment, "1.5.0", good.digest, good.image),
            deploy(person, environment, "1.9.0", bad, f"{IMAGE}:1.9.0"),
        ]

    return drive


@pytest.fixture
def kubernetes(request: pytest.FixtureRequest) -> Driven:
    place: Town = request.getfixturevalue("town")
    environment = place.placement.environment
    environment.configuration.all().delete()
    configure(environment)

    def drive(person: Person) -> list[Operation]:
        place.cluster.logs = [f"cannot reach postgres://pitchey:{PASSWORD}@db with {KEY}", f"Bearer {TOKEN}"]
        place.cluster.behaviours[digest_of_release("1.5.1")] = CRASHES
        return [
            deploy(person, environment, version, digest_of_release(version), f"registry.test/{NAME}:{version}")
            for version in ("1.5.0", "1.5.1")
        ]

    return drive


@pytest.fixture(params=["local", "ecs", "hosts", "kubernetes"])
def driven(request: pytest.FixtureRequest, secrets: Path) -> Driven:
    drive: Driven = request.getfixturevalue(request.param)
    return drive


def exported(environment: Environment, service: str) -> Found:
    """What commands print."""
    for name, arguments in (("verify_audit", ()), ("export_rules", ("--format", "prometheus"))):
        out = StringIO()
        call_command(name, *arguments, stdout=out)
        yield f"command {name}", out.getvalue()
    if environment.driver != "local":
        out = StringIO()
        call_command("export", "manifests", environment.slug, service, "1.5.0", stdout=out)
        yield "command export", out.getvalue()


@pytest.fixture
def heard() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.mark.timeout(120)
def test_no_secret_in_any_output_of_any_driver(
    driven: Driven, heard: Listener, alice: Person, ada: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good, bad = driven(alice)
    assert good.state == "succeeded", good.outcome
    assert bad.state in ("failed", "needs_operator"), bad.outcome
    assert any("••••" in event.text for event in bad.events.all()), "the bad one had no secret to say"
    service, environment = Service.objects.get(), Environment.objects.get()
    names: dict[str, Any] = {
        "slug": environment.slug, "environment": environment.slug, "service": service.slug, "version": "1.5.0",
    }  # fmt: skip
    found = [
        *chain.from_iterable(
            chain(pages(ada, names | {"pk": one.pk}), answers(ada, names | {"operation_id": one.pk}))
            for one in (good, bad)
        ),
        *database(),
        *heard.said(),
        *exported(environment, service.slug),
        *((f"log {record.name}", logging.Formatter().format(record)) for record in caplog.records),
    ]
    for secret in SECRETS:
        assert where(secret, iter(found)) == []
    # The search would find them: what is no secret is found, and so are the places where they stood.
    assert {place.partition(" ")[0] for place in where(PLAIN, iter(found))} >= {"table", "page"}
    assert any("••••" in text for place, text in found if place.startswith("table operations_event"))
    assert any(place.startswith("ring") for place, _ in found)
    assert sum(" (200)" in place for place, _ in found if place.startswith(("page", "API"))) > 30
