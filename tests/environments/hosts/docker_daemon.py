"""A Docker of the tests' own, which pulls its images from a registry of theirs."""

import os
import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import docker

from controlplane.embedded.images import sample_archive
from controlplane.embedded.processes import wait_until
from tests.environments.hosts.registry import Registry

DOCKERD = shutil.which("dockerd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") or ""
START_SECONDS = 60.0
# No bridge and no rules of the firewall: the containers of the tests use the network of this computer.
ALONE = [
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--storage-driver=vfs",
    "--log-level=warn",
]


class DockerDaemon:
    """One dockerd, all of whose files are in a folder. Only root can start one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry(for_everybody=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "docker.sock"

    @property
    def url(self) -> str:
        """The engine, as the settings of the driver `hosts` name it."""
        return f"unix://{self.socket}"

    @property
    def image(self) -> str:
        """The name of the sample service's image, where Docker pulls it from."""
        return self.registry.repository

    def start(self) -> str:
        """Start it; why it did not, in words."""
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "docker.pid"}
        named = [f"--{name}={self.folder / place}" for name, place in places.items()]
        with (self.folder / "docker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [DOCKERD, *ALONE, *named, f"--host={self.url}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: self.answers() or self._has_ended(), START_SECONDS)
        return "" if self.answers() else (self.folder / "docker.log").read_text().strip().rpartition("\n")[2]

    def answers(self) -> bool:
        """Whether it takes calls."""
        with socket.socket(socket.AF_UNIX) as call:
            return call.connect_ex(str(self.socket)) == 0

    def import_sample(self, image: str, version: str, **kind: Any) -> str:
        """Have an image of the sample service in the registry, see sample_archive; returns its digest."""
        digest, archive = sample_archive(image, version, **kind)
        self.registry.put(archive)
        return digest

    def remove_all(self) -> None:
        """Remove every container, and every image: no test may live on what another one pulled."""
        with closing(docker.DockerClient(base_url=self.url)) as client:
            for container in client.containers.list(all=True):
                container.remove(force=True, v=True)
            for image in client.images.list(all=True):
                client.images.remove(image.id, force=True)

    def delete(self) -> None:
        """Remove every container, and end it."""
        if self.answers():
            self.remove_all()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
        # The one thing that dockerd leaves behind.
        subprocess.run(["umount", str(self.folder / "exec/netns/default")], stderr=subprocess.DEVNULL, check=False)
        self.registry.close()

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None
