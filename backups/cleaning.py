"""Letting backups go by the rules of their policy: what would go and why, and the steps that do it."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from backups.catalog import manifests_in
from backups.engines.contents import unreferenced
from backups.jobs import load_policy, store_of
from backups.manifest import NAME
from backups.models import Backup, Kind, Policy, Restore
from backups.retention import Item, Reasons, Rules, decide
from backups.steps import discard, no_doubt
from backups.storage import open_store
from backups.storage.base import Store
from backups.wal_retention import trim_wal
from controlplane.audit.record import SYSTEM, record
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.registry import StepContext, StepFunction
from controlplane.operations.states import ACTIVE

# A folder without a manifest is somebody's backup in the making, or, after so long, the remains of one.
REMAINS_AFTER = timedelta(hours=24)


@dataclass(frozen=True)
class Proposal:
    """What retention says of a policy's backups now. go: oldest first."""

    reasons: Reasons
    keep: list[Backup]
    go: list[Backup]

    @property
    def digest(self) -> str:
        """Which backups go, in one word: a page that showed others is out of date."""
        return hashlib.sha256(repr([one.pk for one in self.go]).encode()).hexdigest()[:16]


def rules_of(policy: Policy) -> Rules:
    """The policy's rules."""
    return Rules(policy.keep_days, policy.keep_last, policy.keep_daily, policy.keep_weekly, policy.keep_monthly,
                 policy.keep_yearly)  # fmt: skip


def propose(policy: Policy, now: datetime | None = None) -> Proposal:
    """The dry run: the same function that decides."""
    backups = list(_there(policy).defer("manifest", "search").order_by("as_of", "pk"))
    reasons = reasons_for(policy, backups, now or database_time())
    go = [one for one in backups if not reasons[one.pk]]
    return Proposal(reasons, [one for one in backups if reasons[one.pk]], go)


def reasons_for(policy: Policy, backups: list[Backup], now: datetime) -> Reasons:
    """By number, why each is kept; nothing for what may go."""
    bad = _known_not_to_restore(backups)
    items = [
        Item(
            key=one.pk, at=one.as_of, proven=one.verdict == Backup.Verdict.PROVEN, bad=one.pk in bad,
            hold=one.hold_reason, needs=frozenset([one.parent_id] if one.parent_id else []),
        )
        for one in backups
    ]  # fmt: skip
    return decide(items, rules_of(policy), now, ZoneInfo(policy.time_zone))


def _known_not_to_restore(backups: list[Backup]) -> set[int]:
    """Those, and what is built on them."""
    bad: set[int] = set()
    for one in sorted(backups, key=lambda one: (one.as_of, one.pk)):
        if one.verdict == Backup.Verdict.FAILED or not one.is_whole or one.parent_id in bad:
            bad.add(one.pk)
    return bad


def _there(policy: Policy) -> QuerySet[Backup]:
    return Backup.objects.filter(policy=policy).exclude(state=Backup.State.DELETED)


def note_reasons(policy: Policy, proposal: Proposal) -> int:
    """Write at each backup why it is kept and until when by its age alone; returns how many rows changed."""
    changed = []
    for one in proposal.keep + proposal.go:
        words = "; ".join(proposal.reasons[one.pk]) or "nothing: it goes with the next clean-up"
        expires = one.as_of + timedelta(days=policy.keep_days)
        if (one.kept_because, one.expires_at) != (words, expires):
            one.kept_because, one.expires_at = words, expires
            changed.append(one)
    Backup.objects.bulk_update(changed, ["kept_because", "expires_at"], batch_size=500)
    return len(changed)


# --- the steps ----------------------------------------------------------------------------------------


def _delete(context: StepContext, *, policy: str, backups: list[int]) -> None:
    """Those that build on others first. Each is asked about once more: somebody may hold it by now."""
    found = load_policy(policy)
    rows = Backup.objects.filter(pk__in=backups).select_related("storage").defer("manifest", "search")
    for number, backup in enumerate(rows.order_by("-as_of", "-pk"), start=1):
        context.check()
        with no_doubt(f"deleting backup {backup.pk}"):
            store = open_store(backup.storage)  # the policy may have another one by now
            if words := _why_not(found, backup, store):
                context.log(f"backup {backup.pk} stays: {words}", level="warning")
            elif backup.state == Backup.State.DELETED or _strike_out(context, found, backup):
                discard(store, [backup.key])
                context.log(f"backup {backup.pk} of {backup.as_of:%Y-%m-%d %H:%M} is deleted")
        context.progress(number, len(backups), "backups")


