"""Events as PagerDuty's Events API v2 takes them, so that a tool that speaks to PagerDuty can speak to us.

https://developer.pagerduty.com/docs/send-alert-event
"""

import json
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ValidationError

from incidents.intake.said import (
    NotUnderstood,
    RawBody,
    Said,
    few_enough,
    fingerprint_of,
    severity_of,
    words_of,
)


class PayloadIn(BaseModel):
    """What a trigger says."""

    summary: str
    source: str
    severity: Literal["critical", "error", "warning", "info"]
    timestamp: AwareDatetime | None = None
    component: str | None = None
    group: str | None = None
    # PagerDuty's name for what we call the name of an alert.
    class_: str | None = None
    custom_details: Any = None


class EventIn(BaseModel):
    """One event. dedup_key: which alert it is about; a trigger without one is an alert of its own."""

    event_action: Literal["trigger", "acknowledge", "resolve"]
    dedup_key: str | None = None
    payload: dict[str, Any] | None = None
    client_url: str | None = None


def key_of_event(number: int) -> str:
    """The dedup_key that a trigger without one is answered with."""
    return f"event-{number}"


def read(raw: RawBody) -> list[Said]:
    """What the event says. Raises NotUnderstood."""
    try:
        event = EventIn.model_validate_json(raw.body)
        if event.event_action == "trigger":
            values = dict(event.payload or {})
            return [_triggered(event, PayloadIn.model_validate({**values, "class_": values.get("class")}), raw)]
    except ValidationError as error:
        raise NotUnderstood(f"This is no event of PagerDuty's Events API v2: {words_of(error)}") from None
    if not event.dedup_key:
        raise NotUnderstood(f"To {event.event_action} something, its dedup_key is needed.")
    mark = fingerprint_of(event.dedup_key, {})
    acknowledges = event.event_action == "acknowledge"
    return [Said(fingerprint=mark, firing=False, name="", at=raw.at, known_only=True, acknowledges=acknowledges)]


def _triggered(event: EventIn, payload: PayloadIn, raw: RawBody) -> Said:
    named = {"source": payload.source, "component": payload.component, "group": payload.group}
    details = payload.custom_details if isinstance(payload.custom_details, dict) else {}
    # What people write into the details decides where it belongs, as labels of other forms do.
    named |= {name: details[name] for name in ("environment", "service") if details.get(name)}
    return Said(
        fingerprint=fingerprint_of(event.dedup_key or key_of_event(raw.number), {}),
        firing=True,
        name=payload.class_ or payload.summary,
        at=raw.at,
        severity=severity_of(payload.severity),
        labels={name: _text(value) for name, value in named.items() if value},
        annotations={name: _text(value) for name, value in few_enough(details).items()},
        summary=payload.summary,
        url=event.client_url or "",
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
