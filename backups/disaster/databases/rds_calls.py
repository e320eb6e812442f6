"""RDS in one region: what its API tells, and the calls that change something, each sent once.

Rules of the API that this file knows so that nobody else has to: what is missing is an error with a code of its own;
an instance tells its tags with itself; times are AWS's, so `now` is what its last answer was dated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from controlplane.operations.errors import StepError
from environments.aws import CHANGE_ATTEMPTS, READ_ATTEMPTS, Account, code_of, in_words, other, rds

OPERATION = "controlplane.operation"  # a tag: who made it
GONE = ("DBInstanceNotFound", "DBInstanceNotFoundFault", "DBSnapshotNotFound", "DBSnapshotNotFoundFault")
TAKEN = ("DBInstanceAlreadyExists", "DBSnapshotAlreadyExists")
BROKEN = (
    "failed", "restore-error", "incompatible-restore", "incompatible-network", "incompatible-parameters",
    "incompatible-option-group", "incompatible-create", "incompatible-credentials",
    "inaccessible-encryption-credentials", "insufficient-capacity",
)  # fmt: skip
LAG_WINDOW = timedelta(hours=6)
EVENTS_MINUTES = 14 * 24 * 60  # as far back as RDS keeps them
RESTARTED = ("restarted", "shutdown")


def _plain(tags: Any) -> dict[str, str]:
    return {one["Key"]: one.get("Value", "") for one in tags or []}


def _utc(at: Any) -> datetime | None:
    """RDS's times are aware; None where it says none."""
    return at.astimezone(UTC) if isinstance(at, datetime) else None


@dataclass(frozen=True)
class Instance:
    """A database instance at one moment. groups: each security group and its status. source: whose replica it is."""

    name: str
    arn: str
    status: str
    source: str
    groups: Mapping[str, str]
    tags: Mapping[str, str]
    endpoint: str
    restorable_to: datetime | None
    created_at: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Instance":
        """What DescribeDBInstances told."""
        endpoint = row.get("Endpoint") or {}
        return cls(
            name=row["DBInstanceIdentifier"],
            arn=row["DBInstanceArn"],
            status=row["DBInstanceStatus"],
            source=row.get("ReadReplicaSourceDBInstanceIdentifier") or "",
            groups={one["VpcSecurityGroupId"]: one["Status"] for one in row.get("VpcSecurityGroups", [])},
            tags=_plain(row.get("TagList")),
            endpoint=str(endpoint.get("Address", "")),
            restorable_to=_utc(row.get("LatestRestorableTime")),
            created_at=_utc(row.get("InstanceCreateTime")),
        )

    def has_only(self, groups: Sequence[str]) -> bool:
        """Whether it was given these groups and no other; they may not be active yet."""
        ours = {name for name, status in self.groups.items() if status != "removing"}
        return ours == set(groups)

    def lies_behind(self, groups: Sequence[str]) -> bool:
        """Whether these groups, and no other, decide who gets in."""
        return set(self.groups) == set(groups) and all(status == "active" for status in self.groups.values())


@dataclass(frozen=True)
class Snapshot:
    """A snapshot at one moment. taken_at: when the data were what they are in it, however often it was copied."""

    name: str
    arn: str
    status: str
    instance: str
    taken_at: datetime | None
    percent: int
    encrypted: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Snapshot":
        """What DescribeDBSnapshots told."""
        return cls(
            name=row["DBSnapshotIdentifier"],
            arn=row["DBSnapshotArn"],
            status=row["Status"],
            instance=row.get("DBInstanceIdentifier", ""),
            taken_at=_utc(row.get("OriginalSnapshotCreateTime") or row.get("SnapshotCreateTime")),
            percent=int(row.get("PercentProgress") or 0),
            encrypted=bool(row.get("Encrypted")),
        )


@dataclass(frozen=True)
class Backups:
    """Automated backups that are replicated to the region."""

    arn: str
    restorable_to: datetime


