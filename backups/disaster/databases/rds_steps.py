"""The steps of RDS: each looks before it acts, so that it can be repeated after any crash and any lost answer.

What identifies an effect: an instance or snapshot by its name and the tag with the operation's number, a promotion
by no longer being a replica, security groups and records by what they are.
"""

from typing import Any

from backups.disaster.databases.rds_calls import BROKEN, OPERATION, Instance, Rds
from backups.disaster.patience import mark, mask, noted, patiently, pause
from backups.disaster.traffic.zone import Record, Zone, are_there, has_spread, upsert
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed, pending
from environments.aws import Account

LONGEST = 63  # an identifier's length in RDS
GONE_AFTER = 5  # looks in a row: RDS may not know at once what it has just taken


def at(context: StepContext, place: Arguments) -> Rds:
    """RDS of the account and region that a step names, its keys masked."""
    account = Account.of(place)
    mask(context, account.keys())
    return Rds(account)


def own_name(context: StepContext, name: str) -> str:
    """A name that only this operation gives: the name with its number at the end."""
    end = f"-{context.operation_id}"
    return name[: LONGEST - len(end)].rstrip("-") + end


def tags(context: StepContext) -> list[dict[str, str]]:
    """What all that is made is marked with."""
    return [{"Key": OPERATION, "Value": mark(context)}]


def is_ours(context: StepContext, found: Instance) -> bool:
    """Whether this operation made it."""
    return found.tags.get(OPERATION) == mark(context)


def _nothing(context: StepContext, **arguments: Any) -> None:
    """Waiting has no effect."""


# --- making an instance ---------------------------------------------------------------------------------


def _is_aside(context: StepContext, *, place: Arguments, instance: str, rename: bool) -> Seen:
    """Is the name free, or taken by what this operation made?"""
    found = at(context, place).instance(instance)
    return Seen.DONE if found is None or is_ours(context, found) else Seen.NOT_DONE


def _set_aside(context: StepContext, *, place: Arguments, instance: str, rename: bool) -> None:
    rds = at(context, place)
    if not rename:
        raise StepError(_in_the_way(rds, rds.instance(instance), instance), permanent=True)
    found = rds.instance(instance)
    if found and found.status == "stopped":
        words = f"{rds.words(instance)} is stopped, and RDS cannot rename a stopped instance. Start or delete it."
        raise StepError(words, permanent=True)
    new = own_name(context, f"{instance}-before")
    _until_available(context, rds, instance)
    context.check()
    rds.change(
        "modify_db_instance", instance, DBInstanceIdentifier=instance, NewDBInstanceIdentifier=new,
        ApplyImmediately=True,
    )  # fmt: skip
    context.log(f"renaming {rds.words(instance)}, which is in the way, to {new}")


def _in_the_way(rds: Rds, found: Instance | None, instance: str) -> str:
    about = f" ({found.status}, made by {found.tags.get(OPERATION, 'somebody else')})" if found else ""
    words = f"There is a database {rds.words(instance)} already{about}."
    return f"{words} Rename or delete it, or let the plan's `replace` be rename."


def _was_set_aside(context: StepContext, *, place: Arguments, instance: str, rename: bool) -> Verdict:
    def look() -> Verdict:
        done = _is_aside(context, place=place, instance=instance, rename=rename) is Seen.DONE
        return passed("the name is free") if done else pending(f"{instance} still has its name")

    return patiently(context, look)


def _is_made(context: StepContext, *, place: Arguments, instance: str, **made_from: Any) -> Seen:
    rds = at(context, place)
    found = rds.instance(instance)
    if found is None:
        return Seen.NOT_DONE
    if not is_ours(context, found):
        raise StepError(_in_the_way(rds, found, instance), permanent=True)
    context.log(f"{rds.words(instance)} is being made, or is there")
    return Seen.DONE


def _make(
    context: StepContext, *, place: Arguments, instance: str, how: str, what: Arguments, shape: Arguments
) -> None:
    """how: the call. what: what it is made from, see `_meant`."""
    rds = at(context, place)
    given = {key: _meant(context, value) for key, value in what.items()}
    target = "TargetDBInstanceIdentifier" if how == "restore_db_instance_to_point_in_time" else "DBInstanceIdentifier"
    context.check()
    rds.change(how, instance, **{target: instance, **given, **shape, "Tags": tags(context)})
    context.log(f"asked RDS for {rds.words(instance)}, by {how.replace('_', ' ')}")


