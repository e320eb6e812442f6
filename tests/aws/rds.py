"""What moto leaves out of RDS: everything takes minutes, states forbid things, snapshots arrive, replicas lag.

Moto runs in this process, so its instances and snapshots are looked at and changed where they are; only what it has
no answer for is answered here.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

import moto.rds.models
from moto.backends import get_backend

from tests.aws.requests import Request

if TYPE_CHECKING:
    from tests.aws.cloud import Cloud

ACCOUNT = "123456789012"
# Actions after which an instance of the name exists that is being made.
CREATIONS = ("RestoreDBInstanceFromDBSnapshot", "RestoreDBInstanceToPointInTime", "CreateDBInstanceReadReplica")
# What an instance has to be for it, besides "available".
NEEDS_AVAILABLE = {
    "PromoteReadReplica": (), "ModifyDBInstance": ("storage-optimization", "stopped"), "RebootDBInstance": (),
    "StopDBInstance": (), "CreateDBSnapshot": (), "DeleteDBInstance": ("stopped", "failed"),
}  # fmt: skip
RESTORABLE_DELAY = 300.0  # seconds that the latest restorable time is behind

Refusal = tuple[str, str]


class Rds:
    """All regions' instances and snapshots over time.

    lags: seconds a replica is behind, by (region, instance); 5 where nothing is said, None: CloudWatch has no figure.
    breaks: by instance, the state that the next one of that name ends in instead of "available".
    replicated: by (region, source instance), until when its automated backups were replicated to the region.
    """

    def __init__(self, cloud: "Cloud") -> None:
        self.cloud = cloud
        self.reset()
        # Moto dates what it makes, and we look at it from inside.
        models: Any = moto.rds.models
        models.utcnow = lambda: cloud.clock.now().replace(tzinfo=None)
        behind = timedelta(seconds=RESTORABLE_DELAY)
        models.DBInstance.latest_restorable_time = property(lambda one: models.utcnow() - behind)

    def reset(self) -> None:
        """A new world."""
        self.lags: dict[tuple[str, str], float | None] = {}
        self.breaks: dict[str, str] = {}
        self.replicated: dict[tuple[str, str], datetime] = {}
        self.events: dict[tuple[str, str], list[tuple[datetime, str]]] = {}

    # --- for tests ----------------------------------------------------------------------------------

    def instance(self, region: str, name: str) -> Any:
        """Moto's own object, None when there is none."""
        return self._backend(region).databases.get(name)

    def snapshots(self, region: str) -> list[str]:
        """The identifiers of a region's snapshots."""
        return sorted(self._backend(region).database_snapshots)

    def automated_snapshot(self, region: str, instance: str, name: str, age: float = 0.0) -> None:
        """Leave a finished automated snapshot there, so many seconds old."""
        snapshot = self._backend(region).create_auto_snapshot(instance, name)
        at = (self.cloud.clock.now() - timedelta(seconds=age)).replace(tzinfo=None)
        snapshot.created = snapshot.original_snapshot_create_time = at

    # --- for the layer ------------------------------------------------------------------------------

    def refusal(self, request: Request) -> Refusal | None:
        """Code and message when AWS would say no where moto does not."""
        values, backend = request.values, self._backend(request.region)
        if request.action in CREATIONS and len(backend.databases) >= self.cloud.quotas["rds", "instances"]:
            return "InstanceQuotaExceeded", "Cannot create more than the allowed number of DB instances"
        if request.action in NEEDS_AVAILABLE:
            instance = backend.databases.get(values.get("DBInstanceIdentifier", ""))
            if instance is None and request.action == "PromoteReadReplica":
                return "DBInstanceNotFound", "DBInstance not found"  # where moto breaks down
            if instance and instance.status not in ("available", *NEEDS_AVAILABLE[request.action]):
                return "InvalidDBInstanceState", f"Instance is in state {instance.status}"
            if instance and request.action == "PromoteReadReplica" and not instance.source_db_instance_identifier:
                return "InvalidDBInstanceState", "DB Instance is not a read replica"
        if request.action in ("RestoreDBInstanceFromDBSnapshot", "CopyDBSnapshot"):
            snapshot = self._snapshot(
                values.get("DBSnapshotIdentifier") or values["SourceDBSnapshotIdentifier"], request
            )
            if snapshot and snapshot.status != "available":
                return "InvalidDBSnapshotState", f"Snapshot is in state {snapshot.status}"
        return None

    def own_answer(self, request: Request) -> str | None:
        """The result element of what moto does not play at all."""
        match request.action:
            case "DescribeEvents":
                name = request.values.get("SourceIdentifier", "")
                told = self.events.get((request.region, name), [])
                rows = "".join(
                    f"<Event><SourceIdentifier>{name}</SourceIdentifier><SourceType>db-instance</SourceType>"
                    f"<Message>{escape(message)}</Message><Date>{at:%Y-%m-%dT%H:%M:%S.%fZ}</Date></Event>"
                    for at, message in told
                )
                return f"<Events>{rows}</Events>"
            case "DescribeAccountAttributes":
                used, most = len(self._backend(request.region).databases), self.cloud.quotas["rds", "instances"]
                row = f"<AccountQuotaName>DBInstances</AccountQuotaName><Used>{used}</Used><Max>{most}</Max>"
                return f"<AccountQuotas><AccountQuota>{row}</AccountQuota></AccountQuotas>"
            case "DescribeDBInstanceAutomatedBackups":
                return f"<DBInstanceAutomatedBackups>{self._backups(request.region)}</DBInstanceAutomatedBackups>"
        return None

    def _backups(self, region: str) -> str:
        def row(instance: str, until: datetime) -> str:
            arn = f"arn:aws:rds:{region}:{ACCOUNT}:auto-backup:ab-{instance}"
            window = f"<LatestTime>{until:%Y-%m-%dT%H:%M:%S.%fZ}</LatestTime>"
            return (
                f"<DBInstanceAutomatedBackup><DBInstanceIdentifier>{instance}</DBInstanceIdentifier>"
                f"<DBInstanceAutomatedBackupsArn>{arn}</DBInstanceAutomatedBackupsArn><Status>replicating</Status>"
                f"<RestoreWindow>{window}</RestoreWindow></DBInstanceAutomatedBackup>"
            )

        return "".join(row(name, until) for (where, name), until in self.replicated.items() if where == region)

    def after(self, request: Request) -> None:
        """Moto has carried it out at once: let it take its time."""
        values, took = request.values, self.cloud.durations
        name = values.get("DBInstanceIdentifier") or values.get("TargetDBInstanceIdentifier", "")
        instance = self.instance(request.region, name)
        match request.action:
            case "RestoreDBInstanceFromDBSnapshot" | "RestoreDBInstanceToPointInTime":
                instance.source_db_instance_identifier, instance.replicas = None, []
                self._become(instance, "creating", took.restore, self.breaks.pop(name, "available"))
            case "CreateDBInstanceReadReplica":
                instance.source_db_instance_identifier = values["SourceDBInstanceIdentifier"]
                self._become(instance, "creating", took.replica, self.breaks.pop(name, "available"))
            case "PromoteReadReplica":
                self._become(instance, "modifying", took.promote, "available", lambda: _stand_alone(instance))
            case "CreateDBSnapshot" | "CopyDBSnapshot":
                snapshot = values.get("DBSnapshotIdentifier") or values["TargetDBSnapshotIdentifier"]
                seconds = took.copy if request.action == "CopyDBSnapshot" else took.snapshot
                self._become(self._backend(request.region).database_snapshots[snapshot], "creating", seconds)
            case "ModifyDBInstance" if new := values.get("NewDBInstanceIdentifier"):
                self._become(self.instance(request.region, new), "renaming", took.rename)
            case "RebootDBInstance":
                told = self.events.setdefault((request.region, name), [])
                restarted = (lambda: told.append((self.cloud.clock.now(), "DB instance restarted")),)
                self._become(instance, "rebooting", took.reboot, "available", *restarted)
            case "StopDBInstance":
                self._become(instance, "stopping", took.stop, "stopped")

    def before_deletion(self, request: Request) -> Callable[[], None]:
        """A deleted instance stays for a while; call the result once moto has let go of it."""
        backend, name = self._backend(request.region), request.values.get("DBInstanceIdentifier", "")
        instance = backend.databases.get(name)

        def keep() -> None:
            if instance is not None and name not in backend.databases and self.cloud.durations.delete:
                instance.status = "deleting"
                backend.databases[name] = instance
                self.cloud.later(self.cloud.durations.delete, lambda: backend.databases.pop(name, None))

        return keep

    def from_backups(self, request: Request) -> str:
        """The name of a snapshot that stands for replicated automated backups, for moto to restore from."""
        name = request.values["SourceDBInstanceAutomatedBackupsArn"].rpartition("ab-")[2]
        source = next(
            found
            for region in self.cloud.known_regions
            if (found := self.instance(region, name)) is not None and region != request.region
        )
        backend = self._backend(request.region)
        hidden = f"replicated-{name}"
        backend.database_snapshots[hidden] = moto.rds.models.DBSnapshot(backend, source, hidden)
        return hidden

    def forget(self, region: str, snapshot: str) -> None:
        """Take such a snapshot away again."""
        del self._backend(region).database_snapshots[snapshot]

    # ------------------------------------------------------------------------------------------------

    def _become(
        self, thing: Any, now: str, seconds: float, then: str = "available", *also: Callable[[], object]
    ) -> None:
        def arrive() -> None:
            thing.status = then
            for one in also:
                one()

        if seconds:
            thing.status = now
            self.cloud.later(seconds, arrive)
        else:
            arrive()

    def _snapshot(self, name: str, request: Request) -> Any:
        if name.startswith("arn:"):
            parts = name.split(":", 6)
            return self._backend(parts[3]).database_snapshots.get(parts[6])
        return self._backend(request.region).database_snapshots.get(name)

    @staticmethod
    def _backend(region: str) -> Any:
        return get_backend("rds")[ACCOUNT][region]

    def lag(self, region: str, instance: str) -> tuple[datetime, float] | None:
        """CloudWatch's newest figure for a replica: when, and how many seconds; it grows while its source is cut."""
        seconds = self.lags.get((region, instance), 5.0)
        found = self.instance(region, instance)
        if seconds is None or found is None or not found.source_db_instance_identifier:
            return None
        now = self.cloud.clock.now()
        at = now - timedelta(seconds=now.timestamp() % 60)
        cut = self.cloud.cut_at(_region_of(found.source_db_instance_identifier) or region)
        return at, seconds + (max(0.0, (at - cut).total_seconds()) if cut else 0.0)


def _region_of(name: str) -> str:
    return name.split(":")[3] if name.startswith("arn:") else ""


def _stand_alone(instance: Any) -> None:
    instance.is_replica = False
    instance.source_db_instance_identifier = None
