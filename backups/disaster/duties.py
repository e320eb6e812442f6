"""What the clock does for recovery plans: look whether they are ready, rehearse them when it is time, and fence what
was left without a proof as soon as it answers again."""

import logging
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from backups.disaster import readiness
from backups.disaster.databases import DATABASES
from backups.disaster.services import CLOCK, request_drill, request_late_fence
from backups.disaster.sides import database_part, side
from backups.models import Recovery, RecoveryClock, RecoveryPlan
from backups.schedules import next_run
from controlplane.clock.database import database_time
from controlplane.operations.errors import OperationError, StepError
from controlplane.operations.states import ACTIVE

logger = logging.getLogger(__name__)

AT_ONCE = 5
FENCE_AGAIN = timedelta(minutes=2)  # one that failed
AGAIN = timedelta(minutes=30)  # a drill that could not be asked for
CLAIM = """
    UPDATE backups_recoveryclock SET readiness_due_at = clock_timestamp() + make_interval(secs => %s)
    WHERE id IN (
        SELECT id FROM backups_recoveryclock WHERE readiness_due_at <= clock_timestamp()
        ORDER BY readiness_due_at LIMIT %s FOR UPDATE SKIP LOCKED
    )
    RETURNING plan_id
"""


def look_due() -> int:
    """Look at the plans whose time has come; returns how many. The next time is set first: no plan is stuck by one."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [readiness.EVERY.total_seconds(), AT_ONCE])
        claimed = [row[0] for row in cursor.fetchall()]
    for plan in RecoveryPlan.objects.select_related("primary", "standby").filter(pk__in=claimed):
        readiness.look(plan)
    return len(claimed)


def rehearse_due() -> int:
    """Start the drills that are due (the guide: monthly); returns how many plans were looked after."""
    done = 0
    for pk in list(RecoveryClock.objects.filter(drill_due_at__lte=Now()).values_list("pk", flat=True)[:AT_ONCE]):
        with transaction.atomic():
            rows = RecoveryClock.objects.select_for_update(skip_locked=True, of=("self",))
            clock = rows.select_related("plan__primary", "plan__standby").filter(pk=pk, drill_due_at__lte=Now()).first()
            if clock is None or clock.drill_due_at is None:
                continue
            due, plan = clock.drill_due_at, clock.plan
            following = next_run(plan.drill_schedule, plan.drill_time_zone, database_time())
            RecoveryClock.objects.filter(pk=pk).update(drill_due_at=following)
        done += 1
        _rehearse(plan, due)
    return done


def fence_late() -> int:
    """Fence sides that people left without a proof, as soon as they answer again; returns how many were asked for.

    Whoever comes back in the middle of the night must not find anybody to serve. Only the side that people truly left:
    a failover that ended before they were moved left nobody behind. One that failed is tried again after a while.
    """
    asked = 0
    for plan in RecoveryPlan.objects.select_related("primary", "standby"):
        rows = Recovery.objects.filter(plan=plan)
        about_it = Q(source=plan.waiting) | Q(kind=Recovery.Kind.FENCE, target=plan.waiting)
        left = rows.filter(about_it, fence_proven__isnull=False).order_by("-operation_id").first()
        lately = Q(kind=Recovery.Kind.FENCE, operation__requested_at__gt=Now() - FENCE_AGAIN)
        busy = rows.filter(Q(operation__state__in=ACTIVE) | lately).exists()
        if left is None or left.fence_proven or busy or not _answers(plan):
            continue
        try:
            request_late_fence(plan)
        except OperationError as error:
            logger.warning("%s cannot be fenced now: %s", plan.waiting, error)
        else:
            asked += 1
    return asked


def _answers(plan: RecoveryPlan) -> bool:
    """Whether the database of the side that people left can be asked."""
    try:
        DATABASES[plan.database["kind"]].newest(side(plan, database_part(plan), plan.waiting))
    except StepError:
        return False
    return True


def _rehearse(plan: RecoveryPlan, due: datetime) -> None:
    """Look first, as a person would; what stands in the way is said by the plan's page, and it is tried again soon."""
    readiness.look(plan)
    try:
        request_drill(CLOCK, plan, reason=f"rehearsal by schedule, due {due:%Y-%m-%d %H:%M} UTC")
    except OperationError as error:
        logger.warning("the drill of %s could not be started: %s", plan, error)
        RecoveryClock.objects.filter(plan=plan).update(drill_due_at=Now() + AGAIN, overdue_said_at=Now())
