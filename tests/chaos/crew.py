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
RECEIVER = [sys.executable, "manage.py", "wal_receiver"]
# A receiver that is asked to end puts into the storage what it has.
LEAVE_SECONDS = 20.0


class Crew:
    """Two workers, a clock, perhaps a web process and a receiver of WAL, each started again when it is gone."""

    def __init__(self, folder: Path, *, children: int = CHILDREN, web: bool = True, receiver: bool = False) -> None:
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
        if receiver:
            self.commands["receiver"] = RECEIVER
        self.environments: dict[str, dict[str, str]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.leaving: list[tuple[float, subprocess.Popen[bytes]]] = []  # killed at that time, if they still run

    def add(self, name: str, command: list[str], **environment: str) -> None:
        """One more, with other settings than the rest."""
        self.commands[name], self.environments[name] = command, {**os.environ, **environment}

    def retire(self, name: str) -> None:
        """Ask it to end, and do not start it again."""
        self.commands.pop(name, None)
        if process := self.processes.pop(name, None):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                process.terminate()
            self.leaving.append((time.monotonic() + LEAVE_SECONDS, process))

    def tend(self) -> None:
        """Start what is not running, and see to it that those who leave do."""
        for late, leaving in list(self.leaving):
            if leaving.poll() is not None or time.monotonic() > late:
                self._sweep(leaving)
                leaving.wait()
                self.leaving.remove((late, leaving))
        for name, command in self.commands.items():
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                if process is not None:
                    self._sweep(process)
                with (self.logs / f"{name}.log").open("ab") as log:
                    self.processes[name] = subprocess.Popen(
                        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                        env=self.environments.get(name),
                    )  # fmt: skip

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
        everybody = [*self.processes.values(), *(process for _, process in self.leaving)]
        for process in everybody:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                process.terminate()
        deadline = time.monotonic() + 10
        for process in everybody:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            self._sweep(process)
            process.wait()
