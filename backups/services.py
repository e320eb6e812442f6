"""What people, programs and the clock may do with backups."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from backups.cleaning import Proposal, propose
from backups.jobs import chain_of, fingerprint
from backups.models import Backup, BackupRun, Cleanup, Kind, Policy, PolicyClock, Restore, RestorePoint
from backups.plans import Subject, backup_plan, cleanup_plan, proof_plan
from controlplane.accounts.access import Actor, Machine, require
from controlplane.accounts.models import Role
from controlplane.audit.record import SYSTEM, record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.models import Operation
from controlplane.operations.states import ACTIVE, BEFORE_START
from controlplane.operations.transitions import request, said
from environments.models import Environment

BACKUP, PROOF, RESTORE, CLEANUP = "backup", "restore test", "restore", "backup clean-up"
CLOCK = Machine(SYSTEM("clock"))


def subject_of(policy: Policy) -> Subject:
    """The policy as plans name it."""
    return Subject(str(policy), policy.kind, policy.storage.slug, fingerprint(policy))


# --- making them --------------------------------------------------------------------------------------


def request_backup(
    actor: Actor | Machine,
    policy: Policy,
    *,
    reason: str,
    cause: str = BackupRun.Cause.PERSON,
    due_at: datetime | None = None,
    part_of: int | None = None,
) -> Operation:
    """Ask for a backup now; it needs no approval. part_of: the operation that waits for it, if one does.

    Raises PermissionDenied, Http404 or Invalid.
    """
    if isinstance(actor, Actor):
        require(actor, Role.OPERATOR, [policy.environment.slug], f"back up {policy}")
    return request(
        actor,
        kind=BACKUP,
        title=f"Back up {policy}",
        scopes=[policy.environment.slug],
        locks=[policy.lock_name],
        plan=backup_plan([subject_of(policy)]),
        gates=[],
        reason=reason,
        approvals_required=0,
        part_of=part_of,
        attach=lambda operation: BackupRun.objects.create(
            operation=operation, policy=policy, cause=cause, due_at=due_at
        ),
    )


def request_restore_point(actor: Actor, environment: Environment, *, name: str, reason: str) -> Operation:
    """Back up every kind of the environment for one moment. Raises PermissionDenied, Http404 or Invalid."""
    require(actor, Role.OPERATOR, [environment.slug], f"make a restore point of {environment.slug}")
    policies = one_of_each_kind(environment)
    if not policies:
        raise Invalid(f"{environment.name} has no backup policy yet. Declare one in the configuration file first.")
    name = said(name, "Give the restore point a name, so that others know what it is for.")[:200]

    def attach(operation: Operation) -> None:
        BackupRun.objects.bulk_create(
            BackupRun(operation=operation, policy=policy, cause=BackupRun.Cause.POINT) for policy in policies
        )
        RestorePoint.objects.create(
            environment=environment, operation=operation, name=name, made_by_name=actor.who.name
        )

    return request(
        actor,
        kind=BACKUP,
        title=f"Restore point {name} of {environment.slug}",
        scopes=[environment.slug],
        # Nothing may be deployed meanwhile: its parts belong to one moment.
        locks=[environment.slug, *(policy.lock_name for policy in policies)],
        plan=backup_plan([subject_of(policy) for policy in policies]),
        gates=[],
        reason=reason,
        approvals_required=0,
        attach=attach,
    )


def one_of_each_kind(environment: Environment) -> list[Policy]:
    """The policies whose backups make a restore point: one for each thing, a database by a dump where there is one."""
    policies = Policy.objects.filter(environment=environment, paused=False).select_related("environment", "storage")
    chosen: dict[str, Policy] = {}
    for policy in sorted(policies, key=lambda one: (one.kind == Kind.PITR, one.pk)):
        what = "database" if policy.kind in (Kind.DATABASE, Kind.PITR) else policy.kind
        chosen.setdefault(what, policy)
    return list(chosen.values())


# --- proving them -------------------------------------------------------------------------------------


def request_proof(actor: Actor | Machine, backup: Backup, *, reason: str, part_of: int | None = None) -> Operation:
    """Restore it into a scratch PostgreSQL and compare. part_of: the operation that waits for it, if one does.

    Raises PermissionDenied, Http404, Conflict or Invalid.
    """
    if isinstance(actor, Actor):
        require(actor, Role.OPERATOR, [backup.environment.slug], f"test backup {backup.pk}")
    policy_of(backup)
    whole = there(backup)
    if whole.outcome is Outcome.FAILED:
        raise Conflict(whole.reason)
    name = f"{backup.environment.slug}/{backup.policy_slug}"
    return request(
        actor,
        kind=PROOF,
        title=f"Test the restore of backup {backup.pk} of {name}",
        scopes=[backup.environment.slug],
        locks=[f"{name}/restore-test"],
        plan=proof_plan(name, backup.pk),
        gates=[whole],
        reason=reason,
        approvals_required=0,
        expected_seconds=backup.restore_seconds,
        part_of=part_of,
        attach=lambda operation: Restore.objects.create(operation=operation, backup=backup, target=Restore.Target.TEST),
    )


def policy_of(backup: Backup) -> Policy:
    """The policy that says where the database is and with which key it is opened. Raises Invalid."""
    if backup.policy is None:
        raise Invalid(f"The policy {backup.policy_slug} is not there any more. Declare it again, then restore.")
    return backup.policy


def there(backup: Backup) -> Gate:
    """A backup can be restored as long as it, and all that it builds on, is in the storage."""
    title = "The backup is there"
    for one in chain_of(backup):
        if one.state != Backup.State.AVAILABLE:
            words = f"backup {one.pk} of {one.as_of:%Y-%m-%d %H:%M} is {one.get_state_display()}. Choose another one."
            return Gate("there", title, Outcome.FAILED, words)
    return Gate("there", title, Outcome.PASSED, f"{backup.key} in {backup.storage.slug}")


# --- keeping and letting go ---------------------------------------------------------------------------


def request_cleanup(actor: Actor | Machine, policy: Policy, proposal: Proposal, *, reason: str) -> Operation:
    """Ask for the deletion of what retention lets go. Raises PermissionDenied, Http404 or Invalid."""
    if isinstance(actor, Actor):
        require(actor, Role.OPERATOR, [policy.environment.slug], f"clean up {policy}")
    numbers = [one.pk for one in proposal.go]
    return request(
        actor,
        kind=CLEANUP,
        title=f"Clean up {policy}",
        scopes=[policy.environment.slug],
        locks=[policy.lock_name],
        plan=cleanup_plan(str(policy), proposal.go),
        gates=[],
        reason=reason,
        approvals_required=0,
        attach=lambda operation: Cleanup.objects.create(operation=operation, policy=policy, backups=numbers),
    )


def request_shown_cleanup(actor: Actor, policy: Policy, *, shown: str, reason: str) -> Operation:
    """Ask for the deletion of what a person was shown, and of nothing else. shown: the digest of that proposal.

    Raises PermissionDenied, Http404 or Invalid, also when something else would go by now.
    """
    proposal = propose(policy)
    if not proposal.go:
        raise Invalid("Retention lets nothing go now.")
    if shown != proposal.digest:
        raise Invalid("What retention lets go is not what you were shown any more. Look again, then ask.")
    return request_cleanup(actor, policy, proposal, reason=reason)


def hold(actor: Actor, backup: Backup, reason: str) -> None:
    """Keep it whatever retention says, until somebody lets go. Raises Invalid or Conflict."""
    require(actor, Role.OPERATOR, [backup.environment.slug], f"hold backup {backup.pk}")
    reason = said(reason, "Say why it must be kept: whoever wants to let go of it will read it.")
    with transaction.atomic():
        rows = Backup.objects.filter(pk=backup.pk, hold_reason="").exclude(state=Backup.State.DELETED)
        if not rows.update(hold_reason=reason, held_by_name=actor.who.name, held_at=Now()):
            raise Conflict("It is held already, or is not there any more.")
        _soon(backup)
        record(actor.who, "backup.held", f"backup {backup.pk}", scopes=[backup.environment.slug], reason=reason)


def let_go(actor: Actor, backup: Backup, reason: str) -> None:
    """End the hold; from now on only retention keeps it. Raises Invalid or Conflict."""
    require(actor, Role.OPERATOR, [backup.environment.slug], f"let go of backup {backup.pk}")
    reason = said(reason, "Say why it need not be kept any more.")
    with transaction.atomic():
        kept = Backup.objects.select_for_update().get(pk=backup.pk)
        if not kept.hold_reason:
            raise Conflict("Nobody holds it.")
        Backup.objects.filter(pk=backup.pk).update(hold_reason="", held_by_name="", held_at=None)
        _soon(backup)
        record(
            actor.who, "backup.let_go", f"backup {backup.pk}", scopes=[backup.environment.slug], reason=reason,
            data={"hold": kept.hold_reason, "held by": kept.held_by_name},
        )  # fmt: skip


def _soon(backup: Backup) -> None:
    PolicyClock.objects.filter(policy=backup.policy_id).update(cleanup_due_at=Now())
    transaction.on_commit(lambda: ring("news", "backups"))


def pause(actor: Actor, policy: Policy, reason: str, *, paused: bool) -> None:
    """Stop or go on making backups by schedule. Raises Invalid or Conflict."""
    word = "pause" if paused else "resume"
    require(actor, Role.OPERATOR, [policy.environment.slug], f"{word} {policy}")
    reason = said(reason, f"Say why you {word} it: it is kept for good.")
    with transaction.atomic():
        if not Policy.objects.filter(pk=policy.pk, paused=not paused).update(paused=paused):
            raise Conflict(f"Somebody was first: it is {'paused' if paused else 'not paused'} already.")
        PolicyClock.objects.filter(policy=policy).update(due_at=None, proof_due_at=None)
        transaction.on_commit(lambda: ring("news", "backups"))
        record(actor.who, f"backup.{word}d", f"policy {policy}", scopes=[policy.environment.slug], reason=reason)


def change_policy(actor: Actor, policy: Policy, values: Mapping[str, Any], reason: str) -> None:
    """Another schedule, other rules. values: fields of the model, checked by the form. Raises Invalid."""
    require(actor, Role.ADMIN, [policy.environment.slug], f"change {policy}")
    reason = said(reason, "Say why: it is kept for good.")
    with transaction.atomic():
        kept = Policy.objects.select_for_update().get(pk=policy.pk)
        changes = {name: [getattr(kept, name), value] for name, value in values.items()}
        if not changes:
            raise Invalid("Nothing is different.")
        Policy.objects.filter(pk=policy.pk).update(**values)
        # Due times of the old schedule are forgotten; the clock works out the new ones.
        PolicyClock.objects.filter(policy=policy).update(due_at=None, proof_due_at=None, cleanup_due_at=Now())
        transaction.on_commit(lambda: ring("news", "backups"))
        record(
            actor.who, "backup.policy_changed", f"policy {policy}", scopes=[policy.environment.slug], reason=reason,
            data={"changes": changes},
        )  # fmt: skip


def running(policy: Policy) -> Operation | None:
    """Its backup that waits or runs now."""
    runs = BackupRun.objects.filter(policy=policy, operation__state__in=ACTIVE).select_related("operation")
    # A restore that somebody has yet to approve keeps nobody from backing up until then.
    runs = runs.exclude(cause=BackupRun.Cause.SAFETY, operation__state__in=BEFORE_START)
    first = runs.order_by("pk").first()
    return first.operation if first else None
