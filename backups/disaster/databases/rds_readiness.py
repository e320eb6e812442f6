"""Could the database of RDS be brought up at the other side now? Nothing here changes anything."""

from collections.abc import Callable

from backups.disaster.base import NOT_READY, READY, UNKNOWN, Candidate, Check, Side
from backups.disaster.databases.rds_calls import GONE, Rds
from backups.disaster.databases.rds_settings import account_of, value_of
from controlplane.operations.errors import StepError
from environments.aws import READ_ATTEMPTS, code_of, in_words, rds
from environments.aws_checks import Finding, databases_left, permissions

ACTIONS = (
    "rds:DescribeDBInstances", "rds:DescribeDBSnapshots", "rds:DescribeEvents", "rds:RestoreDBInstanceFromDBSnapshot",
    "rds:RestoreDBInstanceToPointInTime", "rds:CopyDBSnapshot", "rds:CreateDBSnapshot", "rds:PromoteReadReplica",
    "rds:CreateDBInstanceReadReplica", "rds:ModifyDBInstance", "rds:RebootDBInstance", "rds:DeleteDBInstance",
    "rds:DeleteDBSnapshot", "rds:AddTagsToResource", "rds:DescribeDBInstanceAutomatedBackups",
    "cloudwatch:GetMetricStatistics",
)  # fmt: skip


def _check(key: str, title: str, finding: Finding) -> Check:
    outcome = UNKNOWN if finding.holds is None else READY if finding.holds else NOT_READY
    return Check(f"database/{key}", title, outcome, finding.words)


def _asked(ask: Callable[[], Finding]) -> Finding:
    try:
        return ask()
    except StepError as error:
        return Finding(None, str(error))


def look_at(source: Side, target: Side, candidates: Callable[[], list[Candidate]]) -> list[Check]:
    """All checks; what cannot be asked is unknown."""
    looks: list[tuple[str, str, Callable[[], Finding]]] = [
        ("candidates", "something to restore", lambda: _something(candidates())),
        ("name", f"room for {value_of(target, 'instance')}", lambda: _room(target)),
        ("groups", "subnet and parameter groups", lambda: _groups(target)),
        ("quota", "quota of RDS", lambda: databases_left(account_of(target))),
        ("permissions", "what the control plane may do", lambda: permissions(account_of(target), ACTIONS)),
        ("fence", f"{value_of(source, 'instance')} can be fenced", lambda: _source(source)),
    ]
    if value_of(target, "replica"):
        looks.insert(1, ("replica", f"replica {value_of(target, 'instance')}", lambda: _replica(target)))
    return [_check(key, title, _asked(ask)) for key, title, ask in looks]


def _something(found: list[Candidate]) -> Finding:
    if not found:
        return Finding(False, "There is neither a snapshot nor a backup nor a replica. Take one, or replicate them.")
    newest = found[0]
    return Finding(True, f"The newest of {len(found)}: {newest.title}, as of {newest.as_of:%Y-%m-%d %H:%M} UTC.")


def _room(target: Side) -> Finding:
    rds_there, name = Rds(account_of(target)), value_of(target, "instance")
    found = rds_there.instance(name)
    if found is None:
        return Finding(True, f"The name {name} is free.")
    if found.source:
        return Finding(True, f"{rds_there.words(name)} is a replica of {found.source.rpartition(':')[2]}.")
    if value_of(target, "replace") == "rename":
        return Finding(True, f"{rds_there.words(name)} will be renamed.")
    return Finding(
        False, f"There is a database {rds_there.words(name)} already. Rename it, or let `replace` be rename."
    )


def _replica(target: Side) -> Finding:
    rds_there, name = Rds(account_of(target)), value_of(target, "instance")
    found = rds_there.instance(name)
    if found is None or not found.source:
        return Finding(False, f"{rds_there.words(name)} is no replica{'' if found else ': there is none'}. Make one.")
    lag, most = rds_there.lag(name), value_of(target, "max_lag_seconds")
    if lag is None:
        return Finding(None, f"CloudWatch does not say how far {rds_there.words(name)} is behind.")
    words = f"{rds_there.words(name)} is {lag[1]:.0f} s behind, at most {most:g} s are allowed"
    return Finding(lag[1] <= most, f"{words}.")


def _groups(target: Side) -> Finding:
    client, account = rds(account_of(target), READ_ATTEMPTS), account_of(target)
    subnet, parameters = value_of(target, "subnet_group"), value_of(target, "parameter_group")
    try:
        if subnet:
            with in_words("rds:DescribeDBSubnetGroups", f"subnet group {subnet} ({account.region})"):
                client.describe_db_subnet_groups(DBSubnetGroupName=subnet)
        if parameters:
            with in_words("rds:DescribeDBParameterGroups", f"parameter group {parameters} ({account.region})"):
                answer = client.describe_db_parameter_groups(DBParameterGroupName=parameters)
            if not answer["DBParameterGroups"]:
                return Finding(False, f"There is no parameter group {parameters} in {account.region}. Make it.")
    except StepError as error:
        gone = code_of(error).removesuffix("Fault") in ("DBSubnetGroupNotFound", "DBParameterGroupNotFound", *GONE)
        return Finding(False if gone else None, str(error))
    named = ", ".join(one for one in (subnet, parameters) if one)
    return Finding(True, f"{named} are in {account.region}." if named else "The usual ones of the region are taken.")


def _source(source: Side) -> Finding:
    """Whether the side that serves could be fenced, were it reachable then as now."""
    there, name = Rds(account_of(source)), value_of(source, "instance")
    if there.instance(name) is None:
        return Finding(False, f"There is no database {there.words(name)}. Check region and instance.")
    return permissions(account_of(source), ("rds:ModifyDBInstance", "rds:RebootDBInstance", "rds:StopDBInstance"))
