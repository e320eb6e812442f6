"""The company the browser tests look at: real processes of the sample service, on small clocks."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from backups.alerts import raise_alert
from backups.models import BackupAlert, Kind, Policy, PolicyClock, RestorePoint, Storage
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.embedded.processes import free_port, wait_until
from controlplane.operations import transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import FINISHED, State, StepState
from deployments.models import Release
from deployments.services import request_deployment
from environments.drivers.local.instance_folder import InstanceFolder
from environments.models import Environment, Placement, Service
from tests.backups.history import base, entry, proven, wal

# (slug, name, instances, approvals, must have run in, driver settings)
QUICK = {"checks": 1, "check_interval": 0.05, "drain_seconds": 0}
SEEN = {"checks": 2, "check_interval": 0.2, "drain_seconds": 0.6, "broken_versions": {"1.6.0": 503}}
PLACES = (
    ("development", "Development", 1, 0, "", QUICK),
    ("staging", "Staging", 1, 0, "", QUICK),
    ("production", "Production", 3, 1, "staging", SEEN),
    ("dr", "DR", 1, 1, "", QUICK),
)


@dataclass(frozen=True)
class Company:
    """Who and what there is."""

    alice: Person
    bob: Person
    releases: dict[str, Release]

    def environment(self, slug: str) -> Environment:
        return Environment.objects.get(slug=slug)

    def ask(self, slug: str, version: str, reason: str = "seed", *, approve: bool = True) -> Operation:
        """Alice asks and Bob, where it takes that, approves; the worker does the rest."""
        operation = request_deployment(
            Actor(self.alice), environment=self.environment(slug), release=self.releases[version], reason=reason
        )
        if approve and operation.approvals_required:
            transitions.approve(operation.pk, Actor(self.bob), operation.plan_digest)
        return operation

    def bring(self, slug: str, version: str) -> Operation:
        """The same, until it is done."""
        operation = self.ask(slug, version)
        return finished(operation)


def found(alice: Person, bob: Person) -> Company:
    """1.4.0 runs in production; 1.5.0 and 1.6.0 have run in staging."""
    service = Service.objects.create(slug="pitchey-backend", name="API of the marketplace")
    releases = {
        version: Release.objects.create(
            service=service, version=version, image="registry.pitchey.com/pitchey-backend", ci="passed",
            digest=f"sha256:{number:x}{'0123456789abcdef' * 4}"[:71], commit="5f0c91d2", created_by_name="pipeline",
        )
        for number, version in enumerate(("1.4.0", "1.5.0", "1.6.0"), start=1)
    }  # fmt: skip
    for position, (slug, name, count, approvals, before, driver) in enumerate(PLACES):
        environment = Environment.objects.create(
            slug=slug, name=name, position=position, driver="local", driver_settings=driver,
            approvals_required=approvals, promoted_from=before,
        )  # fmt: skip
        instances = [
            {"name": f"{slug}-{number}", "address": f"http://127.0.0.1:{free_port()}"} for number in range(1, count + 1)
        ]
        Placement.objects.create(environment=environment, service=service, instances=instances)
    company = Company(alice, bob, releases)
    company.bring("staging", "1.4.0")
    Environment.objects.filter(slug="production").update(driver_settings=QUICK)
    company.bring("production", "1.4.0")
    Environment.objects.filter(slug="production").update(driver_settings=SEEN)
    for version in ("1.6.0", "1.5.0"):
        company.bring("staging", version)
    return company


def backed_up(company: Company) -> list[str]:
    """Policies with backups, proven, failed, held and late, of a database and of its log; the addresses of all that."""
    production, now = company.environment("production"), timezone.now()
    storage = Storage.objects.create(slug="archive", kind="folder", settings={"path": "backups"})
    policies = [
        Policy.objects.create(
            environment=production, storage=storage, slug=kind, kind=kind, schedule="0 2 * * *",
            settings={"database": "env:NOWHERE"}, proof=Policy.Proof.NEVER, rpo_seconds=86400 * 9, full_every=1,
        )
        for kind in (Kind.DATABASE, Kind.PITR, Kind.CONFIGURATION)
    ]  # fmt: skip
    for policy in policies:
        PolicyClock.objects.create(policy=policy, due_at=now + timedelta(hours=9))
    dumps, log, configuration = policies
    tables = [{"name": f"public.table_{n}", "rows": n, "hash": "a" * 64, "bytes": n * 999} for n in range(30)]
    for days in range(5, 1, -1):
        entry(dumps, age=timedelta(days=days))
    good = proven(dumps, manifest={"facts": {"tables": tables}, "objects": []}, hold_reason="the audit of 2026")
    bad = entry(configuration, age=timedelta(days=40), verdict="failed", verdict_words="It is damaged.", tested_at=now)
    base(log, age=timedelta(days=3), segment=10)
    last = base(log, age=timedelta(days=1), segment=60)
    wal(log, (8, 40, now - timedelta(days=4), now - timedelta(days=2)), (55, 99, now - timedelta(days=1.1), now))
    with transaction.atomic():
        raise_alert(configuration, BackupAlert.Kind.MISSED, "the run of 2026-11-24 02:00 UTC was missed")
    point = RestorePoint.objects.create(environment=production, name="before 1.5.0", made_by_name="Alice")
    point.backups.set([good, entry(configuration)])
    return [
        "/backups", "/backups/catalog", "/backups/catalog?q=nothing-like-it",
        *(policy.get_absolute_url() for policy in policies), good.get_absolute_url(), bad.get_absolute_url(),
        f"/backups/{good.pk}/restore", f"/backups/{last.pk}/restore",
        f"/backups/{good.pk}/restore?target=existing&database=shop", point.get_absolute_url(),
    ]  # fmt: skip


def finished(operation: Operation, seconds: float = 60) -> Operation:
    """Wait until the worker is through with it."""
    ended = wait_until(lambda: Operation.objects.filter(pk=operation.pk, state__in=FINISHED).exists(), seconds)
    operation.refresh_from_db()
    assert ended, [operation.state, operation.outcome, *operation.events.values_list("at", "text")]
    return operation


def in_doubt(operation: Operation) -> Operation:
    """As if nobody knew how its last step ended."""
    Operation.objects.filter(pk=operation.pk).update(state=State.NEEDS_OPERATOR, finished_at=None)
    last = operation.steps.filter(phase="main").order_by("-position")[:1]
    operation.steps.filter(pk__in=last.values("pk")).update(state=StepState.UNKNOWN, error="Look at host 1.")
    return operation


def folders() -> list[InstanceFolder]:
    """Every instance that ever ran."""
    return [InstanceFolder(path.parent) for path in Path(settings.DATA_DIR).glob("instances/*/*/process.lock")]


def stop_everything() -> None:
    """End the instances that still run."""
    for folder in folders():
        if folder.occupied and folder.pid:
            with suppress(ProcessLookupError):
                os.kill(folder.pid, signal.SIGKILL)
        for name in ("wanted.json", "fence"):
            (folder.path / name).unlink(missing_ok=True)
