"""Every address that the description lists, tried by a stranger, an outsider, and a guest of another environment."""

import json
from typing import Any

import pytest
from django.test import Client

from backups.models import Backup, Policy, RecoveryPlan
from controlplane.accounts.models import Person
from controlplane.api import api
from controlplane.operations.models import Event, Operation
from deployments.models import Release
from incidents.models import (
    Absence,
    AlertRule,
    Contact,
    ContactMethod,
    EscalationPolicy,
    Incident,
    Override,
    Schedule,
)
from tests.api.conftest import Calls, assert_problem

LEVEL = {"role": "L1", "after_seconds": 0, "targets": ["schedule:primary"], "channels": ["pagerduty"]}
TURNS = {"name": "x", "time_zone": "UTC", "layers": []}
SPAN = {"person": "alice", "starts_at": "2099-01-01T00:00:00Z", "ends_at": "2099-01-02T00:00:00Z"}
BODIES: dict[str, dict[str, Any]] = {
    "approvals": {"plan_digest": "0" * 64},
    "rejection": {"comment": "no"},
    "cancel": {"reason": "no"},
    "resolution": {"step": "production-1-swap", "answer": "done"},
    "deployments": {"service": "api", "environment": "production", "version": "1.5.0", "reason": "x"},
    "releases": {"service": "api", "version": "9.0.0", "image": "i", "digest": "sha256:" + "0" * 64},
    "freezes": {"reason": "x", "zone": "UTC", "starts": "2099-01-01T00:00", "minutes": 5},
    "environments/{environment}/freezes/{freeze_id}/end": {"reason": "x"},
    "deployments/{operation_id}/ticks": {"item": "x"},
    "adoption": {"reason": "x"},
    "redeployment": {"reason": "x"},
    "runs": {"reason": "x"},
    "tests": {"reason": "x"},
    "restores": {"target": "configuration", "reason": "x"},
    "restore-points": {"name": "before 1.5.0", "reason": "x"},
    "restore-points/{point_id}/restores": {"reason": "x"},
    "plan": {"target": "configuration"},
    "hold": {"reason": "x"},
    "release": {"reason": "x"},
    "pause": {"reason": "x"},
    "resume": {"reason": "x"},
    "changes": {"schedule": "0 5 * * *", "reason": "x"},
    "clean-ups": {"digest": "0" * 16, "reason": "x"},
    "incidents": {"title": "x", "environments": ["production"]},
    "resolve": {"resolution": "x"},
    "notes": {"text": "x"},
    "assessment": {"impact": "high", "urgency": "high", "reason": "x"},
    "phase": {"phase": "response"},
    "skipped-levels": {"level": 1, "reason": "x"},
    "repeated-levels": {"level": 1},
    "hand-over": {"person": "alice", "reason": "x"},
    "roles": {"role": "scribe", "person": "alice"},
    "note": {"note": "x"},
    "silences": {"environment": "production", "kind": "maintenance", "ends_at": "2099-01-01T00:00:00Z", "reason": "x"},
    "alert-rules/{rule}/changes": {"duration": "6m", "reason": "x"},
    "ticks": {"run": 1, "evidence": "x"},
    "versions": {"body": "x", "version": 0},
    "reviews": {"state": "approved", "version": 0},
    "incidents/{incident_id}/post-mortem/state": {"state": "review"},
    "incidents/{incident_id}/action-items": {"title": "x", "owner": "a", "due_on": "2099-01-01", "verification": "x"},
    "action-items/{item_id}/state": {"state": "done", "words": "x"},
    "failovers": {"words": "all is dark", "reason": "x"},
    "failbacks": {"words": "it is well again", "reason": "x"},
    "drills": {"reason": "x"},
    "recovery-plans/{plan}/changes": {"rto_minutes": 5, "reason": "x"},
    "escalation-policies": {"policy": "other", "name": "x", "severities": [], "levels": [LEVEL], "reason": "x"},
    "escalation-policies/{policy}/changes": {"name": "x", "digest": "0" * 64, "reason": "x"},
    "schedules": {**TURNS, "schedule": "other", "reason": "x"},
    "preview": TURNS,
    "schedules/{schedule}/changes": {**TURNS, "digest": "0" * 64, "reason": "x"},
    "overrides": {**SPAN, "reason": "x"},
    "schedules/{schedule}/overrides/{override_id}/end": {"reason": "x"},
    "swaps": {"gives": SPAN, "takes": {**SPAN, "person": "dana"}, "reason": "x"},
    "refusal": {"reason": "x"},
    "absences": {"person": "alice", "starts_on": "2099-01-01", "ends_on": "2099-01-02", "reason": "x"},
    "removal": {"reason": "x"},
    "stop": {"reason": "x"},
    "review": {"words": "x"},
    "contacts": {"contact": "aws", "name": "AWS", "phone": "1", "reason": "x"},
    "contacts/{contact}/changes": {"name": "x", "digest": "0" * 64, "reason": "x"},
    "contact-methods/{username}/changes": {"phone": "+12025550101", "reason": "x"},
}
# On-call and its matrix are of the whole installation: any role lets one look (tests/incidents/test_api_oncall.py).
ON_CALL = ("escalation-policies", "schedules", "absences", "contact-methods")
# Releases, rotations and the runbook belong to no environment, and the other lists are empty for who sees none.
OPEN = ("releases", "environments", "backup-policies", "backups", "recovery-plans", "incidents", "alerts", "silences",
        "alert-rules", "on-call", "runbook", "runbook/{task}/ticks", "action-items", "messages", "contacts",
        "contacts/{contact}/changes", "contacts/{contact}/removal", "reports",
        "break-glass", "world", "world/stop", "world/release")  # fmt: skip


