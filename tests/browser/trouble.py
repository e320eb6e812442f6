"""Incidents and all that belongs to them, with something on each page; what the clock makes of it is real."""

from datetime import date, time, timedelta

from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.embedded.processes import wait_until
from incidents import holds, lifecycle, notes
from incidents.links import acknowledge_url
from incidents.models import (
    ActionItem,
    Alert,
    AlertRule,
    AlertSource,
    Contact,
    ContactMethod,
    EscalationLevel,
    EscalationPolicy,
    Layer,
    Page,
    Postmortem,
    RawAlert,
    RunbookRun,
    RunbookTask,
    Schedule,
    Severity,
    Silence,
)
from tests.browser.company import Company


def troubled(company: Company) -> list[str]:
    """A P1 that somebody has, one that is over with its lesson, alerts, rules, rotations, tasks; their addresses."""
    alice, bob = Actor(company.alice), Actor(company.bob)
    _people(company)
    going, _ = lifecycle.open_incident(
        alice.who, title="checkout answers 500 in all regions", severity=Severity.P1, environments=["production"]
    )
    page = Page.objects.create(incident=going, person=company.bob, person_name="Bob", ways=[])
    notes.add(going.pk, alice.who, "every second request fails; the pool is fine")
    holds.ask(going.pk, alice, company.environment("production"), "the fix is ready")
    over, _ = lifecycle.open_incident(
        bob.who, title="search is slow", severity=Severity.P2, environments=["production"]
    )
    lifecycle.acknowledge(over.pk, bob.who)
    lifecycle.resolve(over.pk, bob.who, "rolled back to 1.4.0")
    assert wait_until(Postmortem.objects.exists, 20), "the clock drafts it"
    ActionItem.objects.create(
        incident=over, title="limit the pool", owner=company.bob, owner_name="Bob", verification="a load test",
        due_on=timezone.now().date() - timedelta(days=1),
    )  # fmt: skip
    return [
        "/incidents", "/incidents/report", going.get_absolute_url(), over.get_absolute_url(),
        f"/incidents/{going.pk}/entries/1", f"/incidents/{over.pk}/review", f"/incidents/{over.pk}/post-mortem",
        f"/incidents/{over.pk}/post-mortem/edit", "/action-items",
        acknowledge_url(page.pk).partition(":8000")[2], *_alerts(company), *_duties(),
    ]  # fmt: skip


def _people(company: Company) -> None:
    for person, address in ((company.alice, "+12025550101"), (company.bob, "+12025550102")):
        ContactMethod.objects.create(person=person, kind="sms", address=address)
    policy = EscalationPolicy.objects.create(slug="matrix", name="The matrix", severities=["P1"])
    for number, minutes in ((1, 0), (2, 15), (3, 30)):
        EscalationLevel.objects.create(
            policy=policy, number=number, role="On-Call Engineer", after_seconds=60 * minutes,
            targets=[{"schedule": "primary"}], channels=["phone", "sms"],
        )  # fmt: skip
    schedule = Schedule.objects.create(slug="primary", name="Primary", time_zone="Europe/Berlin")
    Layer.objects.create(
        schedule=schedule, position=1, name="Engineers", people=["alice", "bob"], starts_on=date(2026, 1, 5),
        handover=time(9), days=[0, 1, 2, 3, 4],
    )  # fmt: skip


def _alerts(company: Company) -> list[str]:
    now, production = timezone.now(), company.environment("production")
    source = AlertSource.objects.create(slug="prometheus", kind="alertmanager")
    alert = Alert.objects.create(
        source=source, fingerprint="f", state="firing", name="HighErrorRate", severity="critical",
        environment=production, started_at=now, last_at=now, summary="error_rate 0.12 > 0.05", flapping_until=None,
        labels={"alertname": "HighErrorRate", "environment": "production"}, note="the pool again", note_by_name="Alice",
    )  # fmt: skip
    RawAlert.objects.create(source=source, body=b"{not json", state="failed", error="It is not JSON.")
    Silence.objects.create(
        environment=production, kind="maintenance", starts_at=now, ends_at=now + timedelta(hours=1), reason="a move",
        author_name="Alice",
    )  # fmt: skip
    rule = AlertRule.objects.create(
        slug="high-error-rate", name="HighErrorRateOfOurs", condition="error_rate > 0.05", for_seconds=300,
        severity="critical", notify=["pagerduty", "slack"],
    )  # fmt: skip
    return [
        "/alerts",
        f"/alerts/{alert.pk}",
        "/alerts/bodies",
        "/silences",
        "/alert-rules",
        f"/alert-rules/{rule.slug}",
    ]


def _duties() -> list[str]:
    now = timezone.now()
    task = RunbookTask.objects.create(slug="logs", title="Review error logs", cadence="daily", due="0 12 * * *")
    RunbookRun.objects.create(
        task=task, opens_at=now - timedelta(days=2), due_at=now - timedelta(days=1), state="missed"
    )
    Contact.objects.create(slug="legal", name="Legal", email="legal@pitchey.com")
    return [
        "/on-call", "/on-call/primary", "/on-call/primary/layers", "/matrix", "/matrix/matrix/change", "/reach",
        "/messages", "/runbook", "/runbook/logs", "/contacts", "/contacts/legal/change", "/reports", "/auditor",
    ]  # fmt: skip
