"""PagerDuty, Events API v2: one event an incident, triggered, acknowledged and resolved under one dedup key."""

from collections.abc import Mapping
from typing import Any

from incidents.channels.base import Outgoing, Receipt, post_json, problems_of, secret_of

API = "https://events.pagerduty.com/v2/enqueue"
ACTIONS = {"page": "trigger", "notice": "trigger", "acknowledge": "acknowledge", "resolve": "resolve"}
SEVERITIES = {"P1": "critical", "P2": "error", "P3": "warning", "P4": "info"}


class PagerDuty:
    """settings: routing_key (a secret reference); url, where it is not PagerDuty's own.

    A 202 means that PagerDuty has it and calls people by its own rules: nothing better comes, so it is the receipt.
    """

    kind = "pagerduty"
    receipt = Receipt.ACCEPTANCE

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """The routing key, and perhaps another address; webhook_secret: of its webhooks to us."""
        return problems_of(
            settings, secrets=("routing_key", "webhook_secret"), urls=("url",), optional=("url", "webhook_secret")
        )

    def check_address(self, address: str) -> str:
        """PagerDuty knows by the routing key whom to call."""
        return ""

    def send(self, message: Outgoing, settings: Mapping[str, Any]) -> str:
        """One event; the same dedup key again is the same incident there."""
        event: dict[str, Any] = {
            "routing_key": secret_of(settings, "routing_key"),
            "event_action": ACTIONS[message.purpose],
            "dedup_key": message.dedup,
        }
        if event["event_action"] == "trigger":
            event["payload"] = {
                "summary": f"{message.title}: {message.text}"[:1024],
                "source": message.url,
                "severity": SEVERITIES.get(message.severity, "error"),
                "custom_details": {"acknowledge": message.ack_url, "key": message.key},
            }
            event["links"] = [{"href": message.url, "text": "The incident"}]
        answer = post_json(str(settings.get("url") or API), event, message)
        return str(answer.json().get("dedup_key", message.dedup))[:200]
