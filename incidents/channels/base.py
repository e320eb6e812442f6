"""What a channel is: it takes one message to one provider, and says how that went."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol
from urllib.parse import urlencode

from controlplane.operations.errors import StepError
from environments.addresses import Answer, NoAnswer, problem_with, send
from environments.secrets import problem_with as problem_with_secret
from environments.secrets import resolve

# For all of one request: an acknowledgement waits for as long (outbox.QUIET_SECONDS is above it).
SECONDS = 5.0
PASSING = frozenset({408, 425, 429})
LONGEST_WAIT = 300.0


class ChannelError(Exception):
    """It was not taken, in words without a secret. permanent: trying again is of no use.

    retry_after: seconds that the provider asked to wait, 0 for nothing said. arrived: it may have been taken all the
    same, because no answer came.
    """

    def __init__(self, words: str, *, permanent: bool = False, retry_after: float = 0.0, arrived: bool = False) -> None:
        super().__init__(without_secrets(words))
        self.permanent = permanent
        self.retry_after = retry_after
        self.arrived = arrived


class Receipt(Enum):
    """What the best receipt of a channel is."""

    ACCEPTANCE = "acceptance"  # the provider's 2xx: nothing better ever comes
    CALLBACK = "callback"  # the provider calls us when it was delivered, or not


@dataclass(frozen=True)
class Outgoing:
    """One message as a channel gets it.

    purpose: page, notice, acknowledge or resolve. key: the idempotency key. again: an earlier try may have arrived.
    dedup: the same for everything about one incident. ack_url: signed for the person; "" when there is none.
    until: by time.monotonic(); no byte of it may leave later.
    """

    purpose: str
    address: str
    key: str
    dedup: str
    title: str
    severity: str
    text: str
    url: str
    ack_url: str = ""
    callback_url: str = ""
    again: bool = False
    until: float = math.inf

    @property
    def words(self) -> str:
        """All of it as text, for channels without a form of their own."""
        lines = [self.title, self.text, f"Acknowledge: {self.ack_url}" if self.ack_url else "", self.url]
        return "\n".join(line for line in lines if line)


class Channel(Protocol):
    """One file of this package."""

    kind: str
    receipt: Receipt

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with the settings, by key; empty when nothing is."""

    def check_address(self, address: str) -> str:
        """What is wrong with a person's address, in words; "" when nothing is."""

    def send(self, message: Outgoing, settings: Mapping[str, Any]) -> str:
        """Take it to the provider; returns the provider's name for it, or "". Raises ChannelError."""


# What this process has resolved, so that no provider's answer can carry it into a row or a log.
_secrets: set[str] = set()


def secret_of(settings: Mapping[str, Any], name: str) -> str:
    """The value behind a reference in the settings. Raises ChannelError."""
    try:
        value = resolve(str(settings.get(name, "")))
    except StepError as error:
        raise ChannelError(str(error), permanent=error.permanent) from error
    _secrets.add(value)
    return value


def without_secrets(words: str) -> str:
    """The words of a provider, in which nothing stands that was sent to it in confidence."""
    for value in sorted(_secrets.copy(), key=len, reverse=True):
        words = words.replace(value, "•••")
    return words


def problems_of(settings: Mapping[str, Any], *, secrets: tuple[str, ...] = (), urls: tuple[str, ...] = (),
                texts: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> dict[str, str]:  # fmt: skip
    """What is wrong with settings that may have just these keys, by key."""
    known = {*secrets, *urls, *texts, *optional}
    wrong = {name: f"is no setting of this channel; there are {', '.join(sorted(known))}"
             for name in settings if name not in known}  # fmt: skip
    for name in (*secrets, *urls, *texts):
        if name not in settings and name not in optional:
            wrong[name] = "is missing"
    for name in texts:
        if name in settings and not (isinstance(settings[name], str) and settings[name].strip()):
            wrong[name] = "has to be a text"
    for name in secrets:
        if name in settings and (words := problem_with_secret(str(settings[name]))):
            wrong[name] = words
    for name in urls:
        if name in settings and (words := problem_with(str(settings[name]))):
            wrong[name] = words
    return wrong


def post_json(url: str, body: Mapping[str, Any], message: Outgoing, headers: Mapping[str, str] | None = None) -> Answer:
    """POST JSON with the message's idempotency key, in its time. Raises ChannelError unless the answer is a 2xx."""
    more = {"Content-Type": "application/json", "Idempotency-Key": message.key, **(headers or {})}
    return _posted("POST", url, json.dumps(body).encode(), more, until=message.until)


def post_form(
    url: str, fields: Mapping[str, str | list[str]], message: Outgoing, headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Answer:  # fmt: skip
    """The same with a form."""
    more = {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": message.key, **(headers or {})}
    return _posted("POST", url, urlencode(fields, doseq=True).encode(), more, timeout, until=message.until)


def fetch(url: str, headers: Mapping[str, str], timeout: float | None = None) -> Answer:
    """GET. Raises ChannelError unless the answer is a 2xx."""
    return _posted("GET", url, None, headers, timeout)


def _posted(
    method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float | None = None, *,
    until: float = math.inf,
) -> Answer:  # fmt: skip
    try:
        answer = send(method, url, body, {**headers, "User-Agent": "controlplane"}, timeout or SECONDS, until=until)
    except NoAnswer as error:
        raise ChannelError(f"the provider cannot be reached: {error}", arrived="no answer" in str(error)) from error
    if 200 <= answer.status < 300:
        return answer
    words = f"the provider answered {answer.status}{_why(answer)}"
    passing = answer.status >= 500 or answer.status in PASSING
    raise ChannelError(words, permanent=not passing, retry_after=_wait(answer))


def _why(answer: Answer) -> str:
    told = answer.json()
    why = told.get("message") or told.get("error") or told.get("errors") or ""
    return f": {str(why)[:150]}" if why else ""


def _wait(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return min(float(text), LONGEST_WAIT) if text.isdecimal() else 0.0
