"""Ways to a host's engine: a socket of this computer, a socket behind SSH, or TLS. Nothing but its API is spoken.

SSH runs no command on the host: the socket is forwarded to (`direct-streamlocal@openssh.com`), so the account there
needs no shell. A host is known by the key that the settings name and by nothing else: no known_hosts file, no
configuration and no agent of the worker's account is looked at. The same holds for TLS: only the authority that the
settings name vouches for the engine.
"""

import logging
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import paramiko
import requests
import requests.adapters
import urllib3
from paramiko.common import cMSG_CHANNEL_OPEN

from controlplane.operations.errors import StepError
from environments.addresses import NoAnswer, connect
from environments.secrets import resolve

# What goes wrong is raised, in words; paramiko would tell the process's log besides, with a traceback.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

SSH_PORT, TLS_PORT = 22, 2376
STREAM_LOCAL = "direct-streamlocal@openssh.com"
KEYS: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)

Dial = Callable[[], Any]


class Way(Protocol):
    """How to reach one engine. secrets: what was needed for it and must never be shown."""

    secrets: tuple[str, ...]

    def dial(self) -> Any:
        """A new connection, socket-like. Raises StepError."""

    def close(self) -> None:
        """No connection is needed any more."""


def way_to(engine: Mapping[str, Any]) -> Way:
    """The way that an engine's settings describe. Raises StepError, in words."""
    parts = urlsplit(engine["engine"])
    if parts.scheme == "unix":
        return UnixWay(parts.path, engine["answer_seconds"])
    if parts.scheme == "ssh":
        return SshWay(engine)
    return TlsWay(engine)


def problem_with_host_key(text: str) -> str:
    """What is wrong with a pinned host key, in words; "" for nothing."""
    try:
        _pinned(text)
    except (paramiko.SSHException, ValueError, IndexError):
        return 'is no host key; write it as ssh-keyscan prints it without the name: "ssh-ed25519 AAAA…"'
    return ""


