"""E-mail by SMTP. The key is the Message-ID, so a mail that is sent twice is one mail to most readers."""

import smtplib
import ssl
import time
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from incidents.channels.base import SECONDS, ChannelError, Outgoing, Receipt, problems_of, secret_of

PORT = 587


class Mail:
    """settings: host, port, sender; user and password (a secret reference) where the server wants them; tls."""

    kind = "email"
    receipt = Receipt.ACCEPTANCE

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """The server and the sender; tls is "starttls" (the default), "always" or "none"."""
        optional = ("port", "user", "password", "tls", "team")
        wrong = problems_of(settings, secrets=("password",), texts=("host", "sender"), optional=optional)
        if settings.get("tls", "starttls") not in ("starttls", "always", "none"):
            wrong["tls"] = "has to be starttls, always or none"
        port = settings.get("port", PORT)
        if not isinstance(port, int) or not 0 < port < 65_536:
            wrong["port"] = "has to be a number from 1 to 65535"
        return wrong

    def check_address(self, address: str) -> str:
        """An e-mail address."""
        try:
            validate_email(address)
        except ValidationError:
            return "is no e-mail address"
        return ""

    def send(self, message: Outgoing, settings: Mapping[str, Any]) -> str:
        """One mail. That the server took it is all that can be known."""
        mail = EmailMessage()
        mail["Subject"] = message.title.replace("\n", " ").replace("\r", " ")
        mail["From"] = settings["sender"]
        mail["To"] = message.address or settings.get("team") or settings["sender"]
        mail["Message-ID"] = f"<{message.key}@{str(settings['sender']).rpartition('@')[2]}>"
        mail["In-Reply-To"] = f"<{message.dedup}@{str(settings['sender']).rpartition('@')[2]}>"
        mail.set_content(message.words)
        try:
            with _server(settings, message.until) as server:
                server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            code = max((code for code, _ in error.recipients.values()), default=550)
            raise ChannelError(f"the mail server refused the recipient ({code})", permanent=code >= 500) from error
        except smtplib.SMTPResponseException as error:
            words = f"the mail server answered {error.smtp_code}"
            raise ChannelError(words, permanent=error.smtp_code >= 500) from error
        except (OSError, smtplib.SMTPException) as error:
            raise ChannelError(f"the mail server cannot be reached: {type(error).__name__}", arrived=True) from error
        return str(mail["Message-ID"])[:200]


class _Hurried(smtplib.SMTP):
    """Gives up SECONDS after it was made or `until`, whatever it is waiting for or about to say then."""

    def __init__(self, host: str, port: int, until: float, **more: Any) -> None:
        self._until = min(until, time.monotonic() + SECONDS)
        try:
            super().__init__(host, port, timeout=SECONDS, **more)
        except BaseException:
            self.close()
            raise

    def _hurry(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self.sock is not None:
            self.sock.settimeout(left)

    def send(self, s: Any) -> None:
        """Something of what is said."""
        self._hurry()
        super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        """The answer to it."""
        self._hurry()
        return super().getreply()


class _HurriedTLS(_Hurried, smtplib.SMTP_SSL):
    """The same, in TLS from the first byte."""


def _server(settings: Mapping[str, Any], until: float) -> smtplib.SMTP:
    tls, context = settings.get("tls", "starttls"), ssl.create_default_context()
    host, port = str(settings["host"]), int(settings.get("port", PORT))
    server = _HurriedTLS(host, port, until, context=context) if tls == "always" else _Hurried(host, port, until)
    if tls == "starttls":
        server.starttls(context=context)
    if settings.get("user"):
        server.login(str(settings["user"]), secret_of(settings, "password"))
    return server
