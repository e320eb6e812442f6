"""A Podman of one's own: its service at a socket, its images and containers in a folder, no registry needed.

For the demo of `bin/run` and for the tests: it sees no image and no container of the computer's other Podman. Root runs
it, or an ordinary user. What it keeps is in its folder; what is true only until the next boot is in `passing`, outside,
because Podman allows that no more than 50 letters: `leave` takes it away again.
"""

import hashlib
import os
import resource
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from controlplane.embedded.errors import StackError
from controlplane.embedded.images import sample_archive
from controlplane.embedded.processes import PROC, boot, end, everybody, wait_until

START_SECONDS = 20.0
COMMAND_SECONDS = 60.0
LEAVE_SECONDS = 8.0
RUNTIMES = ("crun", "runc")

CONTAINERS_CONF = """\
[containers]
# What a container gets must not be more than its starter has.
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
log_driver = "k8s-file"
# No mount of a container's own, which would have to be taken away; no labels, for what is mounted has its own.
ipcns = "none"
label = false
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
events_logfile_max_size = "{journal_mb}m"
lock_type = "file"
runtime = "{runtime}"
"""

COMMAND = [
    "{python}", "-S", "/app/main.py",
    "--state-dir", "/state/{instance}", "--name", "{instance}", "--port", "{port}", "--digest", "{digest}",
]  # fmt: skip


def why_not() -> str:
    """Why containers cannot be run here, as far as can be told without trying; "" where they may be."""
    if sys.platform != "linux":
        return "Podman runs containers on Linux only"
    for name, found in (("podman", _found("podman")), (" or ".join(RUNTIMES), _runtime())):
        if not found:
            return f"{name} is not installed"
    return ""


def sample_container(state: Path) -> dict[str, Any]:
    """How the driver `hosts` is to run the sample. state: the folder in which each instance has its own."""
    base = Path(sys.base_prefix)
    mounts = {Path("/usr"), Path("/lib"), Path("/lib64"), base, base.resolve()}
    inner = [path for path in mounts if path.exists() and not any(up in mounts for up in path.parents)]
    python = str(Path(sys.executable).resolve())
    return {
        "network": "host",
        "command": [python if word == "{python}" else word for word in COMMAND],
        "volumes": [*sorted(f"{path}:{path}:ro" for path in inner), f"{state}:/state"],
        "restart": "no",
    }


class PodmanError(Exception):
    """Podman does not do what it should; the text says what it said."""


