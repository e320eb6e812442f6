"""Databases of Amazon RDS: restored from a snapshot (copied over first where it has to be), to a point in time, or a
replica that is promoted. docs/disaster-recovery-aws.md has the settings and what has to be set up beforehand.

The new instance comes up behind groups that let nobody in, under the name that the side's database has, and is put
into its real groups only by `open`. A replica takes no writes until `open` promotes it.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from backups.disaster.base import Candidate, Check, Fence, Part, Side
from backups.disaster.databases.rds_calls import Rds
from backups.disaster.databases.rds_fence import STEPS as FENCE_STEPS
from backups.disaster.databases.rds_readiness import look_at
from backups.disaster.databases.rds_settings import account_of, check_settings, place_of, value_of
from backups.disaster.databases.rds_steps import STEPS
from backups.disaster.databases.rds_verify import STEPS as VERIFY_STEPS
from backups.disaster.traffic.zone import place_of as zone_of
from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments, Retry, StepSpec
from controlplane.operations.registry import StepFunction

GROUP = "Database"
ATTEMPTS = 5
CALL, SETTLE, PROMOTE = 300.0, 900.0, 3600.0  # seconds for a call, for a small change, for a promotion
MOST = 20  # snapshots that are offered
FROM_SNAPSHOT, TO_TIME = "restore_db_instance_from_db_snapshot", "restore_db_instance_to_point_in_time"
REPLICATE = "create_db_instance_read_replica"


class RdsDatabase:
    """See `base.Database`."""

    kind = "rds"

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = {**STEPS, **FENCE_STEPS, **VERIFY_STEPS}

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a plan's `database`, in words, by key."""
        return check_settings(given)

    # --- asking -------------------------------------------------------------------------------------

    def candidates(self, source: Side, target: Side) -> list[Candidate]:
        """What could be restored at the target now, the newest first. Raises StepError when nothing can be asked."""
        try:
            found = _at_the_target(source, target)
        except StepError as error:
            raise StepError(f"{target.environment} cannot be asked what there is to restore: {error}") from error
        try:
            found += _at_the_source(source, target)
        except StepError:
            pass  # it is the side that is lost: what the target has is what there is
        return sorted(found, key=lambda one: one.as_of, reverse=True)

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """Could it be done now? Never raises."""
        return look_at(source, target, lambda: self.candidates(source, target))

    def newest(self, side: Side) -> Candidate:
        """As of when the side's database could be restored, which lags a few minutes behind its newest row."""
        rds, name = Rds(account_of(side)), value_of(side, "instance")
        found = rds.instance(name)
        if found is None or found.restorable_to is None:
            raise StepError(f"RDS does not say how far {rds.words(name)} has got")
        return Candidate(f"newest:rds:{name}", f"{name} as it is", found.restorable_to)

    # --- plans: pure --------------------------------------------------------------------------------

    def fence(self, source: Side) -> Fence:
        """Keep everybody from writing to the source's database."""
        name = value_of(source, "instance")
        arguments: Arguments = {
            "place": place_of(source), "instance": name, "groups": value_of(source, "fenced_security_groups"),
            "stop": value_of(source, "fence") == "stop",
        }  # fmt: skip
        act = _spec(source, "fence", f"fence {name}", "rds.fence", SETTLE, **arguments)
        prove = _spec(source, "fence-proof", f"see that {name} takes no writes", "rds.fenced", SETTLE, **arguments)
        return Fence((act,), (prove,))

    def restore(self, source: Side, target: Side, candidate: Candidate, *, scratch: str = "") -> Part:
        """Bring the database up at the target, by the way that the candidate names."""
        made = candidate.arguments
        name = _identifier(scratch) or value_of(target, "instance")
        if made["how"] == "replica" and not scratch:
            part = _promotion(target, name)
        elif made["how"] == "replica":
            part = _from_own_snapshot(target, target, value_of(target, "instance"), name, scratch)
        elif made["how"] == "copy":
            part = _from_copy(source, target, name, made["snapshot"], scratch)
        elif made["how"] == "time":
            part = _at_once(target, name, TO_TIME, {**made["from"], "UseLatestRestorableTime": True}, scratch)
        else:
            part = _at_once(target, name, FROM_SNAPSHOT, {"DBSnapshotIdentifier": made["snapshot"]}, scratch)
        change = {"what": f"database {name}", "from": candidate.title, "to": f"opened in {value_of(target, 'region')}"}
        return _opened(target, name, part, scratch, change)

    def reverse(self, source: Side, target: Side) -> Part:
        """Bring all that the source has home: by a replica that catches up, or by a snapshot behind the fence."""
        name, theirs = value_of(target, "instance"), value_of(source, "instance")
        if value_of(target, "reverse") == "replica":
            what: Arguments = {"SourceDBInstanceIdentifier": {"arn_of": theirs, "place": place_of(source)}}
            if not _together(source, target):
                what |= {"SourceRegion": value_of(source, "region"), "KmsKeyId": value_of(target, "kms_key")}
            made = _at_once(target, name, REPLICATE, what, "")
            wait = (*made.wait, _step(target, name, "caught-up", "wait until nothing is missing", PROMOTE))
            part = Part(made.begin, wait, (_promote(target, name),))
        else:
            part = _from_own_snapshot(source, target, theirs, name, "")
        change = {
            "what": f"database {name}",
            "from": f"{theirs} in {value_of(source, 'region')}",
            "to": "the same rows",
        }
        return _opened(target, name, part, "", change)

    def give_back(self, source: Side, target: Side) -> tuple[StepSpec, ...]:
        """What was opened at home is shut again, and the instance where people are is put into its groups."""
        home, there = value_of(target, "instance"), value_of(source, "instance")
        close = _step(target, home, "closed", f"see that {home} takes no writes", SETTLE,
                      groups=value_of(target, "fenced_security_groups"))  # fmt: skip
        risk = f"It is not proven that {home} takes no writes: two sides may take in different data."
        steps = (replace(close, risk=risk), *_opening(source, there, ""))
        return tuple(replace(step, key=step.key.replace("database/", "back/", 1)) for step in steps)


