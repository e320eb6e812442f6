"""What the tests of alert rules need: rules, and probes that heard something."""

from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from environments.models import Environment, HealthSample, Placement
from incidents.models import AlertRule, AlertSeverity, DatabaseSample, RuleState
from incidents.rules import duty


def make_rule(condition: str = "error_rate > 0.05", **fields: Any) -> AlertRule:
    """The guide's first rule, in production only, unless it says otherwise."""
    values = {
        "slug": "high-error-rate", "name": "HighErrorRate", "for_seconds": 300, "severity": AlertSeverity.CRITICAL,
        "notify": ["pagerduty", "slack"], "environments": ["production"], **fields,
    }  # fmt: skip
    return AlertRule.objects.create(condition=condition, **values)


def heard(slug: str, *, failed: int = 0, good: int = 0, ago: float = 10, latency_ms: float = 20.0) -> None:
    """Probes of the first instance of an environment, all at the same time."""
    placement = Placement.objects.get(environment__slug=slug)
    healthy = [False] * failed + [True] * good
    HealthSample.objects.bulk_create(
        HealthSample(
            placement=placement, instance=placement.instances[0]["name"], healthy=well,
            latency_ms=latency_ms if well else None, status=200 if well else None,
        )
        for well in healthy
    )  # fmt: skip
    _age(HealthSample.objects.filter(placement=placement, at__gte=Now() - timedelta(seconds=1)), ago)


def connected(slug: str, connections: int | None, words: str = "", ago: float = 5) -> None:
    """A look at the database of an environment."""
    sample = DatabaseSample.objects.create(
        environment=Environment.objects.get(slug=slug), connections=connections,
        most=None if connections is None else 100, words=words,
    )  # fmt: skip
    _age(DatabaseSample.objects.filter(pk=sample.pk), ago)


def _age(rows: Any, ago: float) -> None:
    rows.update(at=Now() - timedelta(seconds=ago))


def forget() -> None:
    """No probe ever heard anything."""
    HealthSample.objects.all().delete()


def look() -> RuleState:
    """The clock fits the rows, and evaluates all of them, however early; the first row."""
    duty.fit()
    RuleState.objects.update(due_at=Now() - timedelta(seconds=1))
    duty.evaluate_due()
    return RuleState.objects.select_related("rule", "environment").order_by("pk")[0]


def later(seconds: float) -> None:
    """As if so much time had passed since the last look."""
    for row in RuleState.objects.all():
        for name in ("since", "held_since", "told_since", "nodata_since"):
            at = getattr(row, name)
            setattr(row, name, at and at - timedelta(seconds=seconds))
        row.save()
