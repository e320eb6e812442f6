"""How incidents go over time: how many, how soon acknowledged and resolved, which are mostly noise.

Everything is counted in SQL over the indexed `opened_at` within the span; what comes back is some hundred rows at the
most, however many incidents there are. MTTA and MTTR are given as the median and the 90th percentile: one night that
went wrong moves a mean and tells nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db import connection

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.web.bars import Bars, bars_of
from incidents.models import Severity

SPANS = (30, 90, 365)
ROWS = 10
# The guide's matrix goes on to the team lead after a quarter of an hour: the promise that stands beside a MTTA.
PROMISED_SECONDS = 15 * 60

SEEN = (
    "opened_at >= %(since)s AND opened_at < %(until)s AND"
    " (%(everywhere)s OR (environments <@ %(scopes)s::varchar[] AND environments <> '{}'))"
)

TIMES = f"""
    SELECT date_trunc('month', opened_at, 'UTC') AS month, severity, count(*),
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM acknowledged_at - opened_at)),
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM resolved_at - opened_at))
    FROM incidents_incident WHERE {SEEN}
    GROUP BY GROUPING SETS ((1, 2), (2), ())
    ORDER BY 1 NULLS LAST, 2 NULLS LAST
"""  # noqa: S608 - put together from the text above alone
WEEKS = f"""
    SELECT date_trunc('week', opened_at, 'UTC') AS week, severity, count(*)
    FROM incidents_incident WHERE {SEEN} GROUP BY 1, 2
"""  # noqa: S608 - put together from the text above alone
SLOWEST = f"""
    SELECT id, title, severity, opened_at, acknowledged_by_name, acknowledged_at IS NULL,
        extract(epoch FROM coalesce(acknowledged_at, resolved_at, %(until)s) - opened_at)::float
    FROM incidents_incident WHERE {SEEN}
    ORDER BY coalesce(acknowledged_at, resolved_at, %(until)s) - opened_at DESC, id DESC LIMIT {ROWS}
"""  # noqa: S608 - put together from the text above alone
# What opened by itself under the same title is the same thing again; without an acknowledgement nobody needed it.
NOISE = f"""
    SELECT title, count(*), sum(alert_count), count(*) FILTER (WHERE acknowledged_at IS NULL AND state = 'resolved'),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM resolved_at - opened_at)), max(id)
    FROM incidents_incident WHERE {SEEN} AND group_key <> ''
    GROUP BY title HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT {ROWS}
"""  # noqa: S608 - put together from the text above alone


@dataclass(frozen=True)
class Times:
    """How it went in one month, or altogether (month None), for one severity, or all ("").

    acknowledge, resolve: median and 90th percentile in seconds; None where none was.
    """

    month: datetime | None
    severity: str
    count: int
    acknowledge: tuple[float, float] | None
    resolve: tuple[float, float] | None


@dataclass(frozen=True)
class Slow:
    """An incident that waited long. never: it was not acknowledged at all; seconds: until its end, or until now."""

    pk: int
    title: str
    severity: str
    opened_at: datetime
    who: str
    never: bool
    seconds: float


@dataclass(frozen=True)
class Noise:
    """What opened incidents again and again. ignored: resolved without anybody's acknowledgement."""

    title: str
    count: int
    alerts: int
    ignored: int
    lasted: float | None
    last: int

    @property
    def percent(self) -> int:
        """How many of them nobody acknowledged."""
        return round(100 * self.ignored / self.count)


class Report:
    """The incidents of the last days that the person may see. days: one of SPANS, as the address says it."""

    spans = SPANS
    promised = PROMISED_SECONDS

    def __init__(self, actor: Actor, days: str = "") -> None:
        self.days = int(days) if days.isdecimal() and len(days) < 5 and int(days) in SPANS else SPANS[1]
        self.until = database_time()
        self.since = self.until - timedelta(days=self.days)
        scopes = actor.scopes(Role.VIEWER)
        self._values: dict[str, Any] = {
            "since": self.since,
            "until": self.until,
            "everywhere": scopes is None,
            "scopes": scopes or [],
        }

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(query, self._values)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    @cached_property
    def times(self) -> list[Times]:
        """By month and severity, then by severity, then all together."""
        return [
            Times(month, severity or "", count, _pair(acknowledge), _pair(resolve))
            for month, severity, count, acknowledge, resolve in self._ask(TIMES)
        ]

    @property
    def months(self) -> list[Times]:
        """By month and severity, the newest first."""
        rows = [one for one in self.times if one.month is not None]
        return sorted(rows, key=lambda one: (-one.month.timestamp() if one.month else 0.0, one.severity))

    @property
    def severities(self) -> list[Times]:
        """The whole span by severity."""
        return [one for one in self.times if one.month is None and one.severity]

    @property
    def whole(self) -> Times:
        """The whole span, all severities."""
        return next(one for one in self.times if one.month is None and not one.severity)

    @cached_property
    def weeks(self) -> Bars:
        """Counts by severity for each week of the span, also for weeks without any."""
        counts = {(week, severity): count for week, severity, count in self._ask(WEEKS)}
        return bars_of(_mondays(self.since, self.until), list(Severity.values), counts)

    @cached_property
    def monthly(self) -> list[tuple[str, Bars]]:
        """MTTA and MTTR of each month, all severities with their share: the medians as bars, in seconds."""
        return [
            ("to acknowledge", self._medians(lambda one: one.acknowledge)),
            ("to resolve", self._medians(lambda one: one.resolve)),
        ]

    def _medians(self, which: Callable[[Times], tuple[float, float] | None]) -> Bars:
        found = {
            (one.month, one.severity): round(pair[0])
            for one in self.months
            if one.month is not None and (pair := which(one)) is not None
        }
        months = sorted({month for month, _ in found})
        return bars_of(months, list(Severity.values), found, stacked=False)

    @cached_property
    def slowest(self) -> list[Slow]:
        """Those that waited longest for somebody."""
        return [Slow(*row) for row in self._ask(SLOWEST)]

    @cached_property
    def noise(self) -> list[Noise]:
        """What opened most incidents by itself."""
        return [
            Noise(title, count, int(alerts or 0), ignored, float(lasted) if lasted is not None else None, last)
            for title, count, alerts, ignored, lasted, last in self._ask(NOISE)
        ]


def _pair(values: Sequence[float | None] | None) -> tuple[float, float] | None:
    if not values or values[0] is None or values[1] is None:
        return None
    return float(values[0]), float(values[1])


def _mondays(since: datetime, until: datetime) -> list[datetime]:
    first = since.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=since.weekday())
    return [first + timedelta(days=7 * number) for number in range((until - first).days // 7 + 1)]
