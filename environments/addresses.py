"""Asking an address that somebody configured, without letting it lead to the cloud's metadata services.

Whoever may set a health URL must not be able to read the machine's credentials through it: link-local and
metadata addresses are refused unless `PROBE_ALLOWED_METADATA` says otherwise. The name is resolved once, what
it resolves to is checked, and the connection goes to that very address; redirects are not followed.
"""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

TIMEOUT_SECONDS = 3.0  # the guide's HEALTHCHECK --timeout
BODY_LIMIT = 65_536

FORBIDDEN = [ip_network(text) for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")]
NAT64 = ip_network("64:ff9b::/96")


class NoAnswer(Exception):
    """Nobody answered, or must not be asked; the text says why, without the address."""


@dataclass(frozen=True)
class Answer:
    """What an HTTP GET brought. latency_ms: from before the connection until the body was read."""

    status: int
    body: bytes
    latency_ms: float

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


def problem_with(url: str) -> str:
    """What is wrong with a URL that is about to be configured, in words; "" when nothing is.

    Names are not resolved here, since what they resolve to may change: that is checked at each request.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "has to begin with http:// or https:// and name a host"
    if parts.username is not None or parts.password is not None:
        return "must not carry a user name or a password"
    try:
        numeric = socket.getaddrinfo(parts.hostname, port or 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return ""
    return "" if _allowed(str(entry[4][0]) for entry in numeric) else "points to a link-local or metadata address"


def get(url: str, timeout: float = TIMEOUT_SECONDS) -> Answer:
    """Ask once. timeout: seconds for each of connecting, sending and reading. Raises NoAnswer."""
    if wrong := problem_with(url):
        raise NoAnswer(f"the address {wrong}")
    parts = urlsplit(url)
    connection = _connection(parts, timeout)
    begun = time.monotonic()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "controlplane-probe", "Connection": "close"})
        response = connection.getresponse()
        body = response.read(BODY_LIMIT)
        return Answer(response.status, body, (time.monotonic() - begun) * 1000)
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout:g} s") from None
    except ConnectionRefusedError:
        raise NoAnswer("connection refused") from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise NoAnswer(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return _GuardedHTTPS(host, parts.port, timeout=timeout, context=ssl.create_default_context())
    return _Guarded(host, parts.port, timeout=timeout)


class _Guarded(http.client.HTTPConnection):
    """Connects to one of the addresses that were checked, not to a name that may resolve anew."""

    def connect(self) -> None:
        self.sock = _connect(self.host, self.port, self.timeout)


class _GuardedHTTPS(http.client.HTTPSConnection):
    """The same, then TLS for the name."""

    def connect(self) -> None:
        raw = _connect(self.host, self.port, self.timeout)
        context: ssl.SSLContext = self._context  # type: ignore[attr-defined]
        self.sock = context.wrap_socket(raw, server_hostname=self.host)


def _connect(host: str, port: int, timeout: float | None) -> socket.socket:
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoAnswer(f"{host} has no address") from error
    if not _allowed(str(entry[4][0]) for entry in entries):
        raise NoAnswer(f"{host} resolves to a link-local or metadata address, which is refused")
    last: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in entries:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(timeout)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            last = error
        else:
            return connection
    raise last


def _allowed(addresses: Iterable[str]) -> bool:
    """Whether every one may be asked: a name with one bad address is refused as a whole."""
    return settings.PROBE_ALLOWED_METADATA or not any(_is_forbidden(address) for address in addresses)


def _is_forbidden(text: str) -> bool:
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address.sixtofour is not None:
            address = address.sixtofour
        elif address in NAT64:
            address = IPv4Address(int(address) & 0xFFFFFFFF)
    return any(address in network for network in FORBIDDEN)
