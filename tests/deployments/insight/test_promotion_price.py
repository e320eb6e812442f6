"""What the promotion page costs where every rule is asked for, and that it waits for nothing on the network."""

import socket
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from controlplane.accounts.models import Person
from controlplane.operations.gates import Outcome
from controlplane.operations.states import State
from deployments.gates import way_back
from deployments.models import FreezeWindow, Policy, Release, ReleaseCommits
from deployments.policies import policy_of
from environments.models import ConfigEntry, Environment, Placement, Service
from tests.deployments.insight.test_pages import ran
from tests.estate import Estate, place, release

pytestmark = pytest.mark.django_db
QUERIES, BYTES = 20, 100_000
ADDRESS = "/promotion/api?between=staging..production"
EVERYTHING: dict[str, Any] = {
    "soak_minutes": 60_000, "evidence": ["scan", "signature", "attestation"], "findings": {"critical": 0},
    "keys": ["a key"], "incidents": ["P1", "P2"], "backup_minutes": 60, "backup": "refuse",
    "checklist": ["the on-call knows"], "approvers": {"sre": 1}, "way_back": "possible",
    "hours": {"zone": "Europe/Berlin", "days": ["mon"], "from": "09:00", "to": "09:01"},
}  # fmt: skip


@pytest.fixture
def company(estate: Estate) -> Estate:
    """Six environments, three services, a history, every rule in production, and variables."""
    for number in range(4):
        environment = Environment.objects.create(
            slug=f"region-{number}", name=f"Region {number}", driver="paper", position=3 + number,
            approvals_required=1, promoted_from="production",
        )  # fmt: skip
        place(environment, estate.service, estate.releases["1.4.0"], 2)
    for name in ("web", "jobs"):
        service = Service.objects.create(slug=name, name=name.title())
        for environment in Environment.objects.all():
            place(environment, service, release_of(service), 1)
    Release.objects.filter(version="1.5.0").update(ci="failed", migrations="none")
    Policy.objects.create(environment=estate.production, **EVERYTHING)
    now = timezone.now()
    FreezeWindow.objects.create(
        environment=estate.production, reason="everybody is away", zone="UTC", minutes=6000,
        starts=f"{now - timedelta(days=1):%Y-%m-%dT%H:%M}", author_name="Ada",
    )  # fmt: skip
    for number in range(8):
        ran(estate.staging, estate.releases["1.5.0" if number % 2 else "1.4.0"], ago=30 - number)
        ran(estate.production, estate.releases["1.4.0"], ago=29 - number, state=State.SUCCEEDED)
        for environment in (estate.staging, estate.production):
            ConfigEntry.objects.create(environment=environment, key=f"KEY_{number}", value=f"{environment} {number}")
    return estate


def release_of(service: Service) -> Release:
    """The one there is of it."""
    return Release.objects.filter(service=service).first() or release(service, "1.4.0")


def test_with_every_rule_it_takes_no_more_queries(client: Client, company: Estate, alice: Person) -> None:
    client.force_login(alice)
    client.get(ADDRESS)
    with CaptureQueriesContext(connection) as asked:
        answer = client.get(ADDRESS)
    seen = answer.content.decode()
    for title in ("Has run in staging for", "CI passed", "Security scan", "Image signed", "Build attested",
                  "Verified backup", "Checklist", "No freeze", "the way back is open"):  # fmt: skip
        assert title.lower() in seen.lower(), title
    assert len(asked) <= QUERIES, "\n".join(one["sql"][:260] for one in asked.captured_queries)
    assert len(answer.content) < BYTES


def test_it_waits_for_nothing_on_the_network(
    client: Client, company: Estate, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(alice)
    ConfigEntry.objects.create(environment=company.production, key="API_KEY", secret="aws:pitchey/api-key")
    hosts = {"server1": {"engine": "unix:///tmp/nobody-there.sock"}}
    Environment.objects.filter(pk=company.production.pk).update(driver="hosts", driver_settings={"hosts": hosts})
    dialled: list[Any] = []
    connect = socket.socket.connect

    def dial(self: socket.socket, address: Any) -> None:
        dialled.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", dial)
    answer = client.get(ADDRESS)
    assert answer.status_code == 200
    assert "is asked of the place when the deployment is asked for" in answer.content.decode()
    assert dialled == []
    # Where it may take its time, the same question does go there.
    placement = Placement.objects.select_related("environment", "service").get(
        environment=company.production, service=company.service
    )
    seen = way_back.look(placement, policy_of(company.production), way_back.former_at(placement))
    assert seen is not None
    assert seen.outcome is Outcome.PENDING
    assert dialled == ["/tmp/nobody-there.sock"]


def test_the_plan_of_a_deployment_costs_no_more(client: Client, company: Estate, alice: Person) -> None:
    """One page asks for everything that there is: the plan, every rule, the commits, and who could approve."""
    address = "/environments/production/deploy?service=api&version=1.5.0"
    for version in ("1.4.0", "1.5.0"):
        known = company.releases[version]
        Release.objects.filter(pk=known.pk).update(commit=version.replace(".", "") * 13 + "a")
    older, newer = ("140" * 13 + "a", "150" * 13 + "a")
    row = {"author": "Ada", "at": "2026-11-01T10:00:00+00:00", "title": "a change"}
    ReleaseCommits.objects.create(
        release=company.releases["1.5.0"], commits=[{"sha": newer, **row}, {"sha": older, **row}]
    )
    client.force_login(alice)
    client.get(address)
    with CaptureQueriesContext(connection) as asked:
        answer = client.get(address)
    assert "1 commit" in answer.content.decode()
    assert len(asked) <= QUERIES, "\n".join(one["sql"][:260] for one in asked.captured_queries)
