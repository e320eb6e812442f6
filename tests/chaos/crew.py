"""The processes of the control plane in a chaos run: kept alive like a supervisor would, killed by the faults."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from controlplane.embedded.processes import free_port

CHILDREN = 5
PARENTS = 2


class Crew:
    """Two workers, a clock and perhaps a web process, each started again when it is gone."""

    def __init__(self, folder: Path, *, children: int = CHILDREN, web: bool = True) -> None:
        self.logs = folder / "logs"
        self.port = free_port()
        python = sys.executable
        worker = [
            python, "-m", "celery", "-A", "tests.chaos.worker", "worker", "-P", "prefork", "-c", str(children),
            "--without-gossip", "--without-mingle", "-l", "WARNING",
        ]  # fmt: skip
        uvicorn = [
            python, "-m", "uvicorn", "controlplane.asgi:application", "--host", "127.0.0.1", "--port", str(self.port),
            "--timeout-graceful-shutdown", "2", "--log-level", "warning",
        ]  # fmt: skip
        self.commands = {f"worker-{n}": [*worker, "-n", f"chaos{n}@%h"] for n in range(PARENTS)}
        self.commands["clock"] = [python, "manage.py", "clock"]
        if web:
            self.commands["web"] = uvicorn
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def tend(self) -> None:
        """Start what is not running."""
        for name, command in self.commands.items():
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                if process is not None:
                    self._sweep(process)
                with (self.logs / f"{name}.log").open("ab") as log:
                    self.processes[name] = subprocess.Popen(
                        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
                    )

    def _sweep(self, process: subprocess.Popen[bytes]) -> None:
        """Children of a killed parent: they hold no work any more that a lease would not hand on."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def kill(self, name: str) -> None:
        """The process itself, not its children: they find out by themselves."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        """End of the run."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                process.terminate()
        deadline = time.monotonic() + 10
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            self._sweep(process)
            process.wait()
