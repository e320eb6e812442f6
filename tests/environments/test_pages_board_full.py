"""The board with everything at once: incidents, alerts, locks, operations, backups, recovery, and what is late."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups.models import BackupAlert, Policy, PolicyClock, Readiness, RecoveryClock, RecoveryPlan, Storage
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from controlplane.clock.models import Beat
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.services import request_deployment
from environments.locks import take
from environments.models import Environment, HealthSample, Placement
from incidents.lifecycle import acknowledge, open_incident
from incidents.models import (
    ActionItem,
    Alert,
    AlertSource,
    AuditorAlarm,
    AuditorBeat,
    Incident,
    RunbookRun,
    RunbookTask,
    Severity,
)
from tests.backups import history
from tests.estate import Estate, place
from tests.incidents.oncall_world import matrix, primary, reachable

pytestmark = pytest.mark.django_db(transaction=True)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def places(estate: Estate, alice: Person) -> list[Environment]:
    """Eight environments with a service, and samples of its health; some are locked."""
    more = [Environment.objects.create(slug=f"e{number}", name=f"E {number}", driver="paper", position=9)
            for number in range(6)]  # fmt: skip
    for one in more:
        take(Actor(alice), one, "busy")
        place(one, estate.service, estate.releases["1.4.0"], 2)
    for placement in Placement.objects.all():
        HealthSample.objects.create(placement=placement, instance="one", healthy=placement.pk % 2 == 0, latency_ms=4,
                                    status=200, version=placement.version)  # fmt: skip
    return [estate.production, estate.staging, *more]


def operations(estate: Estate, alice: Person, bob: Person) -> None:
    """One of each state that the board tells of, and more than it shows of those that wait."""
    release = estate.releases["1.5.0"]
    for asks in (alice, bob):
        for _ in range(8):
            request_deployment(Actor(asks), environment=estate.production, release=release, reason="x")
    numbers = list(Operation.objects.order_by("pk").values_list("pk", flat=True))
    long_ago = timezone.now() - HOUR
    for number, state in zip(numbers, (State.RUNNING, State.NEEDS_OPERATOR, State.QUEUED, State.QUEUED, State.FAILED),
                             strict=False):  # fmt: skip
        Operation.objects.filter(pk=number).update(
            state=state, queued_at=long_ago, outcome="Look at production-1.",
            finished_at=long_ago if state == State.FAILED else None,
        )  # fmt: skip
    Operation.objects.filter(state=State.RUNNING).update(lease_until=Now() - HOUR)


def protection(places: list[Environment]) -> None:
    """Each environment has policies of three kinds, with backups, the WAL and what is wrong with them."""
    storage = Storage.objects.create(slug="archive", kind="folder")
    for environment in places:
        for kind in ("database", "pitr", "configuration"):
            policy = Policy.objects.create(environment=environment, slug=kind, kind=kind, storage=storage,
                                           schedule="0 2 * * *")  # fmt: skip
            PolicyClock.objects.create(policy=policy)
            BackupAlert.objects.create(policy=policy, kind="stale", words="no success in its window")
            if kind == "pitr":
                history.base(policy, age=DAY, segment=1)
                history.wal(policy, (1, 9, timezone.now() - DAY, timezone.now()))
            else:
                history.proven(policy, age=HOUR)


def recovery(places: list[Environment]) -> None:
    """Plans for pairs of them: one not ready, one away from home."""
    for number, (here, there) in enumerate(zip(places[::2], places[1::2], strict=True)):
        plan = RecoveryPlan.objects.create(
            slug=f"plan-{number}", name=f"Plan {number}", primary=here, standby=there,
            active="standby" if number == 1 else "primary", database={"kind": "paper"}, traffic={"kind": "paper"},
        )  # fmt: skip
        RecoveryClock.objects.create(plan=plan, drill_due_at=timezone.now() - DAY)
        Readiness.objects.create(plan=plan, ready=number > 0, predicted_seconds=900.0, restorable_to=timezone.now(),
                                 checks=[{"key": "x", "title": "the database", "outcome": "not ready",
                                          "words": "there is no copy"}])  # fmt: skip


def trouble(places: list[Environment], bob: Person) -> None:
    """Incidents with whom they page next, alerts, and everything that is late."""
    primary()
    matrix("sms").levels.create(number=2, role="Lead", after_seconds=900, targets=[{"person": "bob"}], channels=["sms"])
    reachable(bob)
    source = AlertSource.objects.create(slug="prometheus", kind="alertmanager")
    now = timezone.now()
    for number, environment in enumerate(places):
        found, _ = open_incident(SYSTEM("test"), title=f"trouble {number}", environments=[environment.slug],
                                 severity=Severity.P1 if number % 2 else Severity.P3)  # fmt: skip
        Alert.objects.create(source=source, fingerprint=f"{number}", state="firing", name="HighErrorRate",
                             severity="critical", environment=environment, incident=found, started_at=now,
                             last_at=now)  # fmt: skip
        ActionItem.objects.create(incident=found, title="limit the pool", owner_name="Bob", due_on=(now - DAY).date())
    acknowledge(Incident.objects.order_by("pk")[0].pk, SYSTEM("test"))
    AuditorAlarm.objects.create(key="x", words="an incident without a pending level", raised_at=now)
    AuditorBeat.objects.create(name="auditor", beat_at=now - HOUR)
    task = RunbookTask.objects.create(slug="logs", title="Review error logs", cadence="daily", due="0 12 * * *")
    RunbookRun.objects.create(task=task, opens_at=now - DAY, due_at=now - HOUR, state="missed")
    Beat.objects.update_or_create(name="clock", defaults={"beat_at": now - HOUR})


def test_it_costs_the_same_with_everything_at_once(
    client: Client, estate: Estate, places: list[Environment], alice: Person, bob: Person
) -> None:
    operations(estate, alice, bob)
    protection(places)
    recovery(places)
    trouble(places, bob)
    client.force_login(bob)
    client.get("/")
    with CaptureQueriesContext(connection) as queries:
        answer = client.get("/")
    text = answer.content.decode()
    for words in (
        "3 operations wait for your approval", "wait for an approval", "needs an operator", "No worker answers",
        "The clock stands still", "more incidents", "wrong with backups", "wrong with recovery plans", "is locked",
        "an incident without a pending level", "Review error logs", "limit the pool", "P1 unacknowledged",
    ):  # fmt: skip
        assert words in text, words
    assert len(queries) <= 20, "\n".join(one["sql"][:150] for one in queries)
    assert len(answer.content) < 100_000
