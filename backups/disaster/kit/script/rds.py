"""Amazon RDS: a replica in the other region is promoted, or an instance is restored from the newest snapshot there.

What this run made is known by a tag with the run's name; a stranger's instance of that name is put to the person.
"""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from backups.disaster.kit.script.cloud import NotThere, Place, call
from backups.disaster.kit.script.errors import Doubt, Passing, Wrong
from backups.disaster.kit.script.route53 import records_change, records_look
from backups.disaster.kit.script.running import Look, Run, State, Step

TAG = "recovery-kit"
SHUT = "fence/database/proof"
LAG_HOURS = 3
EVENTS_MINUTES = 24 * 60
RESTORE_SECONDS, PROMOTE_SECONDS = 4 * 3600.0, 3600.0
LENIENT_DATABASE_SECONDS = 15.0
BROKEN = ("failed", "restore-error", "storage-full", "incompatible", "inaccessible", "insufficient")

Candidate = dict[str, Any]
Instance = dict[str, Any]


def database_candidates(database: dict[str, Any]) -> list[Candidate]:
    """What the database can come back from in the new side's region, the newest first. Raises Passing, Wrong."""
    if replicas := _replicas(database):
        return replicas  # it has the name that anything restored would get
    found = [*_backups(database), *_snapshots(database)]
    return sorted(found, key=lambda one: one["as_of"], reverse=True)


def _replicas(database: dict[str, Any]) -> list[Candidate]:
    place = database["to"]
    found = _instance(place)
    if found is None or not found.get("ReadReplicaSourceDBInstanceIdentifier"):
        return []
    title = f"replica {place['instance']} ({found['DBInstanceStatus']})"
    return [{"kind": "replica", "name": place["instance"], "title": title, "as_of": _replica_as_of(place)}]


def _replica_as_of(place: Place) -> str:
    """As of when the replica is, by the lag it told CloudWatch last; "" when it told nothing."""
    now = datetime.now(UTC)
    try:
        points = call("cloudwatch", place, "get_metric_statistics", Namespace="AWS/RDS", MetricName="ReplicaLag",
                      Dimensions=[{"Name": "DBInstanceIdentifier", "Value": place["instance"]}],
                      StartTime=now - timedelta(hours=LAG_HOURS), EndTime=now, Period=60,
                      Statistics=["Maximum"])["Datapoints"]  # fmt: skip
    except (Passing, Wrong):
        return ""
    if not points:
        return ""
    newest = max(points, key=lambda one: one["Timestamp"])
    if newest["Maximum"] < 0:  # it does not replicate at all
        return ""
    return str((newest["Timestamp"] - timedelta(seconds=newest["Maximum"])).isoformat())


def _backups(database: dict[str, Any]) -> list[Candidate]:
    """Automated backups that are replicated to the other region: any moment up to a few minutes ago."""
    place = database["to"]
    try:
        found = call("rds", place, "describe_db_instance_automated_backups",
                     DBInstanceIdentifier=database["from"]["instance"])["DBInstanceAutomatedBackups"]  # fmt: skip
    except Wrong:
        return []
    return [
        {"kind": "backups", "name": one["DBInstanceAutomatedBackupsArn"], "title": "replicated automated backups",
         "as_of": one["RestoreWindow"]["LatestTime"].isoformat()}
        for one in found
        if one.get("DBInstanceAutomatedBackupsArn") and one.get("RestoreWindow", {}).get("LatestTime")
    ]  # fmt: skip


def _snapshots(database: dict[str, Any]) -> list[Candidate]:
    place, prefix = database["to"], database["to"]["snapshot_prefix"]
    found: list[dict[str, Any]] = []
    marker: dict[str, str] = {}
    while True:
        page = call("rds", place, "describe_db_snapshots", **marker)
        found += [one for one in page["DBSnapshots"] if one.get("Status") == "available"]
        if not page.get("Marker"):
            break
        marker = {"Marker": page["Marker"]}
    ours = (
        one
        for one in found
        if one.get("DBInstanceIdentifier") == database["from"]["instance"]
        or (prefix and one["DBSnapshotIdentifier"].startswith(prefix))
    )
    return [
        {
            "kind": "snapshot", "name": one["DBSnapshotIdentifier"], "title": f"snapshot {one['DBSnapshotIdentifier']}",
            # A copy is of now; what is in it is of when the original was made.
            "as_of": (one.get("OriginalSnapshotCreateTime") or one["SnapshotCreateTime"]).isoformat(),
        }
        for one in ours
    ]  # fmt: skip