class UnixWay:
    """A socket of this computer."""

    secrets: tuple[str, ...] = ()

    def __init__(self, path: str, timeout: float) -> None:
        self._path, self._timeout = path, timeout

    def dial(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise StepError(f"The engine's socket {self._path} does not answer: {error.strerror or error}.") from error
        return connection

    def close(self) -> None:
        """Each connection is closed by whoever dialled."""


class TlsWay:
    """TLS, both sides known to each other by certificates."""

    def __init__(self, engine: Mapping[str, Any]) -> None:
        parts = urlsplit(engine["engine"])
        self._host, self._port = parts.hostname or "", parts.port or TLS_PORT
        self._timeout = engine["answer_seconds"]
        authority, certificate, key = (resolve(engine[name]) for name in ("ca", "certificate", "key"))
        self.secrets: tuple[str, ...] = (key,)
        try:
            self._context = ssl.create_default_context(cadata=authority)
            with _file(f"{certificate}\n{key}\n") as chain:
                self._context.load_cert_chain(chain)
        except (ssl.SSLError, ValueError) as error:
            words = f"The certificates for {self._host} cannot be used: {_reason(error)}."
            raise StepError(words, permanent=True) from None

    def dial(self) -> ssl.SSLSocket:
        plain = _connected(self._host, self._port, self._timeout)
        try:
            return self._context.wrap_socket(plain, server_hostname=self._host)
        except ssl.SSLError as error:
            plain.close()
            words = f"The engine at {self._host}:{self._port} is not trusted, or does not trust us: {_reason(error)}."
            raise StepError(words, permanent=isinstance(error, ssl.SSLCertVerificationError)) from None
        except OSError as error:
            plain.close()
            raise StepError(f"The engine at {self._host}:{self._port} does not answer: {error}.") from error

    def close(self) -> None:
        """Each connection is closed by whoever dialled."""


class SshWay:
    """A socket on a host, through one SSH session to a host whose key is pinned."""

    def __init__(self, engine: Mapping[str, Any]) -> None:
        parts = urlsplit(engine["engine"])
        self._host, self._port = parts.hostname or "", parts.port or SSH_PORT
        self._socket, self._timeout = engine["socket"], engine["answer_seconds"]
        key = resolve(engine["key"])
        self.secrets: tuple[str, ...] = (key,)
        self._session = _Session(_connected(self._host, self._port, self._timeout))
        try:
            self._greet(engine["host_key"])
            self._session.auth_publickey(parts.username or "root", _private(key, engine["key"]))
        except paramiko.AuthenticationException:
            self.close()
            words = f"{self._host} does not take the key {engine['key']} for {parts.username or 'root'}."
            raise StepError(words, permanent=True) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            raise StepError(f"SSH to {self._host}:{self._port} failed: {_reason(error)}.") from error
        except StepError:
            self.close()
            raise

    def _greet(self, pinned: str) -> None:
        """Nothing of ours is sent before the host has shown its key."""
        wanted = _pinned(pinned)
        kinds = ["rsa-sha2-512", "rsa-sha2-256"] if wanted.get_name() == "ssh-rsa" else [wanted.get_name()]
        self._session.get_security_options().key_types = kinds
        words = f"{self._host} did not show the host key that the settings name"
        try:
            self._session.start_client(timeout=self._timeout)
        except paramiko.IncompatiblePeer:
            raise StepError(f"{words}: it has none of that kind.", permanent=True) from None
        shown = self._session.get_remote_server_key()
        if shown.asbytes() != wanted.asbytes():
            raise StepError(f"{words}, but {shown.fingerprint}. Is it another machine?", permanent=True)

    def dial(self) -> paramiko.Channel:
        try:
            channel = self._session.open_socket(self._socket, self._timeout)
        except (paramiko.SSHException, OSError, EOFError) as error:
            words = f"{self._host} does not let us to its socket {self._socket}: {_reason(error)}."
            raise StepError(words) from error
        channel.settimeout(self._timeout)
        return channel

    def close(self) -> None:
        self._session.close()


class _Session(paramiko.Transport):  # type: ignore[misc]  # it says nothing of its types
    """paramiko's own, and channels to a socket of the far side, which it does not know."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._turn = threading.Lock()
        self._path = ""

    def open_socket(self, path: str, timeout: float) -> paramiko.Channel:
        with self._turn:
            self._path = path
            return self.open_channel(STREAM_LOCAL, timeout=timeout)

    def _send_user_message(self, data: paramiko.Message) -> None:
        """OpenSSH's message is the usual one with the path and two empty fields at its end (PROTOCOL, 2.4)."""
        if data.asbytes()[:1] == cMSG_CHANNEL_OPEN:
            data.add_string(self._path)
            data.add_string("")
            data.add_int(0)
        super()._send_user_message(data)


class DialledAdapter(requests.adapters.HTTPAdapter):
    """What `requests` needs to speak HTTP over such a way, whatever the URL says. timeout: seconds for each wait."""

    def __init__(self, dial: Dial, timeout: float) -> None:
        super().__init__()
        self._pool = _Pool(dial, timeout)
        self.timeout = timeout

    def get_connection_with_tls_context(self, *arguments: Any, **values: Any) -> urllib3.HTTPConnectionPool:
        return self._pool

    def send(  # noqa: PLR0917 - the signature of requests
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """One request; no proxy and no certificate of `requests` has a say in it."""
        return super().send(request, stream=stream, timeout=timeout or self.timeout)

    def close(self) -> None:
        self._pool.close()
        super().close()


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, dial: Dial, timeout: float) -> None:
        super().__init__("localhost", maxsize=4)
        self._dial, self._seconds = dial, timeout

    def _new_conn(self) -> "_Connection":
        return _Connection(self._dial, self._seconds)


class _Connection(urllib3.connection.HTTPConnection):
    def __init__(self, dial: Dial, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._dial = dial

    def connect(self) -> None:
        self.sock = self._dial()

    @property
    def is_connected(self) -> bool:
        """A channel of SSH has no descriptor that could be asked, unlike a socket."""
        if isinstance(self.sock, paramiko.Channel):
            return not self.sock.closed and not self.sock.eof_received
        return super().is_connected


def _connected(host: str, port: int, timeout: float) -> socket.socket:
    try:
        return connect(host, port, timeout)
    except (NoAnswer, OSError) as error:
        raise StepError(f"{host}:{port} does not answer: {_reason(error)}.") from error


def _pinned(text: str) -> paramiko.PKey:
    kind, encoded = text.split()[:2]
    return paramiko.hostkeys.HostKeyEntry.from_line(f"host {kind} {encoded}").key


def _private(text: str, reference: str) -> paramiko.PKey:
    for kind in KEYS:
        try:
            return kind.from_private_key(StringIO(f"{text}\n"))
        except (paramiko.SSHException, ValueError, IndexError, UnicodeError):
            continue
    raise StepError(f"{reference} is no private key of SSH without a passphrase.", permanent=True)


@contextmanager
def _file(text: str) -> Iterator[Path]:
    """OpenSSL reads a key from a file only: one that nobody else may read and that is gone at once."""
    with tempfile.TemporaryDirectory(prefix="controlplane-") as folder:
        path = Path(folder) / "chain.pem"
        path.touch(mode=0o600)
        path.write_text(text)
        yield path


def _reason(error: Exception) -> str:
    if isinstance(error, paramiko.ChannelException):
        return str(error.text)
    return (getattr(error, "reason", "") or str(error) or type(error).__name__).rstrip(".")
