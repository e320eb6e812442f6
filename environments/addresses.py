"""Asking an address that somebody configured, without letting it lead to the cloud's metadata services.

Whoever may set a health URL must not be able to read the machine's credentials through it: link-local and
metadata addresses are refused unless `PROBE_ALLOWED_METADATA` says otherwise. The name is resolved once, what
it resolves to is checked, and the connection goes to that very address; redirects are not followed.
"""

import http.client
import json
import math
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Timer
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

TIMEOUT_SECONDS = 3.0  # the guide's HEALTHCHECK --timeout
BODY_LIMIT = 65_536

# Link-local; the metadata services of AWS (also of its pods), Alibaba, Azure, Oracle and Google.
FORBIDDEN = [
    ip_network(text)
    for text in (
        *("169.254.0.0/16", "fe80::/10"),
        *("fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd20:ce::254/128"),
    )
]
# IPv6 prefixes whose last 32 bits are an IPv4 address: NAT64 (well-known and local), IPv4-translated, -compatible.
EMBEDDING = [ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")]


class NoAnswer(Exception):
    """Nobody answered, or must not be asked; the text says why, without the address."""


@dataclass(frozen=True)
class Answer:
    """What an HTTP request brought. latency_ms: from before the connection until the body was read.

    headers: their names in small letters.
    """

    status: int
    body: bytes
    latency_ms: float
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError):
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
    """Ask once. timeout: seconds for all of it, or a server that sends a byte a second would never end it.

    Raises NoAnswer.
    """
    return send("GET", url, timeout=timeout)


def send(
    method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_SECONDS, *, until: float = math.inf,
) -> Answer:  # fmt: skip
    """The same with any method, a body and headers of its own.

    until: by time.monotonic(); nothing leaves later, even if this process was frozen in between.
    Raises NoAnswer: it may have arrived all the same.
    """
    if wrong := problem_with(url):
        raise NoAnswer(f"the address {wrong}")
    parts = urlsplit(url)
    connection = _connection(parts, timeout)
    connection.until = until
    deadline = Timer(timeout, connection.cut)
    deadline.daemon = True
    begun = time.monotonic()
    deadline.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        ours = {"User-Agent": "controlplane-probe", "Connection": "close"}
        connection.request(method, path, body=body, headers={**ours, **(headers or {})})
        with connection.getresponse() as response:
            content = response.read(BODY_LIMIT)
            if connection.was_cut:
                raise TimeoutError
            told = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, content, (time.monotonic() - begun) * 1000, told)
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout:g} s") from None
    except ConnectionRefusedError:
        raise NoAnswer("connection refused") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(f"no answer within {timeout:g} s" if connection.was_cut else _why(error)) from None
    finally:
        deadline.cancel()
        connection.close()


def _why(error: Exception) -> str:
    """What failed, in words of ours: what somebody answered may quote a header of the request."""
    if isinstance(error, http.client.BadStatusLine | http.client.UnknownProtocol) and not isinstance(
        error, http.client.RemoteDisconnected
    ):
        return "the answer is no HTTP"
    if isinstance(error, http.client.InvalidURL) or not isinstance(error, OSError | http.client.HTTPException):
        # Its text repeats what cannot be sent: a header with a token, an address with a secret in it.
        return f"the address, a header or the answer has characters that HTTP does not know ({type(error).__name__})"
    return str(error) or type(error).__name__


def connection_to(url: str, timeout: float) -> http.client.HTTPConnection:
    """A connection for a longer exchange than `get`, not made yet: it goes only to an address that was checked.

    timeout: seconds for each single wait. Raises NoAnswer, now or when it connects; OSError and HTTPException later.
    """
    if wrong := problem_with(url):
        raise NoAnswer(f"the address {wrong}")
    return _connection(urlsplit(url), timeout)


def _connection(parts: SplitResult, timeout: float) -> "_Guarded | _GuardedHTTPS":
    host = parts.hostname or ""
    if parts.scheme == "https":
        return _GuardedHTTPS(host, parts.port, timeout=timeout, context=ssl.create_default_context())
    return _Guarded(host, parts.port, timeout=timeout)


class _Cuttable:
    """A connection that another thread may end, whatever it is doing."""

    raw: socket.socket | None = None
    was_cut = False
    until = math.inf

    def cut(self) -> None:
        """End it: whoever reads or writes gets an error at once."""
        self.was_cut = True
        if self.raw is not None:
            with suppress(OSError):
                self.raw.shutdown(socket.SHUT_RDWR)

    def go_on(self) -> None:
        """Called once there is something to cut. Raises TimeoutError when it should have been cut before."""
        if self.was_cut:
            raise TimeoutError

    def hurry(self) -> None:
        """Called right before bytes leave. Raises NoAnswer when they must not any more."""
        if time.monotonic() > self.until:
            raise NoAnswer("it was too late to send it")


class _Guarded(_Cuttable, http.client.HTTPConnection):
    """Connects to one of the addresses that were checked, not to a name that may resolve anew."""

    def send(self, data: Any) -> None:
        """Some bytes of the request. Raises NoAnswer when it is too late for them."""
        self.hurry()
        super().send(data)

    def connect(self) -> None:
        self.sock = self.raw = connect(self.host, self.port, self.timeout)
        self.go_on()


class _GuardedHTTPS(_Cuttable, http.client.HTTPSConnection):
    """The same, then TLS for the name."""

    def send(self, data: Any) -> None:
        """The same."""
        self.hurry()
        super().send(data)

    def connect(self) -> None:
        plain = connect(self.host, self.port, self.timeout)
        context: ssl.SSLContext = self._context  # type: ignore[attr-defined]
        secured = context.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock = self.raw = secured
        self.go_on()
        try:
            secured.do_handshake()  # now that it can be cut
        except AttributeError:
            raise TimeoutError from None  # it was, a moment before


def connect(host: str, port: int, timeout: float | None) -> socket.socket:
    """A connection to an address that was checked. timeout: seconds. Raises NoAnswer, OSError."""
    end = time.monotonic() + (timeout or TIMEOUT_SECONDS)
    entries = _resolved(host, port)
    last: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in entries:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(0.01, end - time.monotonic()))
            connection.connect(address)
            connection.settimeout(timeout)
        except OSError as error:
            connection.close()
            last = error
        else:
            return connection
    raise last


def addresses_of(host: str, port: int) -> list[str]:
    """The numeric addresses of a name, all of them checked, for a client that connects by itself. Raises NoAnswer."""
    return [str(entry[4][0]) for entry in _resolved(host, port)]


def _resolved(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        entries: list[tuple[Any, ...]] = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        raise NoAnswer(f"{host} has no address") from error
    if not _allowed(str(entry[4][0]) for entry in entries):
        raise NoAnswer(f"{host} resolves to a link-local or metadata address, which is refused")
    return entries


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
        elif address.teredo is not None:
            address = address.teredo[1]
        elif any(address in network for network in EMBEDDING):
            address = IPv4Address(int(address) & 0xFFFFFFFF)
    return any(address in network for network in FORBIDDEN)
