"""What changed before an incident is read from operations and the audit trail, and only what the reader may see."""

from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.audit.record import SYSTEM, record
from controlplane.clock.database import database_time
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Deployment
from deployments.services import request_deployment
from environments import locks
from environments.arrivals import note_arrival
from environments.drivers.base import Running
from environments.models import Environment, Placement
from incidents import changes
from incidents.changes import Outcome, What
from incidents.models import Incident
from tests.estate import Estate, paper
from tests.incidents.lessons import opened
from tests.people import person

pytestmark = pytest.mark.django_db


def deployed(
    actor: Person, estate: Estate, *, ago: timedelta, version: str = "1.5.0", state: State = State.SUCCEEDED,
    environment: Environment | None = None, **fields: object,
) -> Operation:  # fmt: skip
    """A deployment that ended so long ago."""
    place, release = environment or estate.production, estate.releases[version]
    operation = request_deployment(Actor(actor), environment=place, release=release, reason="new search")
    ended = database_time() - ago
    values = {"state": state, "started_at": ended - timedelta(seconds=66), "finished_at": ended, **fields}
    Operation.objects.filter(pk=operation.pk).update(**values)
    if state == State.SUCCEEDED:
        note_arrival(Placement.objects.filter(environment=place), operation, version=version, digest=release.digest)
    return operation


def configured(slug: str = "production", at: datetime | None = None) -> None:
    with transaction.atomic():
        data = {"changes": {"POOL": ["“20”", "“5”"]}}
        record(SYSTEM("file"), "environment.configured", f"environment {slug}", scopes=[slug] if slug else [],
               data=data)  # fmt: skip


def reasons(actor: Person, incident: Incident) -> list[str]:
    return [one.reason for one in changes.likely(changes.suspects(Actor(actor), incident))]


class TestDeployment:
    def test_is_blamed_with_a_way_to_it_and_back(self, alice: Person, estate: Estate) -> None:
        operation = deployed(alice, estate, ago=timedelta(minutes=3))
        found = changes.most_likely(Actor(alice), opened())
        assert found is not None
        assert found.reason == "deploy of api 1.5.0, finished 3 min before the first alert, same environment"
        assert found.change.url == f"/operations/{operation.pk}"
        assert found.change.rollback_url == "/environments/production/rollback/api"
        assert found.change.rollback_to == "1.4.0"

    def test_names_what_should_have_run_before_it_and_not_what_it_found(self, alice: Person, estate: Estate) -> None:
        paper.runs["production-1"] = Running("production-1", "nightly", "sha256:by-hand")
        deployed(alice, estate, ago=timedelta(minutes=3))
        found = changes.most_likely(Actor(alice), opened())
        assert found is not None
        assert found.change.rollback_to == "1.4.0"

    def test_has_no_way_back_once_something_else_runs(self, alice: Person, estate: Estate) -> None:
        deployed(alice, estate, ago=timedelta(minutes=3))
        Placement.objects.filter(environment=estate.production).update(changed_in=None)
        found = changes.most_likely(Actor(alice), opened())
        assert found is not None
        assert found.change.rollback_url == ""

    def test_that_is_still_running_is_said_so(self, alice: Person, estate: Estate) -> None:
        deployed(alice, estate, ago=timedelta(0), state=State.RUNNING, finished_at=None)
        assert "was running when the first alert came" in reasons(alice, opened())[0]

    def test_that_failed_says_how(self, alice: Person, estate: Estate) -> None:
        deployed(alice, estate, ago=timedelta(minutes=3), state=State.FAILED, outcome="put back: /health answered 503")
        (found,) = changes.likely(changes.suspects(Actor(alice), opened()))
        assert found.change.outcome is Outcome.PUT_BACK
        assert "failed and was put back" in found.reason

    def test_that_never_started_is_not_to_blame(self, alice: Person, estate: Estate) -> None:
        request_deployment(
            Actor(alice), environment=estate.production, release=estate.releases["1.5.0"], reason="new search"
        )
        assert changes.suspects(Actor(alice), opened()) == []

    def test_of_yesterday_is_not_even_looked_at(self, alice: Person, estate: Estate) -> None:
        deployed(alice, estate, ago=timedelta(hours=24))
        assert changes.suspects(Actor(alice), opened()) == []

    def test_after_the_first_alert_is_not_to_blame(self, alice: Person, estate: Estate) -> None:
        incident = opened(severity="P2")
        Incident.objects.filter(pk=incident.pk).update(opened_at=database_time() - timedelta(hours=1))
        deployed(alice, estate, ago=timedelta(minutes=3))
        assert changes.suspects(Actor(alice), Incident.objects.get(pk=incident.pk)) == []


class TestSettings:
    def test_of_the_environment_are_blamed_after_a_deployment_as_near(self, alice: Person, estate: Estate) -> None:
        configured()
        deployed(alice, estate, ago=timedelta(seconds=0))
        kinds = [one.change.what for one in changes.suspects(Actor(alice), opened())]
        assert kinds == [What.DEPLOYMENT, What.CONFIGURATION]

    def test_of_the_whole_installation_are_said_as_that(self, alice: Person, estate: Estate) -> None:
        configured("")
        (found,) = changes.suspects(Actor(alice), opened())
        assert found.reason.endswith("for the whole installation")

    def test_locks_of_people_are_listed_and_those_of_incidents_are_not(self, alice: Person, estate: Estate) -> None:
        first = opened()  # a P1: it locks production
        locks.take(Actor(alice), estate.production, "a freeze")
        found = changes.gather(Actor(alice), first.opened_at, database_time())
        assert [one.what for one in found] == [What.LOCK]
        assert found[0].who == alice.title_name


class TestReader:
    def test_sees_nothing_of_other_environments(self, alice: Person, estate: Estate) -> None:
        limited = person("frank", production=Role.VIEWER)
        deployed(alice, estate, ago=timedelta(minutes=1), version="1.6.0", environment=estate.staging)
        configured("")
        incident = opened()
        assert len(changes.suspects(Actor(alice), incident)) == 2
        assert changes.suspects(Actor(limited), incident) == []

    def test_pays_a_fixed_number_of_queries(self, alice: Person, estate: Estate) -> None:
        incident = opened(severity="P2")
        for number in range(12):
            deployed(alice, estate, ago=timedelta(minutes=number))
        Incident.objects.filter(pk=incident.pk).update(opened_at=database_time())
        incident.refresh_from_db()
        actor = Actor(alice)
        actor.scopes()
        with CaptureQueriesContext(
            connection,
        ) as queries:
            found = changes.suspects(actor, incident)
        assert len(found) == 12
        assert len(queries) == 4
        assert Deployment.objects.count() == 12