# --- what there is --------------------------------------------------------------------------------------


def _together(source: Side, target: Side) -> bool:
    return bool(value_of(source, "region") == value_of(target, "region"))


def _at_the_target(source: Side, target: Side) -> list[Candidate]:
    rds, theirs = Rds(account_of(target)), value_of(source, "instance")
    region = value_of(target, "region")
    found = [
        Candidate(f"snapshot:rds:{one.name}", f"snapshot {one.name} in {region}", one.taken_at,
                  {"how": "snapshot", "snapshot": one.name})
        for one in rds.snapshots(theirs, value_of(target, "snapshot_prefix"))[:MOST]
        if one.taken_at
    ]  # fmt: skip
    ours = value_of(target, "instance")
    standby = rds.instance(ours)
    if standby and standby.source:
        found.append(_replica(rds, ours, standby.created_at))
    if not _together(source, target) and (backups := rds.backups(theirs)):
        made = {"how": "time", "from": {"SourceDBInstanceAutomatedBackupsArn": backups.arn}}
        found.append(
            Candidate(f"time:rds:{theirs}", f"replicated backups of {theirs} in {region}", backups.restorable_to, made)
        )
    return found


def _replica(rds: Rds, name: str, created_at: datetime | None) -> Candidate:
    """As of its lag; while nobody says how far behind it is, only that it was filled when it was made."""
    lag = rds.lag(name)
    if lag is None:
        when = created_at or datetime(1970, 1, 1, tzinfo=UTC)
        return Candidate(
            f"replica:rds:{name}", f"replica {name}, how far behind is not known", when, {"how": "replica"}
        )
    as_of = lag[0] - timedelta(seconds=lag[1])
    return Candidate(f"replica:rds:{name}", f"replica {name}, {lag[1]:.0f} s behind", as_of, {"how": "replica"})


