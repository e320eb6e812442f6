"""The demo of `bin/run`: the guide's company with something to look at, made once and kept.

Releases 1.4.0 (runs in production), 1.5.0 (good) and 1.6.0 (its /health answers 503 in production); staging and
development got theirs by real deployments, run right here by the engine.
"""

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM, record
from controlplane.clock.database import database_time
from controlplane.operations import engine
from controlplane.operations.errors import OperationError, StepError
from controlplane.operations.models import OperationLock
from deployments import demo_hosts
from deployments.commits import keep_commits
from deployments.models import Deployment, Release
from deployments.services import create_release, request_deployment
from environments.drivers import DRIVERS
from environments.drivers.base import Instance, Target
from environments.drivers.local.driver import folder_of, start_arguments
from environments.drivers.local.steps import instance_folder
from environments.models import ConfigEntry, Environment, Placement
from environments.targets import target_of

log = logging.getLogger(__name__)

SERVICE = "pitchey-backend"
IMAGE = f"registry.pitchey.com/{SERVICE}"
VERSIONS = ("1.4.0", "1.5.0", "1.6.0")
HISTORY = (("staging", "1.4.0"), ("staging", "1.5.0"), ("staging", "1.6.0"), ("development", "1.6.0"))
# What each version is made of, the oldest first; by whom.
CHANGES = {
    "1.4.0": (
        ("Set up the project", "Alice"), ("Sign in with a one-time code", "Eve"), ("List pitches by page", "Alice"),
        ("Upload of pitch decks", "Bob"), ("Send mail by a queue", "Eve"),
    ),
    "1.5.0": (
        ("Search pitches by industry", "Eve"), ("Cache the list of industries for an hour", "Eve"),
        ("Fix: a deck with an umlaut in its name could not be opened", "Bob"), ("Refuse decks above 50 MB", "Bob"),
        ("Log the request's number with each line", "Alice"), ("Update PostgreSQL's driver", "Alice"),
        ("Answer /ready only once the database does", "Eve"),
    ),
    "1.6.0": (
        ("Investors follow pitches", "Eve"), ("Tell followers of a new round, at most once a day", "Eve"),
        ("Use the new connection pool", "Bob"), ("Check the pool in /health", "Bob"),
    ),
}  # fmt: skip
BETWEEN_CHANGES = timedelta(hours=6)
REASON = "demo:"
DEMO = SYSTEM("demo")


class Hand:
    """Starts and stops instances as a command of a person does: without an operation, but under a fence."""

    operation_id = 0
    step_key = "demo"

    def __init__(self, fence: int | None = None) -> None:
        """fence: that of somebody who is to go on afterwards; else a new one, after which no earlier one counts."""
        self.fence = _next_fence() if fence is None else fence
        self.checkpoint: dict[str, Any] = {}

    def check(self) -> None:
        """No lease that could be lost."""

    def wait(self, seconds: float) -> None:
        """Give the process a moment; called by the driver while it waits for a condition."""
        time.sleep(seconds)

    def log(self, text: str, *, level: str = "line") -> None:
        """Nobody watches."""

    def mask(self, *values: str) -> None:
        """Nothing is shown."""

    def save_checkpoint(self, **values: Any) -> None:
        """For as long as this hand is there: nobody goes on after it."""
        self.checkpoint |= values

    def together(self) -> AbstractContextManager[None]:
        """Nothing is written down that could be there by half."""
        return nullcontext()

    def did(self, what: str, subject: str, **facts: Any) -> None:
        """There is no plan that it could be compared with."""


def configuration(sample: Path) -> Path:
    """The file to apply, with staging where it is to run from now on."""
    if demo_hosts.decide(IMAGE, VERSIONS):
        _stop(_local_placements().filter(environment__slug=demo_hosts.SLUG))  # its containers use the same ports
    return demo_hosts.configuration(sample)


def prepare() -> None:
    """Bring the demo up; quick when it is. One that was killed on the way is finished by the next."""
    _give_passwords()
    _make_secrets()
    with demo_hosts.at_hand():
        _make_history()
        _move_in()
    for placement in _local_placements():
        if OperationLock.objects.filter(name=placement.environment.slug).exists():
            _start_again(placement)
        elif placement.version:
            start_missing(placement)


def stop() -> None:
    """Stop every instance of this data folder that is a process; bin/run stops the containers itself."""
    _stop(_local_placements())


