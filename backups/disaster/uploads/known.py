"""What the last comparison of a plan's uploads found: kept by whoever went through both sides, read by many."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.db.models.functions import Now

from backups.disaster.base import NOT_READY, READY, UNKNOWN, Check, Side
from backups.disaster.uploads.comparing import Totals
from backups.disaster.uploads.walking import Progress
from backups.models import RecoveryPlan, UploadsComparison
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError

LAG_MINUTES = 60.0  # the guide's RPO
NS = 1_000_000_000
KEPT = 50


def plan_between(source: str, target: str) -> RecoveryPlan | None:
    """The plan of two environments, by their slugs; None where there is none (any more)."""
    rows = RecoveryPlan.objects.select_related("primary", "standby")
    there = Q(primary__slug=source, standby__slug=target), Q(primary__slug=target, standby__slug=source)
    return rows.filter(there[0] | there[1]).first()


def still_serving(source: str, target: str) -> None:
    """Raise StepError when people are served at the target by now: then the copying would go the wrong way."""
    plan = plan_between(source, target)
    if plan is not None and plan.serving.slug != source:
        words = f"People are served at {target} by now, so nothing is brought there from {source} any more."
        raise StepError(words, permanent=True)


def latest(plan: RecoveryPlan, source: str) -> UploadsComparison | None:
    """The last one from this side that came to its end."""
    rows = UploadsComparison.objects.filter(plan=plan, source=source, whole=True)
    return rows.order_by("-finished_at", "-pk").first()


def keep(plan: RecoveryPlan, source: str, since: datetime, progress: Progress, *, operation: int) -> None:
    """Keep what an operation found on its way."""
    UploadsComparison.objects.create(
        plan=plan, source=source, started_at=since, finished_at=Now(), whole=progress.whole, after=progress.after,
        totals=progress.totals.as_json(), operation=operation,
    )  # fmt: skip
    keep_only_the_last(plan, source)


def keep_only_the_last(plan: RecoveryPlan, source: str) -> None:
    """Let the earlier ones go."""
    rows = UploadsComparison.objects.filter(plan=plan, source=source).order_by("-pk")
    rows.filter(pk__in=list(rows.values_list("pk", flat=True)[KEPT : 2 * KEPT])).delete()


def late_before_ns(settings: Any, now: datetime) -> int:
    """What the source had before then should have arrived by now."""
    behind = timedelta(minutes=float(settings.get("lag_minutes", LAG_MINUTES)))
    return int((now - behind).timestamp() * NS)


def totals_of(row: UploadsComparison) -> Totals:
    """What was counted."""
    return Totals(**row.totals)


def last_known(source: Side, target: Side) -> UploadsComparison | None:
    """The last comparison of two sides."""
    plan = plan_between(source.environment, target.environment)
    return latest(plan, source.environment) if plan else None


def missing_check(source: Side, target: Side) -> Check:
    """Is everything there, as far as the last comparison knows?"""
    title = "Uploads are all there"
    row = last_known(source, target)
    if row is None or row.finished_at is None:
        return Check("uploads-missing", title, UNKNOWN, "Both sides were never compared to the end.")
    minutes = (database_time() - row.finished_at).total_seconds() / 60
    found = totals_of(row)
    ago = f"compared {minutes:.0f} min ago"
    if found.late:
        words = f"{found.late} of {found.source_count} should have arrived at {target.environment} and have not; {ago}."
        return Check("uploads-missing", title, NOT_READY, f"{words} Compare and mend them on the page of both regions.")
    words = f"{found.source_count} in {source.environment}, {still_missing(found)[0]} on their way; {ago}"
    return Check("uploads-missing", title, READY, words)


def still_missing(totals: Totals) -> tuple[int, int]:
    """How many the target does not have as they are at the source, and how large they are, after what was brought."""
    count = totals.missing + totals.different - totals.copied
    return max(0, count), max(0, totals.missing_bytes + totals.different_bytes - totals.copied_bytes)
