"""Keeping everybody from writing to a database of RDS, and seeing that it holds.

By security groups: the instance is put into groups that let nobody in, and is restarted after they are active, since
connections that are open outlive a change of groups. By stopping it: surer, slower, and RDS starts it again after
seven days. The proof is what RDS says: the groups, and an event of the restart that is later than they are.
"""

from datetime import datetime

from backups.disaster.databases.rds_calls import Instance, Rds
from backups.disaster.databases.rds_steps import at
from backups.disaster.patience import noted, pause, surely, was_begun
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, passed, pending

OPENED = "database/open"  # the key of the step that lets applications in
NOTING = ("rds.fence", "rds.fenced")  # the functions of the steps that note when the groups were active
PUSHES = 20  # looks while the fence is set going; what takes longer is waited for by the proof


def _push(  # noqa: PLR0917 (one fence, told whole)
    context: StepContext, rds: Rds, name: str, groups: list[str], stop: bool, noting: tuple[str, ...] = NOTING
) -> str:
    """Do the next thing that the fence needs; returns what is still missing, "" when it holds. Raises StepError."""
    found = rds.instance(name)
    if found is None:
        raise StepError(f"There is no database {rds.words(name)}: look where its data are written.", permanent=True)
    return _push_stop(context, rds, found) if stop else _push_groups(context, rds, found, groups, noting)


def _push_stop(context: StepContext, rds: Rds, found: Instance) -> str:
    if found.status == "stopped":
        return ""
    if found.status == "available":
        context.check()
        rds.change("stop_db_instance", found.name, DBInstanceIdentifier=found.name)
        context.log(f"asked RDS to stop {rds.words(found.name)}")
        return "it was told to stop"
    return f"it is {found.status}"


def _push_groups(context: StepContext, rds: Rds, found: Instance, groups: list[str], noting: tuple[str, ...]) -> str:
    if found.status == "stopped":
        return ""  # nobody writes to it
    if not found.has_only(groups):
        if found.status not in ("available", "storage-optimization"):
            return f"it is {found.status}"
        context.check()
        rds.change(
            "modify_db_instance", found.name, DBInstanceIdentifier=found.name, VpcSecurityGroupIds=groups,
            ApplyImmediately=True,
        )  # fmt: skip
        context.log(f"asked RDS to put {rds.words(found.name)} into {', '.join(groups)}")
        return "its security groups are being changed"
    if not found.lies_behind(groups):
        return "its security groups are not active yet"
    since = _closed_at(context, rds, noting)
    if rds.restarted_since(found.name, since):
        return ""
    if found.status != "available":
        return f"it is {found.status}"
    context.check()
    rds.change("reboot_db_instance", found.name, DBInstanceIdentifier=found.name)
    context.log(f"asked RDS to restart {rds.words(found.name)}, which ends the connections that are open")
    return "it is restarting"


def _closed_at(context: StepContext, rds: Rds, noting: tuple[str, ...]) -> datetime:
    """When the groups were first seen to be active, by AWS's clock; noted once for the whole operation."""
    if found := next(filter(None, (noted(context, one, "closed_at") for one in noting)), ""):
        return datetime.fromisoformat(found)
    if rds.now is None:
        raise TypeError("RDS was asked before")
    context.save_checkpoint(closed_at=rds.now.isoformat())
    return rds.now


def _is_fenced(context: StepContext, *, place: Arguments, instance: str, groups: list[str], stop: bool) -> Seen:
    return Seen.DONE if context.checkpoint.get("set_going") else Seen.NOT_DONE


def _fence(context: StepContext, *, place: Arguments, instance: str, groups: list[str], stop: bool) -> None:
    """Try; who cannot be reached is said. The proof goes on with it, and decides."""
    try:
        for _ in range(PUSHES):
            missing = _push(context, at(context, place), instance, groups, stop)
            if "being changed" not in missing and "not active" not in missing:
                break
            pause(context)
        context.log(f"{instance}: {missing}" if missing else f"{instance} is fenced")
    except StepError as error:
        context.log(f"{instance} could not be fenced: {error}", level="warning")
    context.save_checkpoint(set_going=True)


def _nothing(context: StepContext, **arguments: object) -> None:
    """The proof is all."""


def _is_proven(context: StepContext, *, place: Arguments, instance: str, groups: list[str], stop: bool) -> Verdict:
    """Look; what came back meanwhile is fenced now. Raises `Unknown` when it cannot be seen."""
    region = place["region"]
    doubt = (
        f"So nobody can see whether {instance} in {region} still takes writes. It may, and it may come back with rows "
        f"that nobody else has. Make sure by other means, or accept that risk in words."
    )

    def look() -> Verdict:
        rds = at(context, place)
        missing = _push(context, rds, instance, groups, stop)
        if missing:
            return pending(f"{rds.words(instance)}: {missing}")
        if rds.now is None:
            raise Unknown(doubt)
        context.save_checkpoint(proven_at=str(rds.now.timestamp()))
        how = "it is stopped" if stop else f"it is in {', '.join(groups)} alone, and was restarted since"
        words = f"{rds.words(instance)} takes no writes: {how}"
        context.log(words)
        return passed(words)

    return surely(context, look, doubt)


def _is_closed(context: StepContext, *, place: Arguments, instance: str, groups: list[str]) -> Verdict:
    """A way home failed: what was opened at home is shut again, and seen to be; else it is as closed as it was made."""
    if not was_begun(context, OPENED):
        context.log(f"{instance} in {place['region']} was never opened")
        return passed("it was never opened")
    doubt = f"So nobody can see whether {instance} in {place['region']}, which was opened, takes writes."

    def look() -> Verdict:
        rds = at(context, place)
        missing = _push(context, rds, instance, groups, stop=False, noting=("rds.closed",))
        return pending(f"{rds.words(instance)}: {missing}") if missing else passed(f"{instance} takes no writes")

    return surely(context, look, doubt)


STEPS = {
    "rds.closed": StepFunction(act=_nothing, verify=_is_closed, poll=0.0),
    "rds.fence": StepFunction(observe=_is_fenced, act=_fence),
    "rds.fenced": StepFunction(act=_nothing, verify=_is_proven, poll=0.0),
}