def _meant(context: StepContext, value: Any) -> Any:
    """A value as it is; {"own"} is a name with the operation's number, {"arn_of", "place"} an instance's ARN."""
    if not isinstance(value, dict):
        return value
    if "own" in value:
        return own_name(context, value["own"])
    rds = at(context, value["place"])
    found = rds.instance(value["arn_of"])
    if found is None:
        raise StepError(f"There is no database {rds.words(value['arn_of'])}", permanent=True)
    return found.arn


def _is_available(context: StepContext, *, place: Arguments, instance: str) -> Verdict:
    def look() -> Verdict:
        rds = at(context, place)
        found = rds.instance(instance)
        missed = 0 if found else context.checkpoint.get("missed", 0) + 1
        if missed != context.checkpoint.get("missed", 0):
            context.save_checkpoint(missed=missed)
        if found is None:
            gone = f"there is no database {rds.words(instance)}"
            return failed(gone) if missed >= GONE_AFTER else pending(gone)
        if found.status in BROKEN:
            return failed(f"{rds.words(instance)} is {found.status}; RDS's events of it say why")
        words = f"{rds.words(instance)} is {found.status}"
        return passed(words) if found.status == "available" else pending(words)

    return patiently(context, look)


def _until_available(context: StepContext, rds: Rds, instance: str) -> Instance:
    """Wait, within the step's time, until the instance takes changes. Raises StepError."""
    while True:
        found = rds.instance(instance)
        if found is None:
            raise StepError(f"There is no database {rds.words(instance)}", permanent=True)
        if found.status in ("available", "storage-optimization"):
            return found
        if found.status in BROKEN or context.remaining() <= 0:
            raise StepError(f"{rds.words(instance)} is {found.status}", permanent=True)
        pause(context)


# --- snapshots ------------------------------------------------------------------------------------------


def _is_snapshot_there(context: StepContext, *, place: Arguments, name: str, **taken_from: Any) -> Seen:
    return Seen.DONE if at(context, place).snapshot(own_name(context, name)) else Seen.NOT_DONE


def _copy(context: StepContext, *, place: Arguments, name: str, snapshot: Any, region: str, key: str) -> None:
    """snapshot: an ARN, or {"region", "account", "own"} of one that this operation took."""
    rds = at(context, place)
    source = snapshot
    if isinstance(snapshot, dict):
        taken = at(context, snapshot["place"]).snapshot(own_name(context, snapshot["own"]))
        if taken is None:
            raise StepError(f"The snapshot {own_name(context, snapshot['own'])} is gone", permanent=True)
        source = taken.arn
    copied = own_name(context, name)
    context.check()
    rds.change(
        "copy_db_snapshot", copied, SourceDBSnapshotIdentifier=source, TargetDBSnapshotIdentifier=copied,
        SourceRegion=region, KmsKeyId=key, Tags=tags(context),
    )  # fmt: skip
    context.log(f"asked RDS to copy {source.rpartition(':snapshot:')[2]} from {region} to {rds.words(copied)}")


def _snap(context: StepContext, *, place: Arguments, name: str, instance: str) -> None:
    rds = at(context, place)
    taken = own_name(context, name)
    _until_available(context, rds, instance)
    context.check()
    rds.change(
        "create_db_snapshot", taken, DBInstanceIdentifier=instance, DBSnapshotIdentifier=taken, Tags=tags(context)
    )
    context.log(f"asked RDS for the snapshot {rds.words(taken)} of {instance}")


def _is_snapshot_finished(context: StepContext, *, place: Arguments, name: str) -> Verdict:
    def look() -> Verdict:
        rds = at(context, place)
        taken = own_name(context, name)
        found = rds.snapshot(taken)
        if found is None:
            return failed(f"there is no snapshot {rds.words(taken)}")
        if found.status == "failed":
            return failed(f"the snapshot {rds.words(taken)} failed; RDS's events of it say why")
        context.progress(found.percent, 100, "%")
        words = f"the snapshot {rds.words(taken)} is {found.status}"
        return passed(words) if found.status == "available" else pending(words)

    return patiently(context, look)


# --- opening --------------------------------------------------------------------------------------------


