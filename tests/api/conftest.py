from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups.disaster.databases import DATABASES
from backups.disaster.traffic import TRAFFIC
from backups.models import Policy, PolicyClock, RecoveryPlan, RestorePoint, Storage
from controlplane.accounts.models import Person, Role
from controlplane.accounts.tokens import create_token
from controlplane.audit.record import SYSTEM
from controlplane.operations.models import Bypass
from incidents.lifecycle import open_incident
from incidents.models import (
    Absence,
    ActionItem,
    Alert,
    AlertRule,
    AlertSource,
    Contact,
    EscalationLevel,
    EscalationPolicy,
    Incident,
    Override,
    Postmortem,
    PostmortemVersion,
    RunbookTask,
    Schedule,
    Severity,
    Silence,
)
from tests.backups.history import entry
from tests.disaster import paper
from tests.estate import Estate


@dataclass
class Caller:
    """A program with a token."""

    headers: dict[str, str]
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def get(self, path: str) -> Any:
        return self.client.get(f"/api/v1/{path}", headers=self.headers)

    def post(self, path: str, body: Any, key: str | None = None) -> Any:
        headers = {**self.headers, **({"Idempotency-Key": key} if key is not None else {})}
        return self.client.post(f"/api/v1/{path}", body, content_type="application/json", headers=headers)

    def raw(self, path: str, body: bytes, content_type: str = "application/json") -> Any:
        return self.client.generic("POST", f"/api/v1/{path}", body, content_type, headers=self.headers)

    def deploy(self, version: str = "1.5.0", environment: str = "production", key: str | None = None) -> Any:
        body = {"service": "api", "environment": environment, "version": version, "reason": "checkout fix"}
        return self.post("deployments", body, key)


Calls = Callable[..., Caller]


def token(person: Person, role: Role = Role.ADMIN) -> str:
    """The plaintext of a new token."""
    return create_token(person, "pipeline", role, 1, SYSTEM("test"))[1]


@pytest.fixture
def calls() -> Calls:
    """calls(person, cap): the API as this person's program."""
    return lambda person, role=Role.ADMIN: Caller({"Authorization": f"Bearer {token(person, role)}"})


@pytest.fixture
def there(alice: Person, estate: Estate, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Alice's operation in production, a backup and a restore point: the names in the addresses of what exists."""
    storage = Storage.objects.create(slug="archive", kind="folder")
    policy = Policy.objects.create(
        environment=estate.production, slug="settings", kind="configuration", storage=storage, schedule="0 2 * * *"
    )
    PolicyClock.objects.create(policy=policy)
    backup = entry(policy)
    point = RestorePoint.objects.create(environment=estate.production, name="before 1.5.0", made_by_name="Alice")
    point.backups.add(backup)
    number = calls(alice).deploy().json()["operation"]
    incident, _ = open_incident(
        SYSTEM("test"), title="the API answers 503", severity=Severity.P3, environments=["production"]
    )
    glass = Bypass.objects.create(
        key="glass 1", what="Glass broken", scopes=["production"], reason="x", people=[], people_names=["Alice"],
        until=timezone.now(),
    )  # fmt: skip
    return {"bypass_id": str(glass.pk),
            "operation_id": str(number), "freeze_id": "1", "service": "api", "backup_id": str(backup.pk),
            "slug": "settings", "environment": "production", "point_id": str(point.pk), "incident_id": str(incident.pk),
            **learned(incident), **alerting(estate), **on_call(alice), **recovering(estate, monkeypatch)}  # fmt: skip


def learned(incident: Incident) -> dict[str, str]:
    """A post-mortem that somebody has begun, and an action item."""
    document = Postmortem.objects.create(incident=incident, version=1)
    PostmortemVersion.objects.create(postmortem=document, number=1, body="It broke.\n", author_name="Alice")
    item = ActionItem.objects.create(
        incident=incident, title="limit the pool", owner_name="Bob", due_on=timezone.now().date()
    )
    return {"item_id": str(item.pk)}


def recovering(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A recovery plan on paper, with a snapshot of half an hour ago."""
    monkeypatch.setitem(DATABASES, "paper", paper.Database())
    monkeypatch.setitem(TRAFFIC, "paper", paper.Traffic())
    paper.world.__dict__.update(paper.World(newest={"snapshot": timezone.now() - timedelta(minutes=30)}).__dict__)
    RecoveryPlan.objects.create(
        slug="main", name="Main", primary=estate.production, standby=estate.staging, database={"kind": "paper"},
        traffic={"kind": "paper"},
    )  # fmt: skip
    return {"plan": "main"}


def on_call(alice: Person) -> dict[str, str]:
    """A policy for no severity, and a schedule in which Alice stands in, waits for a swap, and is away."""
    policy = EscalationPolicy.objects.create(slug="guide", name="The guide's")
    EscalationLevel.objects.create(policy=policy, number=1, role="L1", after_seconds=0, channels=["pagerduty"],
                                   targets=[{"schedule": "primary"}])  # fmt: skip
    schedule = Schedule.objects.create(slug="primary", name="Primary")
    today = timezone.now()
    span = {"schedule": schedule, "starts_at": today + timedelta(days=1), "ends_at": today + timedelta(days=2)}
    stands = Override.objects.create(person="alice", author_name="Alice", **span)
    for _ in range(2):
        Override.objects.create(person="alice", author_name="Alice", kind="swap", swap=1, awaiting="alice", **span)
    away = Absence.objects.create(person=alice, starts_on=today.date(), ends_on=today.date())
    Contact.objects.create(slug="legal", name="Legal", email="legal@pitchey.com")
    return {"policy": "guide", "schedule": "primary", "override_id": str(stands.pk), "swap": "1",
            "absence_id": str(away.pk), "username": "alice", "contact": "legal"}  # fmt: skip


def alerting(estate: Estate) -> dict[str, str]:
    """An alert, a silence, an alert rule and a task of the runbook."""
    now = timezone.now()
    source = AlertSource.objects.create(slug="prometheus", kind="alertmanager")
    alert = Alert.objects.create(
        source=source, fingerprint="f", state="firing", name="HighErrorRate", severity="critical",
        environment=estate.production, started_at=now, last_at=now,
    )  # fmt: skip
    silence = Silence.objects.create(
        environment=estate.production, starts_at=now, ends_at=now + timedelta(hours=1), reason="x", author_name="Alice",
        kind="maintenance",
    )  # fmt: skip
    AlertRule.objects.create(slug="errors", name="HighErrorRate", condition="error_rate > 0.05", for_seconds=300,
                             severity="critical", environments=["production"])  # fmt: skip
    RunbookTask.objects.create(slug="logs", title="Review error logs", cadence="daily", due="0 12 * * *")
    return {"alert_id": str(alert.pk), "silence_id": str(silence.pk), "task": "logs",
            "rule": "errors"}  # fmt: skip


def assert_problem(answer: Any, status: int, *words: str) -> dict[str, Any]:
    """It is a problem of this status that says all the words; returns it."""
    assert answer.status_code == status, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told.keys() == {"type", "title", "status", "detail", "errors"}
    assert told["status"] == status
    for word in words:
        assert word in told["detail"]
    return told
