"""The four keys of DORA's reports, worked out in one query over the deployments that ended in a time.

- deployment frequency: deployments that succeeded. A rollback is none.
- lead time: from when a release became known to when it was first deployed there.
- change failure rate: of the deployments that ran, those that failed, that were rolled back, or that were the last
  change of anything there before a serious incident which began within an hour of their end.
- time to restore: from when it went wrong to when it was right again. A deployment that failed: from its start to its
  end, where its own steps put everything back, else to the next change that succeeded; it has none where a step failed
  before there was anything to put back. One that was rolled back: from its end to the end of the rollback. One before
  an incident: from the beginning to the end of the incident.

The query reads the index of when operations ended (`operation_ended`) from the beginning of the time, so what is older
costs nothing, and gives back one row a week, however many ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from deployments.insight.trouble import Trouble
from environments.models import Environment, Service

# Deployments and rollbacks in the environment that ran and have ended, of whatever service.
RAN_HERE = """
    FROM operations_operation AS operation
    JOIN deployments_deployment AS deployment ON deployment.operation_id = operation.id
    JOIN deployments_release AS release ON release.id = deployment.release_id
    WHERE operation.started_at IS NOT NULL AND operation.state IN ('succeeded', 'failed', 'cancelled')
    AND deployment.environment_id = %(environment)s
"""
RAN = f"{RAN_HERE} AND release.service_id = %(service)s"
JUDGED = """
    WITH changes AS MATERIALIZED (
        SELECT operation.id, deployment.release_id AS release, deployment.kind = 'rollback' AS is_rollback,
               operation.state = 'succeeded' AS good, operation.started_at AS began, operation.finished_at AS ended,
               release.created_at AS known, row_number() OVER (ORDER BY operation.finished_at, operation.id) AS number
        {ran} AND operation.finished_at >= %(since)s
    ), beside AS (
        -- The next one that succeeded: read from the end, it is the last that was seen.
        SELECT *, min(CASE WHEN good THEN number END) OVER (
                   ORDER BY number DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS next_good,
               row_number() OVER (PARTITION BY release, good AND NOT is_rollback ORDER BY number) AS nth
        FROM changes
    ), blamed AS (
        -- The last change of anything there before a trouble, if it ended within the hour and was one of the service.
        SELECT DISTINCT ON (last.id) last.id, trouble.began, trouble.ended
        FROM unnest(%(begun)s::timestamptz[], %(over)s::timestamptz[]) WITH ORDINALITY AS trouble (began, ended, number)
        CROSS JOIN LATERAL (
            SELECT operation.id, deployment.kind, release.service_id
            {here} AND operation.finished_at < trouble.began
            AND operation.finished_at >= trouble.began - interval '1 hour'
            ORDER BY operation.finished_at DESC, operation.id DESC LIMIT 1
        ) AS last
        WHERE last.kind <> 'rollback' AND last.service_id = %(service)s ORDER BY last.id, trouble.number
    ), judged AS (
        SELECT floor(extract(epoch FROM beside.ended - %(since)s) / 604800)::int AS week, beside.good,
               NOT beside.good OR coalesce(good.is_rollback, false) OR blamed.id IS NOT NULL AS wrong,
               CASE WHEN beside.good AND beside.nth = 1 AND NOT EXISTS (
                   SELECT FROM deployments_deployment AS earlier
                   JOIN operations_operation AS done ON done.id = earlier.operation_id
                   WHERE earlier.release_id = beside.release AND earlier.environment_id = %(environment)s
                   AND earlier.kind <> 'rollback' AND done.state = 'succeeded' AND done.finished_at < %(since)s
               ) THEN greatest(0, extract(epoch FROM beside.ended - beside.known)) END AS lead,
               extract(epoch FROM CASE
                   WHEN NOT beside.good THEN
                       CASE WHEN {put_back} THEN beside.ended WHEN NOT {untouched} THEN good.ended END - beside.began
                   WHEN good.is_rollback THEN good.ended - beside.ended
                   WHEN blamed.id IS NOT NULL THEN blamed.ended - blamed.began
               END) AS restored
        FROM beside
        LEFT JOIN changes AS good ON good.number = beside.next_good
        LEFT JOIN blamed ON blamed.id = beside.id
        WHERE NOT beside.is_rollback
    )
    SELECT week, count(*) FILTER (WHERE good), count(*), count(*) FILTER (WHERE wrong),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY lead), percentile_cont(0.5) WITHIN GROUP (ORDER BY restored)
    FROM judged GROUP BY ROLLUP (week)
"""
STEPS_THAT = """
    EXISTS (SELECT FROM operations_step AS step
            WHERE step.operation_id = beside.id AND step.phase = '{phase}' AND step.state = '{state}')
"""
FAILED = STEPS_THAT.format(phase="main", state="failed")
BACK, LEFT_OUT = (STEPS_THAT.format(phase="recovery", state=state) for state in ("succeeded", "skipped"))
PUT_BACK = f"{BACK} AND NOT {LEFT_OUT}"
# What would have to be put back ends one way or the other before the operation does.
UNTOUCHED = f"({FAILED} AND NOT {BACK} AND NOT {LEFT_OUT})"
KEYS = JUDGED.format(ran=RAN, here=RAN_HERE, put_back=PUT_BACK, untouched=UNTOUCHED)
LAST_GOOD = f"""
    SELECT operation.id {RAN} AND operation.finished_at >= %(since)s
    AND operation.state = 'succeeded' AND deployment.kind <> 'rollback'
    ORDER BY operation.finished_at DESC LIMIT %(most)s
"""


@dataclass(frozen=True)
class Keys:
    """Some time. frequency: deployments that succeeded. lead, restore: medians in seconds, None without any."""

    frequency: int
    ran: int
    wrong: int
    lead: float | None
    restore: float | None

    @property
    def failure_percent(self) -> float | None:
        """Of those that ran."""
        return 100 * self.wrong / self.ran if self.ran else None


@dataclass(frozen=True)
class Place:
    """One service in one environment, from a moment on."""

    service: Service
    environment: Environment
    since: datetime

    @property
    def names(self) -> dict[str, Any]:
        """As the queries name it."""
        return {"service": self.service.pk, "environment": self.environment.pk, "since": self.since}


def keys_by_week(place: Place, troubles: Sequence[Trouble]) -> tuple[Keys, dict[int, Keys]]:
    """Of all the time, and by the number of the week from its beginning, those weeks in which something ran."""
    times: dict[str, Any] = {"begun": [one.began for one in troubles], "over": [one.ended for one in troubles]}
    with connection.cursor() as cursor:
        cursor.execute(KEYS, {**place.names, **times})
        found = {week: _keys(row) for week, *row in cursor.fetchall()}
    return found.pop(None), found


def _keys(row: Sequence[Any]) -> Keys:
    frequency, ran, wrong, lead, restore = row
    return Keys(frequency, ran, wrong, lead, restore)


def last_good(place: Place, most: int) -> list[int]:
    """The operations of the last deployments that succeeded, the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(LAST_GOOD, {**place.names, "most": most})
        return sorted(number for (number,) in cursor.fetchall())
