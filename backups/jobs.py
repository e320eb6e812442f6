"""From a policy's row to what its engine is told, and the secrets that go with it."""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from backups.engines.base import Job
from backups.models import Backup, Kind, Policy
from backups.sealing import Sealer, recipient_of
from backups.storage import open_store
from backups.storage.base import Store
from controlplane.operations.errors import StepError
from environments.secrets import problem_with, resolve

# Those that begin with what the one before them left.
BUILD_ON_THE_LAST = frozenset({Kind.PITR, Kind.UPLOADS, Kind.IMAGES})


def load_policy(name: str) -> Policy:
    """The policy a step names: "production/database". Raises StepError when it is gone."""
    environment, _, slug = name.partition("/")
    rows = Policy.objects.select_related("environment", "storage")
    policy = rows.filter(environment__slug=environment, slug=slug).first()
    if policy is None:
        raise StepError(f"There is no backup policy {name} any more.", permanent=True)
    return policy


def fingerprint(policy: Policy) -> str:
    """Changes when what is backed up, where to, or for whom it is encrypted does: a plan made before is stale."""
    said = [policy.kind, policy.settings, policy.storage.kind, policy.storage.settings, policy.recipient,
            policy.identity]  # fmt: skip
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def sealer_of(policy: Policy) -> Sealer:
    """For whom its backups are encrypted: the recipient, or whom the key belongs to. Raises StepError."""
    recipient = policy.recipient or (recipient_of(policy.identity) if policy.identity else "")
    return Sealer(recipient=recipient, identity=policy.identity)


def store_of(policy: Policy) -> Store:
    """Where its backups go. Raises StepError."""
    return open_store(policy.storage)


def key_of(policy: Policy, operation_id: int, fence: int, at: datetime) -> str:
    """The folder of one try at one backup: no two tries ever write to the same."""
    return f"{policy.prefix}{at:%Y-%m-%dT%H%M%SZ}-{operation_id}-{fence}/"


def job_of(policy: Policy, key: str) -> Job:
    """What the engine is told. Raises StepError."""
    return Job(
        environment=policy.environment.slug, policy=policy.slug, settings=policy.settings, store=store_of(policy),
        prefix=policy.prefix, key=key, sealer=sealer_of(policy), parent=_parent(policy),
    )  # fmt: skip


def _parent(policy: Policy) -> dict[str, Any] | None:
    """The manifest of the last good one in the same storage, unless it is time for a whole one again."""
    if policy.kind not in BUILD_ON_THE_LAST:
        return None
    there = Backup.objects.filter(policy=policy, storage=policy.storage, state=Backup.State.AVAILABLE)
    last = there.exclude(verdict=Backup.Verdict.FAILED).order_by("-as_of", "-pk").first()
    if last is None:
        return None
    chain = chain_of(last)
    if policy.kind == Kind.PITR and (len(chain) >= policy.full_every or not all(map(_is_good, chain))):
        return None
    manifest: dict[str, Any] = last.manifest
    return manifest


def _is_good(backup: Backup) -> bool:
    """As far as anybody knows: nothing is built on one that does not restore, nor on what such a one carries."""
    return backup.is_whole and backup.verdict != Backup.Verdict.FAILED


def chain_of(backup: Backup) -> list[Backup]:
    """What it takes to restore it: the whole one first, itself last."""
    chain = [backup]
    while chain[0].parent is not None:
        chain.insert(0, chain[0].parent)
    return chain


def lock_of_restores(backup: Backup, what: str) -> str:
    """Two restores of a policy into the same place never run at once."""
    return f"{backup.environment.slug}/restores/{backup.policy_slug}/{what}"


# --- secrets ------------------------------------------------------------------------------------------


def secrets_of(policy: Policy) -> list[str]:
    """All secret values it uses, for masking. What cannot be fetched cannot be shown either."""
    found: list[str] = []
    for reference in _references([policy.settings, policy.storage.settings, policy.identity]):
        try:
            value = resolve(reference)
        except StepError:
            continue
        found.append(value)
        found += _password_in(value)
    return found


def _password_in(value: str) -> list[str]:
    try:
        password = urlsplit(value).password or ""
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.partition(":")[0] in ("file", "env", "aws") and not problem_with(value):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)