def _is_promoted(context: StepContext, *, place: Arguments, instance: str) -> Seen:
    rds = at(context, place)
    found = rds.instance(instance)
    if found is None:
        raise StepError(f"There is no replica {rds.words(instance)}", permanent=True)
    # Asked for, and something is being done to it: that is the promotion, whoever lost the answer.
    under_way = context.checkpoint.get("asked") and found.status != "available"
    return Seen.DONE if not found.source or under_way else Seen.NOT_DONE


def _promote(context: StepContext, *, place: Arguments, instance: str) -> None:
    rds = at(context, place)
    _until_available(context, rds, instance)
    context.save_checkpoint(asked=True)
    context.check()
    rds.change("promote_read_replica", instance, DBInstanceIdentifier=instance)
    context.log(f"asked RDS to promote {rds.words(instance)}")


def _stands_alone(context: StepContext, *, place: Arguments, instance: str) -> Verdict:
    def look() -> Verdict:
        rds = at(context, place)
        found = rds.instance(instance)
        if found is None or found.status in BROKEN:
            return failed(f"{rds.words(instance)} is {found.status if found else 'gone'}")
        still = context.checkpoint.get("still", 0) + 1 if found.source and found.status == "available" else 0
        if still != context.checkpoint.get("still", 0):
            context.save_checkpoint(still=still)
        if found.source or found.status != "available":
            role = "a replica" if found.source else "no replica any more"
            return pending(f"{rds.words(instance)} is {role}, {found.status}")
        return passed(f"{rds.words(instance)} takes writes")

    if context.checkpoint.get("still", 0) + 1 >= GONE_AFTER:
        context.save_checkpoint(still=0)
        raise StepError(f"RDS has not begun to promote {instance}: asking again")
    return patiently(context, look)


def _is_caught_up(context: StepContext, *, place: Arguments, instance: str) -> Verdict:
    """All that the source took before it was fenced is in the replica: its lag, dated, reaches past the fence."""
    fenced = noted(context, "rds.fenced", "proven_at")
    if not fenced:
        words = "Nobody saw when the source stopped taking writes, so nobody knows whether the replica has them all."
        raise Unknown(f"{words} Compare the newest rows of both, then say what is true.")

    def look() -> Verdict:
        rds = at(context, place)
        rds.instance(instance)
        found = rds.lag(instance)
        if found is None:
            return pending(f"CloudWatch has no lag of {rds.words(instance)} yet")
        when, seconds = found
        has = when.timestamp() - seconds
        words = f"{rds.words(instance)} was {seconds:g} s behind at {when:%H:%M:%S} UTC"
        return passed(words) if has >= float(fenced) else pending(words)

    return patiently(context, look)


def _is_open(context: StepContext, *, place: Arguments, instance: str, groups: list[str]) -> Seen:
    found = at(context, place).instance(instance)
    return Seen.DONE if found and found.lies_behind(groups) else Seen.NOT_DONE


def _open(context: StepContext, *, place: Arguments, instance: str, groups: list[str]) -> None:
    rds = at(context, place)
    if _until_available(context, rds, instance).has_only(groups):
        return  # on their way
    context.check()
    rds.change(
        "modify_db_instance", instance, DBInstanceIdentifier=instance, VpcSecurityGroupIds=groups,
        ApplyImmediately=True,
    )  # fmt: skip
    context.log(f"asked RDS to put {rds.words(instance)} into {', '.join(groups)}")


def _was_opened(context: StepContext, *, place: Arguments, instance: str, groups: list[str]) -> Verdict:
    def look() -> Verdict:
        done = _is_open(context, place=place, instance=instance, groups=groups) is Seen.DONE
        return passed(f"{instance} can be reached") if done else pending(f"{instance} is not in its groups yet")

    return patiently(context, look)


# --- the name that applications use ---------------------------------------------------------------------


def _pointing(context: StepContext, place: Arguments, instance: str, name: str, ttl: int) -> list[Record]:
    found = at(context, place).instance(instance)
    if found is None or not found.endpoint:
        raise StepError(f"{instance} in {place['region']} has no endpoint yet")
    return [{"Name": name, "Type": "CNAME", "TTL": ttl, "ResourceRecords": [{"Value": found.endpoint}]}]


def _is_pointed(context: StepContext, *, place: Arguments, dns: Arguments, instance: str, name: str, ttl: int) -> Seen:
    return Seen.DONE if are_there(Zone.at(dns), _pointing(context, place, instance, name, ttl)) else Seen.NOT_DONE