class Podman:
    """One Podman. folder: where it keeps everything; it is made when it is first needed.

    journal_mb: how much it remembers of what was started and stopped, which is about 60 starts each.
    """

    def __init__(self, folder: Path, journal_mb: int = 1) -> None:
        self.folder = folder
        self.journal_mb = journal_mb
        self.passing = _runtime_folder() / f"cp-podman-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
        self.socket = self.passing / "podman.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._registries = ""

    @property
    def url(self) -> str:
        """The engine, as the settings of the driver `hosts` name it."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The process of its service. Raises PodmanError where none was started."""
        if self._process is None:
            raise PodmanError("its service was not started")
        return self._process.pid

    def start(self, registries: str = "") -> None:
        """Start its service. registries: the path of a registries.conf, "" for that of the computer.

        Raises PodmanError.
        """
        self.make_ready()
        self._registries = registries
        self.socket.unlink(missing_ok=True)
        with (self.folder / "service.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._service(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment()
            )
        if not wait_until(lambda: self.answers() or self._has_ended(), START_SECONDS) or self._has_ended():
            raise PodmanError(f"its service does not start: {self.last_words()}")

    def become(self) -> None:
        """Be its service, instead of this process."""
        self.make_ready()
        self.socket.unlink(missing_ok=True)
        os.execve(self._service()[0], self._service(), self._environment())  # noqa: S606 - no shell is meant

    def answers(self) -> bool:
        """Whether its service takes calls."""
        with socket.socket(socket.AF_UNIX) as call:
            return call.connect_ex(str(self.socket)) == 0

    def _service(self) -> list[str]:
        return [*self._command(), "system", "service", "--time", "0", self.url]

    def make_ready(self) -> None:
        """Make its folders and its settings. A folder that was moved begins anew: Podman goes by absolute paths."""
        self.folder.mkdir(parents=True, exist_ok=True)
        here, booted = self.folder / "here", self.passing / "boot"
        if here.exists() and here.read_text() != str(self.folder):
            shutil.rmtree(self._store, ignore_errors=True)
        here.write_text(str(self.folder))
        # That it is gone is how Podman notices a boot.
        if self.passing.exists() and not (booted.exists() and booted.read_text() == boot()):
            shutil.rmtree(self.passing)
        self.passing.mkdir(mode=0o700, exist_ok=True)
        if self.passing.stat().st_uid != os.geteuid():
            raise PodmanError(f"{self.passing} is somebody else's")
        booted.write_text(boot())
        limits = {
            "files": _limit(resource.RLIMIT_NOFILE, 65_536),
            "processes": _limit(resource.RLIMIT_NPROC, 4096),
        }
        conf = CONTAINERS_CONF.format(**limits, runtime=_runtime(), journal_mb=self.journal_mb)
        (self.folder / "containers.conf").write_text(conf)

    def stop(self) -> None:
        """End its service; containers run on."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def remove_all(self) -> None:
        """Remove every container."""
        with suppress(PodmanError):
            self.run("rm", "--all", "--force", "--time", "0")

    def leave(self) -> None:
        """Stop every container, and be gone from memory, from /run and from the list of processes; its folder stays."""
        if not self.passing.exists():
            return  # nothing was begun since the computer was
        with suppress(PodmanError):
            self.run("stop", "--all", "--time", "5")
        self.stop()
        # An ordinary user's Podman keeps a process, which holds the namespace, and what watches containers ends late.
        with suppress(OSError, ValueError):
            os.kill(int((self.passing / "tmp" / "pause.pid").read_text()), SIGTERM)
        wait_until(lambda: not _members(self.passing), LEAVE_SECONDS)
        with suppress(StackError):
            end(_members(self.passing), SIGKILL, LEAVE_SECONDS)
        shutil.rmtree(self.passing, ignore_errors=True)

    def delete(self) -> None:
        """Remove every container and all that it keeps; its service is ended."""
        self.remove_all()
        self.leave()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *arguments: str, given: bytes | None = None) -> str:
        """One command of Podman; what it printed. Raises PodmanError with what it said."""
        try:
            done = subprocess.run(
                [*self._command(), *arguments], input=given, capture_output=True, check=False, env=self._environment(),
                timeout=COMMAND_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PodmanError(str(error)) from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise PodmanError(said[-1].removeprefix("Error: ") if said else f"exit code {done.returncode}")
        return done.stdout.decode().strip()

    def import_sample(self, image: str, version: str, **kind: Any) -> str:
        """Have an image of the sample service, see sample_archive; returns its digest."""
        digest, archive = sample_archive(image, version, **kind)
        if self.digest_of(f"{image}:{version}") != digest:
            self.run("load", given=archive)
        return digest

    def digest_of(self, image: str) -> str:
        """The digest of an image that is here; "" for one that is not."""
        try:
            return self.run("image", "inspect", "--format", "{{.Digest}}", image)
        except PodmanError:
            return ""

    def try_it(self) -> str:
        """Why it cannot run containers here, in words; "" when it can: by running one."""
        image, folder = "localhost/trial", self.folder / "trial"
        volumes = [part for one in sample_container(folder)["volumes"] for part in ("--volume", one)]
        python = str(Path(sys.executable).resolve())
        try:
            self.make_ready()
            folder.mkdir(exist_ok=True)
            self.import_sample(image, "1")
            self.run("run", "--rm", "--network", "host", *volumes, f"{image}:1", python, "-S", "-c", "print(1)")
        except (PodmanError, OSError) as error:
            return str(error)
        return ""

    @property
    def _store(self) -> Path:
        """Images and containers. What root keeps is nothing that an ordinary user can use, and the other way round."""
        return self.folder / ("root" if os.geteuid() == 0 else f"user-{os.geteuid()}")

    def _command(self) -> list[str]:
        places = ["--root", str(self._store), "--runroot", str(self.passing / "run"), "--tmpdir",
                  str(self.passing / "tmp"), "--storage-driver", "vfs"]  # fmt: skip
        return [_found("podman"), *places]

    def _environment(self) -> dict[str, str]:
        """What its commands find around them: nothing of the computer's other Podman."""
        ours = {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"), "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.passing),
        }  # fmt: skip
        if self._registries:
            ours["CONTAINERS_REGISTRIES_CONF"] = self._registries
        return {"PATH": os.environ.get("PATH", os.defpath), **ours}

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def last_words(self) -> str:
        """The last line of its service's log."""
        lines = (self.folder / "service.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it says nothing"


def _limit(which: int, most: int) -> int:
    hard = resource.getrlimit(which)[1]
    return min(most, hard) if hard > 0 else most


def _found(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") or ""


def _runtime() -> str:
    return next(filter(None, map(_found, RUNTIMES)), "")


def _runtime_folder() -> Path:
    """Where what is gone after the next boot is kept, under a short name."""
    if os.geteuid() == 0:
        return Path("/run")
    own = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    usable = own.is_absolute() and len(str(own)) < 20 and os.access(own, os.W_OK)
    return own if usable else Path("/tmp")  # noqa: S108 - made for its owner only, and looked at whose it is


def _members(passing: Path) -> list[int]:
    """The processes of a Podman: they name its folder when they are started."""
    name = os.fsencode(passing)
    found = []
    for process in everybody():
        with suppress(OSError):
            if name in (PROC / str(process.pid) / "cmdline").read_bytes():
                found.append(process.pid)
    return found


if __name__ == "__main__":
    Podman(Path(sys.argv[1])).become()
