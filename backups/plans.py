"""Plans of everything that makes, proves, restores and deletes backups: pure functions to frozen plans."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backups.models import Backup, Kind
from controlplane.operations.plans import Plan, Retry, StepSpec
from environments.drivers.base import Rollout

HOUR = 3600.0
LOOK_SECONDS = 60.0
# How long one attempt may take in all; a person can stop it at any moment.
LONGEST_SECONDS = 24 * HOUR


@dataclass(frozen=True)
class Subject:
    """A policy as a plan names it. version: changes when its settings do."""

    name: str
    kind: str
    storage: str
    version: str

    @property
    def slug(self) -> str:
        """Its name within the environment, which step keys begin with."""
        return self.name.partition("/")[2]


WORDS = {
    Kind.DATABASE: "dump the database",
    Kind.PITR: "copy the database cluster",
    Kind.UPLOADS: "copy what is new of the uploads",
    Kind.CONFIGURATION: "write down the configuration",
    Kind.IMAGES: "archive the images",
}


def backup_plan(subjects: Sequence[Subject]) -> Plan:
    """Look, take, and remove what a failed try left. The guide's backup-database.sh and backup-application.sh."""
    several = len(subjects) > 1
    steps, recovery = [], []
    for one in subjects:
        arguments = {"policy": one.name, "version": one.version}
        group = one.slug if several else ""
        discard = f"{one.slug}-discard"
        steps.append(StepSpec(
            f"{one.slug}-look", "see whether it can work", "backups.look", arguments, group, LOOK_SECONDS,
            Retry(3, 2.0), safe_point=True,
        ))  # fmt: skip
        steps.append(StepSpec(
            f"{one.slug}-take", f"{WORDS[Kind(one.kind)]}, to {one.storage}", "backups.take", arguments, group,
            LONGEST_SECONDS, Retry(3, 5.0), on_failure=(discard,), interruptible=True,
        ))  # fmt: skip
        recovery.append(StepSpec(
            discard, "remove what was half made", "backups.discard",
            {"policy": one.name, "step": f"{one.slug}-take"}, group, 600.0, Retry(5, 2.0),
        ))  # fmt: skip
    names = ", ".join(one.name for one in subjects)
    changes = tuple({"what": one.name, "from": "", "to": f"one more backup in {one.storage}"} for one in subjects)
    return Plan(f"back up {names}", tuple(steps), tuple(recovery), changes)


def proof_plan(name: str, backup: int, *, moment: str = "") -> Plan:
    """Restore it for real into a scratch PostgreSQL, compare, ask the user's own questions, throw it away."""
    arguments: dict[str, Any] = {"backup": backup, "moment": moment}
    discard = StepSpec("discard", "remove the scratch database", "backups.scratch_remove", {}, "", 600.0, Retry(5, 2.0))
    prove = StepSpec(
        "prove", "restore into a scratch database and compare", "backups.prove", arguments, "", LONGEST_SECONDS,
        Retry(2, 5.0), on_failure=("discard",), safe_point=True, interruptible=True,
    )  # fmt: skip
    tidy = StepSpec("tidy", "remove the scratch database", "backups.scratch_remove", {}, "", 600.0, Retry(5, 2.0))
    changes = ({"what": name, "from": "not known to restore", "to": "proven by a restore, or known not to"},)
    return Plan(f"test backup {backup} of {name} by restoring it", (prove, tidy), (discard,), changes)


def cleanup_plan(name: str, backups: Iterable[Backup]) -> Plan:
    """Delete what retention lets go, then what no backup needs any more."""
    listed: list[dict[str, Any]] = [
        {"id": one.pk, "as_of": f"{one.as_of:%Y-%m-%d %H:%M} UTC", "key": one.key} for one in backups
    ]
    steps = [
        StepSpec(
            f"batch-{number}", f"delete {len(batch)} backup{'s' if len(batch) > 1 else ''}", "backups.delete",
            {"policy": name, "backups": [one["id"] for one in batch]}, "", HOUR, Retry(3, 5.0), safe_point=True,
        )
        for number, batch in enumerate(_batches(listed), start=1)
    ]  # fmt: skip
    sweep = StepSpec(
        "sweep", "remove what no backup needs any more", "backups.sweep",
        {"policy": name}, "", HOUR, Retry(3, 5.0), safe_point=True,
    )  # fmt: skip
    changes = [{"what": f"backup {one['id']} of {one['as_of']}", "from": str(one["key"]), "to": "deleted"}
               for one in listed[:NAMED]]  # fmt: skip
    if more := listed[NAMED:]:
        changes.append({"what": f"{len(more)} more, up to {more[-1]['as_of']}", "from": "", "to": "deleted"})
    return Plan(f"delete {len(listed)} backups of {name}", (*steps, sweep), (), tuple(changes))


