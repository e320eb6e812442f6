"""The catalog: what there is. A row is written from a manifest, once, and only for a backup that is whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import DataError, IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from backups.manifest import NAME, problem_with_objects, read_manifest, time_of
from backups.models import Backup, BackupRun, Kind, Policy, PolicyClock, RestorePoint, Storage
from backups.storage import open_store
from backups.storage.base import Store
from backups.wal_retention import rebuild_ranges
from controlplane.audit.record import Who, record
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import StepState
from environments.models import Environment

TAKE = "backups.take"
# What comes of a manifest that is not as it was written.
UNREADABLE = (StepError, KeyError, TypeError, ValueError, AttributeError, DataError, IntegrityError)


def write_down(operation: Operation) -> list[Backup]:
    """Enter what an operation made; called once, in the transaction in which it ends, however it ends.

    Each of its steps that took a backup and was done counts: a restore point that failed in its second part still
    has a good first one.
    """
    made = []
    specs = {step["key"]: step for step in operation.plan["steps"] if step["function"] == TAKE}
    done = Step.objects.filter(operation=operation, key__in=specs, state=StepState.SUCCEEDED)
    # One that is done only by a person's word may have made nothing.
    for step in done.filter(checkpoint__has_key="manifest").order_by("position"):
        run = _run_of(operation, specs[step.key]["arguments"]["policy"])
        backup = enter(step.checkpoint["manifest"], run.policy.storage, run.policy)
        if run.cause == BackupRun.Cause.SAFETY:
            reason = f"taken for safety before {operation.title} (operation {operation.pk})"
            Backup.objects.filter(pk=backup.pk).update(
                hold_reason=reason, held_by_name=operation.requested_by_name, held_at=Now()
            )
        BackupRun.objects.filter(pk=run.pk).update(backup=backup)
        _due_again(run.policy)
        made.append(backup)
    point = RestorePoint.objects.filter(operation=operation).first()
    if point is not None:
        point.backups.set(made)
    return made


def _run_of(operation: Operation, name: str) -> BackupRun:
    runs = BackupRun.objects.select_related("policy__storage", "policy__environment")
    environment, _, slug = name.partition("/")
    return runs.get(operation=operation, policy__environment__slug=environment, policy__slug=slug)


def _due_again(policy: Policy) -> None:
    """Retention looks at the new one soon, and where the policy says so it is tested at once; the first one always."""
    due: dict[str, Any] = {"cleanup_due_at": Now()}
    never_tested = not Backup.objects.filter(policy=policy).exclude(tested_at=None).exists()
    if policy.proof == Policy.Proof.EACH or (policy.proof == Policy.Proof.SCHEDULE and never_tested):
        due["proof_due_at"] = Now()
    PolicyClock.objects.filter(policy=policy).update(**due)


def enter(manifest: Mapping[str, Any], storage: Storage, policy: Policy | None) -> Backup:
    """The row of a manifest: the one that is there, or a new one. Raises StepError when its parent is not known."""
    there = Backup.objects.filter(storage=storage, key=manifest["key"]).first()
    if there is not None:
        return there
    parent = None
    if manifest["parent"]:
        parent = Backup.objects.filter(storage=storage, key=manifest["parent"]).first()
        if parent is None:
            raise StepError(f"{manifest['key']} builds on {manifest['parent']}, which is not there.", permanent=True)
    facts = manifest["facts"]
    return Backup.objects.create(
        environment=policy.environment if policy else Environment.objects.get(slug=manifest["environment"]),
        policy=policy,
        policy_slug=manifest["policy"],
        kind=manifest["kind"],
        level=manifest["level"],
        parent=parent,
        storage=storage,
        key=manifest["key"],
        operation_id=manifest["operation"],
        as_of=time_of(manifest, "as_of"),
        started_at=time_of(manifest, "started_at"),
        finished_at=time_of(manifest, "finished_at"),
        seconds=manifest["seconds"],
        size=_size_of(manifest),
        source_bytes=manifest["source_bytes"],
        sha256=manifest["objects"][0]["sha256"] if manifest["objects"] else "",
        key_id=manifest["key_id"],
        server_version=facts.get("server_version", ""),
        tool_version=facts.get("tool_version", ""),
        timeline=facts.get("timeline"),
        wal_start=facts.get("wal_start", ""),
        wal_end=facts.get("wal_end", ""),
        digest=next((image["digest"] for image in facts.get("images", [])), ""),
        manifest=dict(manifest),
    )


def _size_of(manifest: Mapping[str, Any]) -> int:
    """Of its own objects, and of the files that backups of uploads share: as much as it brings back."""
    shared = manifest["facts"]["bytes"] if manifest["kind"] == Kind.UPLOADS else 0
    return int(shared + sum(one["size"] for one in manifest["objects"]))


@dataclass
class Rebuilt:
    """What `manage.py catalog --rebuild` found in one storage."""

    known: int = 0
    entered: int = 0
    ranges: int = 0  # of WAL
    problems: list[str] | None = None


def rebuild(storage: Storage, who: Who) -> Rebuilt:
    """Read the catalog back from the storage alone. What is known stays as it is; nothing is removed."""
    store = open_store(storage)
    found = Rebuilt(problems=[])
    assert found.problems is not None
    # Parents before what builds on them: keys begin with the time.
    for key in manifests_in(store):
        if Backup.objects.filter(storage=storage, key=key).exists():
            found.known += 1
            continue
        try:
            manifest = read_manifest(store, key)
            problem = problem_with_objects(store, manifest)
            with transaction.atomic():
                backup = enter(manifest, storage, _policy_of(manifest, storage))
                if problem:
                    # Half a backup: a deletion was cut short, say. It shall not pass for one that may restore.
                    rows = Backup.objects.filter(pk=backup.pk)
                    rows.update(verdict=Backup.Verdict.FAILED, verdict_words=problem, tested_at=Now())
                scopes = [backup.environment.slug]
                record(who, "backup.found", f"backup {backup.pk}", scopes=scopes, data={"key": key})
            found.entered += 1
        except UNREADABLE as error:
            words = str(error) if isinstance(error, StepError) else f"its manifest is damaged ({error!r})."
            found.problems.append(f"{key}: {words}")
        except Environment.DoesNotExist:
            found.problems.append(f"{key}: there is no environment {manifest['environment']}; declare it, then again.")
    for policy in Policy.objects.filter(storage=storage, kind=Kind.PITR).select_related("environment"):
        found.ranges += rebuild_ranges(policy, store)
    return found


def manifests_in(store: Store, prefix: str = "") -> list[str]:
    """The folders below the prefix in which a manifest stands, in order."""
    return sorted(entry.key.removesuffix(NAME) for entry in store.list(prefix) if entry.key.endswith(f"/{NAME}"))


def _policy_of(manifest: Mapping[str, Any], storage: Storage) -> Policy | None:
    named = Q(environment__slug=manifest["environment"], slug=manifest["policy"], kind=manifest["kind"])
    return Policy.objects.select_related("environment").filter(named, storage=storage).first()
