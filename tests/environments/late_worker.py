"""A worker process for the crash tests: starts version 1.5.0 in a folder, and dies or freezes where it is told to.

python late_worker.py FOLDER PORT FENCE MOMENT, where MOMENT is one of: before (freeze before the lock is taken),
inside (freeze holding the lock), intent (die with the intent written), spawned (die right after the spawn).
"""

import os
import signal
import sys
import time
from pathlib import Path

import django

if __name__ == "__main__":
    django.setup()

from controlplane.embedded import sample_service
from controlplane.operations.errors import LeaseLost
from environments.drivers.local.instance_folder import Hand, InstanceFolder


def start(folder: InstanceFolder, hand: Hand, port: int, digest: str) -> bool:
    """Start 1.5.0 as the driver does; whether this hand did it."""
    command = [
        sys.executable, "-I", "-S", sample_service.__file__, "--state-dir", str(folder.path), "--name", folder.name,
        "--port", str(port), "--version", "1.5.0", "--digest", digest, "--fence", str(hand.fence),
    ]  # fmt: skip
    with folder.control(hand):
        at("inside", signal.SIGSTOP)
        return folder.start(hand, command, {}, version="1.5.0", digest=digest)


def at(moment: str, number: signal.Signals) -> None:
    if sys.argv[4:5] == [moment]:
        print("here", flush=True)
        os.kill(os.getpid(), number)


class LateHand:
    """A worker that nobody told that its lease is gone."""

    def __init__(self, fence: int) -> None:
        self.fence = fence

    def check(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def log(self, text: str) -> None:
        print(text, flush=True)


class Telling(InstanceFolder):
    """Says where it is."""

    def _spawn(self, *arguments: object) -> None:
        at("intent", signal.SIGKILL)
        super()._spawn(*arguments)  # type: ignore[arg-type]
        at("spawned", signal.SIGKILL)


def main() -> None:
    at("before", signal.SIGSTOP)
    try:
        started = start(Telling(Path(sys.argv[1])), LateHand(int(sys.argv[3])), int(sys.argv[2]), sys.argv[5])
        print("started" if started else "ran already")
    except LeaseLost as late:
        print(late)


if __name__ == "__main__":
    main()
