"""Alerts as plain JSON, for scripts and for what speaks no other form. docs/alerts.md shows the schema."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

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


class PlainAlert(BaseModel):
    """One alert. Without a fingerprint, the name and the labels make it the same alert."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    status: Literal["firing", "resolved"] = "firing"
    severity: Literal["critical", "warning", "info"] = "warning"
    environment: Annotated[str, Field(max_length=60)] = ""
    summary: Annotated[str, Field(max_length=500)] = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    fingerprint: Annotated[str, Field(max_length=200)] = ""
    url: Annotated[str, Field(max_length=500)] = ""
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None


class PlainBody(BaseModel):
    """Several alerts in one body."""

    model_config = ConfigDict(extra="forbid")

    alerts: Annotated[list[PlainAlert], Field(min_length=1, max_length=ALERTS_AT_MOST)]


def schema() -> dict[str, Any]:
    """The JSON schema of a body of several alerts."""
    return PlainBody.model_json_schema()


def read(raw: RawBody) -> list[Said]:
    """What the body says: one alert, or a list of them under "alerts". Raises NotUnderstood."""
    try:
        return [_said(alert, raw) for alert in _alerts(raw.body)]
    except ValidationError as error:
        raise NotUnderstood(f"This is no alert as docs/alerts.md has it: {words_of(error)}") from None


def _alerts(body: bytes) -> list[PlainAlert]:
    try:
        return PlainBody.model_validate_json(body).alerts
    except ValidationError as several:
        if any(one["loc"][:1] == ("alerts",) and one["type"] != "missing" for one in several.errors()):
            raise
        return [PlainAlert.model_validate_json(body)]


def _said(alert: PlainAlert, raw: RawBody) -> Said:
    labels = dict(few_enough({**alert.labels, "alertname": alert.name}))
    if alert.environment:
        labels["environment"] = alert.environment
    firing = alert.status == "firing"
    return Said(
        fingerprint=fingerprint_of(alert.fingerprint, labels),
        firing=firing,
        name=alert.name,
        at=raw.at,
        severity=severity_of(alert.severity),
        labels=labels,
        annotations=few_enough(alert.annotations),
        summary=alert.summary,
        url=alert.url,
        started_at=not_later(alert.started_at, raw.at),
        ended_at=None if firing else not_later(alert.ended_at, raw.at),
    )