BATCH = 50
# So many a plan names one by one; the numbers of all are in its steps.
NAMED = 100


def _batches(items: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


@dataclass(frozen=True)
class Aim:
    """What a restore brings back and where to. subject: the policy that makes the safety backup before.

    as_of: the moment of the backup. moment: the one that is wanted instead, "" for none. in_use: where files are that
    go back in place.
    """

    backup: int
    what: str
    subject: Subject
    target: str
    as_of: str
    moment: str = ""
    database: str = ""
    folder: str = ""
    schema: str = ""
    table: str = ""
    in_use: str = "the folder in use"


def bucket_named(source: Mapping[str, Any]) -> str:
    """A bucket that uploads are in, as plans and logs name it."""
    prefix = source.get("prefix", "").strip("/")
    return f"the bucket {source['bucket']}" + (f", below {prefix}/" if prefix else "")


def restore_plan(aim: Aim) -> Plan:
    """From the catalog into a scratch database, a new one, over an existing one, a folder, or the configuration."""
    steps, recovery = _RESTORES[aim.target](aim)
    is_live = aim.target in LIVE or (aim.target == "folder" and not aim.folder)
    changes = ({"what": _place(aim), "from": "what is there now" if is_live else "nothing",
                "to": f"{_part(aim)}as of {aim.moment or aim.as_of}"},)  # fmt: skip
    return Plan(f"restore {aim.what} into {_place(aim)}", tuple(steps), tuple(recovery), changes)


# What changes something that is in use.
LIVE = frozenset({"existing", "configuration"})
Steps = tuple[list[StepSpec], list[StepSpec]]


def _part(aim: Aim) -> str:
    return f"table {aim.table}, " if aim.table else f"schema {aim.schema}, " if aim.schema else ""


def _place(aim: Aim) -> str:
    return {
        "scratch": "a scratch database", "new": f"the new database {aim.database}", "existing": aim.database,
        "folder": f"the folder {aim.folder}" if aim.folder else aim.in_use,
        "configuration": "the configuration",
    }[aim.target]  # fmt: skip


def _source(aim: Aim) -> dict[str, Any]:
    return {"backup": aim.backup, "moment": aim.moment, "schema": aim.schema, "table": aim.table}


def _into_scratch(aim: Aim) -> Steps:
    restore = StepSpec(
        "restore", "restore into a scratch database", "backups.restore_scratch", _source(aim), "", LONGEST_SECONDS,
        Retry(2, 5.0), on_failure=("discard",), safe_point=True, interruptible=True,
    )  # fmt: skip
    return [restore], [_discard_scratch()]


def _discard_scratch() -> StepSpec:
    return StepSpec("discard", "remove the scratch database", "backups.scratch_remove", {}, "", 600.0, Retry(5, 2.0))


def _into_new(aim: Aim) -> Steps:
    return [_restore_database(aim, fresh=False)], [_drop_fresh(aim, fresh=False)]


def _restore_database(aim: Aim, *, fresh: bool) -> StepSpec:
    name = "a database beside the present one" if fresh else aim.database
    return StepSpec(
        "restore", f"restore into {name} and compare", "backups.restore_database",
        {**_source(aim), "database": aim.database, "fresh": fresh}, "", LONGEST_SECONDS, Retry(2, 5.0),
        on_failure=("drop",), safe_point=True, interruptible=True,
    )  # fmt: skip


def _drop_fresh(aim: Aim, *, fresh: bool) -> StepSpec:
    return StepSpec(
        "drop", "drop what was half restored", "backups.drop_restored",
        {"backup": aim.backup, "database": aim.database, "fresh": fresh}, "", 600.0, Retry(5, 2.0),
    )  # fmt: skip


def _over_existing(aim: Aim) -> Steps:
    """A safety backup first; then beside the present one, so that it is replaced only by what is known to be good."""
    safety = backup_plan([aim.subject])
    names = {"backup": aim.backup, "database": aim.database}
    swap = StepSpec(
        "swap", f"put it in the place of {aim.database}", "backups.swap", names, "", 600.0, Retry(3, 2.0),
        # No safe point: whoever stops it here wants what was restored beside the present one dropped again.
        on_failure=("swap-back", "drop"), interruptible=True,
    )  # fmt: skip
    old = StepSpec("drop-old", "drop the replaced database", "backups.drop_replaced", names, "", 600.0, Retry(5, 2.0))
    back = StepSpec("swap-back", "put the replaced one back", "backups.swap_back", names, "", 600.0, Retry(5, 2.0))
    steps = [*safety.steps, _restore_database(aim, fresh=True), swap, old]
    return steps, [*safety.recovery, back, _drop_fresh(aim, fresh=True)]


def _into_folder(aim: Aim) -> Steps:
    arguments = {"backup": aim.backup, "folder": aim.folder}
    return [StepSpec(
        "restore", f"write the files into {_place(aim)}", "backups.restore_files", arguments, "", LONGEST_SECONDS,
        Retry(3, 5.0), safe_point=True, interruptible=True,
    )], []  # fmt: skip


def _into_configuration(aim: Aim) -> Steps:
    return [StepSpec(
        "restore", "set the variables as they were", "backups.restore_configuration", {"backup": aim.backup}, "",
        LOOK_SECONDS, Retry(3, 2.0), safe_point=True,
    )], []  # fmt: skip


_RESTORES = {
    "scratch": _into_scratch, "new": _into_new, "existing": _over_existing, "folder": _into_folder,
    "configuration": _into_configuration,
}  # fmt: skip


# Said to whoever approves it: for a while, what runs and what it works on are not of the same moment.
ORDER = {
    "what": "the order", "from": "",
    "to": "the data and the variables first, then the software, which is started and checked on what it knew: if the "
          "data does not come back, nothing is deployed. In between, what runs now meets older data and may answer "
          "with errors.",
}  # fmt: skip


def point_restore_plan(aims: Sequence[Aim], software: Mapping[str, Rollout]) -> Plan:
    """All parts of a restore point, one after the other, each part's steps under its own heading; the software last.

    software: the way back of each service, by its slug; without steps, its changes say why there is nothing to do.
    """
    steps: list[StepSpec] = []
    recovery: list[StepSpec] = []
    changes: list[dict[str, str]] = []
    for aim in aims:
        plan = restore_plan(aim)
        slug = aim.subject.slug
        steps += [_under(slug, step) for step in plan.steps]
        recovery += [_under(slug, step) for step in plan.recovery]
        changes += plan.changes
    summary = "restore " + ", ".join(aim.what for aim in aims)
    if back := [service for service, rollout in software.items() if rollout.steps]:
        summary += f", then bring back {', '.join(back)} as it was"
        changes.append(ORDER)
    for number, (service, rollout) in enumerate(software.items(), start=1):
        steps += [_of_service(number, service, step) for step in rollout.steps]
        recovery += [_of_service(number, service, step) for step in rollout.recovery]
        changes += [{**row, "what": f"{service}: {row['what']}" if row["what"] else service} for row in rollout.changes]
    return Plan(summary, tuple(steps), tuple(recovery), tuple(changes))


def _of_service(number: int, service: str, step: StepSpec) -> StepSpec:
    """A driver's step under the heading of its service. No key of a policy's step has a slash."""
    title = f"{step.group}: {step.title}" if step.group else step.title
    back = tuple(f"{number}/{one}" for one in step.on_failure)
    return replace(step, key=f"{number}/{step.key}", title=title, group=service, on_failure=back)


def steps_by_service(plan: Mapping[str, Any]) -> dict[str, list[str]]:
    """The services whose software a plan, as JSON, brings back, each with the keys of its steps."""
    found: dict[str, list[str]] = {}
    for step in plan["steps"]:
        if "/" in step["key"]:
            found.setdefault(step["group"], []).append(step["key"])
    return found


def _under(slug: str, step: StepSpec) -> StepSpec:
    key = step.key if step.key.startswith(f"{slug}-") else f"{slug}-{step.key}"
    back = tuple(one if one.startswith(f"{slug}-") else f"{slug}-{one}" for one in step.on_failure)
    return replace(step, key=key, group=slug, on_failure=back)
