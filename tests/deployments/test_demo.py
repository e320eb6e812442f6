"""The demo of bin/run: real instances and a history, made once, finished by the next start if the first was killed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.embedded.processes import wait_until
from controlplane.operations import engine
from controlplane.operations.models import Operation, OperationLock
from controlplane.operations.states import State
from deployments import demo
from deployments.commits import commits_between
from deployments.models import Deployment, Release
from deployments.services import request_deployment
from environments.models import Environment, Placement
from tests.environments.fleet import Fleet

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("company")]

SAMPLE = Path(__file__).parents[2] / "controlplane" / "samples" / "pitchey.toml"
PASSWORDS = {"alice": "a-password-of-alice", "bob": "a-password-of-bob"}


@pytest.fixture
def company(data_dir: Path) -> Iterator[None]:
    """The guide's company as declared, with shorter waits; no instance outlives the test."""
    call_command("apply", str(SAMPLE), "--yes")
    for environment in Environment.objects.all():
        environment.driver_settings |= {"checks": 1, "check_interval": 0.01, "drain_seconds": 0.01}
        environment.save()
    (data_dir / "demo-passwords.json").write_text(json.dumps(PASSWORDS))
    yield
    for placement in Placement.objects.all():
        Fleet(placement).kill()


@pytest.fixture
def alice_asks() -> Operation:
    """Her wish to deploy 1.5.0 to production, once the demo is up."""
    demo.prepare()
    place, release = Environment.objects.get(slug="production"), Release.objects.get(version="1.5.0")
    return request_deployment(
        Actor(Person.objects.get(username="alice")), environment=place, release=release, reason="x"
    )


def running() -> dict[str, list[str]]:
    """What truly runs, by environment."""
    placements = Placement.objects.select_related("environment", "service")
    return {one.environment.slug: Fleet(one).versions() for one in placements}


AS_PROMISED = {
    "development": ["1.6.0"],
    "staging": ["1.6.0", "1.6.0"],
    "production": ["1.4.0", "1.4.0", "1.4.0"],
    "dr": ["", "", ""],
}


def test_each_environment_runs_what_the_walk_begins_with() -> None:
    demo.prepare()
    assert running() == AS_PROMISED
    assert set(Release.objects.values_list("version", "ci")) == {(v, "passed") for v in ("1.4.0", "1.5.0", "1.6.0")}
    assert set(Operation.objects.values_list("state", flat=True)) == {State.SUCCEEDED}
    staged = Deployment.objects.filter(environment__slug="staging").order_by("pk")
    assert list(staged.values_list("release__version", flat=True)) == ["1.4.0", "1.5.0", "1.6.0"]


def test_each_release_brings_commits_to_look_at() -> None:
    demo.prepare()
    first, second, third = (Release.objects.get(version=version) for version in demo.VERSIONS)
    assert commits_between(first, second).words == "brings 7 commits"
    assert commits_between(second, third).words == "brings 4 commits"
    assert commits_between(third, first).words == "takes away 11 commits"
    ages = [one.at for one in commits_between(first, third).commits]
    assert ages == sorted(ages, reverse=True)
    assert list(commits_between(first, third).commits[4:]) == list(commits_between(first, second).commits)


def test_a_second_start_changes_nothing() -> None:
    demo.prepare()
    before = (Operation.objects.count(), Release.objects.count(), Entry.objects.count())
    demo.prepare()
    assert (Operation.objects.count(), Release.objects.count(), Entry.objects.count()) == before
    assert running() == AS_PROMISED


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_start_that_was_killed_is_finished_by_the_next(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    real, runs = engine.run, []

    def dies(operation_id: int, worker: str) -> bool:
        runs.append(operation_id)
        if len(runs) > after:
            raise SystemExit
        return real(operation_id, worker)

    monkeypatch.setattr(engine, "run", dies)
    with pytest.raises(SystemExit):
        demo.prepare()
    monkeypatch.undo()
    for waiting in Operation.objects.filter(state=State.QUEUED):
        engine.run(waiting.pk, "a worker")  # as the clock has it done, once there is one
    demo.prepare()
    assert running() == AS_PROMISED
    assert Deployment.objects.count() == len(demo.HISTORY)


def test_an_instance_that_is_gone_is_started_again() -> None:
    demo.prepare()
    production = Fleet(Placement.objects.get(environment__slug="production"))
    production.kill()
    assert wait_until(lambda: production.versions() == ["", "", ""], 30)
    demo.prepare()
    assert running() == AS_PROMISED


def test_what_was_killed_in_the_middle_of_an_operation_is_as_it_was(alice_asks: Operation) -> None:
    """Its worker goes on afterwards, so no fence but its own may have been there."""
    production = Fleet(Placement.objects.get(environment__slug="production"))
    OperationLock.objects.create(name="production", operation=alice_asks)
    first = production.folders[0]
    first.take_out()
    fences = [folder.fence for folder in production.folders]
    production.kill()
    assert wait_until(lambda: not any(folder.occupied for folder in production.folders), 30)
    demo.prepare()
    assert [folder.wanted["version"] for folder in production.folders if folder.occupied] == ["1.4.0"] * 3
    assert [folder.fence for folder in production.folders] == fences
    assert first.marker.exists()


def test_what_people_deployed_is_left_alone() -> None:
    demo.prepare()
    latest = Deployment.objects.latest("pk")
    latest.delete()
    Operation.objects.exclude(pk=latest.operation_id).update(reason="a person's own")
    count = Operation.objects.count()
    demo.prepare()
    assert Operation.objects.count() == count


def test_stop_ends_every_instance() -> None:
    demo.prepare()
    demo.stop()
    assert {version for versions in running().values() for version in versions} == {""}


def test_passwords_are_given_once_and_never_over_a_persons_own() -> None:
    demo.prepare()
    alice = Person.objects.get(username="alice")
    assert alice.check_password(PASSWORDS["alice"])
    alice.set_password("her-own-password")
    alice.save()
    demo.prepare()
    assert Person.objects.get(username="alice").check_password("her-own-password")


def test_secrets_are_made_for_their_owner_only(data_dir: Path) -> None:
    demo.prepare()
    secret = data_dir / "secrets" / "production" / "db-password"
    assert len(secret.read_text()) > 20
    assert (secret.stat().st_mode & 0o777, secret.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    kept = secret.read_text()
    demo.prepare()
    assert secret.read_text() == kept