def _stop(placements: Iterable[Placement]) -> None:
    hand = Hand()
    running = [
        (folder, digest)
        for placement in placements
        for _, folder in _folders(target_of(placement))
        if (digest := folder.wanted.get("digest"))
    ]
    for folder, _ in running:  # all are told before one is waited for: each takes its time to end
        with folder.control(hand):
            folder.ask_to_end(hand)
    for folder, digest in running:
        with folder.control(hand):
            folder.stop(hand, digest)


def _local_placements() -> QuerySet[Placement]:
    return Placement.objects.filter(environment__driver="local").select_related("environment", "service")


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
    _tell_commits(actor, releases)
    _baseline(releases["1.4.0"])
    for slug, version in HISTORY:
        environment = Environment.objects.filter(slug=slug).first()
        known = Deployment.objects.filter(environment=environment, release=releases[version])
        if environment is None or known.exists():
            continue
        reason = f"{REASON} {version} is tested in {slug}"
        operation = request_deployment(actor, environment=environment, release=releases[version], reason=reason)
        engine.run(operation.pk, "demo")


def _move_in() -> None:
    """Have in containers what ran as processes until now: a deployment like any other, in staging's history."""
    alice = Person.objects.filter(username="alice").first()
    placement = Placement.objects.filter(environment__slug=demo_hosts.SLUG).exclude(version="").first()
    if alice is None or placement is None or not demo_hosts.is_empty():
        return
    release = Release.objects.filter(service=placement.service, version=placement.version).first()
    if release is None or OperationLock.objects.filter(name=demo_hosts.SLUG).exists():
        return
    try:
        operation = request_deployment(
            Actor(alice, via="demo"), environment=placement.environment, release=release,
            reason=f"{REASON} {demo_hosts.SLUG} moves into containers",
        )  # fmt: skip
    except OperationError as error:
        log.warning("%s stays empty: %s", demo_hosts.SLUG, error)  # its page shows it, and Deploy mends it
        return
    engine.run(operation.pk, "demo")


def _release(actor: Actor, version: str) -> Release:
    name = hashlib.sha256(f"{SERVICE} {version}".encode()).hexdigest()
    return create_release(
        actor, service=SERVICE, version=version, image=f"{IMAGE}:{version}",
        digest=demo_hosts.digests().get(version, f"sha256:{name}"), commit=name[:40], ci=Release.CI.PASSED,
    )  # fmt: skip


def _tell_commits(actor: Actor, releases: dict[str, Release]) -> None:
    """One line of commits, each release built from the last of its own, as its pipeline would have reported them."""
    line: list[dict[str, Any]] = []
    now, age = database_time(), sum(len(changes) for changes in CHANGES.values())
    for version, release in releases.items():
        for number, (title, author) in enumerate(CHANGES[version], start=1):
            is_last = number == len(CHANGES[version])
            sha = release.commit if is_last else hashlib.sha256(f"{SERVICE} {title}".encode()).hexdigest()[:40]
            at = (now - age * BETWEEN_CHANGES).isoformat()
            line.insert(0, {"sha": sha, "author": author, "at": at, "title": title})
            age -= 1
        with transaction.atomic():
            keep_commits(actor.who, release, line)


def _baseline(release: Release) -> None:
    """Production has run 1.4.0 since before this control plane existed."""
    with transaction.atomic():
        production = Placement.objects.filter(environment__slug="production", service=release.service, version="")
        if production.update(version=release.version, digest=release.digest, since=Now(), changed_by="demo"):
            words = f"{release} runs here since before this control plane"
            record(DEMO, "placement.adopted", "environment production", scopes=["production"], reason=words)


def start_missing(placement: Placement) -> None:
    """What a deployment left there, in rotation; what a recovery stopped stays stopped."""
    hand = Hand()
    for instance, folder in _folders(target_of(placement)):
        if not folder.occupied and not folder.is_held:
            _start(placement, instance, placement.version, placement.digest, hand)
            with folder.control(hand):
                folder.put_back()


def _start_again(placement: Placement) -> None:
    """In the middle of an operation: each as it was, like a machine that comes up again, and under its fence."""
    for instance, folder in _folders(target_of(placement)):
        wanted = folder.wanted
        if wanted and not folder.occupied and not folder.is_held:
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
