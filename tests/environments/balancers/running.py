"""HAProxy itself, started on loopback with a socket of its own, for tests, benchmarks and chaos runs."""

import shutil
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from controlplane.embedded.processes import free_port, wait_until

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
WHY_NOT = "" if HAPROXY else "haproxy is not installed"
# No retries: a request that goes to somebody who is not there is to be seen.
CONFIGURATION = """
global
    stats socket {socket} mode 600 level admin
    stats socket ipv4@127.0.0.1:{admin} level admin
    maxconn 2000
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout http-keep-alive 60s
    timeout server 20s
    timeout check {check_timeout}
    retries 0
frontend door
    bind 127.0.0.1:{port}
    default_backend app
backend app
    option httpchk GET /health
    default-server check inter {every} fastinter {every} downinter {every} rise 2 fall 2 slowstart {slow_start}
{servers}
"""


class Haproxy:
    """One in a folder of its own. servers: their ports by name. every: between two health checks.

    slow_start: how long a server that has become well gets less than its share.
    """

    def __init__(
        self, folder: Path, servers: Mapping[str, int], *, every: str = "100ms", check_timeout: str = "2s",
        slow_start: str = "0",
    ) -> None:  # fmt: skip
        self.folder = folder
        self.port, self.admin, self.socket = free_port(), free_port(), folder / "admin.sock"
        lines = [f"    server {name} 127.0.0.1:{port}" for name, port in servers.items()]
        text = CONFIGURATION.format(
            socket=self.socket, admin=self.admin, port=self.port, servers="\n".join(lines), every=every,
            check_timeout=check_timeout, slow_start=slow_start,
        )  # fmt: skip
        (folder / "haproxy.cfg").write_text(text)
        self.settings = {"kind": "haproxy", "socket": str(self.socket), "backend": "app"}
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.process = subprocess.Popen(
            [HAPROXY or "haproxy", "-f", str(self.folder / "haproxy.cfg"), "-db"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if not wait_until(self._listens, 20):
            self.stop()
            raise RuntimeError("HAProxy does not start")

    def stop(self) -> None:
        """End it at once; what the runtime API changed is lost."""
        self.process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            # The file is there a moment before anybody listens.
            with socket.socket(socket.AF_UNIX) as wire:
                wire.connect(str(self.socket))
            return True
        return False
