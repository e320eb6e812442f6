"""How people and programs get something back: what they wish for, the plan of it, and the request."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from backups.jobs import lock_of_restores
from backups.models import Backup, BackupRun, Kind, Policy, Restore, RestorePoint
from backups.plans import LIVE, Aim, bucket_named, point_restore_plan, restore_plan
from backups.services import RESTORE, policy_of, subject_of, there
from backups.window import nearest, recoverable
from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.operations.errors import Conflict, Invalid, StepError
from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation
from controlplane.operations.plans import ALREADY, Plan
from controlplane.operations.transitions import request
from environments.drivers import DRIVERS
from environments.drivers.base import Driver, Rollout, Software, Target
from environments.targets import target_of

DATABASE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,48}")
SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")
TABLE_NAME = re.compile(rf"{SCHEMA_NAME.pattern}(\.{SCHEMA_NAME.pattern})?")
TARGETS: dict[str, tuple[str, ...]] = {
    Kind.DATABASE: (Restore.Target.SCRATCH, Restore.Target.NEW, Restore.Target.EXISTING),
    Kind.PITR: (Restore.Target.SCRATCH, Restore.Target.NEW, Restore.Target.EXISTING),
    Kind.UPLOADS: (Restore.Target.FOLDER,),
    Kind.IMAGES: (Restore.Target.FOLDER,),
    Kind.CONFIGURATION: (Restore.Target.CONFIGURATION,),
}


@dataclass(frozen=True)
class Wish:
    """What somebody wants to have back, as they typed it. folder: below DATA_DIR/restored, "" for in place.

    moment: in UTC, as the row will have it, or its plan would be another one at the start; see `web.moments`.
    """

    target: str
    moment: datetime | None = None
    database: str = ""
    folder: str = ""
    schema: str = ""
    table: str = ""


@dataclass(frozen=True)
class RestoreDraft:
    """What would happen, before anybody asked for it: the page and the request are made from the same draft."""

    backup: Backup
    wish: Wish
    plan: Plan
    gates: list[Gate]
    approvals_required: int

    @property
    def title(self) -> str:
        """What the operation will be called."""
        return self.plan.summary[:1].upper() + self.plan.summary[1:]

    @property
    def is_live(self) -> bool:
        """Whether it changes something that is in use."""
        return self.approvals_required > 0 or self.wish.target in LIVE or in_place(self.wish)


def in_place(wish: Wish) -> bool:
    """Files go back to where they came from."""
    return wish.target == Restore.Target.FOLDER and not wish.folder


def draft_restore(backup: Backup, wish: Wish) -> RestoreDraft:
    """Check the wish and plan the way. Raises Invalid, saying what would be possible."""
    _check(backup, wish)
    if wish.moment is not None:
        backup = _backup_for(backup, wish.moment)
    live = wish.target in LIVE or in_place(wish)
    aim = aim_of(backup, wish)
    needed = backup.environment.approvals_required if live else 0
    return RestoreDraft(backup, wish, restore_plan(aim), [there(backup)], needed)


def aim_of(backup: Backup, wish: Wish) -> Aim:
    """The wish as plans name it."""
    policy = policy_of(backup)
    return Aim(
        backup=backup.pk,
        what=f"backup {backup.pk} of {policy}",
        subject=subject_of(policy),
        target=wish.target,
        as_of=f"{backup.as_of:%Y-%m-%d %H:%M:%S} UTC",
        moment=wish.moment.isoformat() if wish.moment else "",
        database=wish.database,
        folder=wish.folder,
        schema=wish.schema,
        table=wish.table,
        in_use=files_in_use(policy),
    )


def files_in_use(policy: Policy) -> str:
    """Where its uploads are, as plans name it."""
    source = policy.settings.get("source", {})
    return bucket_named(source) if "bucket" in source else "the folder in use"


def _check(backup: Backup, wish: Wish) -> None:
    possible = TARGETS[backup.kind]
    if wish.target not in possible:
        names = ", ".join(Restore.Target(one).label for one in possible)
        raise Invalid(f"A backup of {backup.get_kind_display()} can be restored into: {names}.")
    named = wish.target in (Restore.Target.NEW, Restore.Target.EXISTING)
    if (named or wish.database) and not DATABASE_NAME.fullmatch(wish.database):
        raise Invalid("Give the name of a database: small letters, digits and _, at most 49 characters.")
    if (wish.schema or wish.table) and backup.kind not in (Kind.DATABASE, Kind.PITR):
        raise Invalid(f"A backup of {backup.get_kind_display()} has no tables: leave schema and table empty.")
    if wish.table and not TABLE_NAME.fullmatch(wish.table):
        raise Invalid(f"“{wish.table}” is no name of a table; write it as in users, or public.users.")
    if wish.schema and not SCHEMA_NAME.fullmatch(wish.schema):
        raise Invalid(f"“{wish.schema}” is no name of a schema.")
    if (wish.schema or wish.table) and wish.target == Restore.Target.EXISTING:
        raise Invalid("A part replaces no whole database. Restore it into a new one, then copy what you need.")
    if wish.target == Restore.Target.EXISTING:
        _check_it_is_backed_up(backup, wish.database)
    if backup.kind == Kind.IMAGES and not wish.folder:
        raise Invalid("Give the folder a name: images are not put back into a registry.")
    if wish.folder and ("\x00" in wish.folder or PurePosixPath(wish.folder).is_absolute()
                        or ".." in PurePosixPath(wish.folder).parts):  # fmt: skip
        raise Invalid("Give the folder a plain name; it is made below “restored” in the data folder.")
    if wish.moment is not None and backup.kind != Kind.PITR:
        raise Invalid("Only a policy with WAL goes back to any moment; this backup holds one: leave the moment empty.")


def _check_it_is_backed_up(backup: Backup, database: str) -> None:
    """What is replaced is dropped in the end, and the safety backup has to hold it. The step asks once more."""
    last = Backup.objects.filter(policy=backup.policy, kind=Kind.DATABASE).order_by("-as_of", "-pk").first()
    name = last.manifest["facts"].get("database", database) if last else database
    if name != database:
        raise Invalid(
            f"Only {name} can be replaced, since the safety backup before is of that one. Restore into a new database "
            f"instead, or with the policy that backs up {database}."
        )


def _backup_for(backup: Backup, moment: datetime) -> Backup:
    """The base from which one gets to the moment. Refused at once, with the nearest possible times, where none does."""
    windows = recoverable(policy_of(backup))
    for window in reversed(windows):
        if window.since <= moment <= window.until:
            return Backup.objects.select_related("environment", "policy", "storage").get(pk=window.backup)
    before, after = nearest(windows, moment)
    times = " and ".join(f"{one:%Y-%m-%d %H:%M:%S} UTC" for one in (before, after) if one)
    where = f"The nearest moments that are: {times}." if times else "No moment is, before the first base backup."
    raise Invalid(f"{moment:%Y-%m-%d %H:%M:%S} UTC is not recoverable. {where}")


def request_restore(actor: Actor, backup: Backup, wish: Wish, *, reason: str, plan_digest: str = "") -> Operation:
    """Ask for a restore. plan_digest: the plan the person read, "" for none shown (the API).

    Raises PermissionDenied or Http404 (who), Invalid (what), Conflict (the plan moved since it was read).
    """
    environment = backup.environment
    require(actor, Role.OPERATOR, [environment.slug], f"restore backup {backup.pk}")
    made = draft_restore(backup, wish)
    if plan_digest and plan_digest != made.plan.digest:
        raise Conflict("The plan is not the one you read any more. Read it again, then ask.")
    backup = made.backup
    locks = [lock_of_restores(backup, wish.database or wish.target)]
    if made.is_live and backup.policy is not None:
        locks = [environment.slug, backup.policy.lock_name]
    return request(
        actor,
        kind=RESTORE,
        title=made.title,
        scopes=[environment.slug],
        locks=locks,
        plan=made.plan,
        gates=made.gates,
        reason=reason,
        approvals_required=made.approvals_required,
        expected_seconds=backup.restore_seconds,
        attach=lambda operation: _attach_restore(operation, backup, wish),
    )


def _attach_restore(operation: Operation, backup: Backup, wish: Wish) -> None:
    Restore.objects.create(
        operation=operation, backup=backup, target=wish.target, moment=wish.moment, database=wish.database,
        folder=wish.folder, schema=wish.schema, table=wish.table,
    )  # fmt: skip
    if wish.target == Restore.Target.EXISTING and backup.policy is not None:
        BackupRun.objects.create(operation=operation, policy=backup.policy, cause=BackupRun.Cause.SAFETY)


def request_point_restore(
    actor: Actor,
    point: RestorePoint,
    *,
    database: str,
    reason: str,
    plan_digest: str = "",
    made: Plan | None = None,
) -> Operation:
    """Restore all of a restore point: the database over `database`, files in place, the configuration, the software.

    plan_digest: the plan the person read, "" for none shown. made: the plan, where it was made before a transaction in
    which the network must not be asked. Raises PermissionDenied, Http404, Invalid, Conflict.
    """
    environment = point.environment
    require(actor, Role.OPERATOR, [environment.slug], f"restore {point.name}")
    parts = wishes_of(point, database)
    plan = made or plan_of_point(point, database)
    if plan_digest and plan_digest != plan.digest:
        raise Conflict("The plan is not the one you read any more. Read it again, then ask.")

    def attach(operation: Operation) -> None:
        for backup, wish in parts:
            _attach_restore(operation, backup, wish)

    return request(
        actor,
        kind=RESTORE,
        title=f"Restore point {point.name} of {environment.slug}",
        scopes=[environment.slug],
        locks=[environment.slug, *(backup.policy.lock_name for backup, _ in parts if backup.policy)],
        plan=plan,
        gates=[there(backup) for backup, _ in parts],
        reason=reason,
        approvals_required=environment.approvals_required,
        attach=attach,
    )


def plan_of_point(point: RestorePoint, database: str) -> Plan:
    """The same as `draft_point`, for pages: what cannot be asked is a refusal too. Raises Invalid, Conflict."""
    try:
        return draft_point(point, database)
    except StepError as error:
        raise Conflict(
            f"What runs in {point.environment.slug} cannot be asked, so nobody can say which software has to come "
            f"back: {str(error).rstrip('.')}. Nothing was changed. Try again, or restore its backups one by one."
        ) from error


def draft_point(point: RestorePoint, database: str) -> Plan:
    """How all of a restore point comes back. It asks what runs, so call it outside of transactions.

    Raises Invalid, and StepError when what runs cannot be asked.
    """
    parts = wishes_of(point, database)
    if not parts:
        raise Invalid(f"{point.name} has no part that can be restored in place.")
    for backup, wish in parts:
        _check(backup, wish)
    return point_restore_plan([aim_of(backup, wish) for backup, wish in parts], software_of(point))


def software_of(point: RestorePoint) -> dict[str, Rollout]:
    """The way of each service back to what it ran then, by its slug. Raises StepError when a driver cannot be asked."""
    environment = point.environment
    ran = {one["service"]: Software(one["version"], "", one["digest"]) for one in point.software}
    rows = environment.placements.select_related("environment", "service")
    placements = {placement.service.slug: placement for placement in rows}
    # The variables come back before anything is started: those that are there now say nothing of the plan.
    restored = point.backups.filter(kind=Kind.CONFIGURATION).exists()
    found: dict[str, Rollout] = {}
    for service in sorted(ran.keys() | placements.keys()):
        placement, to = placements.get(service), ran.get(service)
        if placement is None:
            found[service] = _left(f"not brought back: it has no place in {environment.slug} any more")
        elif to is not None:
            target = target_of(placement, configuration="" if restored else None)
            found[service] = _way_back(DRIVERS[environment.driver], target, to)
        elif placement.version:
            found[service] = _left("left as it is: the restore point does not know it")
    return found


def _way_back(driver: Driver, target: Target, to: Software) -> Rollout:
    running = driver.running(target)
    if not running:
        return _left("not brought back: no instance of it is declared")
    # Nobody but the driver knows what else there may be to do: an instance may run it, and yet be out of rotation.
    rollout = driver.rollout(target, running, to)
    if rollout.unforeseen and any(one.digest != to.digest for one in running):
        return _left(f"not brought back: {rollout.unforeseen}")
    if rollout.unforeseen or not rollout.steps:
        return _left(ALREADY, f"{to.version} {to.digest}")
    return rollout


def _left(why: str, now: str = "") -> Rollout:
    """Nothing is done."""
    return Rollout((), (), ({"what": "", "from": now, "to": why},))


def wishes_of(point: RestorePoint, database: str) -> list[tuple[Backup, Wish]]:
    """Its parts in the order in which they come back. Images need no restore: their digest is rolled out."""
    wishes = {
        Kind.DATABASE: Wish(Restore.Target.EXISTING, database=database),
        Kind.PITR: Wish(Restore.Target.EXISTING, database=database),
        Kind.UPLOADS: Wish(Restore.Target.FOLDER),
        Kind.CONFIGURATION: Wish(Restore.Target.CONFIGURATION),
    }
    backups = point.backups.select_related("environment", "policy", "storage").order_by("kind")
    order: Sequence[str] = list(wishes)
    known = [backup for backup in backups if backup.kind in wishes]
    return [(backup, wishes[Kind(backup.kind)]) for backup in sorted(known, key=lambda one: order.index(one.kind))]