def database_beginning(database: dict[str, Any], candidate: Candidate) -> list[Step]:
    """Restoring takes long and lets nobody write: it begins before anything else. A promotion waits for the fence."""
    if candidate.get("kind") == "replica":
        return []
    place = database["to"]
    return [
        Step("database/restore", f"Restore {place['instance']} in {place['region']}", partial(_restore_look, place),
             partial(_restore, place, candidate))
    ]  # fmt: skip


def database_opening(database: dict[str, Any], candidate: Candidate) -> list[Step]:
    """Wait for the restored one, or promote the replica; then let applications in. Only behind the fence."""
    place = database["to"]
    name = place["instance"]
    steps = [Step("database/available", f"Wait for {name}", partial(_available, place), seconds=RESTORE_SECONDS)]
    if candidate.get("kind") == "replica":
        steps.append(
            Step("database/promote", f"Promote the replica {name}", partial(_promoted, place), partial(_promote, place),
                 PROMOTE_SECONDS)
        )  # fmt: skip
    if place["groups"]:
        steps.append(
            Step("database/open", f"Let applications reach {name}", partial(_in_groups, place, place["groups"]),
                 partial(_put_into, place, place["groups"]))
        )  # fmt: skip
    if place["endpoint"]:
        steps.append(
            Step("database/point", f"Point {place['endpoint']['name']} to {name}", partial(_points_there, place),
                 partial(_point_record, place))
        )  # fmt: skip
    return steps


