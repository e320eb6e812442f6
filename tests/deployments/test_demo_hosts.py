"""The demo's staging moves between processes and containers from start to start, and loses nothing on the way."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from controlplane.embedded.containers import INSTALL, Choice, Wish, look
from controlplane.embedded.podman import why_not
from controlplane.operations.models import Operation, OperationLock
from controlplane.operations.states import State
from deployments import demo, demo_hosts
from deployments.models import Deployment, Release
from environments.drivers import DRIVERS
from environments.models import Environment, Placement
from environments.targets import target_of
from tests.environments.fleet import Fleet

pytestmark = pytest.mark.django_db(transaction=True)

SAMPLE = Path(__file__).parents[2] / "controlplane" / "samples" / "pitchey.toml"
WITHOUT = Choice("podman is not installed", INSTALL)


@pytest.fixture(autouse=True)
def company(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With shorter waits; no instance and no container outlives the test."""
    quick = demo_hosts.CONTAINERS.replace("soak_seconds = 2", "soak_seconds = 0.05").replace("= 0.2", "= 0.02")
    monkeypatch.setattr(demo_hosts, "CONTAINERS", quick)
    (data_dir / "demo-passwords.json").write_text(json.dumps({"alice": "a-password-of-alice"}))
    yield
    demo_hosts.podman().delete()
    for placement in Placement.objects.all():
        Fleet(placement).kill()


@pytest.fixture
def possible(data_dir: Path) -> None:
    """Containers truly run here."""
    if words := why_not() or look(data_dir, Wish.IF_POSSIBLE).why:
        pytest.skip(words)


def start(data_dir: Path, choice: Choice) -> Choice:
    """As bin/run does it; what was decided in the end."""
    choice.keep(data_dir)
    said = io.StringIO()
    call_command("demo", "--file", str(SAMPLE), stdout=said)
    call_command("apply", said.getvalue().strip(), "--yes", stdout=io.StringIO())
    for environment in Environment.objects.filter(driver="local"):
        environment.driver_settings |= {"checks": 1, "check_interval": 0.01, "drain_seconds": 0.01}
        environment.save()
    demo.prepare()
    return Choice.kept(data_dir)


def staging() -> tuple[str, list[str]]:
    """Its driver, and what that finds running there."""
    placement = Placement.objects.select_related("environment", "service").get(environment__slug="staging")
    driver = placement.environment.driver
    with demo_hosts.at_hand():
        return driver, [one.version for one in DRIVERS[driver].running(target_of(placement))]


def containers() -> str:
    """The names of those that run."""
    return demo_hosts.podman().run("ps", "--format", "{{.Names}}", "--sort", "names")


@pytest.mark.usefixtures("possible")
@pytest.mark.timeout(120)
def test_staging_moves_into_containers_and_out_again(data_dir: Path) -> None:
    assert start(data_dir, WITHOUT) == WITHOUT
    assert staging() == ("local", ["1.6.0", "1.6.0"])
    releases = dict(Release.objects.values_list("version", "digest"))
    assert releases == demo_hosts.digests(), "they have images before there is an engine"

    assert start(data_dir, Choice()) == Choice()
    assert staging() == ("hosts", ["1.6.0", "1.6.0"])
    assert containers().split() == ["pitchey-backend.staging-1", "pitchey-backend.staging-2"]
    assert set(Operation.objects.values_list("state", flat=True)) == {State.SUCCEEDED}
    moves = Deployment.objects.filter(operation__reason="demo: staging moves into containers")
    assert [one.release.version for one in moves] == ["1.6.0"]

    demo_hosts.podman().leave()
    assert start(data_dir, Choice()) == Choice()
    assert staging() == ("hosts", ["1.6.0", "1.6.0"]), "those of the last start run again"
    assert moves.count() == 1, "it moves once"

    assert start(data_dir, WITHOUT) == WITHOUT
    assert staging() == ("local", ["1.6.0", "1.6.0"])
    assert containers() == ""
    assert dict(Release.objects.values_list("version", "digest")) == releases


@pytest.fixture
def made_without(data_dir: Path) -> Path:
    """A data folder whose staging runs as processes."""
    start(data_dir, WITHOUT)
    return data_dir


@pytest.fixture
def decided(made_without: Path) -> Iterator[None]:
    """Containers run here, as far as the computer is concerned."""
    Choice().keep(made_without)
    yield
    assert not demo_hosts.is_in_containers()


@pytest.mark.usefixtures("decided")
def test_what_is_in_the_way_of_moving_is_said(made_without: Path) -> None:
    """Each of these is decided before an engine is asked for anything."""
    operation = Operation.objects.latest("pk")
    lock = OperationLock.objects.create(name="staging", operation=operation)
    assert not demo_hosts.decide(demo.IMAGE, demo.VERSIONS)
    assert Choice.kept(made_without).why == "an operation that was interrupted goes on there"
    lock.delete()

    Choice().keep(made_without)
    Placement.objects.filter(environment__slug="staging").update(version="9.9.9", digest=f"sha256:{'9' * 64}")
    assert not demo_hosts.decide(demo.IMAGE, demo.VERSIONS)
    kept = Choice.kept(made_without)
    assert kept.why == "it runs 9.9.9, of which the demo has no image"
    assert kept.how == "Deploy 1.4.0 or 1.5.0 or 1.6.0, then start bin/run again."

    Choice().keep(made_without)
    (made_without / "images" / "digests.json").unlink()
    assert not demo_hosts.decide(demo.IMAGE, demo.VERSIONS)
    kept = Choice.kept(made_without)
    assert kept.words == (
        "It runs as local processes: this data folder is older than images of its releases. "
        "bin/run --data FOLDER makes a new one."
    )
    assert demo_hosts.configuration(SAMPLE) == SAMPLE


@pytest.mark.skipif(bool(why_not()), reason="without a Podman nothing can be waited for")
def test_containers_are_not_taken_from_an_operation_that_goes_on(made_without: Path) -> None:
    Environment.objects.filter(slug="staging").update(driver="hosts")
    OperationLock.objects.create(name="staging", operation=Operation.objects.latest("pk"))
    with pytest.raises(CommandError, match="Start without --no-containers, let it end"):
        demo_hosts.decide(demo.IMAGE, demo.VERSIONS)
    Environment.objects.filter(slug="staging").update(driver="local")
