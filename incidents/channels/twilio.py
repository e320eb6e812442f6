"""Telephone calls and messages by Twilio's API.

Twilio has no idempotency key. A text message carries ours, so before a repeat we look whether it is among those that
Twilio has. A call carries nothing that its list would show; there the callback that says that it rings, which names
our key, comes before the repeat (`incidents/receipts.py`).
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape, quoteattr

from incidents.channels.base import SECONDS, ChannelError, Outgoing, Receipt, fetch, post_form, problems_of, secret_of

API = "https://api.twilio.com"
NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")  # E.164
LONGEST_SMS = 480  # three parts


class _Twilio:
    """settings: account, token (a secret reference), sender (a number of ours); url, where it is not Twilio's own."""

    receipt = Receipt.CALLBACK
    resource = ""  # of the API

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Account, token and our number."""
        return problems_of(settings, secrets=("token",), texts=("account", "sender"), urls=("url",), optional=("url",))

    def check_address(self, address: str) -> str:
        """A telephone number as the whole world dials it."""
        return "" if NUMBER.fullmatch(address) else "has to be a telephone number such as +4915112345678"

    def _post(self, message: Outgoing, settings: Mapping[str, Any], fields: Mapping[str, str | list[str]],
              timeout: float | None = None) -> str:  # fmt: skip
        common = {"To": message.address, "From": str(settings["sender"]), "StatusCallback": message.callback_url}
        url, headers = self._way(settings)
        told = post_form(url, {**common, **fields}, message, headers, timeout).json()
        if not told.get("sid"):
            raise ChannelError("the provider's answer names no call or message")
        return str(told["sid"])[:200]

    def _way(self, settings: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """The address of the resource, and the headers that say who asks."""
        basic = b64encode(f"{settings['account']}:{secret_of(settings, 'token')}".encode()).decode()
        url = f"{settings.get('url') or API}/2010-04-01/Accounts/{settings['account']}/{self.resource}.json"
        return url, {"Authorization": f"Basic {basic}"}


class Sms(_Twilio):
    """A text message with a link to acknowledge."""

    kind = "sms"
    resource = "Messages"

    def send(self, message: Outgoing, settings: Mapping[str, Any]) -> str:
        """One message; the key stands at its end. Both requests of a repeat share the time of one."""
        mark = f"[{message.key}]"
        if message.again and (known := self._arrived(message, settings, mark)):
            return known
        tail = f" {message.ack_url} {mark}"
        words = f"{message.title}. {message.text}"[: LONGEST_SMS - len(tail)]
        return self._post(message, settings, {"Body": words + tail}, SECONDS / 2 if message.again else None)

    def _arrived(self, message: Outgoing, settings: Mapping[str, Any], mark: str) -> str:
        """The one that an earlier try has made, if any."""
        url, headers = self._way(settings)
        asked = urlencode({"To": message.address, "PageSize": "50"})
        listed = fetch(f"{url}?{asked}", headers, SECONDS / 2).json().get("messages")
        made = listed if isinstance(listed, list) else []
        return next((str(one["sid"]) for one in made if mark in str(one.get("body", ""))), "")


class Phone(_Twilio):
    """A call that reads the words and takes 1 for an acknowledgement."""

    kind = "phone"
    resource = "Calls"

    def send(self, message: Outgoing, settings: Mapping[str, Any]) -> str:
        """One call."""
        spoken = escape(f"{message.title}. {message.text}. Press 1 to acknowledge.")
        answer = quoteattr(message.callback_url)
        twiml = (
            f'<Response><Gather numDigits="1" action={answer}><Say>{spoken}</Say><Pause length="5"/>'
            f"<Say>{spoken}</Say></Gather></Response>"
        )
        events = ["initiated", "answered", "completed"]
        return self._post(message, settings, {"Twiml": twiml, "StatusCallbackEvent": events})