def _endpoint_record(place: Place) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record that leads applications to the instance, as a traffic of one record."""
    address = str(((_instance(place) or {}).get("Endpoint") or {}).get("Address", ""))
    if not address:
        raise Passing(f"{place['instance']} has no address yet.")
    about = place["endpoint"]
    record = {"Name": about["name"], "Type": "CNAME", "TTL": about["ttl"], "ResourceRecords": [{"Value": address}]}
    return {"step": "database/point", "place": about["place"], "zone": about["zone"], "records": [record]}, record


def _points_there(place: Place, run: Run) -> Look:
    return records_look(_endpoint_record(place)[0], run)


def _point_record(place: Place, run: Run) -> None:
    records_change(_endpoint_record(place)[0], run)


def _instance(place: Place) -> Instance | None:
    try:
        answer = call("rds", place, "describe_db_instances", DBInstanceIdentifier=place["instance"])
    except NotThere:
        return None
    return dict(answer["DBInstances"][0]) if answer["DBInstances"] else None


def _tags(place: Place, instance: Instance) -> dict[str, str]:
    found = call("rds", place, "list_tags_for_resource", ResourceName=instance["DBInstanceArn"])["TagList"]
    return {one["Key"]: one["Value"] for one in found}


def _restore_look(place: Place, run: Run) -> Look:
    found = _instance(place)
    if found is None:
        return Look(State.OPEN, f"there is no instance {place['instance']}")
    words = f"{place['instance']} is {found['DBInstanceStatus']}"
    if run.journal.last("begin", "database/restore") and _tags(place, found).get(TAG) == run.identity:
        return Look(State.DONE, words)
    raise Doubt(
        f"{words}, and it was not made by this run. If it is of no use, rename or delete it, then try again. To use it "
        "as it is, say that it is done."
    )


def _restore(place: Place, candidate: Candidate, run: Run) -> None:
    options = {**place.get("options", {}), "Tags": [{"Key": TAG, "Value": run.identity}]}
    if candidate["kind"] == "backups":
        call("rds", place, "restore_db_instance_to_point_in_time", TargetDBInstanceIdentifier=place["instance"],
             SourceDBInstanceAutomatedBackupsArn=candidate["name"], UseLatestRestorableTime=True,
             **options)  # fmt: skip
        return
    call("rds", place, "restore_db_instance_from_db_snapshot", DBInstanceIdentifier=place["instance"],
         DBSnapshotIdentifier=candidate["name"], **options)  # fmt: skip


def _available(place: Place, run: Run) -> Look:
    found = _instance(place)
    if found is None:
        raise Wrong(f"There is no instance {place['instance']} in {place['region']}.")
    status = str(found["DBInstanceStatus"])
    if status.startswith(BROKEN):
        raise Wrong(f"{place['instance']} is {status}. Look at its events in RDS.")
    at = found.get("Endpoint", {}).get("Address", "")
    return Look(
        State.DONE if status == "available" else State.UNDER_WAY, f"{place['instance']} is {status} {at}".strip()
    )


def _promoted(place: Place, run: Run) -> Look:
    look = _available(place, run)
    found = _instance(place) or {}
    source = found.get("ReadReplicaSourceDBInstanceIdentifier")
    if not source:
        return look
    return Look(State.OPEN if look.state is State.DONE else State.UNDER_WAY, f"{look.words}, and follows {source}")


def _promote(place: Place, run: Run) -> None:
    call("rds", place, "promote_read_replica", DBInstanceIdentifier=place["instance"])


# --- the fence ----------------------------------------------------------------------------------------


def database_fencing(database: dict[str, Any], seconds: float) -> list[Step]:
    """Shut the old database, as far as its region can be reached."""
    place = database["from"]
    return [
        Step("fence/database/shut", f"Shut the database {place['instance']} in {place['region']}",
             partial(_shut_begun, place), partial(_shut, place), min(seconds, LENIENT_DATABASE_SECONDS), lenient=True)
    ]  # fmt: skip


def database_proving(database: dict[str, Any], seconds: float) -> list[Step]:
    """See that nobody can write to it any more."""
    place = database["from"]
    proof = f"{place['instance']} may still take writes, which will be missing in {database['to']['instance']}."
    return [
        Step(SHUT, f"Prove that nobody writes to {place['instance']}", partial(_shut_look, place),
             partial(_shut, place), seconds, proof=proof)
    ]  # fmt: skip


def _shut_begun(place: Place, run: Run) -> Look:
    """For the step that only sets it going: under way is enough."""
    look = _shut_look(place, run)
    return look if look.state is State.OPEN else Look(State.DONE, look.words)


def _shut_look(place: Place, run: Run) -> Look:
    """Stopped; or in groups that let nobody in, and restarted since, as connections outlive a change of groups."""
    found = _instance(place)
    if found is None:
        raise Wrong(f"There is no instance {place['instance']} in {place['region']}: look where its data are written.")
    words = f"{place['instance']} is {found['DBInstanceStatus']}"
    if found["DBInstanceStatus"] == "stopped":
        return Look(State.DONE, words)
    if place["fence"] == "stop":
        return Look(State.OPEN if found["DBInstanceStatus"] == "available" else State.UNDER_WAY, words)
    look = _in_groups(place, place["fenced_groups"], run)
    if look.state is not State.DONE:
        return look
    closed_at = run.noted(SHUT).get("closed_at", "")
    if closed_at and _restarted_since(place, datetime.fromisoformat(closed_at)):
        return Look(State.DONE, f"{look.words}, and was restarted since")
    free = found["DBInstanceStatus"] == "available"
    return Look(State.OPEN if free else State.UNDER_WAY, f"{look.words}, and has to be restarted")


def _shut(place: Place, run: Run) -> None:
    if place["fence"] == "stop":
        call("rds", place, "stop_db_instance", DBInstanceIdentifier=place["instance"])
        return
    if _in_groups(place, place["fenced_groups"], run).state is not State.DONE:
        _put_into(place, place["fenced_groups"], run)
        return
    if not run.noted(SHUT):
        run.note(SHUT, "its groups are active", closed_at=_time_of_aws(place).isoformat())
    call("rds", place, "reboot_db_instance", DBInstanceIdentifier=place["instance"])


def _in_groups(place: Place, groups: list[str], run: Run) -> Look:
    """Whether these groups, and no other, decide who gets in."""
    found = _instance(place)
    if found is None:
        raise Wrong(f"There is no instance {place['instance']} in {place['region']}.")
    has = {one["VpcSecurityGroupId"]: one.get("Status", "") for one in found.get("VpcSecurityGroups", [])}
    words = f"{place['instance']} is {found['DBInstanceStatus']}, behind {', '.join(sorted(has)) or 'no group'}"
    if {name for name, status in has.items() if status != "removing"} != set(groups):
        free = found["DBInstanceStatus"] in ("available", "storage-optimization")
        return Look(State.OPEN if free else State.UNDER_WAY, words)
    return Look(State.DONE if all(status == "active" for status in has.values()) else State.UNDER_WAY, words)


def _put_into(place: Place, groups: list[str], run: Run) -> None:
    call("rds", place, "modify_db_instance", DBInstanceIdentifier=place["instance"], VpcSecurityGroupIds=groups,
         ApplyImmediately=True)  # fmt: skip


def _restarted_since(place: Place, at: datetime) -> bool:
    events = call("rds", place, "describe_events", SourceIdentifier=place["instance"], SourceType="db-instance",
                  Duration=EVENTS_MINUTES)["Events"]  # fmt: skip
    told = ((one.get("Date"), one.get("Message", "")) for one in events)
    return any(when and when >= at and ("restarted" in words or "shutdown" in words) for when, words in told)


def _time_of_aws(place: Place) -> datetime:
    """By AWS's own clock, which its events are told by."""
    answer = call("rds", place, "describe_db_instances", DBInstanceIdentifier=place["instance"])
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, ValueError):
        return datetime.now(UTC).replace(microsecond=0)
