"""The demo of `bin/run`: the guide's company with something to look at, made once and kept.

Releases 1.4.0 (runs in production), 1.5.0 (good) and 1.6.0 (its /health answers 503 in production); staging and
development got theirs by real deployments, run right here by the engine.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM, record
from controlplane.operations import engine
from controlplane.operations.errors import StepError
from controlplane.operations.models import OperationLock
from deployments.models import Deployment, Release
from deployments.services import create_release, request_deployment
from environments.drivers import DRIVERS
from environments.drivers.base import Instance, Target
from environments.drivers.local import folder_of, instance_folder, start_arguments
from environments.models import ConfigEntry, Environment, Placement
from environments.targets import target_of

SERVICE = "pitchey-backend"
VERSIONS = ("1.4.0", "1.5.0", "1.6.0")
HISTORY = (("staging", "1.4.0"), ("staging", "1.5.0"), ("staging", "1.6.0"), ("development", "1.6.0"))
REASON = "demo:"
DEMO = SYSTEM("demo")


class Hand:
    """Starts and stops instances as a command of a person does: without an operation, but under a fence."""

    operation_id = 0
    step_key = "demo"

    def __init__(self, fence: int | None = None) -> None:
        """fence: that of somebody who is to go on afterwards; else a new one, after which no earlier one counts."""
        self.fence = _next_fence() if fence is None else fence

    def check(self) -> None:
        """No lease that could be lost."""

    def wait(self, seconds: float) -> None:
        """Give the process a moment; called by the driver while it waits for a condition."""
        time.sleep(seconds)

    def log(self, text: str, *, level: str = "line") -> None:
        """Nobody watches."""

    def mask(self, *values: str) -> None:
        """Nothing is shown."""


def prepare() -> None:
    """Bring the demo up; quick when it is. One that was killed on the way is finished by the next."""
    _give_passwords()
    _make_secrets()
    _make_history()
    for placement in _local_placements():
        if OperationLock.objects.filter(name=placement.environment.slug).exists():
            _start_again(placement)
        elif placement.version:
            start_missing(placement)


def stop() -> None:
    """Stop every instance of this data folder."""
    hand = Hand()
    for placement in _local_placements():
        for _, folder in _folders(target_of(placement)):
            digest = folder.wanted.get("digest")
            if digest:
                with folder.control(hand):
                    folder.stop(hand, digest)


def _local_placements() -> list[Placement]:
    return list(Placement.objects.filter(environment__driver="local").select_related("environment", "service"))


def _folders(target: Target) -> Iterator[tuple[Instance, Any]]:
    for instance in target.instances:
        yield instance, instance_folder(folder_of(target, instance))


def _give_passwords() -> None:
    path = Path(settings.DATA_DIR) / "demo-passwords.json"
    passwords = json.loads(path.read_text()) if path.exists() else {}
    for person in Person.objects.filter(username__in=passwords):
        if not person.has_usable_password() or not person.password:
            person.set_password(passwords[person.username])
            person.save(update_fields=["password"])


def _make_secrets() -> None:
    folder = Path(settings.DATA_DIR) / "secrets"
    for reference in ConfigEntry.objects.filter(secret__startswith="file:").values_list("secret", flat=True):  # noqa: S106 - a reference, no secret
        path = folder / reference.removeprefix("file:")
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))


def _make_history() -> None:
    """What is there already is left alone, so that a person's own history is never touched."""
    alice = Person.objects.filter(username="alice").first()
    if alice is None or Deployment.objects.exclude(operation__reason__startswith=REASON).exists():
        return
    actor = Actor(alice, via="demo")
    releases = {version: _release(actor, version) for version in VERSIONS}
    _baseline(releases["1.4.0"])
    for slug, version in HISTORY:
        environment = Environment.objects.filter(slug=slug).first()
        known = Deployment.objects.filter(environment=environment, release=releases[version])
        if environment is None or known.exists():
            continue
        reason = f"{REASON} {version} is tested in {slug}"
        operation = request_deployment(actor, environment=environment, release=releases[version], reason=reason)
        engine.run(operation.pk, "demo")


def _release(actor: Actor, version: str) -> Release:
    name = hashlib.sha256(f"{SERVICE} {version}".encode()).hexdigest()
    return create_release(
        actor, service=SERVICE, version=version, image=f"registry.pitchey.com/{SERVICE}:{version}",
        digest=f"sha256:{name}", commit=name[:40], ci=Release.CI.PASSED,
    )  # fmt: skip


def _baseline(release: Release) -> None:
    """Production has run 1.4.0 since before this control plane existed."""
    with transaction.atomic():
        production = Placement.objects.filter(environment__slug="production", service=release.service, version="")
        if production.update(version=release.version, digest=release.digest, since=Now(), changed_by="demo"):
            words = f"{release} runs here since before this control plane"
            record(DEMO, "placement.adopted", "environment production", scopes=["production"], reason=words)


def start_missing(placement: Placement) -> None:
    """What a deployment left there, in rotation."""
    hand = Hand()
    for instance, folder in _folders(target_of(placement)):
        if not folder.occupied:
            _start(placement, instance, placement.version, placement.digest, hand)
            with folder.control(hand):
                folder.put_back()


def _start_again(placement: Placement) -> None:
    """In the middle of an operation: each as it was, like a machine that comes up again, and under its fence."""
    for instance, folder in _folders(target_of(placement)):
        wanted = folder.wanted
        if wanted and not folder.occupied:
            _start(placement, instance, wanted["version"], wanted["digest"], Hand(folder.fence))


def _start(placement: Placement, instance: Instance, version: str, digest: str, hand: Hand) -> None:
    start = DRIVERS["local"].steps["local.start"]
    values = start_arguments(target_of(placement), instance, version, digest) | {"configuration": ""}
    start.act(hand, **values)
    for _ in range(500):
        verdict = start.verify(hand, **values) if start.verify else None
        if verdict is None or verdict.outcome == "passed":
            return
        if verdict.outcome == "failed":
            raise StepError(verdict.reason)
        hand.wait(0.02)


def _next_fence() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('operations_fence')")
        return int(cursor.fetchone()[0])