ROUTES = [
    (method.upper(), path.lstrip("/"))
    for path, methods in api.get_openapi_schema(path_prefix="")["paths"].items()
    for method in methods
    if not path.startswith("/webhooks/")  # no person's: tests/deployments/pipelines/test_webhooks.py
]
HIDDEN = [route for route in ROUTES if route[1] not in OPEN and route[1].partition("/")[0] not in ON_CALL]


def body_for(path: str) -> dict[str, Any]:
    """What one sends to the address: by all of it, or by its last word."""
    return BODIES.get(path, BODIES.get(path.rpartition("/")[2], {}))


@pytest.fixture
def not_there(there: dict[str, str]) -> dict[str, str]:
    """The names in the addresses of what does not exist."""
    return {name: str(int(value) + 1) if value.isdecimal() else "nothing" for name, value in there.items()}


@pytest.fixture
def blind(request: pytest.FixtureRequest) -> Person:
    """Somebody who sees nothing of production."""
    person: Person = request.getfixturevalue(request.param)
    return person


def send(headers: dict[str, str], method: str, path: str, names: dict[str, str]) -> Any:
    body = json.dumps(body_for(path))
    return Client().generic(method, f"/api/v1/{path.format(**names)}", body, "application/json", headers=headers)


def nothing_happened() -> bool:
    return (
        Operation.objects.get().state == "awaiting_approval"
        and Event.objects.count() == 1
        and not Release.objects.filter(version="9.0.0").exists()
        and Backup.objects.get().hold_reason == ""
        and Policy.objects.get().schedule == "0 2 * * *"
        and not Policy.objects.get().paused
        and RecoveryPlan.objects.get().rto_seconds == 4 * 3600
        and not AlertRule.objects.get().paused
        and AlertRule.objects.get().for_seconds == 300
        and Incident.objects.get().last_seq == 2  # it was opened, and that nobody is paged for it
        and nobody_else_is_on_call()
    )


def nobody_else_is_on_call() -> bool:
    return (
        EscalationPolicy.objects.get().name == "The guide's"
        and Schedule.objects.get().name == "Primary"
        and Override.objects.filter(cancelled_at=None).count() == 3
        and Override.objects.filter(awaiting="alice").count() == 2
        and Absence.objects.count() == 1
        and not ContactMethod.objects.exists()
        and Contact.objects.get().name == "Legal"
    )


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_stranger_gets_nowhere(there: dict[str, str], not_there: dict[str, str], method: str, path: str) -> None:
    assert_problem(send({}, method, path, there), 401)
    assert_problem(send({}, method, path, not_there), 401)
    assert nothing_happened()


@pytest.mark.parametrize(("method", "path"), HIDDEN)
@pytest.mark.parametrize("blind", ["charlie", "eve"], indirect=True)
def test_who_sees_nothing_there_cannot_even_tell_what_exists(  # noqa: PLR0917 (fixtures)
    there: dict[str, str], not_there: dict[str, str], method: str, path: str, blind: Person, calls: Calls
) -> None:
    headers = calls(blind).headers
    seen, unseen = send(headers, method, path, there), send(headers, method, path, not_there)
    assert_problem(seen, 404)
    assert seen.content == unseen.content
    assert nothing_happened()


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[0] == "POST"])
def test_a_viewer_changes_nothing(there: dict[str, str], method: str, path: str, dana: Person, calls: Calls) -> None:
    assert_problem(send(calls(dana).headers, method, path, there), 403)
    assert nothing_happened()


def test_the_list_is_not_empty() -> None:
    assert len(ROUTES) == 113
