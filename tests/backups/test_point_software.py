"""A restore point brings its software back too: after the data, by the steps of a deployment, and only what differs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.db.models import QuerySet
from django.test import Client

from backups.models import Backup, Kind, Policy, RestorePoint
from backups.plans import ORDER, steps_by_service
from backups.restore_services import Wish, plan_of_point, request_point_restore, request_restore
from backups.services import request_restore_point
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.embedded.processes import free_port
from controlplane.operations import engine, transitions
from controlplane.operations.errors import Conflict
from controlplane.operations.models import Operation
from controlplane.operations.plans import ALREADY
from controlplane.operations.registry import kind_of
from controlplane.operations.states import State
from environments.drivers import DRIVERS
from environments.drivers.base import Software
from environments.drivers.local.driver import folder_of
from environments.drivers.local.steps import instance_folder
from environments.models import ConfigEntry, Environment, Placement, Service
from environments.targets import target_of
from tests.backups.company import Make
from tests.backups.crashes import Crash, dying
from tests.backups.history import entry
from tests.environments.fleet import QUICK, Fleet, Worker, release
from tests.estate import Paper

pytestmark = pytest.mark.django_db(transaction=True)
BACKEND, WORKER = "pitchey-backend", "pitchey-worker"


@dataclass
class Shop:
    """Production with real instances, a policy of its configuration, and who works there."""

    production: Environment
    policy: Policy
    alice: Person
    bob: Person
    fleets: dict[str, Fleet]

    def place(self, service: str, count: int = 1) -> Fleet:
        """The service, so many instances of it; nothing runs there yet."""
        names = [f"{service}-{number}" for number in range(1, count + 1)]
        self.fleets[service] = Fleet(Placement.objects.create(
            environment=self.production, service=Service.objects.create(slug=service, name=service),
            instances=[{"name": name, "address": f"http://127.0.0.1:{free_port()}"} for name in names],
        ))  # fmt: skip
        return self.fleets[service]

    def deploy(self, version: str, service: str = BACKEND) -> None:
        """As a deployment would leave it."""
        assert self.fleets[service].deploy(version, Worker(fence=1)) is None
        self.row(service).update(version=version, digest=release(version).digest, changed_by="Zoe", changed_in=None)

    def row(self, service: str = BACKEND) -> QuerySet[Placement]:
        """Where the service is placed."""
        return Placement.objects.filter(environment=self.production, service__slug=service)

    def make_point(self) -> RestorePoint:
        """Of everything, now."""
        made = request_restore_point(Actor(self.alice), self.production, name="before", reason="because")
        assert carry_out(made).state == State.SUCCEEDED, made.outcome
        return RestorePoint.objects.get(operation=made)

    def ask(self, point: RestorePoint) -> Operation:
        """Alice asks for it, bob approves."""
        operation = request_point_restore(Actor(self.alice), point, database="", reason="because")
        return transitions.approve(operation.pk, Actor(self.bob), operation.plan_digest)

    def versions(self, service: str = BACKEND) -> list[str]:
        """What truly runs."""
        return self.fleets[service].versions()


def carry_out(operation: Operation, worker: str = "w1") -> Operation:
    engine.run(operation.pk, worker)
    operation.refresh_from_db()
    return operation


@pytest.fixture
def shop(production: Environment, policy: Policy, data_dir: Path, alice: Person, bob: Person) -> Iterator[Shop]:
    """1.4.0 runs on two instances."""
    secret = data_dir / "secrets" / "production" / "jwt-secret"
    secret.parent.mkdir(parents=True)
    secret.write_text("a-secret-of-the-shop")
    production.driver_settings = QUICK
    production.save()
    made = Shop(production, policy, alice, bob, {})
    made.place(BACKEND, 2)
    made.deploy("1.4.0")
    yield made
    for fleet in made.fleets.values():
        fleet.kill()


class TestItComesBack:
    def test_with_the_variables_of_then(self, shop: Shop) -> None:
        point = shop.make_point()
        assert point.software == [{"service": BACKEND, "version": "1.4.0", "digest": release("1.4.0").digest}]
        shop.deploy("1.5.0")
        ConfigEntry.objects.filter(key="LOG_LEVEL").update(value="debug")
        operation = carry_out(shop.ask(point))
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert shop.versions() == ["1.4.0", "1.4.0"]
        assert ConfigEntry.objects.get(key="LOG_LEVEL").value == "info"
        placement = shop.row().get()
        assert (placement.version, placement.digest) == ("1.4.0", release("1.4.0").digest)
        assert (placement.changed_by, placement.changed_in) == ("Alice", operation.pk)
        order = list(operation.steps.filter(phase="main").values_list("key", flat=True))
        assert order.index("configuration-restore") < order.index(f"1/{BACKEND}-1/out")

    def test_what_is_on_it_already_is_left_alone(self, shop: Shop) -> None:
        point = shop.make_point()
        before = shop.fleets[BACKEND].effects()
        plan = plan_of_point(point, "")
        assert steps_by_service(plan.as_json()) == {} and ORDER not in plan.changes
        assert plan.changes[-1] == {"what": BACKEND, "from": f"1.4.0 {release('1.4.0').digest}", "to": ALREADY}
        assert carry_out(shop.ask(point)).state == State.SUCCEEDED
        assert shop.fleets[BACKEND].effects() == before and shop.row().get().changed_by == "Zoe"

    def test_what_is_out_of_rotation_is_put_back(self, shop: Shop) -> None:
        """It runs what it ran; a deployment of the same digest would put it back too."""
        point = shop.make_point()
        target = target_of(shop.row().get(), configuration="")
        marker = instance_folder(folder_of(target, target.instances[1])).marker
        marker.touch()
        driver, digest = DRIVERS["local"], release("1.4.0").digest
        deployed = driver.rollout(target, driver.running(target), Software("1.4.0", "", digest))
        plan = plan_of_point(point, "")
        assert [step.key for step in plan.steps if "/" in step.key] == [f"1/{step.key}" for step in deployed.steps]
        said = {row["what"]: row["to"] for row in plan.changes}
        assert said[f"{BACKEND}: {BACKEND}-1"] == ALREADY and said[f"{BACKEND}: {BACKEND}-2"] == f"1.4.0 {digest}"
        assert carry_out(shop.ask(point)).state == State.SUCCEEDED
        assert not marker.exists() and shop.versions() == ["1.4.0", "1.4.0"]
        assert plan_of_point(point, "").changes[-1]["to"] == ALREADY

    def test_what_was_deployed_ahead_of_the_point_is_in_it(self, shop: Shop) -> None:
        made = request_restore_point(Actor(shop.alice), shop.production, name="before", reason="because")
        shop.deploy("1.5.0")
        carry_out(made)
        assert RestorePoint.objects.get().software[0]["version"] == "1.5.0"

    @pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
    @pytest.mark.parametrize("step", ["configuration-restore", f"1/{BACKEND}-1/start", "1/verify"])
    def test_a_worker_that_dies_anywhere(self, shop: Shop, boundary: str, step: str) -> None:
        point = shop.make_point()
        shop.deploy("1.5.0")
        ConfigEntry.objects.filter(key="LOG_LEVEL").update(value="debug")
        operation = shop.ask(point)
        with dying(boundary, step), pytest.raises(Crash):
            carry_out(operation)
        Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
        assert carry_out(operation, "w2").state == State.SUCCEEDED, operation.outcome
        assert shop.versions() == ["1.4.0", "1.4.0"] and shop.row().get().version == "1.4.0"
        assert shop.fleets[BACKEND].effects()[-2:] == [("stop", "1.5.0"), ("start", "1.4.0")], "nothing twice"


class TestSeveralServices:
    def test_each_has_its_heading_and_its_recovery(self, shop: Shop) -> None:
        """Though the instances of both have the same steps."""
        shop.place(WORKER)
        shop.deploy("1.4.0", WORKER)
        point = shop.make_point()
        shop.deploy("1.5.0")
        shop.deploy("1.5.0", WORKER)
        plan = plan_of_point(point, "")
        assert [step.group for step in plan.recovery if step.key.endswith("/start")] == [BACKEND, BACKEND, WORKER]
        assert {step.group for step in plan.steps if "/" in step.key} == {BACKEND, WORKER}
        assert any(step.title == f"{BACKEND}-2: start 1.4.0" for step in plan.steps)
        rows = {row["what"]: row for row in plan.changes}
        assert rows[f"{WORKER}: {WORKER}-1"]["from"].startswith("1.5.0 sha256:")
        assert plan.changes.index(ORDER) < plan.changes.index(rows[f"{WORKER}: {WORKER}-1"])
        assert carry_out(shop.ask(point)).state == State.SUCCEEDED
        assert shop.versions() == ["1.4.0", "1.4.0"] and shop.versions(WORKER) == ["1.4.0"]

    def test_one_that_fails_is_put_back_and_the_one_before_stays(self, shop: Shop) -> None:
        """The data is of then: what came back fits it, and is written down as what runs."""
        shop.place(WORKER)
        shop.deploy("1.5.0", WORKER)
        point = shop.make_point()
        shop.deploy("1.5.0")
        point.software[1].update(version="1.6.0", digest=release("1.6.0").digest)  # never healthy
        point.save()
        operation = carry_out(shop.ask(point))
        assert operation.state == State.FAILED and "/health answered 503" in operation.outcome
        assert shop.versions() == ["1.4.0", "1.4.0"] and shop.versions(WORKER) == ["1.5.0"]
        assert (shop.row().get().version, shop.row(WORKER).get().version) == ("1.4.0", "1.5.0")
        assert shop.row(WORKER).get().changed_by == "Zoe"

    def test_what_has_no_place_any_more_and_what_came_later_is_said(self, shop: Shop) -> None:
        shop.place(WORKER)
        shop.deploy("1.4.0", WORKER)
        point = shop.make_point()
        shop.fleets.pop(WORKER).kill()
        shop.row(WORKER).delete()
        shop.place("search")
        shop.deploy("1.5.0", "search")
        said = {row["what"]: row["to"] for row in plan_of_point(point, "").changes}
        assert said[WORKER] == "not brought back: it has no place in production any more"
        assert said["search"] == "left as it is: the restore point does not know it"
        assert carry_out(shop.ask(point)).state == State.SUCCEEDED
        assert shop.versions("search") == ["1.5.0"]


class TestThePlan:
    @pytest.fixture
    def point(self, shop: Shop) -> RestorePoint:
        """Of 1.4.0, where 1.5.0 runs now."""
        made = shop.make_point()
        shop.deploy("1.5.0")
        return made

    def test_read_asked_for_and_started_it_is_the_same(self, shop: Shop, point: RestorePoint) -> None:
        operation = shop.ask(point)
        kind = kind_of(operation)
        assert kind.plan(operation, kind.facts(operation)).digest == operation.plan_digest
        assert plan_of_point(point, "").digest == operation.plan_digest

    def test_something_else_runs_at_the_start(self, shop: Shop, point: RestorePoint) -> None:
        operation = shop.ask(point)
        shop.deploy("1.3.0")
        assert carry_out(operation).state == State.STALE and "what runs there" in operation.outcome
        assert shop.versions() == ["1.3.0", "1.3.0"]

    def test_a_variable_that_changes_meanwhile_is_no_reason(self, shop: Shop, point: RestorePoint) -> None:
        """The restore sets it back before anything is started."""
        operation = shop.ask(point)
        ConfigEntry.objects.filter(key="LOG_LEVEL").update(value="trace")
        assert carry_out(operation).state == State.SUCCEEDED, operation.outcome

    def test_unless_the_point_has_no_configuration(self, shop: Shop, make_policy: Make, tmp_path: Path) -> None:
        """Then the software starts with the variables that the plan was approved for."""
        (tmp_path / "source").mkdir()
        make_policy("uploads", kind=Kind.UPLOADS,
                    settings={"source": {"folder": str(tmp_path / "source")}, "allow_empty": True})  # fmt: skip
        Policy.objects.filter(kind=Kind.CONFIGURATION).update(paused=True)
        point = shop.make_point()
        shop.deploy("1.5.0")
        operation = shop.ask(point)
        ConfigEntry.objects.filter(key="LOG_LEVEL").update(value="trace")
        assert carry_out(operation).state == State.STALE

    def test_secrets_of_the_environment_are_masked(self, shop: Shop, point: RestorePoint) -> None:
        operation = shop.ask(point)
        assert "a-secret-of-the-shop" in kind_of(operation).secrets(operation)


class TestADriverThatCannotBeAsked:
    @pytest.fixture
    def paper(self, production: Environment, monkeypatch: pytest.MonkeyPatch) -> Paper:
        """In the place of the real one."""
        mute = Paper(unreachable="The cluster does not answer")
        monkeypatch.setitem(DRIVERS, "local", mute)
        return mute

    @pytest.fixture
    def point(self, production: Environment, policy: Policy, paper: Paper) -> RestorePoint:
        """With software."""
        service = Service.objects.create(slug=BACKEND, name=BACKEND)
        Placement.objects.create(environment=production, service=service, instances=[{"name": "one"}], version="1.5.0")
        software = [{"service": BACKEND, "version": "1.4.0", "digest": release("1.4.0").digest}]
        made = RestorePoint.objects.create(
            environment=production, name="before", made_by_name="Alice", software=software
        )
        made.backups.add(entry(policy))
        return made

    def test_the_page_says_so_and_shows_what_belongs_to_it(
        self, client: Client, alice: Person, point: RestorePoint
    ) -> None:
        client.force_login(alice)
        said = client.get(point.get_absolute_url()).content.decode()
        assert "What runs in production cannot be asked" in said and "The cluster does not answer" in said
        assert "Ask for the restore" not in said and "Nothing yet" not in said and "1.4.0" in said

    def test_nothing_is_asked_for(self, client: Client, alice: Person, point: RestorePoint) -> None:
        client.force_login(alice)
        form = {"plan_digest": "0" * 64, "reason": "because", "confirm": "production"}
        answer = client.post(point.get_absolute_url(), form)
        assert answer.status_code == 409 and "The cluster does not answer" in answer.content.decode()
        assert not Operation.objects.exists()
        with pytest.raises(Conflict, match="Nothing was changed"):
            request_point_restore(Actor(alice), point, database="", reason="because")

    def test_at_the_start_it_waits(self, alice: Person, bob: Person, point: RestorePoint, paper: Paper) -> None:
        paper.unreachable = ""
        operation = request_point_restore(Actor(alice), point, database="", reason="because")
        transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
        paper.unreachable = "The cluster does not answer"
        assert carry_out(operation).state == State.QUEUED
        assert operation.outcome == "waits: The cluster does not answer"


class TestThePage:
    def look(self, client: Client, shop: Shop) -> str:
        """What the page of the one restore point says to alice."""
        client.force_login(shop.alice)
        return client.get(RestorePoint.objects.get().get_absolute_url()).content.decode()

    def test_what_comes_back(self, client: Client, shop: Shop) -> None:
        shop.make_point()
        assert ALREADY in self.look(client, shop)
        shop.deploy("1.5.0")
        said = self.look(client, shop)
        assert "comes back with it" in said and "deploy it after" not in said
        assert f"{BACKEND}-1: start 1.4.0" in said and "In between" in said

    def test_what_has_no_instance(self, client: Client, shop: Shop) -> None:
        shop.make_point()
        shop.row().update(instances=[])
        assert self.look(client, shop).count("no instance of it is declared") == 2

    def test_what_has_no_place(self, client: Client, shop: Shop) -> None:
        shop.make_point()
        shop.row().delete()
        said = self.look(client, shop)
        assert said.count("it has no place in production any more") == 2, "beside what belongs to it, and in the plan"


def test_a_backup_of_a_point_restored_alone_deploys_nothing(shop: Shop) -> None:
    point = shop.make_point()
    shop.deploy("1.5.0")
    backup = Backup.objects.select_related("policy__storage", "policy__environment", "environment", "storage")
    operation = request_restore(
        Actor(shop.alice), backup.get(restore_points=point), Wish("configuration"), reason="because"
    )
    transitions.approve(operation.pk, Actor(shop.bob), operation.plan_digest)
    assert carry_out(operation).state == State.SUCCEEDED
    assert shop.versions() == ["1.5.0", "1.5.0"] and shop.row().get().changed_by == "Zoe"
    assert target_of(shop.row().get()).settings["configuration"], "a deployment still says for which variables it is"
