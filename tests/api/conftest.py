from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups.models import Policy, PolicyClock, RestorePoint, Storage
from controlplane.accounts.models import Person, Role
from controlplane.accounts.tokens import create_token
from controlplane.audit.record import SYSTEM
from incidents.lifecycle import open_incident
from incidents.models import (
    ActionItem,
    Alert,
    AlertRule,
    AlertSource,
    Incident,
    Postmortem,
    PostmortemVersion,
    RunbookTask,
    Severity,
    Silence,
)
from tests.backups.history import entry
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
def there(alice: Person, estate: Estate, calls: Calls) -> dict[str, str]:
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
    return {"operation_id": str(number), "backup_id": str(backup.pk), "environment": "production", "slug": "settings",
            "point_id": str(point.pk), "incident_id": str(incident.pk), **learned(incident),
            **alerting(estate)}  # fmt: skip


def learned(incident: Incident) -> dict[str, str]:
    """A post-mortem that somebody has begun, and an action item."""
    document = Postmortem.objects.create(incident=incident, version=1)
    PostmortemVersion.objects.create(postmortem=document, number=1, body="It broke.\n", author_name="Alice")
    item = ActionItem.objects.create(
        incident=incident, title="limit the pool", owner_name="Bob", due_on=timezone.now().date()
    )
    return {"item_id": str(item.pk)}


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
