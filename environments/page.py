"""What the page of one environment says, for one person."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.operations.access import HEAVY, noteworthy, visible_operations
from controlplane.operations.models import Operation
from controlplane.operations.states import FINISHED, HOLDS_LOCKS, State
from environments.charts import Chart, chart_of
from environments.drift import Standing, ended_lately, standings_of
from environments.models import ConfigEntry, Drift, Environment, EnvironmentLock, Placement
from environments.samples import Health, buckets_of, health_of

HOURS = (1, 6, 24)
BUCKETS = 60
LATELY = 10
LOCKS = 50
RELEASED = 3


@dataclass(frozen=True)
class Place:
    """One service here: what runs, how well now, how well lately."""

    placement: Placement
    health: Health
    chart: Chart
    drift: Standing

    @property
    def may_adopt(self) -> bool:
        """Whether adopting is an answer to what differs."""
        return self.drift.may_be_adopted(self.placement.environment.driver)


class EnvironmentPage:
    """Asked for part by part, each part in one or two queries."""

    def __init__(self, actor: Actor, environment: Environment, hours: str = "") -> None:
        self._actor = actor
        self.environment = environment
        self.hours = next((known for known in HOURS if str(known) == hours), HOURS[0])
        self.spans = HOURS

    @property
    def note(self) -> str:
        """What bin/run says about an environment of its demo."""
        return str(settings.DEMO_NOTES.get(self.environment.slug, "")) if settings.DEMO else ""

    @cached_property
    def places(self) -> list[Place]:
        """The services here."""
        placements = list(
            Placement.objects.filter(environment=self.environment).select_related("environment", "service")
        )
        health, drift = health_of(placements), standings_of(placements)
        until = timezone.now()
        since = until - timedelta(hours=self.hours)
        buckets = buckets_of(placements, since, until, BUCKETS)
        marks = self._deployments(since)
        return [
            Place(
                placement,
                health[placement.pk],
                chart_of(buckets[placement.pk], since, until, marks),
                drift[placement.pk],
            )
            for placement in placements
        ]

    @cached_property
    def drifted(self) -> list[Drift]:
        """The last differences that ended."""
        return ended_lately([place.placement for place in self.places], 5)

    def _deployments(self, since: datetime) -> list[tuple[datetime, str]]:
        ended = self._here.filter(finished_at__gte=since, started_at__isnull=False)
        return [(one.finished_at, one.title) for one in ended.only("finished_at", "title")[:BUCKETS] if one.finished_at]

    @property
    def _here(self) -> QuerySet[Operation]:
        return visible_operations(self._actor).filter(scopes__contains=[self.environment.slug])

    @cached_property
    def configuration(self) -> list[ConfigEntry]:
        """Its variables: plain values, and for secrets the reference, never the value."""
        return list(self.environment.configuration.all())

    @cached_property
    def _holds(self) -> list[EnvironmentLock]:
        newest = self.environment.holds.order_by(F("released_at").desc(nulls_first=True), "-pk")
        return list(newest[:LOCKS])

    @property
    def locks(self) -> list[EnvironmentLock]:
        """Those that hold now."""
        return [one for one in self._holds if one.released_at is None]

    @property
    def released(self) -> list[EnvironmentLock]:
        """The last ones that were released."""
        return [one for one in self._holds if one.released_at is not None][:RELEASED]

    @cached_property
    def moving(self) -> list[Operation]:
        """What is under way here: the one that changes it, and backups beside it."""
        return list(self._here.filter(state__in=HOLDS_LOCKS).defer(*HEAVY).order_by("pk")[:LATELY])

    @cached_property
    def queue(self) -> list[Operation]:
        """What waits its turn, in the order in which it will start."""
        waiting = self._here.filter(state__in=[State.QUEUED, State.SCHEDULED, State.AWAITING_APPROVAL])
        return list(waiting.defer(*HEAVY).order_by("queued_at", "scheduled_for", "pk")[:LATELY])

    @cached_property
    def lately(self) -> list[Operation]:
        """What happened here."""
        ended = noteworthy(self._here.filter(state__in=sorted(FINISHED)))
        return list(ended.defer(*HEAVY).order_by("-pk")[:LATELY])