def _at_the_source(source: Side, target: Side) -> list[Candidate]:
    """What is only there: in the target's own region everything was found already but the point in time."""
    rds, theirs = Rds(account_of(source)), value_of(source, "instance")
    if _together(source, target):
        found = rds.instance(theirs)
        if found is None or found.restorable_to is None:
            return []
        made: Arguments = {"how": "time", "from": {"SourceDBInstanceIdentifier": theirs}}
        return [Candidate(f"time:rds:{theirs}", f"{theirs} to its latest point in time", found.restorable_to, made)]
    return [
        Candidate(f"copy:rds:{one.name}", f"snapshot {one.name}, copied from {value_of(source, 'region')}",
                  one.taken_at, {"how": "copy", "snapshot": one.arn})
        for one in rds.snapshots(theirs, value_of(source, "snapshot_prefix"))[:MOST]
        if one.taken_at
    ]  # fmt: skip


# --- steps ----------------------------------------------------------------------------------------------


def _spec(side: Side, key: str, title: str, function: str, seconds: float, /, **arguments: Any) -> StepSpec:
    retry = Retry(ATTEMPTS, value_of(side, "retry_seconds"))
    return StepSpec(f"database/{key}", title, function, arguments, GROUP, seconds, retry)


def _step(side: Side, name: str, key: str, title: str, seconds: float, /, **arguments: Any) -> StepSpec:
    """One about an instance of the side."""
    return _spec(side, key, title, f"rds.{key}", seconds, place=place_of(side), instance=name, **arguments)


