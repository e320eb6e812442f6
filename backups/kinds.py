"""What the engine has to know of backups, restore tests, restores and clean-ups."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from backups.catalog import write_down
from backups.jobs import secrets_of
from backups.models import Backup, Policy, PolicyClock, Restore, RestorePoint
from backups.plans import backup_plan, cleanup_plan, point_restore_plan, proof_plan, restore_plan, steps_by_service
from backups.restore_services import Wish, aim_of, software_of
from backups.services import BACKUP, CLEANUP, PROOF, RESTORE, subject_of, there
from controlplane.live.ring import ring
from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation, Step
from controlplane.operations.plans import Plan
from controlplane.operations.registry import Kind
from controlplane.operations.states import STEP_FINISHED, State
from environments.arrivals import note_arrival
from environments.models import Placement
from environments.secrets import secrets_of as secrets_of_environment

TEMPLATE = "backups/_operation_facts.html"


def _nothing(operation: Operation) -> Mapping[str, Any]:
    """Facts of a kind whose plan depends on rows alone."""
    return {}


def _no_gates(operation: Operation, facts: Mapping[str, Any]) -> list[Gate]:
    return []


def _news() -> None:
    transaction.on_commit(lambda: ring("news", "backups environments"))


# --- backups ------------------------------------------------------------------------------------------


def _policies(operation: Operation) -> list[Policy]:
    runs = operation.backup_runs.select_related("policy__environment", "policy__storage").order_by("pk")
    return [run.policy for run in runs]


def _backup_plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    return backup_plan([subject_of(policy) for policy in _policies(operation)])


def _backup_secrets(operation: Operation) -> list[str]:
    return [secret for policy in _policies(operation) for secret in secrets_of(policy)]


def _backup_finished(operation: Operation) -> None:
    write_down(operation)
    _note_what_ran(operation)
    _news()


def _note_what_ran(operation: Operation) -> None:
    """In a restore point. Now, and not when it was asked for: a deployment may have been ahead of it in the queue."""
    for point in RestorePoint.objects.filter(operation=operation):
        placements = Placement.objects.filter(environment=point.environment_id).exclude(digest="")
        point.software = [
            {"service": one.service.slug, "version": one.version, "digest": one.digest}
            for one in placements.select_related("service")
        ]
        point.save(update_fields=["software"])


# --- restores and their tests -------------------------------------------------------------------------


def _restores(operation: Operation) -> list[Restore]:
    related = "backup__policy__environment", "backup__policy__storage", "backup__environment", "backup__storage"
    return list(operation.restores.select_related(*related).order_by("pk"))


def _restore_gates(operation: Operation, facts: Mapping[str, Any]) -> list[Gate]:
    return [there(restore.backup) for restore in _restores(operation)]


def _restore_secrets(operation: Operation) -> list[str]:
    policies = [restore.backup.policy for restore in _restores(operation)]
    found = [secret for policy in policies if policy for secret in secrets_of(policy)]
    # What is started gets the environment's own.
    return found + secrets_of_environment(point.environment) if (point := _point(operation)) else found


def _proof_plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    backup = _restores(operation)[0].backup
    return proof_plan(f"{backup.environment.slug}/{backup.policy_slug}", backup.pk)


def _proof_finished(operation: Operation) -> None:
    """Only a restore test makes a backup verified; one that could not be carried out says nothing of it."""
    backup = _restores(operation)[0].backup
    step = Step.objects.get(operation=operation, key="prove")
    said: dict[str, Any] = {"tested_at": Now(), "tested_in": operation.pk}
    seen = step.checkpoint
    # A person's word on the step, that it is done, ends the operation well, but proves nothing.
    if operation.state == State.SUCCEEDED and "words" in seen:
        said |= {"verdict": Backup.Verdict.PROVEN, "verdict_words": seen["words"],
                 "restore_seconds": seen["seconds"]}  # fmt: skip
    elif seen.get("unrestorable"):
        said |= {"verdict": Backup.Verdict.FAILED, "verdict_words": step.error}
    else:
        said = {}
    if said:
        Backup.objects.filter(pk=backup.pk).update(**said)
        # What is proven is why some are kept.
        PolicyClock.objects.filter(policy=backup.policy_id).update(cleanup_due_at=Now())
    _news()


def _point(operation: Operation) -> RestorePoint | None:
    """The restore point that it brings back; None for a restore of one backup."""
    # A restore point with a single part is planned as one too: its locks and headings are those of a point.
    if operation.plan["steps"][0]["group"] == "":
        return None
    # A backup belongs to one point at most: to that of the operation that made it.
    points = RestorePoint.objects.select_related("environment")
    return points.filter(backups__restores__operation=operation).first()


def _restore_facts(operation: Operation) -> Mapping[str, Any]:
    """With a restore point its software comes back too, so what runs is asked."""
    point = _point(operation)
    return {"software": software_of(point)} if point else {}


def _restore_plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    aims = [aim_of(one.backup, _wish(one)) for one in _restores(operation)]
    return point_restore_plan(aims, facts["software"]) if "software" in facts else restore_plan(aims[0])


def _wish(restore: Restore) -> Wish:
    return Wish(restore.target, restore.moment, restore.database, restore.folder, restore.schema, restore.table)


def _restore_finished(operation: Operation) -> None:
    """Its safety backup stands in the catalog, however it ended."""
    write_down(operation)
    if point := _point(operation):
        _note_what_came_back(operation, point)
    _news()


def _note_what_came_back(operation: Operation, point: RestorePoint) -> None:
    """Each service whose steps are all done, even where a later one's failed: that is what runs now."""
    ran = {one["service"]: one for one in point.software}
    states = dict(operation.steps.values_list("key", "state"))
    for service, keys in steps_by_service(operation.plan).items():
        if all(states[key] in STEP_FINISHED for key in keys):
            placements = Placement.objects.filter(environment=point.environment_id, service__slug=service)
            note_arrival(placements, operation, version=ran[service]["version"], digest=ran[service]["digest"])


# --- clean-ups ----------------------------------------------------------------------------------------


def _cleanup_plan(operation: Operation, facts: Mapping[str, Any]) -> Plan:
    cleanup = operation.cleanup
    rows = Backup.objects.filter(pk__in=cleanup.backups).defer("manifest", "search").order_by("as_of", "pk")
    policy = Policy.objects.select_related("environment").get(pk=cleanup.policy_id)
    return cleanup_plan(str(policy), rows)


def _cleanup_secrets(operation: Operation) -> list[str]:
    return secrets_of(Policy.objects.select_related("storage").get(pk=operation.cleanup.policy_id))


def _cleanup_finished(operation: Operation) -> None:
    _news()


KINDS = (
    Kind(
        key=BACKUP, label="backup", facts=_nothing, plan=_backup_plan, gates=_no_gates, secrets=_backup_secrets,
        finished=_backup_finished, background=True, facts_template=TEMPLATE,
    ),
    Kind(
        key=PROOF, label="restore test", facts=_nothing, plan=_proof_plan, gates=_restore_gates,
        secrets=_restore_secrets, finished=_proof_finished, background=True, facts_template=TEMPLATE,
    ),
    Kind(
        key=RESTORE, label="restore", facts=_restore_facts, plan=_restore_plan, gates=_restore_gates,
        secrets=_restore_secrets, finished=_restore_finished, facts_template=TEMPLATE,
    ),
    Kind(
        key=CLEANUP, label="clean-up of backups", facts=_nothing, plan=_cleanup_plan, gates=_no_gates,
        secrets=_cleanup_secrets, finished=_cleanup_finished, background=True, facts_template=TEMPLATE,
    ),
)  # fmt: skip