class Rds:
    """RDS of one account in one region. All calls raise StepError, in words."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.now: datetime | None = None
        self._client = rds(account, READ_ATTEMPTS)
        self._changes = rds(account, CHANGE_ATTEMPTS)

    def words(self, name: str) -> str:
        """A thing by its name and region."""
        return f"{name} ({self.account.region})"

    # --- reading ------------------------------------------------------------------------------------

    def instance(self, name: str) -> Instance | None:
        """The instance, None when the region has none of this name."""
        try:
            with in_words("rds:DescribeDBInstances", f"database {self.words(name)}"):
                answer = self._client.describe_db_instances(DBInstanceIdentifier=name)
        except StepError as error:
            if code_of(error) in GONE:
                return None
            raise
        self._look_at_the_clock(answer)
        return Instance.of(answer["DBInstances"][0]) if answer["DBInstances"] else None

    def snapshot(self, name: str) -> Snapshot | None:
        """The snapshot, None when the region has none of this name."""
        try:
            with in_words("rds:DescribeDBSnapshots", f"snapshot {self.words(name)}"):
                answer = self._client.describe_db_snapshots(DBSnapshotIdentifier=name)
        except StepError as error:
            if code_of(error) in GONE:
                return None
            raise
        return Snapshot.of(answer["DBSnapshots"][0]) if answer["DBSnapshots"] else None

    def snapshots(self, instance: str, prefix: str) -> list[Snapshot]:
        """Finished ones of the instance, or whose name begins so; the newest first."""
        found = []
        with in_words("rds:DescribeDBSnapshots", f"snapshots in {self.account.region}"):
            for page in self._client.get_paginator("describe_db_snapshots").paginate():
                found += [Snapshot.of(row) for row in page["DBSnapshots"]]
        wanted = [
            one
            for one in found
            if one.status == "available"
            and one.taken_at
            and (one.instance == instance or (prefix and one.name.startswith(prefix)))
        ]
        return sorted(wanted, key=lambda one: one.taken_at or datetime.min.replace(tzinfo=UTC), reverse=True)

    def backups(self, instance: str) -> Backups | None:
        """Automated backups of an instance of another region that are replicated to this one."""
        with in_words("rds:DescribeDBInstanceAutomatedBackups", f"backups in {self.account.region}"):
            answer = self._client.describe_db_instance_automated_backups()
        for row in answer["DBInstanceAutomatedBackups"]:
            until = _utc((row.get("RestoreWindow") or {}).get("LatestTime"))
            if row.get("DBInstanceIdentifier") == instance and until and "DBInstanceAutomatedBackupsArn" in row:
                return Backups(row["DBInstanceAutomatedBackupsArn"], until)
        return None

    def lag(self, instance: str) -> tuple[datetime, float] | None:
        """CloudWatch's newest figure of how far a replica is behind: when, and seconds; None when it has none."""
        until = self.now or datetime.now(UTC)
        with in_words("cloudwatch:GetMetricStatistics", f"the lag of {self.words(instance)}"):
            answer = other("cloudwatch", self.account, READ_ATTEMPTS).get_metric_statistics(
                Namespace="AWS/RDS", MetricName="ReplicaLag", Statistics=["Maximum"], Period=60,
                StartTime=until - LAG_WINDOW, EndTime=until + timedelta(minutes=1),
                Dimensions=[{"Name": "DBInstanceIdentifier", "Value": instance}],
            )  # fmt: skip
        # -1 says that the replica does not replicate.
        points = [(one["Timestamp"], float(one["Maximum"])) for one in answer["Datapoints"] if one["Maximum"] >= 0]
        newest = max(points, default=None)
        return (newest[0].astimezone(UTC), newest[1]) if newest else None

    def restarted_since(self, instance: str, at: datetime) -> bool:
        """Whether every connection that was open then has ended: the instance was restarted after it."""
        with in_words("rds:DescribeEvents", f"events of {self.words(instance)}"):
            answer = self._client.describe_events(
                SourceIdentifier=instance, SourceType="db-instance", Duration=EVENTS_MINUTES
            )
        told = [(_utc(one.get("Date")), one.get("Message", "")) for one in answer["Events"]]
        return any(when and when >= at and any(word in words for word in RESTARTED) for when, words in told)

    def _look_at_the_clock(self, answer: Any) -> None:
        dated = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            self.now = parsedate_to_datetime(dated).astimezone(UTC)
        except ValueError:
            self.now = datetime.now(UTC)

    # --- changing -----------------------------------------------------------------------------------

    def change(self, call: str, name: str, **values: Any) -> None:
        """One call that changes something ("restore_db_instance_from_db_snapshot"), sent once.

        After no answer: look before sending it again. Something of that name that has come meanwhile is a passing
        error: the next look finds whose it is.
        """
        action = self._changes.meta.method_to_api_mapping[call]
        given = {key: value for key, value in values.items() if value not in ("", None, [])}
        try:
            with in_words(f"rds:{action}", self.words(name)):
                getattr(self._changes, call)(**given)
        except StepError as error:
            if code_of(error) in TAKEN:
                raise StepError(f"{self.words(name)} is there since a moment; looking whose it is") from error
            raise