def _point(context: StepContext, *, place: Arguments, dns: Arguments, instance: str, name: str, ttl: int) -> None:
    upsert(context, Zone.at(dns), _pointing(context, place, instance, name, ttl))


def _was_pointed(
    context: StepContext, *, place: Arguments, dns: Arguments, instance: str, name: str, ttl: int
) -> Verdict:
    def look() -> Verdict:
        wanted = _pointing(context, place, instance, name, ttl)
        return has_spread(Zone.at(dns), context.checkpoint.get("change", ""), wanted)

    return patiently(context, look)


# --- taking away ----------------------------------------------------------------------------------------


def _is_removed(context: StepContext, *, place: Arguments, instance: str) -> Seen:
    found = at(context, place).instance(instance)
    if found is not None and not is_ours(context, found):
        context.log(f"{instance} is not of this operation, so it stays", level="warning")
        return Seen.DONE
    return Seen.DONE if found is None or found.status == "deleting" else Seen.NOT_DONE


def _remove(context: StepContext, *, place: Arguments, instance: str) -> None:
    rds = at(context, place)
    while (found := rds.instance(instance)) and found.status not in ("available", "stopped", "deleting", *BROKEN):
        if context.remaining() <= 0:
            raise StepError(f"{rds.words(instance)} is {found.status} and cannot be deleted yet")
        pause(context)
    if found is None or found.status == "deleting":
        return
    context.check()
    rds.change(
        "delete_db_instance", instance, DBInstanceIdentifier=instance, SkipFinalSnapshot=True,
        DeleteAutomatedBackups=True,
    )  # fmt: skip
    context.log(f"asked RDS to delete {rds.words(instance)}")


def _was_removed(context: StepContext, *, place: Arguments, instance: str) -> Verdict:
    def look() -> Verdict:
        found = at(context, place).instance(instance)
        if found is None or not is_ours(context, found):
            return passed(f"{instance} is gone" if found is None else f"{instance} is somebody else's")
        return pending(f"{instance} is {found.status}")

    return patiently(context, look)


def _is_snapshot_removed(context: StepContext, *, place: Arguments, name: str) -> Seen:
    found = at(context, place).snapshot(own_name(context, name))
    return Seen.DONE if found is None or found.status == "deleting" else Seen.NOT_DONE


def _remove_snapshot(context: StepContext, *, place: Arguments, name: str) -> None:
    rds = at(context, place)
    taken = own_name(context, name)
    context.check()
    rds.change("delete_db_snapshot", taken, DBSnapshotIdentifier=taken)
    context.log(f"deleted the snapshot {rds.words(taken)}")


def _is_unpointed(context: StepContext, *, dns: Arguments, name: str) -> Seen:
    return Seen.NOT_DONE if Zone.at(dns).records(name) else Seen.DONE


def _unpoint(context: StepContext, *, dns: Arguments, name: str) -> None:
    zone = Zone.at(dns)
    context.check()
    zone.change([("DELETE", record) for record in zone.records(name)])
    context.log(f"took {name} away")


STEPS = {
    "rds.aside": StepFunction(observe=_is_aside, act=_set_aside, verify=_was_set_aside, poll=0.0),
    "rds.make": StepFunction(observe=_is_made, act=_make),
    "rds.available": StepFunction(act=_nothing, verify=_is_available, poll=0.0),
    "rds.copy": StepFunction(observe=_is_snapshot_there, act=_copy),
    "rds.snapshot": StepFunction(observe=_is_snapshot_there, act=_snap),
    "rds.snapshot-finished": StepFunction(act=_nothing, verify=_is_snapshot_finished, poll=0.0),
    "rds.promote": StepFunction(observe=_is_promoted, act=_promote, verify=_stands_alone, poll=0.0),
    "rds.caught-up": StepFunction(act=_nothing, verify=_is_caught_up, poll=0.0),
    "rds.open": StepFunction(observe=_is_open, act=_open, verify=_was_opened, poll=0.0),
    "rds.point": StepFunction(observe=_is_pointed, act=_point, verify=_was_pointed, poll=0.0),
    "rds.remove": StepFunction(observe=_is_removed, act=_remove, verify=_was_removed, poll=0.0),
    "rds.remove-snapshot": StepFunction(observe=_is_snapshot_removed, act=_remove_snapshot),
    "rds.unpoint": StepFunction(observe=_is_unpointed, act=_unpoint),
}
