"""Real doors to the tests' Podman: SSH, and TLS with certificates of both sides."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controlplane.embedded.processes import free_port, wait_until

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin") or ""
# A command may not be run: only the socket is forwarded to.
SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/user.pub
StrictModes no
PasswordAuthentication no
UsePAM no
PermitTTY no
ForceCommand /nowhere/at-all
AllowStreamLocalForwarding yes
"""


@dataclass
class Sshd:
    """An SSH server of the tests' own. folder: its keys; `other` is a key that nobody knows."""

    folder: Path
    port: int = field(default_factory=free_port)

    def public(self, name: str = "host") -> str:
        """A public key as a line."""
        return (self.folder / f"{name}.pub").read_text()

    @contextmanager
    def serving(self) -> Iterator["Sshd"]:
        """For a block."""
        for name, kind in (("host", "ed25519"), ("user", "ed25519"), ("other", "ed25519"), ("ecdsa", "ecdsa")):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", self.folder / name], check=True, capture_output=True
            )
        config = self.folder / "sshd_config"
        config.write_text(SSHD_CONFIG.format(port=self.port, folder=self.folder))
        if Path("/run").is_dir():
            with suppress(OSError):
                Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it gives its rights up
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log, stdin=subprocess.DEVNULL)
        try:
            assert wait_until(lambda: process.poll() is not None or _answers(self.port), 10), "no SSH server"
            assert process.poll() is None, (self.folder / "log").read_text()
            yield self
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


# --- TLS ----------------------------------------------------------------------------------------------


class Authority:
    """Makes certificates in a folder: NAME.pem and NAME.key."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, self.key, x509.BasicConstraints(ca=True, path_length=None))
        self._write(name, self.certificate, self.key)

    def issue(self, name: str) -> None:
        """A certificate for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(name, self._sign(name, key, x509.BasicConstraints(ca=False, path_length=None)), key)

    def _sign(self, name: str, key: Any, constraints: x509.BasicConstraints) -> x509.Certificate:
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(constraints, critical=True)
            .add_extension(names, critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: Any) -> None:
        plain = serialization.NoEncryption()
        text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (self.folder / f"{name}.key").write_bytes(text)
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@contextmanager
def tls_door(folder: Path, path: Path) -> Iterator[int]:
    """TLS before a socket, for whoever shows a certificate of the folder's authority; the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "engine.pem", folder / "engine.key")
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, context, path), daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def _accept(listener: socket.socket, context: ssl.SSLContext, path: Path) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_between, args=(plain, context, path), daemon=True).start()


def _between(plain: socket.socket, context: ssl.SSLContext, path: Path) -> None:
    with suppress(OSError), plain, _secured(plain, context) as outer, socket.socket(socket.AF_UNIX) as inner:
        inner.connect(str(path))
        back = threading.Thread(target=_copy, args=(inner, outer), daemon=True)
        back.start()
        _copy(outer, inner)
        back.join(10)


def _secured(plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(plain, server_side=True)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
