"""What the pages of one policy and of one backup say, asked for part by part."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from backups.access import HEAVY
from backups.charts import SizeChart, WindowBar, size_chart, tone_of, window_bar
from backups.cleaning import Proposal, propose
from backups.jobs import chain_of
from backups.models import Backup, BackupAlert, Kind, Policy, RestorePoint
from backups.overview import PolicyView, views_of
from backups.programs import Server
from backups.schedules import next_runs
from controlplane.accounts.access import Actor
from controlplane.clock.database import database_time
from controlplane.operations.access import visible_operations
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.web.tones import Tone

LATELY = 10
NEXT = 5
TABLES = 200


class PolicyPage:
    """One policy: how it stands, what comes next, what retention would do."""

    def __init__(self, actor: Actor, policy: Policy) -> None:
        self._actor = actor
        self.policy = policy

    @cached_property
    def view(self) -> PolicyView:
        """The same as on the overview."""
        return views_of([self.policy], database_time())[0]

    @cached_property
    def next_runs(self) -> list[datetime]:
        """When it is due; nothing while it is paused."""
        return [] if self.policy.paused else next_runs(
            self.policy.schedule, self.policy.time_zone, self.view.now, NEXT
        )  # fmt: skip

    @cached_property
    def next_proofs(self) -> list[datetime]:
        """When a restore test is due by schedule."""
        if self.policy.paused or self.policy.proof != Policy.Proof.SCHEDULE:
            return []
        return next_runs(self.policy.proof_schedule, self.policy.time_zone, self.view.now, 2)

    @cached_property
    def proposal(self) -> Proposal:
        """The dry run of retention."""
        return propose(self.policy, self.view.now)

    @cached_property
    def why(self) -> list[tuple[Backup, str]]:
        """The newest kept ones, each with the reason."""
        kept = sorted(self.proposal.keep, key=lambda one: (one.as_of, one.pk), reverse=True)[:LATELY]
        return [(one, "; ".join(self.proposal.reasons[one.pk])) for one in kept]

    @cached_property
    def chart(self) -> SizeChart | None:
        """Sizes over time."""
        return size_chart(self.view.latest)

    @cached_property
    def bar(self) -> WindowBar | None:
        """The recoverable window."""
        return window_bar(self.view.windows, self.view.now)

    @cached_property
    def alerts(self) -> list[BackupAlert]:
        """The last ones that are over."""
        return list(BackupAlert.objects.filter(policy=self.policy).exclude(resolved_at=None)[:5])

    @cached_property
    def lately(self) -> list[Operation]:
        """Its last operations."""
        runs = visible_operations(self._actor).filter(backup_runs__policy=self.policy)
        return list(runs.defer("plan", "gates", "search").order_by("-pk")[:LATELY])


@dataclass(frozen=True)
class TableRow:
    """A table as its backup's snapshot had it."""

    name: str
    rows: int
    size: int
    hash: str


class BackupPage:
    """One backup: what it holds, whether it restores, who used it."""

    def __init__(self, actor: Actor, backup: Backup) -> None:
        self._actor = actor
        self.backup = backup

    @property
    def tone(self) -> Tone:
        """Whether it restores, as far as is known."""
        return tone_of(self.backup)

    @property
    def throughput(self) -> float:
        """Bytes read a second."""
        return self.backup.source_bytes / self.backup.seconds if self.backup.seconds else 0.0

    @property
    def facts(self) -> dict[str, Any]:
        """What its kind knows, without the long lists."""
        known: dict[str, Any] = self.backup.manifest.get("facts", {})
        return {name: value for name, value in known.items() if not isinstance(value, list | dict)}

    @cached_property
    def tables(self) -> list[TableRow]:
        """Of a database dump, the largest first."""
        rows = self.backup.manifest.get("facts", {}).get("tables", [])
        found = [TableRow(one["name"], one["rows"], one.get("bytes", 0), one.get("hash", "")) for one in rows]
        return sorted(found, key=lambda one: (-one.size, one.name))

    @property
    def shown_tables(self) -> list[TableRow]:
        """As many as a page should have."""
        return self.tables[:TABLES]

    @cached_property
    def chain(self) -> list[Backup]:
        """What it takes to restore it, itself last."""
        return chain_of(self.backup)

    @cached_property
    def children(self) -> list[Backup]:
        """Those that build on it."""
        return list(Backup.objects.filter(parent=self.backup).defer(*HEAVY).order_by("as_of"))

    @cached_property
    def restores(self) -> list[Operation]:
        """Restores and restore tests of it."""
        rows = visible_operations(self._actor).filter(restores__backup=self.backup)
        return list(rows.defer("plan", "gates", "search").order_by("-pk")[:LATELY])

    @cached_property
    def points(self) -> list[RestorePoint]:
        """The restore points it belongs to."""
        return list(self.backup.restore_points.all()[:LATELY])

    @property
    def can_restore(self) -> bool:
        """It, and all it builds on, is there."""
        return self.backup.policy is not None and all(one.state == Backup.State.AVAILABLE for one in self.chain)


def database_of(point: RestorePoint) -> str:
    """The name of the database a restore point's dump is of; "" when it has none."""
    dump = point.backups.filter(kind__in=[Kind.DATABASE, Kind.PITR]).first()
    return database_name(dump) if dump is not None else ""


def database_name(backup: Backup) -> str:
    """The name of the database a backup is of; "" when nobody can tell now."""
    named = backup.manifest.get("facts", {}).get("database", "")
    if named or backup.policy is None:
        return str(named)
    try:
        return Server.at(str(backup.policy.settings.get("database", ""))).database
    except StepError:
        return ""
