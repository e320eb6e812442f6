"""A signed webhook, for what has no channel of its own."""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from environments.addresses import problem_with
from incidents.channels.base import Outgoing, Receipt, post_json, problems_of, secret_of


class Webhook:
    """settings: secret (a reference), url for notices. X-Signature-256 is the HMAC-SHA256 of "TIMESTAMP.BODY"."""

    kind = "webhook"
    receipt = Receipt.ACCEPTANCE

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """The secret that signs, and an address."""
        return problems_of(settings, secrets=("secret",), urls=("url",))

    def check_address(self, address: str) -> str:
        """An address of the person's own."""
        return problem_with(address)

    def send(self, message: Outgoing, settings: Mapping[str, Any]) -> str:
        """One POST. The receiver tells repeats by the key, and old copies by the timestamp."""
        body = {
            "purpose": message.purpose,
            "key": message.key,
            "incident": message.dedup,
            "severity": message.severity,
            "title": message.title,
            "text": message.text,
            "url": message.url,
            "acknowledge_url": message.ack_url,
        }
        at = str(int(time.time()))
        signed = f"{at}.".encode() + json.dumps(body).encode()
        signature = hmac.new(secret_of(settings, "secret").encode(), signed, hashlib.sha256).hexdigest()
        headers = {"X-Timestamp": at, "X-Signature-256": f"sha256={signature}"}
        post_json(message.address or str(settings["url"]), body, message, headers)
        return ""
