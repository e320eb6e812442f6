"""What the clock does about kits: one that is a day old, or of a plan that was changed since, is made anew."""

import logging
from datetime import timedelta

from django.db import connection

from backups.disaster.kit.bundle import Kit, content_digest_of, make_kit
from backups.models import RecoveryKit, RecoveryPlan
from backups.storage import open_store
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.errors import StepError

logger = logging.getLogger(__name__)

LOOK_EVERY = timedelta(minutes=10)
OLDEST = timedelta(days=1)
AT_ONCE = 5
CLAIM = """
    UPDATE backups_recoveryclock SET kit_due_at = clock_timestamp() + make_interval(secs => %s)
    WHERE id IN (
        SELECT clock.id FROM backups_recoveryclock AS clock
        JOIN backups_recoveryplan AS plan ON plan.id = clock.plan_id
        WHERE clock.kit_due_at <= clock_timestamp() AND plan.kit_storage_id IS NOT NULL
        ORDER BY clock.kit_due_at LIMIT %s FOR UPDATE OF clock SKIP LOCKED
    )
    RETURNING plan_id
"""


def export_due() -> int:
    """Export the kits that are due; returns how many plans were looked at.

    The next time is set before: a plan whose storage is broken is tried again then, and delays nobody.
    """
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [LOOK_EVERY.total_seconds(), AT_ONCE])
        claimed = [row[0] for row in cursor.fetchall()]
    rows = RecoveryPlan.objects.select_related("primary", "standby", "kit_storage")
    for plan in rows.filter(pk__in=claimed):
        try:
            if is_due(plan):
                export(plan)
        except StepError as error:
            logger.warning("the recovery kit of %s could not be exported: %s", plan, error)
        except Exception:
            logger.exception("the recovery kit of %s could not be made", plan)
    return len(claimed)


def is_due(plan: RecoveryPlan) -> bool:
    """Whether the newest kit says something else than one made now, or is older than a day."""
    newest = RecoveryKit.objects.filter(plan=plan).order_by("-made_at").first()
    if newest is None or database_time() - newest.made_at >= OLDEST:
        return True
    return newest.content_digest != content_digest_of(plan)


def export(plan: RecoveryPlan) -> RecoveryKit:
    """Make a kit, put it into the plan's storage, and keep that it is there. Not in a transaction. Raises StepError."""
    if plan.kit_storage is None:
        raise StepError(f"The plan {plan} has no kit_storage. Declare one in the standby's region.", permanent=True)
    kit = make_kit(plan, database_time())
    key = f"recovery-kits/{plan.slug}/{kit.name}"
    open_store(plan.kit_storage).put(key, [kit.content])
    return keep(plan, kit, key)


def keep(plan: RecoveryPlan, kit: Kit, key: str) -> RecoveryKit:
    """Note a kit that is where its key says; the board shows its age."""
    row = RecoveryKit.objects.create(plan=plan, key=key, digest=kit.digest, content_digest=kit.content_digest)
    ring("news", "backups")
    return row
