"""What the page of one plan says, and the page of its drills, asked for part by part."""

from functools import cached_property
from typing import Any

from backups.disaster.charts import Trend, trend
from backups.disaster.overview import HEAVY, PlanView, took, views_of
from backups.disaster.report import flat
from backups.models import KitRun, Recovery, RecoveryPlan
from backups.schedules import next_runs
from controlplane.accounts.access import Actor
from controlplane.clock.database import database_time
from controlplane.operations.keyset import Page, page_of

LATELY = 8
NEXT = 3
SIZE = 30


class Row:
    """One failover, failback or drill in a list."""

    def __init__(self, recovery: Recovery) -> None:
        self.recovery = recovery
        self.operation = recovery.operation
        self.took = took(recovery)
        self.predicted: float | None = recovery.predicted.get("seconds")

    @property
    def kept(self) -> bool | None:
        """Whether both promises were kept; None where that is not known."""
        known = self.recovery.rto_seconds, self.recovery.rpo_seconds
        if known[0] is None or known[1] is None:
            return None
        plan = self.recovery.plan
        return known[0] <= plan.rto_seconds and known[1] <= plan.rpo_seconds


class PlanPage:
    """One plan."""

    def __init__(self, actor: Actor, plan: RecoveryPlan) -> None:
        self._actor = actor
        self.plan = plan

    @cached_property
    def view(self) -> PlanView:
        """The same as on the overview."""
        return views_of([self.plan], database_time())[0]

    @cached_property
    def lately(self) -> list[Row]:
        """What was done by it, the latest first."""
        rows = Recovery.objects.filter(plan=self.plan).select_related("operation", "plan").defer(*HEAVY)
        return [Row(one) for one in rows.order_by("-operation_id")[:LATELY]]

    @cached_property
    def kit_runs(self) -> list[KitRun]:
        """What a kit's script did while the control plane was away."""
        return list(KitRun.objects.filter(plan=self.plan).defer("journal")[:LATELY])

    @cached_property
    def next_drills(self) -> list[Any]:
        """When drills are due by schedule."""
        plan = self.plan
        return next_runs(plan.drill_schedule, plan.drill_time_zone, self.view.now, NEXT) if plan.drill_schedule else []

    @property
    def parts(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Database, traffic and uploads: what, which kind, how it is set. Of secrets the references alone."""
        found = []
        for title, settings in (("Database", self.plan.database), ("Traffic", self.plan.traffic),
                                ("Uploads", self.plan.uploads)):  # fmt: skip
            if settings:
                kept = {name: value for name, value in settings.items() if name != "kind"}
                found.append((title, str(settings.get("kind", "")), flat(kept)))
        return found


class DrillsPage:
    """The rehearsals of a plan: predicted against real, over time."""

    def __init__(self, plan: RecoveryPlan, before: int, after: int) -> None:
        self.plan = plan
        rows = Recovery.objects.filter(plan=plan, kind=Recovery.Kind.DRILL)
        rows = rows.select_related("operation", "plan").defer(*HEAVY)
        self.page: Page[Recovery] = page_of(rows, before, after, SIZE)

    @property
    def rows(self) -> list[Row]:
        """The latest first."""
        return [Row(one) for one in self.page.rows]

    @cached_property
    def trend(self) -> Trend | None:
        """Those of this page as a chart."""
        return trend(self.page.rows)