def _identifier(name: str) -> str:
    """What RDS takes for a name: letters, digits and single hyphens, at most 63, a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return (plain if not plain or plain[0].isalpha() else f"r-{plain}")[:63].rstrip("-")


def _aside(target: Side, name: str, scratch: str) -> StepSpec:
    rename = value_of(target, "replace") == "rename" and not scratch
    title = f"set aside a {name} that is in the way" if rename else f"see that the name {name} is free"
    return _step(target, name, "aside", title, SETTLE, rename=rename)


def _make(target: Side, name: str, how: str, what: Arguments, scratch: str) -> StepSpec:
    shape: Arguments = {
        "DBInstanceClass": value_of(target, "instance_class"),
        "DBSubnetGroupName": value_of(target, "subnet_group"),
        "DBParameterGroupName": value_of(target, "parameter_group"),
        "VpcSecurityGroupIds": value_of(target, "fenced_security_groups"),
        "MultiAZ": value_of(target, "multi_az") and not scratch,
        "DeletionProtection": value_of(target, "deletion_protection") and not scratch,
        "PubliclyAccessible": False,
    }
    title = f"{'create the replica' if how == REPLICATE else 'restore'} {name}"
    return _step(target, name, "make", title, CALL, how=how, what=what, shape=shape)


def _available(target: Side, name: str) -> StepSpec:
    return _step(target, name, "available", f"wait until {name} is available", value_of(target, "restore_seconds"))


def _at_once(target: Side, name: str, how: str, what: Arguments, scratch: str) -> Part:
    return Part((_aside(target, name, scratch), _make(target, name, how, what, scratch)), (_available(target, name),))


def _promote(target: Side, name: str) -> StepSpec:
    return _step(target, name, "promote", f"promote {name}", PROMOTE)


def _promotion(target: Side, name: str) -> Part:
    return Part(wait=(_available(target, name),), open=(_promote(target, name),))


def _copied(source: Side, target: Side, name: str, snapshot: Any) -> tuple[StepSpec, StepSpec]:
    own = f"{name}-copy"
    copy = _spec(
        target, "copy", f"copy the snapshot to {value_of(target, 'region')}", "rds.copy", CALL, place=place_of(target),
        name=own, snapshot=snapshot, region=value_of(source, "region"), key=value_of(target, "kms_key"),
    )  # fmt: skip
    return copy, _finished(target, "copied", own)


def _finished(side: Side, key: str, own: str) -> StepSpec:
    title = f"wait until the snapshot is {'copied' if key == 'copied' else 'taken'}"
    seconds = value_of(side, "copy_seconds")
    return _spec(side, key, title, "rds.snapshot-finished", seconds, place=place_of(side), name=own)


def _no_snapshot(side: Side, key: str, own: str) -> StepSpec:
    title = f"delete the snapshot in {value_of(side, 'region')}"
    return _spec(side, key, title, "rds.remove-snapshot", CALL, place=place_of(side), name=own)


def _from_copy(source: Side, target: Side, name: str, snapshot: Any, scratch: str) -> Part:
    copy, copied = _copied(source, target, name, snapshot)
    made = _make(target, name, FROM_SNAPSHOT, {"DBSnapshotIdentifier": {"own": f"{name}-copy"}}, scratch)
    return Part(
        (_aside(target, name, scratch), copy),
        (copied, made, _available(target, name)),
        cleanup=(_no_snapshot(target, "remove-copy", f"{name}-copy"),),
    )


def _from_own_snapshot(source: Side, target: Side, theirs: str, name: str, scratch: str) -> Part:
    """A snapshot of an instance as it is now, restored elsewhere. Taken behind the fence, nothing is missing in it."""
    own = f"{name}-snapshot"
    snap = _spec(
        source, "snapshot", f"take a snapshot of {theirs}", "rds.snapshot", SETTLE, place=place_of(source), name=own,
        instance=theirs,
    )  # fmt: skip
    taken = _finished(source, "taken", own)
    away = (_no_snapshot(source, "remove-snapshot", own),)
    if _together(source, target):
        made = _make(target, name, FROM_SNAPSHOT, {"DBSnapshotIdentifier": {"own": own}}, scratch)
        wait = (snap, taken, made, _available(target, name))
        return Part((_aside(target, name, scratch),), wait, cleanup=away)
    copy, copied = _copied(source, target, name, {"own": own, "place": place_of(source)})
    made = _make(target, name, FROM_SNAPSHOT, {"DBSnapshotIdentifier": {"own": f"{name}-copy"}}, scratch)
    far = (snap, taken, copy, copied, made, _available(target, name))
    return Part((_aside(target, name, scratch),), far, cleanup=away)


def _opened(target: Side, name: str, part: Part, scratch: str, change: dict[str, str]) -> Part:
    """The part, with what lets people in, what verifies it, and for a drill what takes it away."""
    groups, endpoint_name = _groups(target, scratch), _endpoint_name(target, scratch)
    removing = []
    if endpoint_name:
        dns = zone_of(target.settings)
        removing.append(
            _spec(target, "unpoint", f"take {endpoint_name} away", "rds.unpoint", CALL, dns=dns, name=endpoint_name)
        )
    login = {key: value_of(target, key) for key in ("database", "user", "password", "address")}
    if scratch:
        login["address"] = value_of(target, "drill_address")
    verify = _step(
        target, name, "verify", f"see that {name} is good", SETTLE, groups=groups, checks=value_of(target, "checks"),
        login=login,
    )  # fmt: skip
    removing.append(_step(target, name, "remove", f"delete {name}", value_of(target, "restore_seconds")))
    return Part(
        part.begin, part.wait, (*part.open, *_opening(target, name, scratch)), (verify,),
        cleanup=(*removing, *part.cleanup) if scratch else (), changes=(change,),
    )  # fmt: skip


def _groups(side: Side, scratch: str) -> Any:
    return (value_of(side, "drill_security_groups") if scratch else []) or value_of(side, "security_groups")


def _endpoint_name(side: Side, scratch: str) -> Any:
    return value_of(side, "drill_endpoint_name" if scratch else "endpoint_name")


def _opening(side: Side, name: str, scratch: str) -> tuple[StepSpec, ...]:
    """Let people in, and have the name that applications know stand for it."""
    reach = _step(side, name, "open", f"let applications reach {name}", SETTLE, groups=_groups(side, scratch))
    known_as = _endpoint_name(side, scratch)
    if not known_as:
        return (reach,)
    point = _step(side, name, "point", f"point {known_as} to {name}", SETTLE, dns=zone_of(side.settings), name=known_as,
                  ttl=value_of(side, "ttl"))  # fmt: skip
    return reach, point
