"""The numbers of one service in one environment over weeks: all that ended in them, in three queries.

They cost what ended in those weeks, and nothing of what is older: see `keys`.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from statistics import median

from django.db import connection
from django.utils import timezone

from controlplane.web.bars import Bars, bars_of
from deployments.insight.keys import Keys, Place, keys_by_week, last_good
from deployments.insight.trouble import troubles
from environments.models import Environment, Service

SPANS = (4, 12, 26)  # weeks
STEPS_OF = 200  # deployments whose steps are read
STEPS_SHOWN = 12
WEEK = timedelta(days=7)
NOTHING = Keys(0, 0, 0, None, None)

# Instances come one after the other ("production-1/start"): what they have in common is the step's name.
STEPS = """
    SELECT regexp_replace(step.key, '^.*/', '') AS name, step.operation_id,
           max(extract(epoch FROM step.finished_at - step.started_at))::float8
    FROM operations_step AS step
    WHERE step.operation_id = ANY(%s) AND step.phase = 'main' AND step.state = 'succeeded'
    GROUP BY 1, 2 ORDER BY 2
"""


@dataclass(frozen=True)
class Pace:
    """How long one step takes: the median of the older and of the newer half of its deployments, in seconds."""

    name: str
    earlier: float | None
    lately: float
    seconds: list[float]

    @property
    def trend(self) -> str:
        """In a word."""
        if self.earlier is None:
            return "no earlier one"
        if abs(self.lately - self.earlier) <= max(0.2 * self.earlier, 0.5):
            return "the same"
        return "slower" if self.lately > self.earlier else "faster"


class NumbersPage:
    """Asked for part by part. weeks: how far back, one of `SPANS`."""

    def __init__(self, service: Service, environment: Environment, weeks: str = "") -> None:
        self.service = service
        self.environment = environment
        self.weeks = next((known for known in SPANS if str(known) == weeks), SPANS[1])
        self.spans = SPANS
        self.until = timezone.now()
        today = self.until.replace(hour=0, minute=0, second=0, microsecond=0)
        monday = today - timedelta(days=today.weekday())
        self.since = monday - (self.weeks - 1) * WEEK
        self._place = Place(service, environment, self.since)

    @cached_property
    def _keys(self) -> tuple[Keys, dict[int, Keys]]:
        return keys_by_week(self._place, troubles(self.environment.slug, self.since))

    @property
    def whole(self) -> Keys:
        """The four keys of the whole time."""
        return self._keys[0]

    @cached_property
    def by_week(self) -> dict[datetime, Keys]:
        """The four keys, week by week from Monday, the oldest first."""
        found = self._keys[1]
        return {self.since + number * WEEK: found.get(number, NOTHING) for number in range(self.weeks)}

    @property
    def per_week(self) -> float:
        """Deployments a week, on average."""
        return self.whole.frequency / self.weeks

    @cached_property
    def frequency(self) -> Bars:
        """A chart: those that succeeded without trouble, and those that went wrong."""
        values: dict[tuple[datetime, str], float] = {}
        for monday, keys in self.by_week.items():
            values |= {(monday, "well"): keys.ran - keys.wrong, (monday, "wrong"): keys.wrong}
        return bars_of(list(self.by_week), ["well", "wrong"], values)

    @cached_property
    def lead(self) -> Bars:
        """A chart of medians, in seconds."""
        return self._medians("lead", {monday: keys.lead for monday, keys in self.by_week.items()})

    @cached_property
    def failures(self) -> Bars:
        """A chart, in percent."""
        return self._medians("rate", {monday: keys.failure_percent for monday, keys in self.by_week.items()})

    @cached_property
    def restore(self) -> Bars:
        """A chart of medians, in seconds."""
        return self._medians("restore", {monday: keys.restore for monday, keys in self.by_week.items()})

    @staticmethod
    def _medians(name: str, values: dict[datetime, float | None]) -> Bars:
        known = {(monday, name): value for monday, value in values.items() if value is not None}
        return bars_of(list(values), [name], known)

    @cached_property
    def steps(self) -> list[Pace]:
        """How long each step takes in deployments that succeeded, the longest first."""
        good = last_good(self._place, STEPS_OF)
        if not good:
            return []
        seconds: dict[str, list[float]] = defaultdict(list)
        with connection.cursor() as cursor:
            cursor.execute(STEPS, [good])
            for name, _, taken in cursor.fetchall():
                if taken is not None:
                    seconds[name].append(taken)
        paces = [_pace(name, taken) for name, taken in seconds.items()]
        return sorted(paces, key=lambda one: -one.lately)[:STEPS_SHOWN]


def _pace(name: str, seconds: list[float]) -> Pace:
    half = len(seconds) // 2
    return Pace(name, median(seconds[:half]) if half else None, median(seconds[half:]), seconds[-30:])
