"""Alertmanager's webhook, version 4: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config."""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from incidents.intake.said import (
    NotUnderstood,
    RawBody,
    Said,
    few_enough,
    fingerprint_of,
    not_later,
    severity_of,
    words_of,
)

ALERTS_AT_MOST = 10_000


class AlertIn(BaseModel):
    """endsAt: while it fires, year 1 or some time to come."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: AwareDatetime  # noqa: N815 (its name on the wire)
    endsAt: AwareDatetime | None = None  # noqa: N815
    generatorURL: str = ""  # noqa: N815
    fingerprint: str = ""


class BodyIn(BaseModel):
    """What one notification says; the group's own fields are worked out anew by our rules."""

    version: Literal["4"]
    groupKey: str = ""  # noqa: N815
    alerts: list[AlertIn] = Field(max_length=ALERTS_AT_MOST)


def read(raw: RawBody) -> list[Said]:
    """What the body says. Raises NotUnderstood."""
    try:
        body = BodyIn.model_validate_json(raw.body)
    except ValidationError as error:
        raise NotUnderstood(f"This is no Alertmanager webhook of version 4: {words_of(error)}") from None
    return [_said(alert, raw) for alert in body.alerts]


def _said(alert: AlertIn, raw: RawBody) -> Said:
    labels, annotations = few_enough(alert.labels), few_enough(alert.annotations)
    firing = alert.status == "firing"
    return Said(
        fingerprint=fingerprint_of(alert.fingerprint, labels),
        firing=firing,
        name=labels.get("alertname") or "alert without a name",
        at=raw.at,
        severity=severity_of(labels.get("severity", "")),
        labels=labels,
        annotations=annotations,
        summary=annotations.get("summary") or annotations.get("description") or "",
        url=alert.generatorURL,
        started_at=not_later(alert.startsAt, raw.at),
        ended_at=None if firing else not_later(alert.endsAt, raw.at),
    )
