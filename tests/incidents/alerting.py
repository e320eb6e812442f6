"""For tests of alerts: sources, bodies as they come in, and the clock's work on them, done at once."""

import json
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, QuerySet
from django.db.models.functions import Now

from controlplane.clock.database import database_time
from incidents.intake import grouping, handling, telling
from incidents.intake.gate import digest_of
from incidents.intake.matchers import parse
from incidents.models import Alert, AlertSource, Incident, IncidentRule, RawAlert, TimelineEntry

TOKEN = "alertmanager-token-1"


def source(kind: str = "alertmanager", token: str = TOKEN, **fields: Any) -> AlertSource:
    """A source of this kind."""
    return AlertSource.objects.create(
        **{"slug": f"the-{kind}", "kind": kind, "token_digest": digest_of(token)} | fields
    )


def rule(
    slug: str = "critical", matchers: str = 'severity="critical"', position: int = 0, **fields: Any
) -> IncidentRule:
    """A rule that opens a P2 for each name and environment, unless said otherwise."""
    given = {"group_by": ["alertname", "environment"], "severity": "P2", "title": "{alertname} in {environment}"}
    return IncidentRule.objects.create(slug=slug, position=position, matchers=parse(matchers), **given | fields)


def one(
    name: str = "HighErrorRate", status: str = "firing", started: datetime | None = None, **labels: str
) -> dict[str, Any]:
    """One alert of an Alertmanager body; it began a minute ago."""
    at = started or database_time() - timedelta(minutes=1)
    return {
        "status": status,
        "labels": {"alertname": name, "severity": "critical", **labels},
        "annotations": {"summary": f"{name} is so"},
        "startsAt": at.isoformat(),
        "endsAt": database_time().isoformat() if status == "resolved" else "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
    }


def body(*alerts: dict[str, Any]) -> bytes:
    """An Alertmanager body with these alerts."""
    return json.dumps({"version": "4", "groupKey": "{}", "status": "firing", "alerts": list(alerts)}).encode()


def stored(source: AlertSource, content: bytes) -> RawAlert:
    """The body as the intake would have stored it."""
    return RawAlert.objects.create(source=source, body=content)


def send(source: AlertSource, *alerts: dict[str, Any]) -> None:
    """An Alertmanager body comes in, and the clock has done all about it."""
    stored(source, body(*alerts))
    tick()


def tick() -> None:
    """What the clock does within a second."""
    handling.handle_stored()
    grouping.group_due()
    telling.acknowledge_wanted()


def later(**span: float) -> None:
    """So much time passes: everything that is stored moves into the past by it."""
    gone = timedelta(**span)
    moved: list[tuple[QuerySet[Any], tuple[str, ...]]] = [
        (Alert.objects.all(), ("started_at", "last_at", "ended_at", "turns_since", "flapping_until", "due_at")),
        (Incident.objects.all(), ("said_at", "over_at", "last_alert_at")),
        (RawAlert.objects.all(), ("received_at", "next_at")),
    ]
    for rows, names in moved:
        rows.update(**{name: F(name) - gone for name in names})


def lines(incident: Incident, kind: str = "alert") -> list[str]:
    """What the timeline says, of one kind."""
    return list(
        TimelineEntry.objects.filter(incident=incident, kind=kind).order_by("seq").values_list("text", flat=True)
    )


def the_incident() -> Incident:
    """The only one there is."""
    return Incident.objects.get()


__all__ = ["Now", "body", "later", "lines", "one", "rule", "send", "source", "stored", "the_incident", "tick"]
