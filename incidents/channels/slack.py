"""Slack: an incoming webhook for channels, or chat.postMessage with a bot's token for channels and people."""

from collections.abc import Mapping
from typing import Any

from incidents.channels.base import ChannelError, Outgoing, Receipt, post_json, problems_of, secret_of

API = "https://slack.com/api/chat.postMessage"
# Slack's own words for what will be no better next time.
PERMANENT = frozenset({"channel_not_found", "invalid_auth", "not_authed", "account_inactive", "token_revoked",
                       "not_in_channel", "is_archived", "no_permission"})  # fmt: skip
MARKS = {"P1": ":red_circle:", "P2": ":large_orange_circle:", "P3": ":large_yellow_circle:", "P4": ":white_circle:"}


class Slack:
    """settings: webhook (a secret reference: who knows the address may post), or token and channel.

    url: where it is not Slack's own.
    """

    kind = "slack"
    receipt = Receipt.ACCEPTANCE

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """One of the two ways."""
        if "token" in settings:
            return problems_of(settings, secrets=("token",), texts=("channel",), urls=("url",), optional=("url",))
        return problems_of(settings, secrets=("webhook",), optional=("url",))

    def check_address(self, address: str) -> str:
        """A member's id, or a channel."""
        return "" if address[:1] in "UWC#@" and len(address) > 1 else "has to be a member's id (U…) or a #channel"

    def send(self, message: Outgoing, settings: Mapping[str, Any]) -> str:
        """One message; there is no idempotency at Slack, so the key stands in its metadata."""
        body: dict[str, Any] = {"text": f"{MARKS.get(message.severity, '')} *{_safe(message.title)}*\n{_rest(message)}"}
        if "token" not in settings:
            post_json(str(settings.get("url") or secret_of(settings, "webhook")), body, message)
            return ""
        body |= {
            "channel": message.address or settings["channel"],
            "metadata": {"event_type": "page", "event_payload": {"key": message.key}},
        }
        token = secret_of(settings, "token")
        answer = post_json(str(settings.get("url") or API), body, message, {"Authorization": f"Bearer {token}"})
        told = answer.json()
        if not told.get("ok", False):
            why = str(told.get("error", "it did not say why"))[:100]
            raise ChannelError(f"Slack refused it: {why}", permanent=why in PERMANENT)
        return str(told.get("ts", ""))[:200]


def _rest(message: Outgoing) -> str:
    links = [f"<{message.url}|The incident>"] + ([f"<{message.ack_url}|Acknowledge>"] if message.ack_url else [])
    return f"{_safe(message.text)}\n{'  '.join(links)}"


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