def _why_not(policy: Policy, backup: Backup, store: Store) -> str:
    """Why it must stay after all, in words; "" when it may go. Asks the storage, so outside of a transaction."""
    if backup.state == Backup.State.DELETED:
        return ""  # an earlier try came so far
    if until := store.locked_until(backup.key + NAME):
        return f"its storage does not let anybody delete it before {until:%Y-%m-%d %H:%M} UTC"
    return _in_use(policy, backup)


def _in_use(policy: Policy, backup: Backup) -> str:
    if Restore.objects.filter(backup=backup, operation__state__in=ACTIVE).exists():
        return "it is being restored"
    if Backup.objects.filter(parent=backup).exclude(state=Backup.State.DELETED).exists():
        return "another one builds on it"
    kept = reasons_for(policy, list(_there(policy).defer("manifest", "search")), database_time())
    return "; ".join(kept.get(backup.pk, []))


def _strike_out(context: StepContext, policy: Policy, backup: Backup) -> bool:
    """In the catalog before in the storage: from here on nobody begins to restore it."""
    with transaction.atomic():
        locked = Backup.objects.select_for_update().get(pk=backup.pk)
        if words := _in_use(policy, locked):
            context.log(f"backup {backup.pk} stays: {words}", level="warning")
            return False
        Backup.objects.filter(pk=backup.pk).update(state=Backup.State.DELETED, deleted_at=Now(), kept_because="")
        record(
            SYSTEM("worker"), "backup.deleted", f"backup {backup.pk}", scopes=[policy.environment.slug],
            reason=f"retention of {policy}, operation {context.operation_id}",
            data={"key": backup.key, "as_of": backup.as_of.isoformat()},
        )  # fmt: skip
    return True


def _sweep(context: StepContext, *, policy: str) -> None:
    """What belongs to no backup: remains of tries that failed, files and WAL that no kept backup needs."""
    found = load_policy(policy)
    store = store_of(found)
    with no_doubt(f"sweeping the storage of {policy}"):
        there = manifests_in(store, found.prefix)
        known = dict(Backup.objects.filter(storage=found.storage, key__in=there).values_list("key", "state"))
        struck_out = [key for key in there if known.get(key) == Backup.State.DELETED]
        for key in struck_out + remains(store, found.prefix, database_time()):
            context.check()
            _discard_remains(context, store, key)
        if strangers := [key for key in there if key not in known]:
            context.log(
                f"the catalog does not know {strangers[0]}, so what backups share stays. Enter it: "
                "manage.py catalog --rebuild", level="warning",
            )  # fmt: skip
            return
        gone = _unneeded(found, store)
        for start in range(0, len(gone), 500):
            context.check()
            store.delete(gone[start : start + 500])
        if gone:
            context.log(f"removed {len(gone)} objects that no backup names any more")


def _discard_remains(context: StepContext, store: Store, key: str) -> None:
    try:
        discard(store, [key])
    except StepError as error:
        if not error.permanent:
            raise
        context.log(f"what is left at {key} stays: {error}", level="warning")  # locked: the next one tries again
    else:
        context.log(f"removed what was left at {key}")


def remains(store: Store, prefix: str, now: datetime) -> list[str]:
    """Folders of backups in which, after a day, there is no manifest and whose operation is over."""
    newest: dict[str, datetime] = {}
    whole = set()
    for entry in store.list(prefix):
        folder = entry.key.removeprefix(prefix).partition("/")[0]
        if operation_in(folder) is None:
            continue
        newest[folder] = max(entry.modified, newest.get(folder, entry.modified))
        if entry.key == f"{prefix}{folder}/{NAME}":
            whole.add(folder)
    old = [folder for folder in newest if folder not in whole and newest[folder] < now - REMAINS_AFTER]
    busy = set(Operation.objects.filter(pk__in=map(operation_in, old), state__in=ACTIVE).values_list("pk", flat=True))
    return [f"{prefix}{folder}/" for folder in old if operation_in(folder) not in busy]


def operation_in(folder: str) -> int | None:
    """Whose try a folder is: "2026-11-24T140203Z-17-33" is of operation 17; None for other folders."""
    parts = folder.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal() else None


def _unneeded(policy: Policy, store: Store) -> list[str]:
    """Objects that backups of this kind share, and no one that is left needs."""
    if policy.kind in (Kind.UPLOADS, Kind.IMAGES):
        here = _there(policy).filter(storage=policy.storage).only("manifest")
        return list(unreferenced(store, policy.prefix, (one.manifest for one in here)))
    return trim_wal(policy, store) if policy.kind == Kind.PITR else []


STEPS = {
    "backups.delete": StepFunction(act=_delete),
    "backups.sweep": StepFunction(act=_sweep),
}
