"""What the tests of uploads, configuration and images share: a policy's backups in a storage of the test's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backups.engines.base import Engine, Job
from backups.manifest import NAME, encoded, manifest_of, read_manifest
from backups.sealing import Sealer
from backups.storage.base import Store
from backups.storage.folder import FolderStore
from tests.backups.hands import PaperHand

Manifest = dict[str, Any]


@dataclass
class Shelf:
    """The backups of one policy, in the order in which they were made, each built on the one before."""

    engine: Engine
    kind: str
    settings: dict[str, Any]
    root: Path
    sealer: Sealer = field(default_factory=Sealer)
    hand: PaperHand = field(default_factory=PaperHand)
    environment: str = "production"
    manifests: list[Manifest] = field(default_factory=list)
    prefix: str = "production/policy/"
    made: int = 0

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        self.store: Store = FolderStore(self.root)

    def job(self) -> Job:
        """The next one."""
        parent: Mapping[str, Any] | None = self.manifests[-1] if self.manifests else None
        key = f"{self.prefix}2026-11-24T{self.made:06}Z-1-1/"
        return Job(self.environment, "policy", self.settings, self.store, self.prefix, key, self.sealer, parent)

    def take(self) -> Manifest:
        """Make a backup, and read its manifest back from the storage."""
        job = self.job()
        now = datetime.now(UTC)
        taken = self.engine.take(job, self.hand)
        manifest = manifest_of(job, taken, kind=self.kind, operation=1, started_at=now, finished_at=now)
        self.store.put(job.key + NAME, [encoded(manifest)])
        self.made += 1
        self.manifests.append(read_manifest(self.store, job.key))
        return self.manifests[-1]

    def keys(self, below: str = "") -> list[str]:
        """What the storage holds, without the policy's prefix."""
        return [entry.key.removeprefix(self.prefix) for entry in self.store.list(self.prefix + below)]
