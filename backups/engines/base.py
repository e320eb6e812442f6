"""What every engine can do: look before, take a backup, and say what it took."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from backups.sealing import Sealer
from backups.storage.base import Store, Stored


class Hand(Protocol):
    """The part of an operation's step context that engines use; see `operations.registry.StepContext`."""

    fence: int

    def log(self, text: str, *, level: str = "line") -> None: ...

    def mask(self, *secrets: str) -> None: ...

    def progress(self, done: int, total: int, unit: str) -> None: ...

    def save_checkpoint(self, **values: Any) -> None: ...

    def check(self) -> None: ...

    def wait(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class Job:
    """One backup that is to be made.

    settings: the policy's. prefix: of all objects of the policy, ends with a slash. key: of those of this backup,
    begins with the prefix and ends with a slash. parent: the manifest of the one it may build on, None for a whole one.
    """

    environment: str
    policy: str
    settings: Mapping[str, Any]
    store: Store
    prefix: str
    key: str
    sealer: Sealer
    parent: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Taken:
    """What was put into the storage.

    objects: all that belong to this backup, the main one first. as_of: the moment whose state it holds, by the
    source's own clock. source_bytes: read. facts: what its kind knows besides, as JSON; `manifest.py` lists the names.
    """

    objects: tuple[Stored, ...]
    as_of: datetime
    source_bytes: int
    facts: dict[str, Any] = field(default_factory=dict)
    level: str = "full"


class Engine(Protocol):
    """One kind of backup. `backups.engines.ENGINES` is the registry, by `models.Kind`."""

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a policy's settings, by key, in words that go on from the key."""

    def look(self, job: Job, hand: Hand) -> None:
        """Ask whether it would work now: reachable, allowed, versions fit. Raises StepError."""

    def take(self, job: Job, hand: Hand) -> Taken:
        """Make the backup. What an earlier, interrupted try left is not there any more. Raises StepError.

        Objects under `job.key` are discarded by the caller when this raises.
        """
