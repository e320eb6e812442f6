"""Telephone calls and messages by Twilio's API. Twilio has no idempotency key: before a repeat we look what arrived."""

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape, quoteattr

from incidents.channels.base import ChannelError, Outgoing, Receipt, fetch, post_form, problems_of, secret_of

API = "https://api.twilio.com"
NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")  # E.164
LONGEST_SMS = 480  # three parts


class _Twilio:
    """settings: account, token (a secret reference), sender (a number of ours); url, where it is not Twilio's own."""

    receipt = Receipt.CALLBACK
    resource = ""  # of the API
    # The field of an answer in which our key can be found again, and how it stands there.
    carries = ""
    mark = "[{key}]"

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Account, token and our number."""
        return problems_of(settings, secrets=("token",), texts=("account", "sender"), optional=("url",))

    def check_address(self, address: str) -> str:
        """A telephone number as the whole world dials it."""
        return "" if NUMBER.fullmatch(address) else "has to be a telephone number such as +4915112345678"

    def _post(self, message: Outgoing, settings: Mapping[str, Any], fields: Mapping[str, str]) -> str:
        key = secret_of(settings, "token")
        basic = b64encode(f"{settings['account']}:{key}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        url = f"{settings.get('url') or API}/2010-04-01/Accounts/{settings['account']}/{self.resource}.json"
        if message.again and (known := self._arrived(url, message, headers)):
            return known
        common = {"To": message.address, "From": str(settings["sender"]), "StatusCallback": message.callback_url}
        told = post_form(url, {**common, **fields}, message.key, headers).json()
        if not told.get("sid"):
            raise ChannelError("the provider's answer names no call or message")
        return str(told["sid"])[:200]

    def _arrived(self, url: str, message: Outgoing, headers: Mapping[str, str]) -> str:
        """The one that an earlier try has made, if any, known by the key that it carries."""
        listed = fetch(f"{url}?{urlencode({'To': message.address, 'PageSize': '20'})}", headers).json()
        made, mark = listed.get(self.resource.lower(), []), self.mark.format(key=message.key)
        return next((str(one["sid"]) for one in made if mark in str(one.get(self.carries, ""))), "")


class Sms(_Twilio):
    """A text message with a link to acknowledge."""

    kind = "sms"
    resource = "Messages"
    carries = "body"

    def send(self, message: Outgoing, settings: Mapping[str, Any]) -> str:
        """One message; the key stands at its end."""
        tail = f" {message.ack_url} [{message.key}]"
        words = f"{message.title}. {message.text}"[: LONGEST_SMS - len(tail)]
        return self._post(message, settings, {"Body": words + tail})


class Phone(_Twilio):
    """A call that reads the words and takes 1 for an acknowledgement."""

    kind = "phone"
    resource = "Calls"
    carries = "status_callback"
    mark = "key={key}&"

    def send(self, message: Outgoing, settings: Mapping[str, Any]) -> str:
        """One call."""
        spoken = escape(f"{message.title}. {message.text}. Press 1 to acknowledge.")
        answer = quoteattr(f"{message.callback_url}digits=1")
        twiml = (
            f'<Response><Gather numDigits="1" action={answer}><Say>{spoken}</Say><Pause length="5"/>'
            f"<Say>{spoken}</Say></Gather></Response>"
        )
        events = {"StatusCallbackEvent": "completed"}
        return self._post(message, settings, {"Twiml": twiml, **events})
